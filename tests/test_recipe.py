"""Recipe: dataclass <-> YAML <-> dotted options, and how layers lie over each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from command import mistake

from unlabeled.errors import UserError
from unlabeled.recipe import PACKAGED, Recipe, compose, is_recipe, locate, packaged, read
from unlabeled.run import Run


def written(path: Path, text: str) -> dict[str, Any]:
    path.write_text(text)
    return read(path)


def test_a_recipe_survives_its_yaml(tmp_path: Path) -> None:
    made = compose(
        {
            "method": "moco-v1",
            "method.queue": "128",
            "encoder.width": "16",
            "encoder.drop_rate": "1e-1",
            "views.scale": "0.2,1",
        },
        {"optimizer.lr": "1e-6", "kind.eval_size": 32, "warmup_epochs": 0.5, "about": {"minutes": 3}},
    )
    assert compose(written(tmp_path / "r.yaml", made.to_yaml())) == made
    assert made.encoder.options == {"width": 16, "drop_rate": 0.1}
    assert made.views.options["scale"] == (0.2, 1.0)
    assert made.method.options["temperature"] == 0.1
    assert made.optimizer.options["lr"] == 1e-6


def test_numbers_are_numbers_however_they_are_written(tmp_path: Path) -> None:
    layer = written(
        tmp_path / "r.yaml",
        "optimizer: {name: sgd, lr: 1e-3, nesterov: no}\nencoder: {name: resnet18, drop_rate: 1e-3}\n"
        "views: {name: simclr, scale: [0.2, 1]}\nwarmup_epochs: 2\n",
    )
    by_file = compose(layer)
    by_words = compose(
        {"optimizer": "sgd", "optimizer.lr": "1e-3", "optimizer.nesterov": "no", "encoder": "resnet18"},
        {"encoder.drop-rate": "1e-3", "views.scale": "(0.2, 1)", "warmup-epochs": "2"},
    )
    assert by_file == by_words
    assert by_file.optimizer.options["lr"] == 0.001
    assert by_file.optimizer.options["nesterov"] is False
    assert by_file.encoder.options["drop_rate"] == 0.001
    assert by_file.warmup_epochs == 2.0


def test_later_layers_win_and_a_new_name_drops_the_options_of_the_old() -> None:
    under = {"method": {"name": "simclr", "temperature": 0.2}, "epochs": 5, "optimizer": {"name": "sgd", "lr": 1.0}}
    assert compose(under, {"method.dim": 16, "epochs": 6}).method.options["temperature"] == 0.2
    assert compose(under, {"method": "simclr"}).method.options["temperature"] == 0.2
    assert compose(under, {"method": "moco-v1"}).method.options["temperature"] == 0.1
    assert compose(under, {"epochs": 6}).epochs == 6
    assert compose(under, {"optimizer": "adamw"}).optimizer.options["lr"] == 1e-3


def test_options_without_a_name_are_never_dropped_silently() -> None:
    unnamed = {"method": {"temperature": 0.3}}
    assert compose(unnamed).method.options["temperature"] == 0.3
    assert compose(unnamed, {"method": "moco"}).method.options["temperature"] == 0.3
    with pytest.raises(UserError, match="method 'byol' has no option 'temperature'"):
        compose(unnamed, {"method": "byol"})


def test_the_method_prescribes_views_and_optimizer_unless_told_otherwise() -> None:
    assert compose({"method": "byol"}).views.name == "byol"
    assert compose({"method": "byol"}).optimizer.options["lr"] == 0.45
    changed = compose({"method": "byol", "optimizer.lr": 1, "views": "simclr"})
    assert (changed.views.name, changed.optimizer.name, changed.optimizer.options["lr"]) == ("simclr", "lars", 1.0)
    assert changed.optimizer.options["weight_decay"] == 1e-6


def test_what_a_run_kept_is_whole_and_nothing_is_prescribed_for_it_any_more(tmp_path: Path) -> None:
    """A run of Barlow Twins that is older than the option: its biases learned as fast as its weights."""
    kept = compose({"method": "barlow"}).to_dict()
    del kept["optimizer"]["vector_factor"]
    assert compose(kept).optimizer.options["vector_factor"] == 0.024
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(kept))
    assert Run(tmp_path).recipe.optimizer.options["vector_factor"] == 1.0


def test_a_run_of_before_an_option_is_read_as_it_was_trained(tmp_path: Path) -> None:
    """PIRL's loss and photometric transformation came later; a new run has them."""
    kept = tmp_path / "recipe.yaml"
    kept.write_text("method: {name: pirl, negatives: 10}\nviews: {name: pirl, jitter: 0.5}\n")
    then, now = Run(tmp_path).recipe, compose(read(kept))
    assert (then.method.options["loss"], then.views.options["photometric"]) == ("info-nce", 0.0)
    assert (now.method.options["loss"], now.views.options["photometric"]) == ("nce", 0.66)
    assert then.method.options["negatives"] == 10
    kept.write_text("method: {name: pirl, loss: nce}\n")
    assert Run(tmp_path).recipe.method.options["loss"] == "nce"


def test_the_defaults_are_those_of_the_documentation() -> None:
    made = compose({})
    assert (made.method.name, made.encoder.name, made.epochs, made.batch_size, made.seed) == (
        "simclr",
        "resnet18",
        100,
        256,
        0,
    )
    assert Recipe().precision == "auto"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("methd: simclr", "did you mean 'method'?"),
        ("1: 2", "no field '1'"),
        ("- a", "must hold a mapping"),
        ("a: [", "is not YAML"),
        ("data: null", "must be text"),
        ("epochs: many", "must be a whole number"),
        ("epochs: .inf", "must be a whole number"),
        ("epochs: [3]", "must be a whole number"),
        ("batch_size: 0", "must be at least 1"),
        ("views: {name: simclr, scale: 0.5}", "must be 2 numbers"),
        ("method: {name: simclr, projector: mpl}", "must be one of"),
    ],
)
def test_mistakes_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        compose(written(tmp_path / "r.yaml", text))


def test_a_packaged_recipe_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(packaged()) >= 30
    for name in packaged():
        assert locate(name) == locate(f"{name}.yaml") == PACKAGED / f"{name}.yaml"
        assert is_recipe(name)
        assert is_recipe(f"{name}.yaml")
    assert read("digits/simclr") == read(PACKAGED / "digits" / "simclr.yaml")
    assert compose(read("digits/simclr")).data == "digits"
    assert not is_recipe("simclr")


@pytest.mark.parametrize("name", ["digits/simclr", "digits/simclr.yaml"])
def test_a_file_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("digits").mkdir()
    Path(name).write_text("epochs: 7")
    assert read(name) == {"epochs": 7}


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"recipe 'cifar10/mocov2' cannot be read: .*; did you mean 'cifar10/moco-v2'\?"):
        read("cifar10/mocov2")
    with pytest.raises(UserError, match=r"recipe 'my\.yaml' cannot be read: it is neither a file nor a packaged one; `unl"):
        read("my.yaml")


def test_rows_and_sweeps_take_packaged_recipes(tmp_path: Path) -> None:
    rows = ("--method", "fashion-mnist/simclr", "--method", "cifar10/fast", "--out", tmp_path / "rows")
    assert "'cifar10/fast' has encoder = {'name': 'resnet9'" in mistake("compare", "digits", *rows)
    words = ("--grid", "method.temperatur=1", "--out", tmp_path / "sweep")
    assert "did you mean 'temperature'?" in mistake("sweep", "digits/simclr", *words)
