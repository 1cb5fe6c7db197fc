"""Recordings: from a file of any usual format to int16 samples at one rate."""

from __future__ import annotations

import io
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from unlabeled.batch import Fields, Progress
from unlabeled.data.kinds.kind import Form
from unlabeled.data.reader import Reader, in_a_line
from unlabeled.data.room import decoding_room
from unlabeled.errors import UserError
from unlabeled.files import check_regular
from unlabeled.registry import Choice, Range, register
from unlabeled.views.spectrogram import log_mel_statistics, spectrogram_picture, wave_picture
from unlabeled.words import counted

if TYPE_CHECKING:
    from unlabeled.encoders import Encoder

USUAL_RATE, LONGEST = 16_000, 10.0
SIDE = 96
"""Of a picture, in pixels."""
_SAMPLED = 256  # headers read, to find what a source is

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
Array = np.ndarray[Any, Any]


class BadSoundError(ValueError):
    """A sample that cannot become sound; the message is the reason, in words for the user."""


@register("sound")
class SoundKind:
    """Recordings, kept as one channel of int16 at one rate, with zeros after the end of shorter ones.

    Args:
        rate: samples a second that all are resampled to; none given: what most of them have, at most 16,000, which is what
            speech recognition is used to (van den Oord et al. 2018, §3.1).
        seconds: of the beginning of a recording that is kept; none given: the longest one of those looked at, at most 10 s.
    """

    name, noun, nouns, raw = "sound", "recording", "recordings", "log-mel"
    suffixes = SUFFIXES
    invariances: ClassVar[frozenset[str]] = frozenset()
    reading: ClassVar[tuple[str, ...]] = ()
    version = 1  # raise it whenever `to_samples` gives other samples than before
    method, policy, encoder_name = "cpc", "window", "cpc"

    def __init__(
        self,
        *,
        rate: Annotated[int, Range(*RATES)] | None = None,
        seconds: Annotated[float, Range(0, MAX_SECONDS, above=True)] | None = None,
    ) -> None:
        self.rate, self.seconds = rate, seconds

    def open(self, source: bytes | Path) -> Sound:
        """Does what `open_sound` says."""
        return open_sound(source)

    def native(self, raw: Sound) -> tuple[int, int]:
        """Returns the length in samples, and rate."""
        return raw.frames, raw.rate

    def survey(self, reader: Reader, name: str, channels: int | None, *, judged: bool = False) -> Form:
        """Finds rate and length from headers spread over the split."""
        found, reason = [], ""
        for index in np.unique(np.linspace(0, len(reader) - 1, min(len(reader), _SAMPLED)).astype(int)).tolist():
            try:
                found.append(self.native(reader.read(index)))
            except Exception as error:  # decoders raise anything on broken data; the check counts them
                reason = reason or f"{reader.path(index)}: {in_a_line(error)}"
        if not found:
            raise UserError(f"{name}: none of its recordings can be read ({reason}); check that these are sound files")
        rate = self.rate or min(USUAL_RATE, Counter(rate for _, rate in found).most_common(1)[0][0])
        longest = max(frames / own for frames, own in found)
        size = max(1, round(rate * (self.seconds or min(LONGEST, longest))))
        native = int(np.median([frames for frames, _ in found])), int(np.median([own for _, own in found]))
        return Form({self.name: ("int16", (1, size)), "length": ("int64", ())}, 1, size, native, rate, shown="recording")

    def like(self, reader: Reader, form: Form, name: str, channels: int | None) -> None:
        """Refuses nothing: any recording can be resampled and cut."""

    def ready(self, reader: Reader, form: Form) -> None:
        """Returns None: nothing is in memory."""

    def decode(self, raw: Sound, form: Form) -> dict[str, Any]:
        """Does what `to_samples` says, when there is room for it."""
        seconds = form.size / form.rate
        with decoding_room.hold(min(raw.frames, math.ceil(seconds * raw.rate)) * (4 * raw.channels + 12)):
            samples, length = to_samples(raw, form.rate, seconds)
        return {self.name: samples, "length": length}

    def resolved(self, form: Form) -> Choice:
        """Returns this kind with rate and seconds."""
        return Choice(self.name, {"rate": form.rate, "seconds": self.seconds or form.size / form.rate})

    def view_size(self, at: Progress) -> int:
        """Returns the length of the longest recording; policies take windows of it."""
        assert self.rate is not None
        assert self.seconds is not None
        return max(1, round(self.rate * self.seconds))

    def usual(self, views: Choice, form: Form, invariances: frozenset[str]) -> None:
        """Gives nothing: the paper's views are as good."""

    def milder(self, views: Choice) -> tuple[str, dict[str, str]] | None:
        """Advises windows of twice the length."""
        samples = views.options.get("samples")
        return ("windows of twice the length", {"samples": str(2 * samples)}) if samples else None

    def allowed(self, invariances: frozenset[str], form: Form) -> frozenset[str]:
        """Allows all of them."""
        return invariances

    def fitted(self, choice: Choice, form: Form) -> Choice:
        """Returns it as it is."""
        return choice

    def encoder(self, choice: Choice, channels: int, sample: Fields | None) -> Encoder:
        """Scales by the sample's root mean square, padding left out."""
        from unlabeled.encoders.sound import build_encoder

        return build_encoder(choice, Choice(self.name, {"rate": self.rate, "seconds": self.seconds}), sample)

    def describe(self, form: Form) -> str:
        """Returns `0.43 s at 8,000 Hz (the first 2.28 s of each are kept, at 8,000 Hz)`."""
        frames, rate = form.native
        kept = f"the first {form.size / form.rate:.3g} s of each are kept, at {form.rate:,} Hz"
        return f"{frames / rate:.3g} s at {rate:,} Hz ({kept})"

    def views(self) -> str:
        """Returns `at most 2.28 s`."""
        return f"at most {self.seconds:.3g} s"

    def pictures(self, x: Fields, form: Form) -> Tensor:
        """Draws spectrograms above waves, uint8 (B, 3, 96, 96), of what is no padding."""
        ends = x["length"].clamp(min=1).tolist()
        return torch.stack([_picture(one[:, :end] / 32768, form.rate) for one, end in zip(x[self.name], ends, strict=True)])

    def shown(self, view: Tensor, form: Form) -> Tensor:
        """Draws the same of windows float32 (B, 1, W)."""
        return torch.stack([_picture(one, form.rate) for one in view])

    def features(self, x: Fields, form: Form) -> Tensor:
        """Computes mean and standard deviation of each band of the log-mel spectrogram, (B, 80)."""
        return log_mel_statistics(x[self.name].float() / 32768, form.rate)


def _picture(x: Tensor, rate: int) -> Tensor:
    """Of one recording (1, T) in [-1, 1]: uint8 (3, SIDE, SIDE)."""
    below = SIDE // 4
    return torch.cat([spectrogram_picture(x, rate, SIDE, SIDE - below), wave_picture(x, SIDE, below)], 1)


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording whose header was read and whose samples were not.

    Attributes:
        source: the file's bytes, its path, or the samples themselves (frames, channels).
        frames: its length in samples of each channel, > 0.
        rate: samples a second.
        channels: how many, from 1 to `MAX_CHANNELS`.
    """

    source: bytes | Path | Array
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
    channels = _channels(sound, wanted)
    if len(channels) < 0.9 * wanted:  # lossy formats may miss a packet
        raise BadSoundError(
            f"the file is cut off: {counted(len(channels), 'samples')} where its header promises {wanted:,} and more"
        )
    peak = float(max(channels.max(initial=0.0), -channels.min(initial=0.0)))
    if not math.isfinite(peak):
        raise BadSoundError("contains NaN or infinite values")
    if peak > MAX_PEAK:
        raise BadSoundError(f"float values up to {peak:.4g}; give floats in [-1, 1], or integers")
    mono = channels.mean(axis=1, dtype=np.float32)
    resampled = mono if sound.rate == rate else soxr.resample(mono, sound.rate, rate, "HQ")
    length = min(len(resampled), size)
    if length < 1:
        raise BadSoundError(f"at {sound.rate} Hz {counted(sound.frames, 'samples', 'are')} less than one at {rate} Hz")
    samples = np.zeros((1, size), np.int16)
    samples[0, :length] = np.clip(np.rint(resampled[:length] * 32768), -32768, 32767)
    return samples, length


def _channels(sound: Sound, wanted: int) -> Array:
    """The first samples, float32 (n, channels), whole numbers as shares of their own range."""
    if isinstance(sound.source, np.ndarray):
        wave = sound.source[:wanted]
        full = 1.0 if wave.dtype.kind == "f" else -float(np.iinfo(wave.dtype).min)
        return (wave / full).astype(np.float32)
    with _opened(sound.source) as file:
        try:
            channels: Array = file.read(wanted, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise BadSoundError(f"broken or cut off: {_reason(error)}") from None
    return channels


@contextmanager
def _opened(source: bytes | Path) -> Iterator[soundfile.SoundFile]:
    """The file as libsndfile reads it. MP3 it knows by a tag or by the file's name: data without either get an empty tag."""
    if isinstance(source, Path):
        check_regular(source)
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
            f"{counted(sound.channels, 'channels')}, more than {MAX_CHANNELS}: these are measurements, not sound "
            "whose mean could be heard; write the channels that you mean to files of their own"
        )
    if not low <= sound.rate <= high:
        raise BadSoundError(f"{sound.rate:,} samples a second; sound has from {low:,} to {high:,}")
    if sound.frames >= 2**62:
        raise BadSoundError("the header does not say how long the recording is: write the file anew, not as a stream")
    if sound.seconds > MAX_SECONDS:
        raise BadSoundError(
            f"{counted(sound.seconds / 3600, 'hours', form='.1f')} long, more than {MAX_SECONDS // 3600}: a recording "
            "is one sample, so cut it into pieces"
        )


def _missing(promised: int, found: int) -> bool:
    """Whether a size in the header is beyond the end of the file, neither by miscounting nor because a stream wrote it."""
    return found + _SLACK < promised < _ENDLESS


def _reason(error: soundfile.SoundFileError) -> str:
    return str(getattr(error, "error_string", error)).strip(" .").removeprefix("Error : ")
