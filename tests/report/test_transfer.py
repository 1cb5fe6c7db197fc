"""The report of transfer: one table of all data sets, and what to do where there is no supervised rival."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import ONE, file, ok
from tags import Tags

from unlabeled.reporting.collect import Opener, Told
from unlabeled.reporting.page import render
from unlabeled.reporting.tables import transfer_table
from unlabeled.run import Run

pytestmark = pytest.mark.usefixtures("two_steps")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of images, a run, and one that learned from labels."""
    path = tmp_path_factory.mktemp("made")
    first = file(path / "x.npz", n=24)
    file(path / "y.npz", n=21, seed=3)
    ok("pretrain", first, *ONE, "--out", path / "run")
    ok("pretrain", first, *ONE, "--method", "supervised", "--out", path / "told")
    return path


def transferred(
    sets: Path, *against: object, protocol: Sequence[str], names: Sequence[str] = ("x", "y"), more: Sequence[object] = ()
) -> tuple[str, list[dict[str, object]]]:
    data = [word for name in names for word in ("--data", sets / f"{name}.npz")]
    rivals = [word for one in against for word in ("--against", one)]
    asked = [word for one in protocol for word in ("--protocol", one)]
    (sets / "run" / "transfer.json").unlink(missing_ok=True)  # which would keep what another test asked for
    said = ok("evaluate", sets / "run", *data, *asked, *rivals, *more)
    return said, json.loads((sets / "run" / "transfer.json").read_text())["transfer"]


def page(run: Path) -> str:
    return render([Told("lone", Run.open(run), "r0", Opener(None, {}))])


def test_one_table_of_all_sets_and_encoders(sets: Path) -> None:
    said, found = transferred(sets, "random", sets / "told", protocol=["transfer"])
    assert [one["saw_labels"] for one in found] == [[str(sets / "told")]] * 2
    table = transfer_table(found)
    assert table.columns == [
        "data",
        *(f"{how}, {what}" for how in ("linear", "fine-tuned")
          for what in ("pretrained encoder", "supervised pretraining", "untrained encoder")),
    ]  # fmt: skip
    assert [row[0] for row in table.rows] == [str(sets / "x.npz"), str(sets / "y.npz")]
    for row, one in zip(table.rows, found, strict=True):
        scores = {(s["protocol"], s["subject"]): s for s in one["scores"]}  # type: ignore[attr-defined]
        asked = [(p, s) for p in ("linear", "finetune") for s in ("run", str(sets / "told"), "random")]
        assert row[1:] == [
            f"{100 * scores[key]['metrics']['top1'][0]:.1f} ± {100 * scores[key]['intervals']['top1']:.1f}%" for key in asked
        ]
    text = page(sets / "run")
    tags = Tags(text)
    assert len(tags.all("table")) == 1
    assert "Not compared with supervised pretraining" not in " ".join(tags.text.split()) + said
    assert 'href="#r0-transfer"' in text


def test_it_takes_the_labels_that_are_asked_for(sets: Path) -> None:
    _, found = transferred(sets, protocol=["transfer"], names=["y"], more=["--labels", "2", "--draws", "1"])
    assert {(s["protocol"], s["labels"]) for one in found for s in one["scores"]} == {("linear", "2"), ("finetune", "2")}  # type: ignore[attr-defined]


def test_without_a_supervised_rival_it_says_how_to_give_one(sets: Path) -> None:
    said, found = transferred(sets, "random", protocol=["linear:2", "linear:100%"])
    assert transfer_table(found).columns[:3] == ["data", "labels", "linear, pretrained encoder"]
    assert [row[1] for row in transfer_table(found).rows] == ["2 per class", "100%"] * 2
    lacking = "Not compared with supervised pretraining: run unlabeled pretrain DATA --method supervised"
    assert said.count(lacking) == " ".join(Tags(page(sets / "run")).text.split()).count(lacking) == 1


def test_it_stands_beside_the_evaluation_of_one_set(run: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(run, lone)
    said = json.loads((lone / "evaluation.json").read_text())
    (lone / "transfer.json").write_text(json.dumps({"transfer": [{**said, "data": "stars", "answer": ["No."]}]}))
    told = Told("lone", Run.open(lone), "r0", Opener(None, {}))
    assert told.answer == [f"{said['data']}: It is <em>better</em> than an untrained encoder.", "stars: No."]
    text = " ".join(Tags(render([told])).text.split())
    guess = "always naming the largest class gives 3"
    assert guess in text
    assert text.replace(f"{guess}3.3% top1", "").count("top1") == 3, (
        "in the chart, the table of the one set, and what it means"
    )
    assert "of stars." in text
