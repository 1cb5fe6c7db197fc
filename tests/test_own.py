"""Encoders, views and methods that are given in Python as they are; what a run keeps of them, and how it is opened again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import images
from torch import Tensor, nn

import unlabeled
from unlabeled import own, registry
from unlabeled.batch import DataShape
from unlabeled.comparing.arrays import ARRAYS, hand_over, name_for_rows
from unlabeled.data import open_data
from unlabeled.encoders.image import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.moco import MoCo
from unlabeled.methods.simclr import SimCLR
from unlabeled.recipe import compose
from unlabeled.registry import Choice, get
from unlabeled.run import Run
from unlabeled.training.given import named

SHAPE = DataShape(60, 3, 8, 3, frozenset({"mirror", "colour"}), "image")
TINY: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 16,
    "monitor_every": 0,
    "image_size": 8,
    "accelerator": "cpu",
    "speed": "workers=1",
}


class Net(nn.Module):
    """A network of a user."""

    def __init__(self, channels: int = 3, width: int = 4) -> None:
        super().__init__()
        self.dim = 2 * width
        self.body = nn.Sequential(nn.Conv2d(channels, width, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(self.dim))
        self.body(torch.zeros(1, channels, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.body(x)
        return h


class Louder(MoCo):
    """Twice the loss."""

    def forward(self, batch: Any, at: Any) -> Any:
        loss = super().forward(batch, at)
        loss.total = 2 * loss.total
        return loss


def noisy(fields: dict[str, Tensor], generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
    """A policy."""
    x = fields["image"].float() / 255
    return [x, (x + torch.rand(x.shape, generator=generator) / 10).clamp(max=1)], {}


def still(fields: dict[str, Tensor], generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
    """A policy of one view."""
    return [fields["image"].float() / 255], {}


def dimmed(image: Tensor) -> Tensor:
    """Of one image, as transforms of torchvision are."""
    return (image * torch.rand(())).to(torch.uint8)


def encoder(choice: Choice, channels: int = 3) -> Any:
    return build_encoder(choice, channels, 8, torch.zeros(channels), torch.ones(channels))


def again() -> None:
    """As another session begins: nothing was given."""
    for key in list(own._given):
        del own._given[key], registry._registered[key]


def test_a_run_of_own_parts_keeps_names_and_is_opened_once_they_are_given_again(tmp_path: Path) -> None:
    x, y = images()
    run = unlabeled.pretrain((x, y), encoder=Net, views=noisy, method=Louder, out=tmp_path / "run", **TINY)
    kept = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert [kept[part]["name"] for part in ("encoder", "views", "method")] == ["Net", "noisy", "Louder"]
    assert not list((tmp_path / "run").rglob("*.pkl"))
    h = unlabeled.load(run.path)(torch.from_numpy(x[:4]).permute(0, 3, 1, 2))
    found = unlabeled.evaluate(run.path, data=(x, y), protocol="knn", against="random")
    assert str(found).splitlines()[0] == found.answer
    assert "<table>" in found._repr_html_()
    assert "untrained encoder" in found._repr_html_()
    again()
    with pytest.raises(
        UserError, match=r"encoder Net.*define them as they were, and call unlabeled.give\(method=Louder, enc"
    ):
        unlabeled.load(run.path)
    with pytest.raises(UserError, match=r"made with method Louder and encoder Net and views noisy, given in Python"):
        Run.open(run.path).needs("method")
    unlabeled.give(encoder=Net, method=Louder, views=noisy)
    assert torch.equal(unlabeled.load(run.path)(torch.from_numpy(x[:4]).permute(0, 3, 1, 2)), h)
    assert Run.open(run.path).recipe.method.name == "Louder"


def test_only_what_draws_the_views_asks_for_them(tmp_path: Path) -> None:
    """In a session that does not have them, as a function of a notebook."""
    x, y = images()
    np.savez(tmp_path / "x.npz", x=x, y=y)
    data, run = tmp_path / "x.npz", tmp_path / "run"
    unlabeled.pretrain(data, views=still, method="supervised", options={"encoder.width": 4}, out=run, **TINY)
    recipe = Run.open(run).recipe
    again()
    assert Run.open(run).recipe == recipe
    assert unlabeled.load(run).dim
    assert len(unlabeled.embed(run, data)["path"]) == 60  # type: ignore[arg-type, index]
    assert unlabeled.search(run, 3, data=data, n=1, out=tmp_path / "s.png").neighbours
    assert unlabeled.outliers(run, data, n=1, out=tmp_path / "o.csv").found
    assert unlabeled.predict(run, data, out=tmp_path / "p.csv").counts
    assert unlabeled.export(run, format="safetensors").path.is_file()
    assert "kNN" in str(unlabeled.evaluate(run, protocol="knn", against="random"))
    asked = "was made with views still, given in Python: define it as it was, and call unlabeled.give(views=still)"
    page = unlabeled.report(run, out=tmp_path / "r.html").read_text()
    assert f"The views are not drawn: &#39;{run}&#39; {asked}" in page
    with pytest.raises(UserError, match=re.escape(asked)):
        unlabeled.evaluate(run, protocol="health", against="none")
    assert unlabeled.evaluate(run, protocol="health:views=simclr,images=16", against="none")
    with pytest.raises(UserError, match=re.escape(asked)):
        unlabeled.pretrain(data, out=run, resume=True, epochs=2)


def test_a_method_asks_of_a_run_what_the_one_above_it_does() -> None:
    given = compose(named(method=Louder))
    paper = compose({"method": "moco"})
    assert (given.views, given.optimizer, given.method.options) == (paper.views, paper.optimizer, paper.method.options)


def test_a_class_is_drawn_by_the_seed_and_gets_channels_and_options() -> None:
    name = named(encoder=Net)["encoder"]
    torch.manual_seed(1)
    first = encoder(Choice(name, {"width": 6}), channels=2)
    torch.manual_seed(1)
    second = encoder(Choice(name, {"width": 6}), channels=2)
    assert first.dim == 12
    assert torch.equal(first.backbone.body[0].weight, second.backbone.body[0].weight)
    with pytest.raises(UserError, match=r"encoder 'Net' cannot be built with .*depth"):
        encoder(Choice(name, {"depth": 6}))


def test_a_module_begins_with_its_weights_and_its_rival_with_others() -> None:
    net = Net()
    fields = named(encoder=net)
    assert fields == {"encoder": "Net", "start": "as given"}
    untrained = encoder(Choice("Net"))
    assert not torch.equal(untrained.backbone.body[0].weight, net.body[0].weight)
    from unlabeled.training.warm_start import begin_from

    begin_from(untrained, Choice("Net"), fields["start"])
    assert torch.equal(untrained.backbone.body[0].weight, net.body[0].weight)


def test_what_cannot_be_drawn_anew_is_said() -> None:
    class Scaled(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))

    named(encoder=Scaled())
    assert any("scale: not drawn anew in the untrained encoder" in note for note in encoder(Choice("Scaled")).notes)


def test_networks_that_give_no_features_are_refused() -> None:
    class Maps(nn.Conv2d):
        dim = 4

        def __init__(self) -> None:
            super().__init__(3, 4, 3)

    class Lies(Net):
        def __init__(self) -> None:
            super().__init__()
            self.dim = 5

    named(encoder=Maps)
    with pytest.raises(UserError, match=r"maps samples of shape \(1, 3, 8, 8\) to \(1, 4, 6, 6\), and must give features"):
        encoder(Choice("Maps"))
    named(encoder=Lies)
    with pytest.raises(UserError, match=r"gives 8 features, and says dim = 5"):
        encoder(Choice("Lies"))


def test_views_may_be_a_policy_or_a_function_of_one_image() -> None:
    x = torch.from_numpy(images()[0][:6]).permute(0, 3, 1, 2)
    for thing in (noisy, dimmed):
        policy = registry.build("views", Choice(named(views=thing)["views"]), SHAPE)
        state = torch.random.get_rng_state()
        one, two = (policy({"image": x}, torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(torch.random.get_rng_state(), state), "the draws of others stay as they are"
        assert len(one[0]) == 2
        assert all(torch.equal(a, b) for a, b in zip(one[0], two[0], strict=True))
        assert not torch.equal(*one[0])
        assert all(float(view.min()) >= 0 and float(view.max()) <= 1 and view.shape == x.shape for view in one[0])


def test_views_of_another_form_are_refused() -> None:
    def alone(fields: Any, generator: Any) -> Any:
        return fields["image"]

    def ragged(image: Tensor) -> Tensor:
        return image[:, : int(image[0, 0, 0]) % 4 + 2]

    x = {"image": torch.from_numpy(images()[0]).permute(0, 3, 1, 2)}
    for thing, said in ((alone, "give Tensor, and must give a list"), (ragged, "all of one shape")):
        policy = registry.build("views", Choice(named(views=thing)["views"]), SHAPE)
        with pytest.raises(UserError, match=said):
            policy(x, torch.Generator())


class simclr(nn.Module):  # noqa: N801
    """Has the name of a method and of a policy."""


class resnet18(nn.Module):  # noqa: N801
    """Has the name of a network of timm."""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"encoder": resnet18}, "'resnet18' that was given has the name of another"),
        ({"views": simclr}, "'simclr' that was given has the name of another"),
        ({"views": lambda x: x}, "has no name that a run could keep, to know it by when it is resumed or opened again"),
        ({"views": 3}, "views is a int"),
        ({"encoder": 3}, "encoder is a int"),
        ({"method": noisy}, "method is 'noisy': give a name, or a class that inherits from"),
    ],
)
def test_what_cannot_be_named_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        named(**given)


def test_a_cell_that_is_run_again_replaces_what_it_gave_and_registered_things_keep_their_name() -> None:
    assert named(method=SimCLR)["method"] in {entry.name for entry in registry.entries_of(SimCLR)}
    named(encoder=Net)
    other = type("Net", (Net,), {})
    assert named(encoder=other) == {"encoder": "Net"}
    assert get("encoders", "Net").make is other


def test_a_registered_network_is_built_by_its_name() -> None:
    """As a file that is given with `--plugin` has it."""
    registry.register("small-net", kind="encoders")(Net)
    try:
        assert encoder(Choice("small-net", {"width": 5}), channels=1).dim == 10
    finally:
        del registry._registered["encoders", "small-net"]


def test_weights_of_a_checkpoint_are_given_by_from() -> None:
    with pytest.raises(UserError, match=r"--encoder.checkpoint-path .*: give --from FILE.safetensors"):
        compose({"encoder.checkpoint-path": "weights.pth"})


def test_a_class_is_a_row_of_a_table(tmp_path: Path) -> None:
    """One of a notebook, which no other process can import; with an encoder that is given by its name."""

    def forward(self: Any, batch: Any, at: Any) -> Any:
        return SimCLR.forward(self, batch, at)

    louder = type("Louder", (SimCLR,), {"forward": forward, "__module__": "__main__"})
    unlabeled.give(encoder=Net)
    table = unlabeled.compare(
        images(), method=[louder], encoder="Net", epochs=1, batch_size=16, image_size=8, out=tmp_path / "out",
    )  # fmt: skip
    assert not table.failed
    row = next(row for row in table.rows if row["name"] == "Louder")
    assert row["recipe"]["encoder"]["name"] == "Net"
    assert Run(tmp_path / "out" / "rows" / "Louder").finished


def test_a_registered_class_is_a_row_of_a_table(tmp_path: Path) -> None:
    """One of a notebook: its name was known in no other process."""
    loud = registry.register("loud", temperature=0.3)(type("Loud", (SimCLR,), {"__module__": "__main__"}))
    try:
        table = unlabeled.compare(
            images(), method=[loud], encoder="resnet9", epochs=1, batch_size=16, image_size=8, out=tmp_path / "out",
            options={"encoder.width": 4},
        )  # fmt: skip
    finally:
        del registry._registered["methods", "loud"]
    assert not table.failed
    row = next(row for row in table.rows if row["name"] == "loud")
    assert row["recipe"]["method"]["temperature"] == 0.3


def test_rows_of_own_classes_have_options(tmp_path: Path) -> None:
    """Spelt as those of names are, and refused alike."""
    from unlabeled.comparing.compare import _spelled

    assert _spelled((Louder, {"temperature": 0.2, "queue": 32})) == "Louder:temperature=0.2,queue=32"
    assert _spelled(("moco", {"queue": 32})) == "moco:queue=32"
    shared: Any = {"epochs": 1, "batch_size": 16, "image_size": 8, "out": tmp_path / "out"}
    with pytest.raises(UserError, match="method 'Louder' has no option 'temprature'; did you mean 'temperature'"):
        unlabeled.compare(images(), method=[(Louder, {"temprature": 0.2}), "simclr"], **shared)
    with pytest.raises(UserError, match="encoder 'Net' is a module with weights, and all rows begin with noise"):
        unlabeled.compare(images(), method="simclr", encoder=Net(), **shared)
    with pytest.raises(UserError, match="method 'Louder' has no option 'temprature'"):
        unlabeled.sweep(images(), method=Louder, views=noisy, encoder=Net, grid=["method.temprature=1,2"], **shared)
    assert not (tmp_path / "out").exists()


def test_rows_of_a_table_are_refused_what_only_this_process_has(tmp_path: Path) -> None:
    with (
        (tmp_path / "held").open("w") as held,
        pytest.raises(UserError, match="cannot go to the process that trains the row"),
    ):
        unlabeled.compare(
            images(), method=[type("Held", (MoCo,), {"held": held, "__module__": "__main__"})], epochs=1, batch_size=16,
            image_size=8, out=tmp_path / "out", options={"encoder.width": 4},
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_arrays_are_handed_to_the_rows_of_a_table(tmp_path: Path) -> None:
    x, y = images()
    tensors = torch.from_numpy(x).permute(0, 3, 1, 2), [*map(str, y)]
    assert name_for_rows(tensors, tmp_path) == str(tmp_path / ARRAYS)
    hand_over(tensors, tmp_path)
    there, here = open_data(name_for_rows(tensors, tmp_path)), open_data((x, y))
    assert np.array_equal(there.train.fetch([0, 5])["image"], here.train.fetch([0, 5])["image"])
    assert there.train.labels is not None
    assert there.train.labels.tolist() == here.train.labels.tolist()  # type: ignore[union-attr]
    (tmp_path / "b").mkdir()
    hand_over({"x": torch.from_numpy(x), "y": y, "file": y}, tmp_path / "b")  # channels last; a name that numpy.savez has
    again = open_data(tmp_path / "b" / ARRAYS).train
    assert np.array_equal(again.fetch([0, 5])["image"], here.train.fetch([0, 5])["image"])
    assert name_for_rows("digits", tmp_path) == "digits"
    with pytest.raises(UserError, match="rows train in processes of their own"):
        name_for_rows([1, 2], tmp_path)
