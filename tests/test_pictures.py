"""What protocols draw beside their figures: a file for each way of asking, images called by one number everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import images, ok

import unlabeled
from unlabeled import registry
from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.probes.score import LONGEST, file_name, of_file
from unlabeled.probes.spelling import parse_protocol
from unlabeled.registry import Choice


@pytest.mark.parametrize(
    ("asked", "name", "protocol", "options"),
    [
        ("tsne", "tsne", "tsne", ""),
        ("tsne:perplexity=30", "tsne", "tsne", ""),
        ("tsne:perplexity=200", "tsne-perplexity=200", "tsne", "perplexity=200"),
        ("linear-layers:C=0.1,k=5", "linear-layers-C=0.1,k=5", "linear-layers", "C=0.1,k=5"),
        ("health:views=a/b", "health-views=a-b", "health", "views=a-b"),
    ],
)
def test_files_are_called_after_what_was_asked(asked: str, name: str, protocol: str, options: str) -> None:
    assert file_name(parse_protocol(asked).choice) == name
    assert of_file(name) == (protocol, options)


def test_a_long_name_is_cut_and_still_its_own() -> None:
    numbers = [",".join(str(1000 + i + j) for j in range(300)) for i in (0, 1)]
    names = [file_name(parse_protocol(f"attention:images={text},0").choice) for text in numbers]
    assert [len(name) for name in names] == [LONGEST + 9] * 2
    assert names[0] != names[1]
    assert of_file(names[0])[0] == "attention"


def test_two_ways_to_ask_leave_two_pictures_and_other_images_remove_both(made: Path) -> None:
    out, pictures = made / "two.json", made / "two-pictures"
    words = [w for one in ("tsne", "tsne:perplexity=3", "retrieval", "retrieval:k=3") for w in ("--protocol", one)]
    said = ok("evaluate", made / "run", *words, "--against", "none", "--out", out)
    assert said.count("written: ") == 5
    names = ["retrieval", "retrieval-k=3", "tsne", "tsne-perplexity=3"]
    assert {path.name for path in pictures.iterdir()} == {f"{n}{kind}" for n in names for kind in (".json", ".png")}
    (pictures / "tsne-letter.txt").write_text("dear")
    unlabeled.evaluate(made / "run", data=images(90, seed=8), protocol="knn", against="none", out=out)
    assert sorted(path.name for path in pictures.iterdir()) == ["knn.csv", "knn.json", "knn.png", "tsne-letter.txt"]


def test_a_number_is_the_same_image_for_evaluate_and_search(made: Path, tmp_path: Path) -> None:
    asked = ["--protocol", "retrieval", "--protocol", "tsne", "--protocol", "attention:images=3"]
    ok("evaluate", made / "run", *[str(word) for word in asked], "--against", "none", "--out", made / "n.json")
    names = "retrieval", "tsne", "attention-images=3"
    found, plane, looks = (json.loads((made / "n-pictures" / f"{name}.json").read_text()) for name in names)
    split, given = (
        open_data(made / "data", kind=Choice("", {"size": 8})),
        open_data(made / "data", seed=None).train,
    )
    assert split.test is not None
    for query in found["best"]:
        number, first = query["number"], query["neighbours"][0]
        assert split.test.path(query["position"]) == given.path(number)
        near = unlabeled.search(made / "run", number, n=59, out=tmp_path / "s.png").neighbours
        of_train = next(n for n in near if n.number in split.train.numbers)
        assert (of_train.number, of_train.path) == (first["number"], split.train.path(first["position"]))
        assert of_train.similarity == pytest.approx(first["similarity"], abs=1e-5)
    for one in (plane, *looks["images"]):
        assert np.array_equal(one["number"], split.test.numbers[one["index"]])
    assert {*split.train.numbers, *split.test.numbers} == set(range(60))


@pytest.mark.usefixtures("two_steps")
@pytest.mark.parametrize("name", [name for name in registry.names("probes") if name != "tasks"])  # which is for its own runs
def test_every_figure_has_an_interval_or_a_spread(made: Path, name: str, tmp_path: Path) -> None:
    if name == "umap":
        pytest.importorskip("umap")
    data = images(360, classes=6, seed=2)
    asked = "few-shot:ways=3,queries=4,episodes=50" if name == "few-shot" else name
    run = made / "run"
    if getattr(registry.get("probes", name).make, "needs_classifier", False):
        run = tmp_path / "run"
        unlabeled.pretrain(
            data,
            method="supervised",
            epochs=1,
            batch_size=16,
            image_size=8,
            out=run,
            accelerator="cpu",
            options={"encoder.width": 4},
        )
    try:
        found = unlabeled.evaluate(run, data=data, protocol=asked, against="none", out=made / f"{name}.json")
    except UserError as error:
        pytest.fail(str(error))
    scores = [score for (subject, _), several in found.scores.items() if subject == "run" for score in several]
    assert scores
    for score in scores:
        assert {metric: score.spread(metric) for metric in score.metrics if score.spread(metric) is None} == {}
