"""Folders and archives as people have them, and what they say of them: splits, own pictures, names, limits, invariances."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.plots import save_figure, save_sheet
from unlabeled.recipe import Roles, compose

from .pictures import encoded, noise, write


def test_a_third_split_is_told(tmp_path: Path) -> None:
    for k, split in enumerate(("train", "val", "test")):
        for c in "ab":
            for i in range(3):
                write(tmp_path / "d" / split / c / f"{i}.png", seed=100 * k + i)
    write(tmp_path / "d" / "train.png")
    data = open_data(tmp_path / "d")
    assert (len(data.train), len(data.test)) == (6, 6)
    assert "test" in data.test.path(0)
    told = "train.png; val/ beside train/ and test/: 7 files that are not used; train=PATH,test=PATH says which are."
    assert data.notices() == [f"{tmp_path / 'd'}: {told}"]
    (tmp_path / "d" / "train.png").unlink()
    for i in range(3):
        for c in "ab":
            (tmp_path / "d" / "val" / c / f"{i}.png").unlink()
    assert open_data(tmp_path / "d").notices() == []


def test_what_unlabeled_wrote_is_no_data(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / "mine" / f"{i}.png", seed=i)
    for place, marks in (
        ("runs/a", ("recipe.yaml", "environment.json")),
        ("i", ("inspect.json",)),
        ("r", ("question.json", "rows")),
    ):
        write(tmp_path / place / "pictures" / "drawn.png", seed=77)
        for mark in marks:
            (tmp_path / place / mark).write_text("")
    save_sheet(tmp_path / "mine" / "views.png", Image.new("RGB", (40, 40)))
    save_figure(tmp_path / "search.png", Figure((1, 1)))
    data = open_data(tmp_path)
    assert len(data.train) + len(data.test) == 20
    told = f"{tmp_path}: what unlabeled wrote itself is left out: i/; mine/views.png; r/; and 2 more."
    assert data.notices() == [told]
    assert len(open_data(tmp_path / "runs" / "a", seed=None).train) == 1  # asked for by name


def test_a_zip_of_windows_keeps_its_classes(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("d\\", b"")
        for i in range(8):
            archive.writestr(f"d\\{'ab'[i % 2]}\\{i}.png", encoded(noise(i)))
    source = open_data(tmp_path / "w.zip", seed=None).train
    assert source.classes == ("a", "b")
    assert source.path(4) == f"{tmp_path / 'w.zip'}/d/b/1.png"
    assert np.array_equal(source.seen([4])[0].numpy(), noise(1).transpose(2, 0, 1))
    with zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        for i in range(4):
            archive.writestr(f"{'ab'[i % 2]}/x\\{i}.png", encoded(noise(i)))
    assert open_data(tmp_path / "odd.zip", seed=None).train.path(0).endswith("a/x\\0.png")


def test_a_folder_named_like_a_set_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_data("digits").notices() == []
    write(tmp_path / "digits" / "0.png")
    assert "for the folder of that name here write ./digits" in open_data("digits").notices()[0]


def test_a_limit_is_a_draw_that_is_even_over_the_classes(class_folder: Path) -> None:
    for i in range(20):
        write(class_folder / "ant" / f"more{i}.png", seed=500 + i)

    def drawn(limit: int, seed: int | None = 0) -> list[str]:
        source = open_data(class_folder, seed=seed, roles=Roles(limit=limit)).train
        return [source.path(i) for i in range(len(source))]

    source = open_data(class_folder, seed=None, roles=Roles(limit=12)).train
    assert np.bincount(source.labels).tolist() == [4, 4, 4]
    assert drawn(12, None) == drawn(12, None)
    assert drawn(50, None) == drawn(0, None)
    data = open_data(class_folder, roles=Roles(limit=25))
    assert len(data.train) + len(data.test) == 25
    assert set(drawn(25, 0)) != set(drawn(25, 1))
    assert f"{class_folder}: 25 of 50 samples are used, as --limit asks; seed 0 draws them." in data.notices()
    whole = open_data(class_folder)
    sides = [{source.path(i) for i in range(len(source))} for source in (data.train, whole.train)]
    assert sides[0] < sides[1]  # nothing that is held out of the whole is trained on
    with pytest.raises(UserError, match="limit is -1, and must be at least 0"):
        Roles().given(limit=-1)


def test_a_limit_takes_of_each_split_its_share() -> None:
    x = np.stack([noise(i) for i in range(60)])
    y = np.arange(60) % 3
    given = {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}
    data = open_data(given, roles=Roles(limit=15))
    assert (len(data.train), len(data.test)) == (10, 5)
    few = open_data(given).limited(15, 0)
    assert few.train.numbers.tolist() == [int(p.partition("[")[2][:-1]) for p in map(data.train.path, range(10))]
    assert Roles(limit=15).given(elsewhere=True).limit == 0
    y[::2] = -1
    assert (open_data((x, y), seed=None, roles=Roles(limit=30)).train.labels < 0).sum() == 15


def test_what_keeps_the_meaning_is_said_or_follows_from_views_that_are_asked_for(class_folder: Path) -> None:
    def bears(data: object = class_folder, **layer: object) -> set[str]:
        return set(open_data(data, seed=None, roles=compose(layer).roles).train.invariances)

    assert bears() == {"mirror", "colour", "intensity"}
    assert bears(**{"views.flip": 0.5, "views.turn": "0.5"}) == {"mirror", "colour", "intensity", "flip", "rotation"}
    assert bears(invariances="Mirror, flip") == {"mirror", "flip"}
    assert bears(invariances="none") == set()
    assert bears("digits", **{"views.flip": 0.5}) == {"intensity"}  # which a set declares is not overruled by a wish
    assert bears("digits", invariances="flip,intensity") == {"flip", "intensity"}
    with pytest.raises(UserError, match=r"--invariances takes some of mirror, .* and not 'flop'; did you mean 'flip'"):
        bears(invariances="mirror,flop")
    said = open_data(class_folder, seed=None, roles=Roles(invariances="mirror,flip")).remarks()
    assert said == ["Views leave colour, intensity as it is: --invariances does not name it."]
    other = open_data("digits", seed=None, roles=Roles(invariances="mirror").given(elsewhere=True)).train
    assert other.invariances == {"intensity"}
