"""The verb search: the nearest are those of the features, the file and the picture are there, mistakes are one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from command import ONE, file, images, mistake, ok
from PIL import Image
from torch.nn.functional import cosine_similarity

import unlabeled
from unlabeled.errors import UserError


def features(made: Path, paths: list[Path]) -> torch.Tensor:
    x = []
    for path in paths:
        with Image.open(path) as opened:
            x.append(np.array(opened))
    with torch.no_grad():
        return unlabeled.load(made / "run")(torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2)).double()


def test_a_file_finds_the_images_most_similar(made: Path, tmp_path: Path) -> None:
    query = tmp_path / "asked.png"
    Image.fromarray(images(1, seed=9)[0][0]).save(query)
    found = unlabeled.search(made / "run", query, data=made / "data", n=7, out=tmp_path / "s.png")
    paths = sorted((made / "data").rglob("*.png"))
    cosine = cosine_similarity(features(made, [query]), features(made, paths))
    best = cosine.topk(7)
    assert [Path(n.path) for n in found.neighbours] == [paths[i] for i in best.indices]
    assert [n.similarity for n in found.neighbours] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert [n.label for n in found.neighbours] == [Path(n.path).parent.name for n in found.neighbours]
    assert (found.label, found.query) == ("", str(query))
    with Image.open(found.path) as opened:
        assert opened.width > 2 * opened.height


def test_a_number_finds_others_and_the_table_says_what(made: Path, tmp_path: Path) -> None:
    said = ok("search", made / "run", 4, "--data", made / "data", "--n", 3, "--out", tmp_path / "s.png")
    for word in ("number", "path", "label", "similarity", "image 4 of", "written:"):
        assert word in said
    found = unlabeled.search(made / "run", 4, n=59, out=tmp_path / "s.png")
    assert sorted(n.number for n in found.neighbours) == [*range(4), *range(5, 60)], "all but itself; the run's own data"
    assert found.label
    similar = [n.similarity for n in found.neighbours]
    assert similar == sorted(similar, reverse=True)
    kept = list((made / "run" / "features").iterdir())
    assert len(kept) == 1, "features are kept, and used again"


def test_numbers_go_on_into_the_test_split_and_labels_are_not_needed(made: Path, tmp_path: Path) -> None:
    train, test = file(tmp_path / "a.npz", n=12, labels=False), file(tmp_path / "b.npz", n=9, seed=5, labels=False)
    found = unlabeled.search(made / "run", "20", data=f"train={train},test={test}", n=50, out=tmp_path / "s.png")
    assert sorted(n.number for n in found.neighbours) == list(range(20))
    assert {n.path for n in found.neighbours if n.number > 11} == {f"{test}[{i}]" for i in range(8)}
    assert {n.label for n in found.neighbours} == {""}
    message = mistake("search", made / "run", 21, "--data", f"train={train},test={test}", "--out", tmp_path / "s.png")
    assert "there is no image 21: the data have 21, numbered from 0 to 20" in message


def test_a_file_of_the_data_is_not_found_itself_and_a_copy_elsewhere_finds_it(made: Path, tmp_path: Path) -> None:
    path = sorted((made / "data").rglob("*.png"))[17]
    found = unlabeled.search(made / "run", path, data=made / "data", n=99, out=tmp_path / "s.png")
    assert len(found.neighbours) == 59
    assert str(path) not in {n.path for n in found.neighbours}
    assert found.label == path.parent.name, "its label is known"
    copied = shutil.copy(path, tmp_path / path.name)
    found = unlabeled.search(made / "run", copied, data=made / "data", n=1, out=tmp_path / "s.png")
    assert found.neighbours[0].path == str(path)
    assert found.neighbours[0].similarity == pytest.approx(1, abs=1e-5)


def test_a_bad_image_is_never_found_even_with_kept_features(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made / "data", data)
    (data / "a" / "!bad.png").write_bytes(b"no picture")
    for _ in range(2):
        found = unlabeled.search(made / "run", 5, data=data, n=99, out=tmp_path / "s.png")
        assert len(found.neighbours) == 59
        assert not any("!bad" in n.path for n in found.neighbours)
    assert "cannot be read: give another one" in mistake("search", made / "run", 0, "--data", data)


def test_mistakes(made: Path, tmp_path: Path) -> None:
    run, data = made / "run", made / "data"
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    whole = (data / "a" / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    out = ("--out", tmp_path / "s.png")
    for image, said in [
        ("nowhere.png", "there is no image 'nowhere.png'"),
        (tmp_path, "there is no image"),
        (tmp_path / "text.png", "not an image"),
        (tmp_path / "empty.png", "empty file"),
        (tmp_path / "cut.png", "cannot be used"),
        ("60", "there is no image 60: the data have 60"),
    ]:
        assert said in mistake("search", run, image, "--data", data, *out)
    assert "at least 1" in mistake("search", run, 0, "--n", 0, *out)
    assert "ends in .png" in mistake("search", run, 0, "--out", tmp_path / "s.svg")
    assert "no folder" in mistake("search", run, 0, "--out", tmp_path / "no" / "s.png")
    assert "holds no run" in mistake("search", tmp_path, 0, *out)
    assert "no other image" in mistake("search", run, 0, "--data", file(tmp_path / "one.npz", n=1, labels=False), *out)
    odd = file(tmp_path / "odd.npz", channels=5)
    assert "has 5 channels, and the run was trained on images with 3" in mistake("search", run, 0, "--data", odd, *out)
    assert not (tmp_path / "s.png").exists()


def test_a_file_that_cannot_have_the_channels_is_refused(made: Path, tmp_path: Path) -> None:
    two = file(tmp_path / "two.npz", channels=2)
    ok("pretrain", two, *ONE, "--out", tmp_path / "run")
    message = mistake("search", tmp_path / "run", made / "data" / "a" / "0.png", "--data", two, "--out", tmp_path / "s.png")
    assert "3 channels where the others have 2" in message
    assert len(unlabeled.search(tmp_path / "run", 0, data=two, n=2, out=tmp_path / "s.png").neighbours) == 2


def test_what_the_table_prints_can_be_searched_for(made: Path, tmp_path: Path) -> None:
    """Members of an archive, tiles and rows of arrays lie in no file of their own."""
    packed = Path(shutil.make_archive(str(tmp_path / "set"), "zip", made / "data"))
    np.savez(tmp_path / "x.npz", x=images(9)[0])
    for data, options in ((packed, {}), (tmp_path / "x.npz", {}), (made / "data", {"kind.tiles": 8})):
        first = unlabeled.search(made / "run", 4, data=data, n=2, out=tmp_path / "s.png", options=options)
        shown = first.neighbours[0]
        again = unlabeled.search(made / "run", shown.path, data=data, n=2, out=tmp_path / "s.png", options=options)
        number = unlabeled.search(made / "run", shown.number, data=data, n=2, out=tmp_path / "s.png", options=options)
        assert (again.neighbours, again.label) == (number.neighbours, number.label)
        assert shown.number not in {n.number for n in again.neighbours}
    assert f"there is no image '{packed}/a/nowhere.png'" in mistake(
        "search", made / "run", packed / "a" / "nowhere.png", "--data", packed, "--out", tmp_path / "s.png"
    )


def test_an_image_in_memory_is_searched_for(made: Path, tmp_path: Path) -> None:
    path = sorted((made / "data").rglob("*.png"))[17]
    by_file = unlabeled.search(made / "run", shutil.copy(path, tmp_path), data=made / "data", n=3, out=tmp_path / "s.png")
    with Image.open(path) as opened:
        opened.load()
    array = np.array(opened)
    assert by_file.neighbours[0].path == str(path)
    for given in (opened, array, array[None], torch.from_numpy(array).permute(2, 0, 1)):
        found = unlabeled.search(made / "run", given, data=made / "data", n=2, out=tmp_path)
        assert found.neighbours == by_file.neighbours[1:], "what is equal is not found"
        assert found.path == tmp_path / "search.png"
        assert found.query == "the image that was given"
    with pytest.raises(UserError, match="what to search for is a dict: give a file, a number, an array"):
        unlabeled.search(made / "run", {}, data=made / "data")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="'the image that was given' cannot be used"):
        unlabeled.search(made / "run", np.zeros((2, 3, 4, 5)), data=made / "data", out=tmp_path / "s.png")


def test_other_pages_of_the_file_are_not_found(made: Path, tmp_path: Path) -> None:
    for i in range(5):
        tifffile.imwrite(tmp_path / f"{i}.tif", images(4, seed=i)[0], photometric="rgb")
    asked = {"data": tmp_path, "n": 50, "out": tmp_path / "s.png", "options": {"kind.pages": "all"}}
    found = unlabeled.search(made / "run", tmp_path / "2.tif", **asked)
    assert {Path(n.path).name.partition("[")[0] for n in found.neighbours} == {"0.tif", "1.tif", "3.tif", "4.tif"}
    assert len(found.neighbours) == 16
    page = unlabeled.search(made / "run", f"{tmp_path / '2.tif'}[page 0]", **asked)
    assert len(page.neighbours) == 19, "a page finds the others of its file"
    others = [n.number for n in page.neighbours if "2.tif" not in n.path]
    assert others == [n.number for n in found.neighbours], "the first stands for a file"
