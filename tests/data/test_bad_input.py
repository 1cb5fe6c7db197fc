"""Whatever a user may do wrong: one clear line that names the value and the remedy."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from unlabeled.data import open_data
from unlabeled.errors import UserError

from .pictures import encoded, noise, write
from .test_images import bomb


def refused(data: Any, *words: str) -> str:
    """The message, after checking that it is one line and holds the words."""
    with pytest.raises(UserError) as caught:
        open_data(data)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def folder(root: Path, n: int = 4) -> Path:
    for i in range(n):
        write(root / f"{i}.png", seed=i)
    return root


def test_paths(tmp_path: Path) -> None:
    refused(tmp_path / "nope", "nope", "no such file or folder")
    (tmp_path / "pictures").mkdir()
    refused(str(tmp_path / "picture"), "did you mean 'pictures'")
    refused(str(tmp_path / "a" / "b"), "and no folder")
    refused("cifra10", "neither an existing path nor a named data set", "did you mean 'cifar10'")
    refused("", "no data given")
    refused(tmp_path / "pictures", "empty", "put images into it")
    (tmp_path / "pictures" / "readme.txt").write_text("hello")
    refused(tmp_path / "pictures", "no image in this folder", "readme.txt")
    (tmp_path / "pictures" / "all.zip").write_bytes(b"")
    refused(tmp_path / "pictures", "give", "all.zip")
    write(tmp_path / "one.png")
    refused(tmp_path / "one.png", "a single image")
    for name, word in (("a.tar", "unpack it"), ("a.xyz", "unknown kind of file"), ("a", "unknown kind of file")):
        (tmp_path / name).write_bytes(b"x")
        refused(tmp_path / name, word)


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_lists(tmp_path: Path, name: str) -> None:
    listed = tmp_path / name
    for text, words in (
        ("", "the list is empty"),
        ("path\n", "the list is empty"),
        ("notes of a day\n", "'notes of a day', neither a file that can be read nor the header"),
        ("gone.png\nlost.png\n", "none of its images can be read"),
    ):
        listed.write_text(text)
        refused(listed, name, words)
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "the folder is empty")


def test_pairs(tmp_path: Path) -> None:
    folder(tmp_path / "d")
    refused(f"train={tmp_path / 'd'}", "test= is missing")
    refused(f"test={tmp_path / 'd'}", "train= is missing")
    refused(f"train={tmp_path / 'd'},test=", "without a path")
    refused(f"train={tmp_path / 'd'},test={tmp_path / 'e'}", "no such file")
    refused(f"train={tmp_path / 'd'},train={tmp_path / 'd'}", "twice")


def test_classes_that_only_test_has_are_told(tmp_path: Path) -> None:
    for split, classes in (("train", "ab"), ("test", "c0b")):
        for c in classes:
            write(tmp_path / "e" / split / c / "0.png")
    data = open_data(tmp_path / "e")
    assert data.train.classes == data.test.classes == ("a", "b", "0", "c")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1], [2, 1, 3])
    assert "Of 3 labelled test images, 2 are of classes of which none is trained on" in data.remarks()[0]


BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "zero-byte": (lambda: b"", "empty file"),
    "truncated": (lambda: encoded(noise(0, (64, 64)), "PNG")[:900], "truncated"),
    "truncated JPEG": (lambda: encoded(noise(0, (64, 64)), "JPEG")[:900], "truncated"),
    "header only": (lambda: encoded(noise(), "PNG")[:20], ""),
    "text": (lambda: b"this is no image", "not an image"),
    "bomb": (lambda: bomb(50_000, 50_000), "to decode, more than"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_bad_files_are_skipped_with_their_reason_or_stop(tmp_path: Path, kind: str) -> None:
    make, reason = BROKEN[kind]
    folder(tmp_path / "d", 20)
    (tmp_path / "d" / "bad.png").write_bytes(make())
    source = open_data(f"train={tmp_path / 'd'},test={tmp_path / 'd'}").train
    assert [Path(s.path).name for s in source.skipped] == ["bad.png"]
    assert reason in source.skipped[0].reason
    assert "\n" not in source.skipped[0].reason
    (tmp_path / "e").mkdir()
    for i in range(3):
        (tmp_path / "e" / f"{i}.png").write_bytes(make())
    refused(tmp_path / "e", "e", "0.png")


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "d", 20)
    usual = Path.open

    def denied(path: Path, *how: Any, **more: Any) -> Any:
        if path.name == "3.png":
            raise PermissionError(13, "Permission denied", str(path))
        return usual(path, *how, **more)

    monkeypatch.setattr(Path, "open", denied)
    source = open_data(f"train={tmp_path / 'd'},test={tmp_path / 'd'}").train
    assert [s.reason for s in source.skipped] == ["Permission denied"]


def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    folder(tmp_path / "d" / "locked")

    def denied(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", denied)
    refused(tmp_path / "d", "cannot be listed (Permission denied)")


def test_zips(tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 no more")
    refused(tmp_path / "broken.zip", "cannot be read as a zip")
    for member in ("../evil.png", "/etc/evil.png", "a\\..\\evil.png", "C:/evil.png"):
        with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
            archive.writestr("a/0.png", encoded(noise()))
            archive.writestr(member, encoded(noise()))
        refused(tmp_path / "evil.zip", "points out of the archive", "evil.png")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    refused(tmp_path / "empty.zip", "no image in this zip")


def test_a_damaged_member_of_a_zip_is_skipped(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(20):
            archive.writestr(f"{i:02d}.png", encoded(noise(i)))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"05.png") + 100] ^= 255
    (tmp_path / "a.zip").write_bytes(data)
    source = open_data(f"train={tmp_path / 'a.zip'},test={tmp_path / 'a.zip'}").train
    assert [s.index for s in source.skipped] == [5]
    assert "CRC" in source.skipped[0].reason


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    refused(path, "cannot be read as Parquet")
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), path)
    refused(path, "no image column", "text: string")
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), path)
    refused(path, "no rows")
    pq.write_table(pa.table({"image": pa.array([None] * 4, pa.binary())}), path)
    refused(path, "neither bytes nor a path")


def test_a_broken_row_group_is_skipped_or_stops(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    images = pa.array([encoded(noise(i)) for i in range(40)], pa.binary())
    table = pa.table({"image": images, "label": [i % 2 for i in range(40)]})
    pq.write_table(table, path, row_group_size=2, compression="zstd", use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(3).column(0)
    data = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    data[column.data_page_offset : middle] = b"\xff" * (middle - column.data_page_offset)
    path.write_bytes(data)
    source = open_data(f"train={path},test={path}").train
    assert [s.index for s in source.skipped] == [6, 7]
    assert "row group 3 is broken" in source.skipped[0].reason


@pytest.mark.parametrize("stored", [pa.binary(), pa.null()])
def test_parquet_of_paths_only(stored: pa.DataType, tmp_path: Path) -> None:
    """As `datasets` 5.2 writes it from image files; and as whoever lets pyarrow guess what bytes are that are nowhere."""
    kind = pa.schema([("image", pa.struct([("bytes", stored), ("path", pa.string())]))])
    rows = {"image": [{"bytes": None, "path": f"{i}.png"} for i in range(4)]}
    pq.write_table(pa.table(rows, schema=kind), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "holds no bytes, only paths of files", "embed_external_files=True")
    for i in range(4):
        write(tmp_path / f"{i}.png", seed=i)
    assert len(open_data(tmp_path / "a.parquet", seed=None).train) == 4


def test_arrays(tmp_path: Path) -> None:
    x = np.zeros((10, 8, 8, 3), np.uint8)
    refused((x, np.arange(9)), "9 labels for 10 images")
    refused((x, x, x), "a tuple of 3")
    refused(np.full((4, 8, 8), np.nan), "NaN")
    refused(np.zeros((4, 8, 8), np.complex64), "values of type complex64")
    refused(np.zeros((4, 8, 64, 8), np.uint8), "are the channels first or last? Say --kind.channels first")
    refused(np.array([["a"]]), "shape (1, 1)")
    refused(np.zeros((0, 8, 8), np.uint8), "shape (0, 8, 8)")
    refused({"first": x}, "no images among its keys (first)")
    refused({"images": x, "labels": np.arange(10), "classes": ["a"]}, "label 9 but only 1 class name")
    refused({"x_train": x, "x_test": x[..., :1]}, "test has 1 channel and train 3")
    (tmp_path / "a.npz").write_bytes(b"PK junk")
    refused(tmp_path / "a.npz", "cannot be read as .npz")
    np.save(tmp_path / "a.npy", np.array([{}], object), allow_pickle=True)
    refused(tmp_path / "a.npy", "cannot be read as .npy")
    refused(3, "data of type int")


def test_datasets() -> None:
    from torch.utils.data import IterableDataset, TensorDataset

    class Stream(IterableDataset):  # type: ignore[type-arg]
        def __iter__(self) -> Any:
            return iter(())

    refused(Stream(), "without length")
    refused([], "empty")
    refused(TensorDataset(torch.full((10, 3, 8, 8), torch.nan)), "NaN")
    refused(["a.png"] * 10, "an item of type str")


def many_bad(root: Path, n: int) -> Path:
    folder(root, 20)
    for i in range(n):
        (root / f"broken-picture-{i}.png").write_bytes(b"x" * (1 + i % 3))
    return root


def test_a_thousand_bad_files_are_told_in_a_line_that_can_be_read(tmp_path: Path) -> None:
    message = refused(
        many_bad(tmp_path / "d", 1000), "images looked at are bad, more than a tenth", " more. Repair or remove"
    )
    assert len(message) < 1000


def test_a_list_with_a_nul_byte(tmp_path: Path) -> None:
    """No file has such a name."""
    for i in range(30):
        write(tmp_path / f"{i}.png", seed=i)
    (tmp_path / "a.csv").write_text("".join(f"{i}.png\n" for i in range(30)) + "a\0b.png\n")
    (tmp_path / "a.txt").write_text("".join(f"{i}.png\n" for i in range(30)) + "\0\n")
    for name in ("a.csv", "a.txt"):
        source = open_data(tmp_path / name, seed=None).train
        assert [s.reason for s in source.skipped] == ["no file can have this name (embedded null byte)"]


def broken_archives() -> dict[str, bytes]:
    """A deflate stream, a header and a shape of NumPy's, a member of a zip without name and one of an unknown version."""
    x = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    packed, plain, huge, unnamed, version = (io.BytesIO() for _ in range(5))
    np.savez_compressed(packed, x=x)
    deflate = bytearray(packed.getvalue())
    deflate[len(deflate) // 2] ^= 255
    np.save(plain, x)
    np.lib.format.write_array_header_1_0(huge, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 1000, 1000, 3)})
    for file in (unnamed, version):
        with zipfile.ZipFile(file, "w") as archive:
            for i in range(20):
                archive.writestr(f"{i}.png", encoded(noise(i)))
            if file is unnamed:
                member = zipfile.ZipInfo("x")
                member.filename = ""
                archive.writestr(member, b"")
    newer = bytearray(version.getvalue())
    newer[newer.index(b"PK\x01\x02") + 6] = 99
    return {
        "deflate.npz": bytes(deflate),
        "header.npy": plain.getvalue().replace(b"'shape': (", b"'shape': ([", 1),
        "huge.npy": huge.getvalue() + b"x" * 100,
        "version.zip": bytes(newer),
        "unnamed.zip": unnamed.getvalue(),
    }


def test_broken_archives(tmp_path: Path) -> None:
    for name, data in broken_archives().items():
        path = tmp_path / name
        path.write_bytes(data)
        if name == "unnamed.zip":
            assert len(open_data(path, seed=None).train) == 20
        else:
            assert len(refused(path, "cannot be read as")) < 500


CONTAINERS = ("npz", "npy", "zip", "sounds.zip", "parquet", "csv", "txt")


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_mutated_container_is_used_or_refused_in_a_line(tmp_path: Path, container: str) -> None:
    """Cut, with bytes changed, taken out, put in or made zero: nothing but the project's own error."""
    good = whole_container(tmp_path, container)
    random = np.random.default_rng(CONTAINERS.index(container))
    path = tmp_path / f"mutated.{container}"
    for _ in range(25):
        path.write_bytes(mutated(good, random))
        try:
            source = open_data(path, seed=None).train
            source.fetch(range(len(source)))
        except UserError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 1500


def whole_container(root: Path, container: str) -> bytes:
    x, made = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 3), dtype=np.uint8), io.BytesIO()
    if container == "npz":
        np.savez(made, x=x, y=np.arange(24) % 3)
    elif container == "npy":
        np.save(made, x)
    elif container == "parquet":
        cells = [{"bytes": encoded(image), "path": ""} for image in x]
        pq.write_table(
            pa.table({"image": cells, "label": [i % 3 for i in range(24)], "f": [i / 7 for i in range(24)]}), made
        )
    elif container in ("csv", "txt"):
        for i, image in enumerate(x):
            write(root / f"{i}.png", image)
        lines = ["path,label,weight", *(f"{i}.png,{'ab'[i % 2]},{i / 7}" for i in range(24))]
        made.write("\n".join(lines).replace(",", "," if container == "csv" else "\t").encode())
    else:
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            for i, image in enumerate(x):
                sound = io.BytesIO()
                soundfile.write(sound, image.ravel() / 256 - 0.5, 8000, format=("FLAC", "WAV")[i % 2])
                content = sound.getvalue() if container.startswith("sound") else encoded(image)
                archive.writestr(f"{i}.{('flac', 'wav')[i % 2] if container.startswith('sound') else 'png'}", content)
    return made.getvalue()


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    at, count = int(random.integers(len(data))), int(random.integers(1, 60))
    at = len(data) - 1 - at % min(len(data), 300) if random.random() < 0.5 else at  # directories are at the end
    put = {0: b"", 1: random.bytes(count), 2: random.bytes(1), 3: bytes(count), 4: random.bytes(count)}
    how = int(random.integers(6))
    if how == 5:
        return data[:at]
    return data[:at] + put[how] + data[at + (0 if how == 4 else max(1, len(put[how]) or count)) :]
