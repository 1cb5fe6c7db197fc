"""Recordings that are already in memory: waves (n, samples) as arrays, in `.npz` and `.npy` files, and their rate."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from unlabeled.data.content import of_what
from unlabeled.data.kinds.sound import MAX_CHANNELS, RATES, Sound
from unlabeled.errors import UserError

RATE = ("rate", "sample_rate", "samplerate", "sampling_rate", "sr", "fs")
"""Names, in lower case, by which the rate of waves is known."""

Array = np.ndarray[Any, Any]


class WaveReader:
    """Waves (n, samples), or (n, channels, samples) of several channels, of integers or of floats in [-1, 1].

    Args:
        waves: of any length; zeros at the end of shorter ones are padding.
        rate: samples a second.
        name: for messages and paths.

    Raises:
        UserError: another shape, none, or values that are no sound.
    """

    channels = None
    held = None

    def __init__(self, waves: Array, rate: int, name: str) -> None:
        if waves.ndim not in (2, 3) or 0 in waves.shape:
            raise UserError(
                f"{name}: recordings of shape {waves.shape}; give (n, samples) or (n, channels, samples), none 0"
            )
        waves = waves[:, None] if waves.ndim == 2 else waves
        if waves.shape[1] > MAX_CHANNELS:
            raise UserError(
                f"{name}: recordings of {waves.shape[1]:,} channels, and sound has {MAX_CHANNELS} at most: give "
                "(n, channels, samples), or (n, samples)"
            )
        if waves.dtype.kind not in "if":
            raise UserError(
                f"{name}: waves of type {waves.dtype}; give signed integers, such as int16, or floats in [-1, 1]"
            )
        self._waves, self._rate, self._name = waves, rate, name
        self.lasting, self.place = True, ""
        self.identity = (
            f"{waves.shape} {rate} {hashlib.blake2b(np.ascontiguousarray(waves).data, digest_size=16).hexdigest()}"
        )

    def __len__(self) -> int:
        return len(self._waves)

    def size(self, index: int) -> int:
        return 0

    def read(self, index: int) -> Sound:
        wave: Array = self._waves[index].T  # (samples, channels)
        return Sound(wave, len(wave), self._rate, wave.shape[1])

    def contents(self) -> list[bytes]:
        return [of_what(partial(np.ascontiguousarray, wave)) for wave in self._waves]

    def path(self, index: int) -> str:
        return f"{self._name}[{index}]"


def rate_of(data: Mapping[str, Any], asked: Any, name: str) -> int:
    """Returns the rate of waves, as the data say it, or as the user does.

    Args:
        data: what lies beside the waves, by name.
        asked: the user's `--kind.rate`, None for none.
        name: of the data.

    Raises:
        UserError: neither says it, or no rate that sound has.
    """
    said = [value for key, value in data.items() if str(key).lower() in RATE]
    if not said and asked is None:
        raise UserError(
            f"{name}: waves, and nothing says how many samples are a second: give --kind.rate, such as 16000, or a number "
            "called rate beside them"
        )
    number = np.asarray(said[0] if said else asked)
    whole = number.size == 1 and number.dtype.kind in "iuf" and float(number.item()).is_integer()
    if not whole or not RATES[0] <= number.item() <= RATES[1]:
        raise UserError(f"{name}: rate {number.tolist()!r}; give one whole number from {RATES[0]:,} to {RATES[1]:,}")
    return int(number.item())
