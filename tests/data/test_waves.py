"""Recordings as arrays: read as files of the same samples are, at the rate that is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from command import mistake, ok
from torch.utils.data import TensorDataset

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.registry import Choice
from unlabeled.run import Run

RATE = 8000
CPC = (
    "--method", "cpc", "--method.steps", "3", "--encoder.width", "8", "--encoder.context", "8", "--views.samples", "800",
    "--batch-size", "8", "--epochs", "1", "--accelerator", "cpu",
)  # fmt: skip
SOUND = Choice("sound", {"rate": RATE})


def tones(n: int = 40, samples: int = 1600) -> tuple[np.ndarray, np.ndarray]:
    """Low and high tones, float (n, samples) in [-1, 1], padded at the end of every third; and which they are."""
    low = np.arange(n) % 2
    at = np.arange(samples) / RATE
    pitch = np.where(low, 300, 900)[:, None]
    waves = 0.5 * np.sin(2 * np.pi * pitch * at) + 0.01 * np.random.default_rng(0).normal(size=(n, samples))
    waves[::3, samples // 2 :] = 0
    return waves, np.array(["high", "low"])[low]


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_file_of_waves_with_its_rate_is_sound(tmp_path: Path) -> None:
    waves, y = tones()
    whole = np.rint(waves * 32767).astype(np.int16)
    data = open_data(npz(tmp_path / "w.npz", x=whole, y=y, rate=RATE), seed=None).train
    assert data.kind.name == "sound"
    assert (data.form.rate, data.form.size, data.native) == (RATE, 1600, (1600, RATE))
    assert data.classes == ("high", "low")
    np.testing.assert_array_equal(data.fetch(range(40))["sound"][:, 0].numpy(), whole)


@pytest.mark.parametrize("kind", ["float64", "float32", "int16", "int32", "int8"])
def test_waves_are_what_files_of_them_are(kind: str, tmp_path: Path) -> None:
    """Of two channels the mean, as of a file."""
    waves, _ = tones(12)
    both = np.stack([waves, 0.5 * waves], 1)  # (n, 2, samples)
    full = 1 if kind.startswith("float") else np.iinfo(kind).max
    stored = (both * full).astype(kind) if full == 1 else np.rint(both * full).astype(kind)
    (tmp_path / "d").mkdir()
    for i, one in enumerate(both):
        soundfile.write(tmp_path / "d" / f"{i:02}.wav", one.T, RATE, subtype="FLOAT")
    files = open_data(tmp_path / "d", seed=None).train.fetch(range(12))["sound"].int()
    arrays = open_data(stored, kind=SOUND, seed=None).train.fetch(range(12))["sound"].int()
    assert int((files - arrays).abs().max()) <= (300 if kind == "int8" else 2)


def test_they_are_resampled_and_cut_as_files_are(tmp_path: Path) -> None:
    waves, y = tones(12)
    path = npz(
        tmp_path / "w.npz", waves_train=waves, y_train=y, audio_test=waves[:4], labels_test=y[:4], sr=np.float64(RATE)
    )
    data = open_data(path, kind=Choice("", {"rate": 4000, "seconds": 0.1}))
    assert (data.train.form.rate, data.train.form.size) == (4000, 400)
    assert data.test is not None
    assert len(data.test) == 4
    assert data.train.native == (1600, RATE)


def test_every_verb_takes_them(tmp_path: Path) -> None:
    waves, y = tones()
    path, out = npz(tmp_path / "w.npz", x=waves, y=y), tmp_path / "run"
    rate = ("--kind", "sound", "--kind.rate", RATE)
    said = ok("pretrain", path, *rate, *CPC, "--out", out)
    assert "recordings of 0.2 s at 8,000 Hz" in said
    assert Run(out).recipe.kind.options["rate"] == RATE
    ok("evaluate", out, "--protocol", "knn", "--draws", 1)
    ok("embed", out, path, "--out", tmp_path / "h.npz")
    held = np.load(tmp_path / "h.npz")
    assert sorted(held["label"]) == [0] * 20 + [1] * 20
    assert list(held["path"][:2]) == [f"{path}[0]", f"{path}[1]"]


def test_a_wave_that_is_no_sound_is_left_out() -> None:
    waves, _ = tones()
    waves[3, 5] = np.nan
    source = open_data(waves, kind=SOUND, seed=None).train
    source.fetch(range(40))
    (skipped,) = source.skipped
    assert (skipped.index, skipped.reason) == (3, "contains NaN or infinite values")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({}, "nothing says how many samples are a second: give --kind.rate, such as 16000"),
        ({"rate": 7}, "rate 7; give one whole number from 1,000 to 1,000,000"),
        ({"rate": [8000, 8000]}, "rate [8000, 8000]; give one whole number"),
        ({"rate": "fast"}, "rate 'fast'; give one whole number"),
        ({"rate": RATE, "x": np.zeros((4, 5, 6, 7))}, "recordings of shape (4, 5, 6, 7); give (n, samples)"),
        ({"rate": RATE, "x": np.zeros((4, 100, 2))}, "recordings of 100 channels, and sound has 16 at most"),
        ({"rate": RATE, "x": np.zeros((4, 99), np.uint8)}, "waves of type uint8; give signed integers"),
    ],
)
def test_what_cannot_be_read_is_said(made: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = npz(tmp_path / "w.npz", **{"x": tones()[0], **made})
    assert said in mistake("pretrain", path, "--kind", "sound", *CPC, "--out", tmp_path / "run")


def test_waves_without_a_word_and_data_sets_of_sound_say_what_to_give(tmp_path: Path) -> None:
    waves, _ = tones()
    said = mistake("pretrain", npz(tmp_path / "w.npz", x=waves), *CPC, "--out", tmp_path / "run")
    assert "of recordings (n, samples) say --kind sound --kind.rate 16000" in said
    with pytest.raises(UserError, match=r"read as images: give recordings as an array \(n, samples\)"):
        open_data(TensorDataset(torch.from_numpy(waves)), kind=SOUND)
