"""JPEG files that libjpeg-turbo complains about and Pillow makes a picture of: used, and listed."""

from __future__ import annotations

import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from command import ONE, ok
from PIL import Image

from unlabeled.data import left_out, open_data, store
from unlabeled.data.kinds.pixels import open_image, to_pixels


def jpeg(seed: int, mode: str = "RGB", **how: object) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).convert(mode).save(encoded, "JPEG", quality=90, **how)
    return encoded.getvalue()


def damaged(data: bytes) -> bytes:
    """With a byte changed so that libjpeg-turbo complains and Pillow makes a picture of it."""
    random = np.random.default_rng(0)
    while True:
        other = bytearray(data)
        other[int(random.integers(len(data) // 2, len(data) - 2))] = int(random.integers(256))
        with suppress(OSError):
            Image.open(io.BytesIO(other)).load()
            try:
                simplejpeg.decode_jpeg(bytes(other), "CMYK" if Image.open(io.BytesIO(data)).mode == "CMYK" else "RGB")
            except ValueError:
                return bytes(other)


TURNED = Image.Exif()
TURNED[0x0112] = 6
FORMS = {
    "plain": {},
    "progressive": {"progressive": True},
    "turned": {"exif": TURNED.tobytes()},
    "four inks": {"mode": "CMYK"},
    "grey": {"mode": "L"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channels", [1, 3])
def test_decoding_tells_whether_a_file_is_damaged(form: str, channels: int) -> None:
    good = jpeg(0, **FORMS[form])
    whole = open_image(good)
    to_pixels(whole, channels, 32)
    assert not whole.damaged
    broken = open_image(damaged(good))
    assert to_pixels(broken, channels, 32).shape == (channels, 32, 32)
    assert broken.damaged


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 pictures in two classes, of which numbers 7 and 30 are damaged, and number 9 is none."""
    for i in range(60):
        path = tmp_path / "d" / "ab"[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"none" if i == 9 else damaged(jpeg(i)) if i in (7, 30) else jpeg(i))
    return tmp_path / "d"


def listed(path: Path) -> list[str]:
    source = open_data(path, seed=None).train
    source.fetch(range(len(source)))
    assert source.good().sum() == 59
    assert all(one.reason == "damaged, and used as far as it can be decoded" for one in source.damaged)
    return sorted(Path(one.path).name for one in source.damaged)


def test_they_are_listed_and_in_the_next_process_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed(folder) == ["07.jpg", "30.jpg"]
    decode = store.Store._decode_each
    monkeypatch.setattr(store.Store, "_decode_each", lambda self, pairs, fields: None)
    source = open_data(folder, seed=None).train
    assert [Path(one.path).name for one in source.damaged] == ["30.jpg", "07.jpg"], "as it stands in the cache"
    assert [Path(one.path).name for one in source.subset([3, 0]).damaged] == []
    monkeypatch.setattr(store.Store, "_decode_each", decode)
    monkeypatch.setattr(store, "MAX_CACHE_BYTES", 10)
    assert listed(folder) == ["07.jpg", "30.jpg"]


def test_a_line_counts_and_names_them(folder: Path) -> None:
    source = open_data(folder, seed=None).train
    source.fetch(range(60))
    bad, used = left_out(source)
    assert bad.startswith("left out 1 bad image: ")
    assert used.startswith("2 damaged images, used as far as they can be decoded: ")
    assert used.endswith("07.jpg")


def test_the_verbs_tell_of_them(folder: Path, tmp_path: Path) -> None:
    said = ok("pretrain", folder, *ONE, "--out", tmp_path / "run")
    assert f"skipped 1 bad image: see {tmp_path / 'run' / 'skipped.csv'}" in said
    assert f"used 2 damaged images: see {tmp_path / 'run' / 'skipped.csv'}" in said
    rows = (tmp_path / "run" / "skipped.csv").read_text().splitlines()
    assert sorted(row.rpartition("/")[2] for row in rows[1:]) == [
        '07.jpg,"damaged, and used as far as it can be decoded"',
        '09.jpg,"not an image, or of a format that Pillow does not know"',
        '30.jpg,"damaged, and used as far as it can be decoded"',
    ]
    for _ in range(2):  # read, and from the features that were kept
        assert "2 damaged images, used as far as they can be decoded" in ok(
            "evaluate", tmp_path / "run", "--protocol", "knn", "--against", "none"
        )
    said = ok("inspect", folder, "--out", tmp_path / "i", "--minutes", 0.1)
    assert "Images that are damaged: 2. They are used as far as they can be decoded" in said
    found = json.loads((tmp_path / "i" / "inspect.json").read_text())
    assert sorted(Path(one["path"]).name for one in found["splits"]["all"]["damaged"]) == ["07.jpg", "30.jpg"]
