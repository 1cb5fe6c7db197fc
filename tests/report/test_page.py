"""What a report says, and that nothing in it can be taken for markup."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from command import images, mistake, ok
from tags import Tags

import unlabeled
from unlabeled.evaluating.splits import splits
from unlabeled.reporting.collect import Opener, Told
from unlabeled.reporting.inline import look
from unlabeled.reporting.page import render
from unlabeled.reporting.run_curves import curves, swatch
from unlabeled.reporting.scatter import scatter
from unlabeled.run import Run


@pytest.fixture(scope="module")
def tags(html: Path) -> Tags:
    return Tags(html.read_text(encoding="utf-8"))


def test_it_is_one_file_that_needs_nothing(html: Path, tags: Tags) -> None:
    links = [v for _, attributes in tags.tags for k, v in attributes.items() if k in ("src", "href") and v is not None]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    (policy,) = [m["content"] for m in tags.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy)
    assert "unsafe" not in str(policy)
    assert not [p for p in html.parent.iterdir() if p.name.startswith(".report")]


def test_every_section_is_there(tags: Tags) -> None:
    said = " ".join(tags.text.split())
    for words in ("Loss", "kNN accuracy", "Effective rank of the representation", "Learning rate", "Evaluation",
                  "Views: what the method sees", "Map of the representation", "Retrieval", "First layer",
                  "how to repeat", "name: simclr",
                  "average precision 75%", "other <i>.png", "untrained encoder", "2 per class", "±"):  # fmt: skip
        assert words in said
    assert "Momentum" not in said
    assert "Not shown" not in said
    assert said.index("It is <em>better</em>") < said.index("Evaluated with")


def test_headings_titles_language_and_alternatives(tags: Tags) -> None:
    assert tags.all("html") == [{"lang": "en"}]
    levels = [int(name[1]) for name, _ in tags.tags if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert all("alt" in image and (image["alt"] or "hidden" in image) for image in tags.all("img"))
    assert all(svg.get("aria-label") or "aria-hidden" in svg for svg in tags.all("svg"))
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_reference_within_the_page_exists(html: Path, tags: Tags) -> None:
    ids = {attributes["id"] for _, attributes in tags.tags if "id" in attributes}
    named = re.findall(r'(?:href="#|url\(#)([^")]+)', html.read_text(encoding="utf-8"))
    assert named
    assert set(named) <= ids


def test_names_are_text(html: Path, tags: Tags) -> None:
    assert len(tags.all("script")) == 1
    assert not tags.all("em") + tags.all("i")
    assert not [k for _, attributes in tags.tags for k in attributes if k.startswith("on") or k == "style"]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html.read_text(encoding="utf-8")


def test_several_runs_side_by_side(made: Path, run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    (other / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace("seed: 0", "seed: 7"))
    ok("report", run, other, "--out", tmp_path / "both.html")
    tags = Tags((tmp_path / "both.html").read_text(encoding="utf-8"))
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    said = " ".join(tags.text.split())
    assert "Side by side" in said
    assert re.search(r"seed 0 7\b", said)
    assert " beside 'other': +0.0 ± " in said
    assert "hidden 0 0" not in said


def test_data_that_cannot_be_opened_is_said(made: Path, run: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(run, lone)
    (lone / "recipe.yaml").write_text((run / "recipe.yaml").read_text().replace("x.npz", "gone.npz"))
    said = json.loads((lone / "evaluation.json").read_text())
    (lone / "evaluation.json").write_text(json.dumps({**said, "data": "gone.npz"}))
    unlabeled.report(lone)
    text = (lone / "report.html").read_text(encoding="utf-8")
    said = " ".join(Tags(text).text.split())
    assert "The views are not drawn: " in said
    assert "gone.npz" in said
    assert "Map of the representation" in said
    assert 'class="sprite"' not in text
    unlabeled.report(lone, data=str(made / "x.npz"))
    assert "Not shown" not in (lone / "report.html").read_text(encoding="utf-8")


def test_a_run_that_was_not_evaluated_says_so_first(run: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(run, lone)
    said = json.loads((lone / "evaluation.json").read_text())
    del said["answer"]
    (lone / "evaluation.json").write_text(json.dumps(said))
    (found,) = Told("lone", Run.open(lone), "r0", Opener(None, {})).answer
    assert found.startswith(("Pretraining", "Whether pretraining helped"))
    (lone / "evaluation.json").unlink()
    told = Told("lone", Run.open(lone), "r0", Opener(None, {}))
    assert told.answer == [f"Not evaluated with labels yet: unlabeled evaluate {lone} says whether pretraining helped."]
    assert told.answer[0] in " ".join(Tags(render([told])).text.split())


def test_verdict_failures_and_every_command_are_there(run: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(run, lone)
    said = json.loads((lone / "evaluation.json").read_text())
    line = {**said["scores"][0], "protocol": "health", "options": {}, "labels": "no labels", "tested": 17}
    scores = [{**line, "subject": s, "notes": [f"health of the {s} encoder: fine"]} for s in ("random", "run")]
    commands = [["unlabeled", "evaluate", "a"], ["unlabeled", "evaluate", "b"]]
    made = {**said, "scores": said["scores"] + scores, "failed": {"umap": "no package"}, "commands": commands}
    (lone / "evaluation.json").write_text(json.dumps(made))
    text = " ".join(Tags(render([Told("lone", Run.open(lone), "r0", Opener(None, {}))])).text.split())
    assert "Health: fine" in text
    assert "health of the random encoder: fine (untrained encoder)" in text
    assert "Not judged by umap: no package" in text
    assert "unlabeled evaluate a" in text
    assert "unlabeled evaluate b" in text
    assert "no labels 17" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "tsne.json cannot be read"),
        ('{"x": [1, 2], "y": [1]}', "differ in length"),
        ('{"x": [1, NaN], "y": [1, 2]}', "not finite"),
        ('{"x": ["a"], "y": [1]}', "tsne.json cannot be read"),
    ],
)
def test_a_map_that_is_damaged_is_said(run: Path, tmp_path: Path, content: str, said: str) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(run, lone)
    (lone / "pictures" / "tsne.json").write_text(content)
    told = Told("lone", Run.open(lone), "r0", Opener(None, {}))
    assert told.maps == []
    assert any(said in sentence for sentence in told.missing)


def test_protocols_that_were_asked_twice_are_shown_twice(run: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(run, lone)
    pictures = lone / "pictures"
    for name, other in (("tsne", "tsne-perplexity=200"), ("retrieval", "retrieval-k=50")):
        shutil.copy(pictures / f"{name}.json", pictures / f"{other}.json")
        for one in (name, other):
            shutil.copy(pictures / "other <i>.png", pictures / f"{one}.png")
    shutil.copy(pictures / "other <i>.png", pictures / "clusters-k=5.png")
    told = Told("lone", Run.open(lone), "r0", Opener(None, {}))
    assert [made.title for made in told.maps] == ["t-SNE", "t-SNE (perplexity=200)"]
    assert [made.title for made in told.rankings] == ["Retrieval", "Retrieval (k=50)"]
    assert [picture.name for picture in told.pictures] == ["clusters-k=5.png", "knn-labels=2.png", "other <i>.png"]
    tags = Tags(render([told]))
    ids = [attributes["id"] for _, attributes in tags.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"r0-tsne", "r0-tsne-perplexity-200", "r0-retrieval", "r0-retrieval-k-50"} <= set(ids)
    assert "image 61" in tags.text, "the number of the query in the data as given"


def test_images_of_other_data_are_refused(made: Path, run: Path, tmp_path: Path) -> None:
    with np.load(made / "x.npz") as held:
        arrays = dict(held)
    arrays["y_test"] = np.roll(arrays["y_test"], 1)
    np.savez(tmp_path / "x.npz", **arrays)
    told = Told("run", Run.open(run), "r0", Opener(str(tmp_path / "x.npz"), {}))
    (drawn,) = told.maps
    assert drawn.scatter.sprite is None
    assert any("give the same --data" in sentence for sentence in told.missing)


def test_a_limit_finds_the_samples_that_evaluate_took(run: Path) -> None:
    opened = Run.open(run)
    taken = Opener(None, {"limit": 30}).evaluated(opened, opened.recipe.data).test
    asked = splits(None, opened, 1, True, {"limit": 30})[1]
    assert taken is not None
    assert len(taken) == 10
    assert taken.fingerprint == asked.fingerprint
    assert "at least 0" in mistake("report", run, "--limit", -1)


def test_a_mark_stands_where_its_image_does() -> None:
    """Positions of the SVG are an affine map of the coordinates, with y upwards."""
    random = np.random.default_rng(0)
    x, y, label = random.normal(size=40), random.normal(size=40), random.integers(-1, 12, 40)
    drawn = scatter({"x": x.tolist(), "y": y.tolist(), "label": label.tolist(), "classes": ["a", "b"]}, None, "m")
    marks = {int(m["data-i"] or ""): m for m in Tags(str(drawn.figure)).all("use") if "data-i" in m}
    assert sorted(marks) == list(range(40))
    for axis, values in (("x", x), ("y", -y)):
        at = np.array([float(marks[i][axis] or "") for i in range(40)])
        slope, offset = np.polyfit(values, at, 1)
        assert slope > 0
        assert np.allclose(at, slope * values + offset, atol=1e-3)
    assert [key.name for key in drawn.keys][:3] == ["a", "b", "class 2"]
    assert drawn.keys[-1].name == "unlabelled"
    assert sum(key.count for key in drawn.keys) == 40
    looks = [(key.marker, key.paint) for key in drawn.keys]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize(("method", "rises"), [("byol", True), ("moco", False)])
def test_momentum_is_drawn_where_there_is_one(run: Path, tmp_path: Path, method: str, rises: bool) -> None:
    history = [{"step": s, "epoch": s / 10, "loss": 1.0, "lr": 0.1} for s in range(10, 101, 10)]
    lone = tmp_path / method
    shutil.copytree(run, lone)
    (lone / "recipe.yaml").write_text(f"method: {{name: {method}, momentum: 0.9}}\nepochs: 10\n")
    (lone / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    found = {curve.title: str(curve.figure) for curve in curves({"run": Run.open(lone)})}
    said = re.findall(r"epoch ([\d.]+): ([\d.]+)", found["Momentum, an option of the method"])
    values = [float(value) for _, value in said]
    assert len(values) == 10
    expected = [1 - 0.1 * (np.cos(np.pi * (s - 1) / 100) + 1) / 2 if rises else 0.9 for s in range(10, 101, 10)]
    assert np.allclose(values, expected, atol=6e-4)


def test_what_was_logged_once_is_a_point(run: Path, tmp_path: Path) -> None:
    lone = tmp_path / "lone"
    shutil.copytree(run, lone)
    history = [{"step": 1, "epoch": 0.5, "loss": 2.0}, {"step": 2, "epoch": 1.0, "loss": 1.0, "knn": 0.4375}]
    (lone / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    found = {curve.title: Tags(str(curve.figure)) for curve in curves({"run": Run.open(lone)})}
    assert "Loss" in found
    once = found["kNN accuracy within the training split, %, measured once"]
    assert len([mark for mark in once.all("use") if "mark" in str(mark.get("class")).split()]) == 1
    assert "epoch 1: 43.75" in once.text


def test_runs_differ_in_more_than_colour(run: Path) -> None:
    signs = []
    for i in range(10):
        drawn = Tags(str(swatch(i)))
        (shape,) = (str(path["d"]) for path in drawn.all("path") if "id" in path)
        (line,) = (path for path in drawn.all("path") if "clip-path" in path)
        signs.append((shape, line.get("stroke-dasharray")))
    assert len({shape for shape, _ in signs}) == 10
    assert all(a != b for (_, a), (_, b) in pairwise(signs))
    drawn = [str(curve.figure) for curve in curves({str(i): Run.open(run) for i in range(10)})]
    assert all(shape in figure for shape, _ in signs for figure in drawn)


def test_a_run_on_arrays_is_repeated_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = images(32)
    options = {"encoder.width": 4}
    first = unlabeled.pretrain(
        data, epochs=1, batch_size=16, image_size=8, out=tmp_path / "a", accelerator="cpu", options=options
    )
    told = Told("a", Run.open(tmp_path / "a"), "r0", Opener(None, {}))
    title, command = told.commands[-1]
    assert "the data (arrays or a Dataset, of which no copy is kept) were given" in title
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(told.recipe)
    again = eval(command, {"unlabeled": unlabeled, "data": data})
    assert again.environment["data"] == first.environment["data"]
    assert again.recipe == first.recipe


def test_mistakes(tmp_path: Path, run: Path) -> None:
    assert "at least one run" in mistake("report")
    assert "'nowhere' holds no run" in mistake("report", "nowhere")
    assert "no folder" in mistake("report", run, "--out", tmp_path / "no" / "a.html")


def test_sixty_classes_look_different() -> None:
    assert len({look(c) for c in range(60)}) == 60
    assert len({look(c)[1] for c in range(10)}) == 10
    assert all(len({*a} & {*b}) == 0 for a, b in pairwise(look(c) for c in range(60)))
    assert look(-1) not in {look(c) for c in range(60)}
