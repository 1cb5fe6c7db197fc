"""Evaluating again: what an earlier call wrote stays where it is still true, and nowhere else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import ONE, file, images, mistake, ok
from command import unlabeled as command

import unlabeled
from unlabeled.evaluating.evaluation import UNSUPERVISED
from unlabeled.probes.knn import KNN

QUICK = "finetune:epochs=1,steps=2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("again")
    ok("pretrain", file(path / "x.npz", n=60), *ONE, "--out", path / "run")
    return path


@pytest.fixture
def made(trained: Path, tmp_path: Path) -> Path:
    """A folder with data and a run that was not evaluated yet."""
    shutil.copytree(trained, tmp_path / "made")
    return tmp_path / "made"


def written(made: Path, name: str = "evaluation") -> Any:
    return json.loads((made / "run" / f"{name}.json").read_text())


def protocols(found: Any) -> set[str]:
    return {score["protocol"] for score in found["scores"]}


def corrected(made: Path, **more: Any) -> None:
    x, y = images(60)
    y[:20] = (y[:20] + 1) % 3
    np.savez(made / "x.npz", x=x, **{"y": y, **more})


def test_scores_of_old_labels_do_not_stay(made: Path) -> None:
    data = f"train={made / 'x.npz'},test={file(made / 'test.npz', n=30, seed=4)}"
    words = ("evaluate", made / "run", "--data", data, "--against", "none")
    ok(*words, "--protocol", "knn")
    ok(*words, "--protocol", "linear:C=1")
    assert protocols(written(made)) == {"knn", "linear"}
    corrected(made)
    ok(*words, "--protocol", "linear:C=1")
    found = written(made)
    assert protocols(found) == {"linear"}
    assert len(found["commands"]) == 1


def test_nor_those_of_other_names_of_classes(made: Path) -> None:
    words = ("evaluate", made / "run", "--data", made / "x.npz", "--against", "none")
    x, y = images(60)
    np.savez(made / "x.npz", x=x, y=y, classes=["a", "b", "c"])
    ok(*words, "--protocol", "knn")
    np.savez(made / "x.npz", x=x, y=y, classes=["a", "c", "b"])
    ok(*words, "--protocol", "linear:C=1")
    assert protocols(written(made)) == {"linear"}


def test_a_file_of_before_labels_counted_is_reported_and_replaced(made: Path) -> None:
    words = ("evaluate", made / "run", "--data", made / "x.npz", "--against", "none")
    ok(*words, "--protocol", "knn")
    old = written(made)
    old["identity"] = old["identity"].rpartition(" ")[0]
    del old["saw_labels"]
    (made / "run" / "evaluation.json").write_text(json.dumps(old))
    ok("report", made / "run", "--out", made / "old.html")
    assert old["answer"][0][:40] in (made / "old.html").read_text()
    ok(*words, "--protocol", "linear:C=1")
    assert protocols(written(made)) == {"linear"}


def test_transfer_keeps_what_it_does_not_repeat(made: Path) -> None:
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        file(made / f"{name}.npz", n=45, seed=seed)

    def transferred(sets: str, *asked: str) -> Any:
        data = [word for one in sets for word in ("--data", made / f"{one}.npz")]
        wanted = [word for one in asked for word in ("--protocol", one)]
        said = ok("evaluate", made / "run", *data, *wanted, "--against", "none")
        return said, {Path(one["data"]).stem: protocols(one) for one in written(made, "transfer")["transfer"]}

    assert transferred("ab", "linear:C=1")[1] == {"a": {"linear"}, "b": {"linear"}}
    _said, found = transferred("bc", QUICK)
    assert found == {"a": {"linear"}, "b": {"linear", "finetune"}, "c": {"finetune"}}
    corrected(made)
    shutil.copy(made / "x.npz", made / "a.npz")
    assert transferred("ac", "knn")[1] == {"a": {"knn"}, "b": {"linear", "finetune"}, "c": {"finetune", "knn"}}
    ok("pretrain", made / "x.npz", *ONE, "--seed", 1, "--out", made / "other")
    shutil.copy(made / "run" / "transfer.json", made / "other" / "transfer.json")
    ok(
        "evaluate",
        made / "other",
        "--data",
        made / "b.npz",
        "--data",
        made / "c.npz",
        "--protocol",
        "knn",
        "--against",
        "none",
    )
    other = json.loads((made / "other" / "transfer.json").read_text())["transfer"]
    assert [(Path(one["data"]).stem, protocols(one)) for one in other] == [("b", {"knn"}), ("c", {"knn"})]


def test_a_word_that_is_no_protocol_is_told_of_transfer(made: Path) -> None:
    assert "did you mean 'transfer'?" in mistake("evaluate", made / "run", "--protocol", "transfr")
    assert mistake("evaluate", made / "run", "--protocol", "none").rstrip().endswith("transfer")


def test_fine_tuning_says_where_a_supervised_rival_is_missing(made: Path) -> None:
    hint = UNSUPERVISED.partition(":")[0]
    words = ("evaluate", made / "run", "--data", made / "x.npz", "--against", "none")
    assert hint not in ok(*words, "--protocol", "knn")
    assert ok(*words, "--protocol", QUICK).count(hint) == 1
    ok("report", made / "run", "--out", made / "page.html")
    assert (made / "page.html").read_text().count(hint) == 1
    ok("pretrain", made / "x.npz", *ONE, "--method", "supervised", "--out", made / "told")
    rival = ok("evaluate", made / "run", "--data", made / "x.npz", "--against", made / "told", "--protocol", QUICK)
    assert hint not in rival
    assert f"pretrained with 100% of the labels, in every row ({made / 'told'})" in rival
    ok(*words, "--protocol", "knn")
    assert written(made)["saw_labels"] == [str(made / "told")], "its scores stay in the file, and so does what it saw"
    ok("report", made / "run", "--out", made / "page.html")
    assert hint not in (made / "page.html").read_text()


def test_each_amount_of_labels_has_its_picture(made: Path) -> None:
    amounts = ["--labels", "2", "--labels", "50%", "--labels", "100%"]
    ok("evaluate", made / "run", "--protocol", "retrieval", "--protocol", "retrieval:k=3", *amounts, "--against", "none")
    names = {path.name for path in (made / "run" / "pictures").glob("*.json")}
    assert names == {f"retrieval{s}.json" for s in (
        "", "-labels=2", "-labels=50%", "-k=3", "-k=3,labels=2", "-k=3,labels=50%"
    )}  # fmt: skip
    ok("report", made / "run", "--out", made / "page.html")
    page = (made / "page.html").read_text()
    assert "Retrieval (labels=50%)" in page
    assert "Retrieval (k=3,labels=2)" in page


def test_clusters_are_a_comparison_by_labels(made: Path) -> None:
    result = unlabeled.evaluate(made / "run", protocol=["clusters", "knn"], against=["random", "pixels"], draws=2)
    assert ("run", "test labels") in result.scores
    assert result.answer is not None
    assert "clusters on test labels gives" in result.answer
    x, _ = images(60)
    np.savez(made / "bare.npz", x=x)
    words = ["--data", made / "bare.npz", "--protocol", "clusters", "--protocol", "tsne", "--against", "none"]
    some = command("evaluate", made / "run", *words)
    assert "not judged by clusters: the training split has no labels" in " ".join(some.out.split())


def test_data_that_may_have_changed_unnoticed_keep_no_earlier_scores(made: Path) -> None:
    from torch import from_numpy
    from torch.utils.data import TensorDataset

    x, y = images(60)
    data = TensorDataset(from_numpy(x).permute(0, 3, 1, 2), from_numpy(y))
    for name in ("knn", "linear:C=1"):
        unlabeled.evaluate(made / "run", data=data, protocol=name, against="none")
    assert protocols(written(made)) == {"linear"}


def test_a_run_of_version_0_1_is_judged_and_reported(made: Path) -> None:
    """Its recipe names no kind of data, and has earlier names of options."""
    path = made / "run" / "recipe.yaml"
    recipe = yaml.safe_load(path.read_text())
    kind = recipe.pop("kind")
    recipe |= {"image_size": kind["size"], "first_size": None, "eval_size": None}
    recipe |= {"looks": recipe.pop("tta"), "average": recipe.pop("ema")}
    for name in ("columns", "label", "group", "start", "about"):
        recipe.pop(name)
    path.write_text(yaml.safe_dump(recipe))
    assert "linear" in ok("evaluate", made / "run", "--protocol", "linear:C=1", "--against", "none")
    assert "written" in ok("report", made / "run", "--out", made / "page.html")
    assert "search" not in command("search", made / "run", made / "x.npz", "--data", made / "x.npz").err.partition(":")[0]


def test_what_another_process_wrote_meanwhile_stays(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("evaluate", made / "run", "--data", made / "x.npz", "--against", "none")
    fit = KNN.fit

    def meanwhile(self: KNN, *args: Any, **more: Any) -> KNN:
        monkeypatch.setattr(KNN, "fit", fit)
        ok(*words, "--protocol", "linear:C=1")
        return fit(self, *args, **more)

    monkeypatch.setattr(KNN, "fit", meanwhile)
    ok(*words, "--protocol", "knn")
    assert protocols(written(made)) == {"knn", "linear"}
