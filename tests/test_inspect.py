"""`unlabeled inspect`: what is said, what is written, and a suggestion that can be run."""

from __future__ import annotations

import json
import re
import shlex
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import file, folder, images, mistake, ok
from PIL import Image

import unlabeled
from unlabeled.cli import app, dotted
from unlabeled.data import open_data
from unlabeled.inspecting.advice import COMPARED, advise, ladder
from unlabeled.inspecting.census import take
from unlabeled.inspecting.duplicates import Thumbnails
from unlabeled.inspecting.pace import Pace, measure
from unlabeled.recipe import Recipe, compose
from unlabeled.training.defaults import defaults


def test_counting_takes_little_memory() -> None:
    """Once ten times what the pictures take, all at a time."""
    x = np.random.default_rng(0).integers(0, 256, (4000, 32, 32, 3), np.uint8)
    source = open_data(x, seed=None).train
    thumbnails = Thumbnails().fit(iter([torch.from_numpy(x[:64]).permute(0, 3, 1, 2)]))
    tracemalloc.start()
    take(source, thumbnails)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * x.nbytes


def test_two_splits_with_a_leak_and_a_wrong_label(tmp_path: Path) -> None:
    x, y = images(120)
    x[110], x[7] = x[3], x[10]
    y[110] = (y[3] + 1) % 3
    data, out = tmp_path / "x.npz", tmp_path / "seen"
    np.savez(data, x_train=x[:100], y_train=y[:100], x_test=x[100:], y_test=y[100:])
    said = ok("inspect", data, "--out", out, "--minutes", "1", "--accelerator", "cpu")
    assert "Leakage: 1 of 20 test images (5.0%) are in train as well (1 exactly)" in said
    assert "Pairs of copies whose labels differ: 1." in said
    found = json.loads((out / "inspect.json").read_text())
    assert found["duplicates"]["test_images_in_train"] == {"exact": 1, "near": 0}
    across, within = found["duplicates"]["pairs"]
    assert [(i["split"], i["index"]) for i in across["images"]] == [("train", 3), ("test", 10)]
    assert [(i["split"], i["index"]) for i in within["images"]] == [("train", 7), ("train", 10)]
    train = found["splits"]["train"]
    assert [c["images"] for c in train["classes"]] == np.bincount(y[:100]).tolist()
    np.testing.assert_allclose(train["mean"], x[:100].mean((0, 1, 2)) / 255)
    np.testing.assert_allclose(train["std"], x[:100].std((0, 1, 2)) / 255)
    assert np.sum(train["classes"][0]["histogram"]) == x[:100][y[:100] == 0].size
    assert sorted(p.name for p in out.iterdir()) == [
        "copies.png", "histograms.png", "images-test.png", "images-train.png", "inspect.json",
    ]  # fmt: skip
    for picture in out.glob("*.png"):
        assert Image.open(picture).getextrema()[0][1] > 0


def test_without_labels_and_with_one_split_of_grey_images(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz", labels=False, channels=1), tmp_path / "seen"
    (out / "copies.png").parent.mkdir()
    (out / "copies.png").write_bytes(b"of an earlier call")
    (out / "letter.txt").write_text("dear")
    said = ok("inspect", data, "--out", out, "--accelerator", "cpu")
    assert "Nothing stands out." in said
    found = json.loads((out / "inspect.json").read_text())
    assert list(found["splits"]) == ["all"]
    assert [(c["name"], c["images"]) for c in found["splits"]["all"]["classes"]] == [(None, 60)]
    assert sorted(p.name for p in out.iterdir()) == ["histograms.png", "images-all.png", "inspect.json", "letter.txt"]


def test_names_that_look_like_markup_files_that_are_broken_and_classes_that_are_rare(tmp_path: Path) -> None:
    place = folder(tmp_path / "x")
    (place / "a").rename(place / "[red]$x$ <b>")
    rare = sorted((place / "c").iterdir())
    for path in rare[2:]:
        path.unlink()
    (place / "b" / "1.png").write_bytes(b"no image")
    Image.new("RGB", (8, 8), "blue").save(place / "b" / "4.png")
    Image.open(place / "b" / "7.png").resize((8, 12)).save(place / "b" / "7.png")
    said = ok("inspect", place, "--out", tmp_path / "seen", "--accelerator", "cpu")
    assert "[red]$x$ <b>" in said
    assert "Classes are uneven: 20 images of [red]$x$ <b>, 2 of c." in said
    assert "Images that cannot be read: 1." in said
    assert "Images of a single value: 1." in said
    assert "only the central square is used" in said
    found = json.loads((tmp_path / "seen" / "inspect.json").read_text())["splits"]["all"]
    assert found["unreadable"][0]["path"].endswith("1.png")
    assert found["sizes"]["largest"] == [12, 8]


def test_the_suggested_command_is_one(tmp_path: Path) -> None:
    found = unlabeled.inspect(images(60), minutes=2, out=tmp_path / "seen", accelerator="cpu")
    assert "To begin with" in str(found) and "array(" not in repr(found)
    assert found._repr_html_().startswith('<img src="data:image/png;base64,') and "<table>" in found._repr_html_()
    words, options = dotted(shlex.split(found.advice.command)[1:])
    command, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    assert command.__name__ == "pretrain"
    given = {k: v for k, v in bound.arguments.items() if k not in ("data", "out", "accelerator")}
    usual = defaults(open_data(images(60), seed=None).train)
    meant, advised = compose({"data": "DATA"}, given, options, usual=usual), found.advice.recipe
    assert {"fit": "crop", **meant.kind.options} == {k: v for k, v in advised.kind.options.items() if v is not None}
    assert replace(meant, kind=advised.kind) == advised
    assert found.advice.recipe.batch_size <= 60
    assert found.json()["suggestion"]["recipe"]["epochs"] == found.advice.recipe.epochs


def test_tiles_are_kept_together_as_it_is_and_no_group_is_advised(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        (tmp_path / "d" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / "d" / "ab"[i % 2] / f"{i}.png")
    tiles = ("--kind.tiles", "16", "--minutes", "1", "--accelerator", "cpu")
    said = ok("inspect", tmp_path / "d", *tiles, "--out", tmp_path / "seen")
    assert "12 files hold 48 tiles" in said
    assert "looks like a group" not in said and "--group" not in said


@pytest.mark.parametrize("random", [True, False])
def test_labels_are_called_wrong_only_where_they_go_with_looks(random: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(300) % 3
    scenes = rng.integers(40, 216, (3, 12, 12))
    x = scenes[y] + rng.integers(-40, 40, (300, 12, 12))
    x[290:] = x[:10] + rng.integers(-2, 3, (10, 12, 12))  # near copies, some of another class
    labels = rng.permutation(y) if random else y
    found = unlabeled.inspect((x.astype(np.uint8), labels), minutes=1, out=tmp_path / "seen", accelerator="cpu")
    contradicting = [pair for pair in found.copies.pairs if pair.contradicts]
    assert len(contradicting) >= 3
    assert any("one of the labels is wrong" in said for said in found.json()["warnings"]) == (not random)


def test_mistakes(tmp_path: Path) -> None:
    data = file(tmp_path / "x.npz")
    assert "must be above 0" in mistake("inspect", data, "--minutes", "0")
    assert "is a file: give a folder" in mistake("inspect", data, "--out", data)
    assert "cannot be written" in mistake("inspect", data, "--out", data / "seen", "--accelerator", "cpu")
    assert "neither an existing path" in mistake("inspect", "nowhere")


def source(n: int, side: int, channels: int = 3) -> Any:
    return open_data(np.zeros((n, side, side, channels), np.uint8), seed=None).train


def test_the_largest_training_that_fits_the_time_is_suggested() -> None:
    """Seconds an image: in proportion to the pixels of a view; 5,120 images of 56 px in batches of 256 make 20 steps."""
    asked: list[Recipe] = []

    def pace(recipe: Recipe) -> Pace:
        asked.append(recipe)
        assert recipe.kind.options["size"]
        return Pace(recipe.kind.options["size"] ** 2 * 1e-6, 1e6, 1e12, True)

    images = source(5120, 56)
    rich, poor, none = (advise(images, 5120, data="x", minutes=m, measure=pace) for m in (11.0, 7.0, 0.5))
    epoch, smaller = 56**2 * 1e-6 * 5120 / 60 / 0.9, (56 / 40) ** 2
    assert rich.recipe.kind.options["size"] == 56
    assert rich.recipe.epochs == int(11 / epoch)
    assert (poor.recipe.kind.options["size"], poor.recipe.kind.options["eval_size"]) == (40, 56)
    assert poor.recipe.epochs == int(7 / epoch * smaller)
    assert rich.enough and poor.enough and not none.enough
    assert none.needed == pytest.approx(30 * epoch / smaller)
    assert any("That is short" in reason for reason in none.reasons)
    assert rich.minutes <= 11
    assert [r.kind.options["size"] for r in asked] == [56, 56, 40, 56, 40]


def test_a_batch_that_memory_does_not_hold_goes_in_pieces() -> None:
    images = source(5120, 32)
    for free, pieces in ((1e9, 1), (200e6, 2), (100e6, 4)):
        pace = Pace(1e-4, 1e6 / 2, free, True)
        found = advise(images, 5120, data="x y", minutes=1, measure=lambda recipe, pace=pace: pace)
        assert found.recipe.accumulate == pieces
        assert ("--accumulate" in found.command) == (pieces > 1)
    assert "'x y'" in found.command


@pytest.mark.parametrize(
    ("side", "channels", "n", "minutes", "holds", "doubt"),
    [
        (32, 3, 50_000, 10, "on CIFAR-10 (50,000 images of 32 px, about 8 minutes each)", ""),
        (28, 1, 60_000, 10, "on Fashion-MNIST (60,000 images of 28 px, about 17 minutes each)", ""),
        (8, 1, 1437, 1, "on Fashion-MNIST (", "nothing was compared with 8 px, 1,437 images, 1 min:"),
        (96, 3, 50_000, 120, "on CIFAR-10 (", "nothing was compared with 96 px, 120 min:"),
        (32, 4, 50_000, 8, "on CIFAR-10 (", "nothing was compared with 4 channels:"),
    ],
)
def test_the_method_is_given_a_reason_that_fits_the_data(
    side: int, channels: int, n: int, minutes: float, holds: str, doubt: str
) -> None:
    images = source(20, side, channels)
    found = advise(images, n, data="x", minutes=minutes, measure=lambda recipe: Pace(1e-6, 1e3, 1e12, True))
    (reason,) = (reason for reason in found.reasons if reason.startswith("Method: "))
    assert holds in reason
    assert (doubt in reason) if doubt else "nothing was compared" not in reason


def test_the_method_was_the_best_where_the_reason_says_so() -> None:
    results = Path(__file__).parents[1] / "results"
    lines = (results / "compare" / "cifar10" / "table.md").read_text().splitlines()
    heads, _, *rows = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    linear = {row[0]: float(row[heads.index("linear top-1")]) for row in rows if not row[0].startswith("supervised")}
    grey = {}
    for path in (results / "fashion-mnist").glob("*/evaluation.json"):
        scores = json.loads(path.read_text())["scores"]
        judged = {(s["subject"], s["protocol"], s["labels"]): s["metrics"]["top1"][0] for s in scores}
        grey[path.parent.name] = judged["run", "linear", "100%"]
    assert len(grey) >= 3
    assert {max(found, key=found.__getitem__) for found in (linear, grey)} == {Recipe().method.name}
    assert f"; {COMPARED[3].minutes} minutes of training each;" in "".join(lines)


def test_sizes_of_views_are_those_of_the_images() -> None:
    assert [layer["kind.size"] for layer in ladder(source(4, 8))][-1] == 16
    assert [layer["kind.size"] for layer in ladder(source(4, 32))][-2:] == [32, 24]
    assert [layer["kind.size"] for layer in ladder(source(4, 256))][-2:] == [224, 112]
    assert [layer["kind.size"] for layer in ladder(source(4, 64))][-1] == 64, "48 px, with the small stem, are more work"


def test_the_stem_is_said_with_its_price() -> None:
    pace = Pace(1e-4, 1e6, 1e12, True)
    for side, said in (
        (32, r"small stem at 32 px: 1\d times the work of the large one"),
        (64, r"large stem at 64 px: the small"),
    ):
        found = advise(source(64, side), 64, data="x", minutes=1, measure=lambda _: pace)
        assert any(re.match(f"Encoder: {said}", reason) for reason in found.reasons)


def test_what_a_step_takes() -> None:
    images = source(64, 16)
    given = {
        "kind": {"name": "image", "size": 16},
        "batch_size": 32,
        "precision": "32",
    }  # in which nothing is kept that a narrower one lacks
    small, large = (measure(compose(given, {"encoder.width": width}), images, "cpu") for width in (4, 16))
    assert large.bytes == pytest.approx(4 * small.bytes, rel=0.5)
    assert large.seconds > small.seconds > 0
    assert large.pieces
