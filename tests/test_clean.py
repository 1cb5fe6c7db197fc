"""`unlabeled inspect --clean`: of images that are one, a list keeps one."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from command import mistake, ok
from PIL import Image

from unlabeled.data import open_data
from unlabeled.inspecting.clean import without_copies
from unlabeled.inspecting.leakage import Copies, Pair

WORDS = ("--minutes", "1", "--accelerator", "cpu")


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def made(path: Path) -> Path:
    """train/ of 30 in two classes and test/ of 12; 2 and 3 are one, 20 of train and 4 of test are, and one near to 5 of
    train; one cannot be read."""
    x = {("train", i): picture(i) for i in range(30)} | {("test", i): picture(100 + i) for i in range(12)}
    x["train", 3], x["test", 4] = x["train", 2], x["train", 20]
    x["test", 7] = np.clip(x["train", 5].astype(int) + 2, 0, 255).astype(np.uint8)
    for (split, i), image in x.items():
        place = path / split / "ab"[i % 2] / f"{i:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    (path / "train" / "a" / "28.png").write_bytes(b"no image")
    return path


def test_a_list_without_copies_and_what_can_be_done_with_it(tmp_path: Path) -> None:
    data, listed = made(tmp_path / "d"), tmp_path / "clean.csv"
    said = ok("inspect", data, "--clean", listed, "--out", tmp_path / "seen", *WORDS)
    assert "left out are 4 of 30 of train and 0 of 12 of test" in said
    assert f"unlabeled pretrain {listed} --method" in said
    rows = list(csv.DictReader(listed.read_text().splitlines()))
    names = {Path(row["path"]).relative_to("d").as_posix() for row in rows}
    whole = {p.relative_to(data).as_posix() for p in data.rglob("*.png")}
    assert whole - names == {"train/b/03.png", "train/a/20.png", "train/b/05.png", "train/a/28.png"}
    assert {(row["label"], row["split"]) for row in rows} == {(c, s) for c in "ab" for s in ("train", "test")}
    again = open_data(listed)
    assert (len(again.train), len(again.test), again.train.classes) == (26, 12, ("a", "b"))
    said = ok("inspect", listed, "--out", tmp_path / "seen", *WORDS)
    assert "Leakage" not in said
    assert "Images that cannot be read" not in said


def test_columns_are_kept_and_files_elsewhere_are_named_whole(tmp_path: Path) -> None:
    data = made(tmp_path / "d") / "train"
    lines = "".join(f"d/train/{'ab'[i % 2]}/{i:02d}.png,{'xy'[i % 2]},{i / 2 if i else ''},s{i}\n" for i in range(6))
    (tmp_path / "x.csv").write_text("path,kind,age,slide\n" + lines)
    (tmp_path / "lists").mkdir()
    listed = tmp_path / "lists" / "clean.csv"
    said = ok("inspect", tmp_path / "x.csv", "--label", "kind", "--clean", listed, "--out", tmp_path / "seen", *WORDS)
    assert "--label" not in said[said.index(f"unlabeled pretrain {listed}") :]  # it is called so in the list
    head, *rows = csv.reader(listed.read_text().splitlines())
    assert head == ["path", "label", "age", "slide"]
    assert rows[:2] == [[str(data / "a" / "00.png"), "x", "", "s0"], [str(data / "b" / "01.png"), "y", "0.5", "s1"]]
    assert len(rows) == 5


def test_what_cannot_be_listed_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    out = ("--out", tmp_path / "seen")
    assert "give a name that ends in .csv" in mistake("inspect", "digits", "--clean", tmp_path / "a.txt", *out)
    assert "there is no folder" in mistake("inspect", "digits", "--clean", tmp_path / "no" / "a.csv", *out)
    assert "--clean lists files, and 'digits' has none" in mistake("inspect", "digits", "--clean", tmp_path / "a.csv", *out)
    assert list(tmp_path.iterdir()) == []


def pair(a: tuple[str, int], b: tuple[str, int], exact: bool) -> Pair:
    return Pair(exact, 0.0, (a[0], b[0]), ("", ""), (a[1], b[1]), (None, None))


class Counted:
    """A census of so many images."""

    def __init__(self, n: int) -> None:
        self.positions = np.arange(n)


def test_each_that_is_left_out_is_a_copy_of_one_that_is_kept() -> None:
    """Of a chain of frames, each near to the next, every second stays; what is near to an image is near to its copies."""
    chain = [pair(("all", i), ("all", i + 1), False) for i in range(5)]
    assert without_copies({"all": Counted(6)}, Copies(chain, (0, 0), None)) == {"all": [0, 2, 4]}  # type: ignore[dict-item]
    pairs = [pair(("train", 0), ("test", 0), True), pair(("train", 0), ("train", 1), False)]
    found = without_copies({"train": Counted(3), "test": Counted(2)}, Copies(pairs, (0, 1), None))  # type: ignore[dict-item]
    assert found == {"train": [2], "test": [0, 1]}
