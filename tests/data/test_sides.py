"""Which samples are held out where there is no test split: each by its own content, or its group's name, and the seed."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command import ONE, file, folder, mistake, ok

from unlabeled.data import Data, open_data
from unlabeled.data.split import hold_out, on_test_side, separating_seed
from unlabeled.recipe import Roles
from unlabeled.run import Run

from .pictures import encoded, noise, write


def names(data: Data) -> tuple[set[str], set[str]]:
    """Of the files of train and of test."""
    assert data.test is not None
    train, test = ({Path(source.path(i)).name for i in range(len(source))} for source in (data.train, data.test))
    assert not train & test
    return train, test


def pictures(root: Path, numbers: range) -> Path:
    for i in numbers:
        write(root / "ab"[i % 2] / f"{i:03d}.png", seed=i)
    return root


def test_what_comes_to_the_data_moves_nothing_to_the_other_side(tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", range(60))
    trained, tested = names(open_data(root))
    more, tests = names(open_data(pictures(root, range(60, 200))))
    assert trained <= more
    assert tested <= tests
    for i in range(0, 60, 3):
        (root / "ab"[i % 2] / f"{i:03d}.png").unlink()
    fewer, left = names(open_data(root))
    assert fewer <= more
    assert left <= tests


def test_neither_name_nor_class_nor_container_decides(tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", range(60))
    _, tested = names(open_data(root))
    files = sorted(root.rglob("*.png"))
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in files:
        shutil.copy(path, flat / path.name)
    assert names(open_data(flat))[1] == tested
    (tmp_path / "d.txt").write_text("\n".join(f"flat/{path.name}" for path in reversed(files)))
    assert names(open_data(tmp_path / "d.txt"))[1] == tested
    for packed in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / "d.zip", "w", packed) as archive:
            for path in files:
                archive.write(path, path.name)
        assert names(open_data(tmp_path / "d.zip"))[1] == tested
    cells = [{"bytes": path.read_bytes(), "path": ""} for path in files[:40]]
    cells += [{"bytes": None, "path": f"flat/{path.name}"} for path in files[40:]]
    pq.write_table(pa.table({"image": cells, "name": [path.name for path in files]}), tmp_path / "d.parquet")
    data = open_data(tmp_path / "d.parquet")
    assert set(data.test.columns["name"]) == tested


def test_copies_are_on_one_side(tmp_path: Path) -> None:
    root = pictures(tmp_path / "d", range(60))
    trained, tested = names(open_data(root))
    for path in sorted(root.rglob("*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    again = names(open_data(root))
    for before, now in ((trained, again[0]), (tested, again[1])):
        assert now == before | {f"copy-{name}" for name in before}


def test_arrays_and_data_sets_have_the_sides_of_their_samples() -> None:
    x = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), dtype=np.uint8)
    tested = {x[i].tobytes() for i in open_data(x).test.numbers}
    order = np.random.default_rng(1).permutation(80)[:50]
    assert {x[order][i].tobytes() for i in open_data(x[order]).test.numbers} == tested & {x[i].tobytes() for i in order}
    items = [x[i] for i in range(80)]
    assert {x[i].tobytes() for i in open_data(items).test.numbers} == tested


def test_it_is_a_fifth_by_chance_and_another_for_another_seed() -> None:
    keys: list[bytes | None] = [str(i).encode() for i in range(20_000)]
    sides = np.array([on_test_side(keys, seed) for seed in range(5)])
    assert abs(sides.mean() - 0.2) < 4 * 0.4 / np.sqrt(sides.size)
    both = (sides[0] & sides[1]).mean()
    assert abs(both - 0.04) < 4 * np.sqrt(0.04 * 0.96 / 20_000)
    assert not on_test_side([None, None], 0).any()


def test_these_sides_are_for_ever() -> None:
    """A run is judged, years later, on what it was not trained on: another hash would take that from it."""
    held = [i for i in range(40) if on_test_side([f"sample {i}".encode()], 7)[0]]
    assert held == [2, 8, 12, 13, 22, 26, 28, 30, 38]


def listed(root: Path, lines: list[str]) -> Path:
    for i in range(len(lines)):
        write(root / f"{i}.png", seed=i)
    (root / "a.csv").write_text("path,label,patient\n" + "".join(f"{i}.png,{line}\n" for i, line in enumerate(lines)))
    return root / "a.csv"


def test_of_groups_the_name_decides(tmp_path: Path) -> None:
    lines = [f"{'ab'[i % 2]},p{i % 25}" for i in range(100)]
    by = Roles("", "patient")
    data = open_data(listed(tmp_path / "one", lines), roles=by)
    tested = set(data.test.columns["patient"])
    assert tested == {f"p{i}" for i in range(25) if on_test_side([f"p{i}".encode()], 0)[0]}
    assert not tested & set(data.train.columns["patient"])
    more = [*lines, *(f"a,q{i % 9}" for i in range(30)), "b,", "a,"]
    data = open_data(listed(tmp_path / "other", more), roles=by)
    assert {p for p in data.test.columns["patient"] if p[0] == "p"} == tested
    assert set(data.train.columns["patient"]) >= {""}
    assert "2 of 132 images have no value of 'patient'" in data.remarks()[0]


def test_where_all_would_be_on_one_side_the_seed_that_separates_them_decides(tmp_path: Path) -> None:
    path = listed(tmp_path, [f"{'ab'[i % 2]},{'xy'[i // 10 % 2]}" for i in range(40)])
    seed = next(s for s in range(9) if len(set(on_test_side([b"x", b"y"], s))) == 1)
    data = open_data(path, roles=Roles("", "patient"), seed=seed)
    (said,) = [line for line in data.remarks() if "one side" in line]
    assert f"seed {seed} leaves all values of 'patient' on one side, and what is held out is as seed" in said
    told = int(said.partition("as seed ")[2].partition(" ")[0])
    other = open_data(path, roles=Roles("", "patient"), seed=told)
    assert not any("one side" in line for line in other.remarks())
    assert other.test is not None and data.test is not None
    assert list(other.test.columns["patient"]) == list(data.test.columns["patient"])
    assert len(set(data.test.columns["patient"])) == 1
    assert separating_seed([b"x"] * 10) is None


def test_of_what_was_the_training_side_a_part_is_held_out_again(tmp_path: Path) -> None:
    """Its seed would hold out nothing; every verb divides it alike."""
    x = np.random.default_rng(0).integers(0, 256, (80, 8, 8, 3), np.uint8)
    kept = ~on_test_side(open_data(x, seed=None).train.contents(), 0)
    np.savez(tmp_path / "x.npz", x=x[kept], y=np.arange(kept.sum()) % 2)
    said = ok("pretrain", tmp_path / "x.npz", *ONE, "--out", tmp_path / "run")
    assert "seed 0 leaves all images on one side" in said
    seed = Run(tmp_path / "run").split.removeprefix("content ")
    said = ok("evaluate", tmp_path / "run", "--protocol", "knn:100%", "--against", "none")
    assert f"what is held out is as seed {seed} has it, as in the run." in said
    assert f"a held-out fifth (seed {seed})" in said
    assert "nothing is left to do" in ok("pretrain", tmp_path / "x.npz", *ONE, "--out", tmp_path / "run", "--resume")


def test_what_comes_to_few_groups_moves_none_that_a_run_was_trained_on_to_the_other_side(tmp_path: Path) -> None:
    """Though another seed would be the first that divides them now."""
    first = ["a", "b", "c", "d"]
    seed = next(s for s in range(99) if not on_test_side([name.encode() for name in first], s).any())
    late = [name for name in map(str, range(200)) if not on_test_side([name.encode()], seed).any()]

    def sides(names: list[str]) -> list[bool]:
        by = separating_seed([name.encode() for name in names])
        return [] if by is None else on_test_side([name.encode() for name in first], by).tolist()

    more = next(late[n : n + 8] for n in range(99) if any(np.array(sides(first + late[n : n + 8])) > sides(first)))
    few = open_data(listed(tmp_path, [f"k,{name}" for name in first]), roles=Roles("", "patient"), seed=seed)
    grown = listed(tmp_path, [f"k,{name}" for name in [*first, *more]])
    trained = set(few.train.columns["patient"])
    for split, judged_on_trained in (("content", True), (few.split, False)):
        data = open_data(grown, roles=Roles("", "patient"), seed=seed, split=split)
        assert data.test is not None
        assert bool(trained & set(data.test.columns["patient"])) == judged_on_trained


@pytest.mark.parametrize("group", ["", "patient"])
def test_where_no_seed_divides_them_nothing_is_held_out_and_figures_need_other_data(tmp_path: Path, group: str) -> None:
    """Copies of one image, or images of one patient: they can be trained on."""
    for i in range(20):
        write(tmp_path / f"{i}.png", seed=i * bool(group))
    data = tmp_path / "list.csv"
    data.write_text("path,label,patient\n" + "".join(f"{i}.png,{'ab'[i % 2]},p\n" for i in range(20)))
    named = ("--group", group) if group else ()
    why = "of one value of 'patient'" if group else "the same"
    assert f"no image is held out, as all 20 are {why}" in ok("pretrain", data, *ONE, *named, "--out", tmp_path / "run")
    assert f"as all 20 are {why}: give train=PATH,test=PATH" in mistake("evaluate", tmp_path / "run")
    assert "nothing is left to do" in ok("pretrain", data, *ONE, *named, "--out", tmp_path / "run", "--resume")


def test_classes_without_a_held_out_sample_are_told(tmp_path: Path) -> None:
    for i in range(60):
        write(tmp_path / "d" / "large" / f"{i}.png", seed=i)
    held = on_test_side(open_data(tmp_path / "d" / "large", seed=None).train.contents(), 0)
    trained = [p for p, is_held in zip(sorted((tmp_path / "d" / "large").iterdir()), held, strict=True) if not is_held]
    (tmp_path / "d" / "small").mkdir()
    shutil.move(trained[0], tmp_path / "d" / "small")
    shutil.move(trained[1], tmp_path / "d" / "small")
    (said,) = open_data(tmp_path / "d").remarks()
    assert said.startswith("Of 1 of the 2 classes (small) no image is held out, as content alone decides")


def test_a_run_of_an_earlier_version_is_judged_on_what_it_held_out(tmp_path: Path) -> None:
    """It recorded no word for how, and was balanced over the classes."""
    data, out = file(tmp_path / "x.npz"), tmp_path / "run"
    ok("pretrain", data, *ONE, "--out", out)
    assert Run(out).split == "content"
    about = json.loads((out / "environment.json").read_text())
    labels = np.arange(60) % 3
    train, test = hold_out(60, labels, 0, "x")
    then = open_data(data, split="balanced")
    assert np.array_equal(then.test.numbers, test)
    del about["data"]["split"]
    about["data"] |= {"fingerprint": then.train.fingerprint.removeprefix("content-"), "train": len(train), "test": len(test)}
    (out / "environment.json").write_text(json.dumps(about))
    said = ok("evaluate", out, "--protocol", "knn", "--against", "none")
    assert "12 images of a held-out fifth" in said
    assert "not what the run was trained on" not in said
    found = json.loads((out / "evaluation.json").read_text())
    assert found["identity"].split()[1:3] == [then.train.fingerprint, then.test.fingerprint]


def test_another_earlier_run_goes_on_where_it_can_be_compared_and_says_so_where_not(tmp_path: Path) -> None:
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    ok("pretrain", data, *ONE, "--out", out)
    run = Run(out)
    then = open_data(data, split="balanced")
    recorded = {**run.environment["data"], "fingerprint": "0" * 24, "train": len(then.train)}
    del recorded["split"]
    assert then.same_as(recorded) is None
    assert then.same_as({**recorded, "train": 1000}) is False
    assert open_data(data).same_as(recorded) is False
    assert then.same_as({**recorded, "fingerprint": "content-" + "0" * 24}) is False


def test_the_content_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.png", seed=3)
    cells = {"image": [encoded(noise(3))]}
    pq.write_table(pa.table(cells), tmp_path / "a.parquet")
    (tmp_path / "d").mkdir()
    shutil.copy(tmp_path / "a.png", tmp_path / "d")
    one, two = (open_data(path, seed=None).train.contents() for path in (tmp_path / "d", tmp_path / "a.parquet"))
    assert one == two
