"""One recording: from a file of any usual format to int16 samples at one rate."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

MAX_SECONDS = 3600
"""Ours: a recording is one sample, of which an hour is more than anything here looks at."""
MAX_CHANNELS = 16
"""Ours: microphone arrays have so many; files with more hold measurements as a rule, whose mean is no sound."""
RATES = (1_000, 1_000_000)
"""Ours: from what carries no speech any more to what bat detectors write."""
MAX_PEAK = 4.0
"""Ours: floats up to here are clipped, as lossy decoders and mixers exceed 1 by less; beyond are other units."""

_KNOWN = "wav wave flac ogg oga opus mp3 aiff aif aifc au snd w64 rf64 caf voc"
SUFFIXES = frozenset(f".{s}" for s in _KNOWN.split(" "))
"""What the libsndfile in soundfile's wheels decodes, checked with 1.2.2."""

_EMPTY_TAG = b"ID3\x04\0\0\0\0\0\x0a" + bytes(10)
_MARGIN = 0.05  # seconds decoded beyond what is kept, more than soxr's filter looks ahead
_SLACK = 64  # bytes by which writers miscount in good files
_ENDLESS = 2**31 - 2**16  # what streams write in place of a size
_COUNTS = re.compile(r": (\d+) \(should be (\d+)\)")
_CUT_OFF = ("Junk after the last page", "ended unexpectedly", "truncated file")

Samples = np.ndarray[Any, np.dtype[np.int16]]


class BadSoundError(ValueError):
    """A sample that cannot become sound; the message is the reason, in words for the user."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording whose header was read and whose samples were not.

    Attributes:
        source: the file's bytes, or its path.
        frames: its length in samples of each channel, > 0.
        rate: samples a second.
        channels: how many, from 1 to `MAX_CHANNELS`.
    """

    source: bytes | Path
    frames: int
    rate: int
    channels: int

    @property
    def seconds(self) -> float:
        """Its duration."""
        return self.frames / self.rate


def open_sound(source: bytes | Path) -> Sound:
    """Reads the header of a sound file; samples are decoded when they are needed.

    Raises:
        BadSoundError: empty, no sound, cut off as far as that can be seen, or a length, rate or number of channels that is
            out of bounds.
        OSError: the file cannot be read.
    """
    with _opened(source) as file:
        sound = Sound(source, file.frames, file.samplerate, file.channels)
        log = file.extra_info
    _check(sound)
    if any(words in log for words in _CUT_OFF) or any(_missing(int(a), int(b)) for a, b in _COUNTS.findall(log)):
        raise BadSoundError("the file is cut off: its header promises more than is there")
    return sound


def to_samples(sound: Sound, rate: int, seconds: float) -> tuple[Samples, int]:
    """Decodes the beginning of a recording: the mean of its channels, resampled once (soxr, high quality), rounded.

    Floats beyond [-1, 1] are clipped, as every player does, after mixing and resampling. 16-bit samples of one channel at
    `rate` stay as they are, bit by bit.

    Args:
        sound: what `open_sound` gave.
        rate: samples a second of the result.
        seconds: its duration; nothing beyond is decoded.

    Returns:
        int16 (1, T), T = rate · seconds, with zeros after the end of a shorter recording; and the length of what is
        recorded, in [1, T].

    Raises:
        BadSoundError: a broken file, one that ends before its header says, values that are not numbers or far beyond
            [-1, 1], or a recording shorter than one sample.
        OSError: the file cannot be read.
    """
    size = round(rate * seconds)
    wanted = min(sound.frames, math.ceil((seconds + _MARGIN) * sound.rate))
    with _opened(sound.source) as file:
        try:
            channels = file.read(wanted, dtype="float32", always_2d=True)  # (n, channels)
        except soundfile.SoundFileError as error:
            raise BadSoundError(f"broken or cut off: {_reason(error)}") from None
    if len(channels) < 0.9 * wanted:  # lossy formats may miss a packet
        raise BadSoundError(f"the file is cut off: {len(channels):,} samples where its header promises {wanted:,} and more")
    peak = float(np.abs(channels).max(initial=0.0))
    if not math.isfinite(peak):
        raise BadSoundError("contains NaN or infinite values")
    if peak > MAX_PEAK:
        raise BadSoundError(f"float values up to {peak:.4g}; give floats in [-1, 1], or integers")
    mono = channels.mean(axis=1, dtype=np.float32)
    resampled = mono if sound.rate == rate else soxr.resample(mono, sound.rate, rate, "HQ")
    length = min(len(resampled), size)
    if length < 1:
        raise BadSoundError(f"{sound.frames} samples at {sound.rate} Hz are less than one at {rate} Hz")
    samples = np.zeros((1, size), np.int16)
    samples[0, :length] = np.clip(np.rint(resampled[:length] * 32768), -32768, 32767)
    return samples, length


@contextmanager
def _opened(source: bytes | Path) -> Iterator[soundfile.SoundFile]:
    """The file as libsndfile reads it. MP3 it knows by a tag or by the file's name: data without either get an empty tag."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as stream:
        start = stream.read(2)
        if not start:
            raise BadSoundError("empty file (0 bytes)")
        tag = _EMPTY_TAG if start[0] == 0xFF and start[-1] >= 0xE0 else b""
        data = io.BytesIO(tag + start + stream.read()) if tag else stream
        data.seek(0)
        try:
            file = soundfile.SoundFile(data)
        except soundfile.SoundFileError as error:
            raise BadSoundError(
                f"not sound, cut off, or of a format that libsndfile does not know: {_reason(error)}"
            ) from None
        with file:
            yield file


def _check(sound: Sound) -> None:
    low, high = RATES
    if sound.frames < 1:
        raise BadSoundError("no samples: the recording is of length 0, or was cut off")
    if sound.channels > MAX_CHANNELS:
        raise BadSoundError(
            f"{sound.channels} channels, more than {MAX_CHANNELS}: these are measurements, not sound whose mean could be "
            "heard; write the channels that you mean to files of their own"
        )
    if not low <= sound.rate <= high:
        raise BadSoundError(f"{sound.rate:,} samples a second; sound has from {low:,} to {high:,}")
    if sound.frames >= 2**62:
        raise BadSoundError("the header does not say how long the recording is: write the file anew, not as a stream")
    if sound.seconds > MAX_SECONDS:
        raise BadSoundError(
            f"{sound.seconds / 3600:.1f} hours long, more than {MAX_SECONDS // 3600}: a recording is one sample, so cut it "
            "into pieces"
        )


def _missing(promised: int, found: int) -> bool:
    """Whether a size in the header is beyond the end of the file, neither by miscounting nor because a stream wrote it."""
    return found + _SLACK < promised < _ENDLESS


def _reason(error: soundfile.SoundFileError) -> str:
    return str(getattr(error, "error_string", error)).strip(" .").removeprefix("Error : ")
