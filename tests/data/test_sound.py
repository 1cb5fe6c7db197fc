"""Recordings of every usual format become int16 samples at one rate, and what is wrong with a file is said."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from unlabeled.data.kinds.sound import BadSoundError, Sound, open_sound, to_samples

FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "PCM_32"),
    ("WAV", "PCM_U8"),
    ("WAV", "FLOAT"),
    ("WAV", "DOUBLE"),
    ("WAV", "ULAW"),
    ("WAV", "IMA_ADPCM"),
    ("WAV", "GSM610"),
    ("WAVEX", "PCM_24"),
    ("RF64", "PCM_16"),
    ("W64", "PCM_16"),
    ("AIFF", "PCM_16"),
    ("AIFF", "ULAW"),
    ("AU", "PCM_16"),
    ("CAF", "PCM_16"),
    ("CAF", "ALAC_16"),
    ("VOC", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]
LOSSY = {
    "PCM_U8": 0.01,
    "ULAW": 0.03,
    "IMA_ADPCM": 0.05,
    "GSM610": 0.15,
    "VORBIS": 0.05,
    "OPUS": 0.05,
    "MPEG_LAYER_III": 0.05,
}


def sine(hertz: float = 440, rate: int = 16000, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)


def written(x: np.ndarray, rate: int = 16000, form: str = "WAV", subtype: str | None = None) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, x, rate, format=form, subtype=subtype)
    return buffer.getvalue()


def flac_of(frames: int) -> bytes:
    """A FLAC file whose header promises so many samples; 0 is how streams say that they do not know."""
    data = bytearray(written(sine(), form="FLAC"))
    data[21:26] = ((data[21] & 0xF0) << 32 | frames).to_bytes(5, "big")  # the last 36 bits
    return bytes(data)


def decoded(data: bytes, rate: int = 16000, seconds: float = 1.0) -> tuple[np.ndarray, int]:
    samples, length = to_samples(open_sound(data), rate, seconds)
    assert samples.dtype == np.int16
    assert samples.shape == (1, round(rate * seconds))
    assert not samples[0, length:].any()
    return samples[0, :length], length


def amplitude(x: np.ndarray, hertz: float, rate: int) -> float:
    """Of the sine of that frequency in x, by projection on it."""
    turns = np.exp(-2j * np.pi * hertz * np.arange(len(x)) / rate)
    return float(2 * abs((x * turns).mean()))


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
def test_every_format(form: str, subtype: str) -> None:
    x = sine()
    data = written(x, form=form, subtype=subtype)
    sound = open_sound(data)
    assert (sound.rate, sound.channels) == (16000, 1)
    assert sound.seconds == pytest.approx(1, abs=0.03)  # blocks of ADPCM are filled up
    samples, length = decoded(data)
    assert length == 16000
    middle = slice(1000, 15000)  # codecs ring at the ends
    error = np.abs(samples[middle] / 32768 - x[middle]).max()
    assert error <= LOSSY.get(subtype, 1e-4)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_resampled_sine_keeps_frequency_and_amplitude(rate: int, channels: int) -> None:
    x = np.tile(sine(440, rate)[:, None], (1, channels))
    samples, length = decoded(written(x, rate), 16000)
    assert length == 16000
    middle = samples[2000:14000] / 32768  # whole periods
    assert amplitude(middle, 440, 16000) == pytest.approx(0.5, rel=1e-3)
    t = np.arange(2000, 14000) / 16000
    np.testing.assert_allclose(middle, 0.5 * np.sin(2 * np.pi * 440 * t), atol=1e-3)


def test_what_the_new_rate_cannot_carry_is_gone() -> None:
    samples, _ = decoded(written(sine(7000, 44100), 44100), 8000)
    assert np.abs(samples[200:-200]).max() <= 33  # below -60 dB


def test_16_bits_at_their_own_rate_stay_as_they_are() -> None:
    x = np.random.default_rng(0).integers(-32768, 32768, 16000).astype(np.int16)
    assert np.array_equal(decoded(written(x))[0], x)


def test_channels_are_averaged() -> None:
    x = np.stack([sine(), np.zeros(16000), -sine() / 2], 1)
    np.testing.assert_allclose(decoded(written(x, subtype="FLOAT"))[0] / 32768, sine() / 6, atol=1e-4)
    opposed = np.stack([sine(), -sine()], 1)
    assert not decoded(written(opposed, subtype="FLOAT"))[0].any()


def test_values_are_rounded_and_clipped() -> None:
    x = np.array([0.6, -0.6, 1.4, 32767, 40000, -40000]) / 32768
    assert decoded(written(x, subtype="DOUBLE"))[0].tolist() == [1, -1, 1, 32767, 32767, -32768]


def test_8_bits_are_unsigned() -> None:
    body = bytes([0, 128, 255])
    header = b"RIFF" + struct.pack("<I", 36 + 4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    data = header + b"data" + struct.pack("<I", 3) + body + b"\0"
    assert decoded(data, 8000)[0].tolist() == [-32768, 0, 32512]


def test_a_long_recording_is_cut_and_a_short_one_padded() -> None:
    x = np.random.default_rng(0).normal(0, 0.1, 3 * 44100)
    data = written(x, 44100, subtype="FLOAT")
    samples, length = decoded(data, 8000, 1.0)
    whole = np.rint(32768 * soxr.resample(x.astype(np.float32), 44100, 8000, "HQ"))
    assert length == 8000
    assert np.abs(samples - whole[:8000]).max() <= 1  # also at the cut, behind which more was decoded
    padded, length = to_samples(open_sound(data), 8000, 5.0)
    assert (padded.shape, length) == ((1, 40000), 24000)


def test_no_more_is_decoded_than_is_kept() -> None:
    """What comes later in the file does not matter: FLAC there is broken."""
    x = np.random.default_rng(0).normal(0, 0.1, 30 * 16000)
    data = written(x, form="FLAC", subtype="PCM_16")
    broken = data[: len(data) // 2]
    assert np.array_equal(decoded(broken, 16000, 2.0)[0], decoded(data, 16000, 2.0)[0])
    with pytest.raises(BadSoundError, match="broken or cut off: flac decoder lost sync"):
        to_samples(open_sound(broken), 16000, 20.0)


def test_a_file_by_its_path_is_read_when_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(written(sine()))
    sound = open_sound(path)
    assert sound == Sound(path, 16000, 16000, 1)
    assert np.array_equal(to_samples(sound, 16000, 1.0)[0], to_samples(open_sound(path.read_bytes()), 16000, 1.0)[0])
    path.unlink()
    with pytest.raises(FileNotFoundError):
        to_samples(sound, 16000, 1.0)


def test_mp3_is_known_by_its_content(tmp_path: Path) -> None:
    """Libsndfile knows it by the file's name alone where no tag comes first."""
    path = tmp_path / "named wrongly.wav"
    path.write_bytes(written(sine(), form="MP3"))
    assert open_sound(path).frames == 16000


NOT_SOUND = {
    "empty": (b"", "empty file"),
    "a byte": (b"\xff", "not sound"),
    "riff": (b"RIFF", "not sound"),
    "a letter": (b"Hello, this is a letter and no sound at all. " * 9, "not sound"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(200), "not sound"),
    "zeros": (bytes(500), "not sound"),
    "no samples": (written(np.zeros(0)), "length 0"),
    "96 channels": (written(np.zeros((50, 96))), "96 channels, more than 16"),
    "slow": (written(np.zeros(3601), 1), "1 samples a second"),
    "fast": (written(np.zeros(100), 2**30), "1,073,741,824 samples a second"),
    "20 hours": (flac_of(20 * 3600 * 16000), "20.0 hours long, more than 1: .* cut it into pieces"),
    "a stream": (flac_of(0), "does not say how long"),
}


@pytest.mark.parametrize("name", NOT_SOUND)
def test_what_is_no_recording_is_refused(name: str) -> None:
    data, reason = NOT_SOUND[name]
    with pytest.raises(BadSoundError, match=reason):
        open_sound(data)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (np.array([0, np.nan, 0]), "NaN or infinite"),
        (np.array([0, np.inf, 0]), "NaN or infinite"),
        (np.array([0, -20000.0, 0]), r"float values up to 2e\+04"),
    ],
)
def test_floats_that_are_no_sound_are_refused(x: np.ndarray, reason: str) -> None:
    with pytest.raises(BadSoundError, match=reason):
        decoded(written(x, subtype="FLOAT"))


def test_less_than_one_sample_is_refused() -> None:
    with pytest.raises(BadSoundError, match="at 48000 Hz 1 sample is less than one at 8000 Hz"):
        decoded(written(np.ones(1), 48000), 8000)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.85])
@pytest.mark.parametrize(("form", "subtype"), FORMATS)
def test_a_file_that_is_cut_off_is_refused(form: str, subtype: str, share: float) -> None:
    data = written(np.random.default_rng(0).normal(0, 0.1, 5 * 16000), form=form, subtype=subtype)
    with pytest.raises(BadSoundError, match="cut off"):
        to_samples(open_sound(data[: int(share * len(data))]), 16000, 5.0)


def test_a_stream_without_a_size_is_no_file_that_is_cut_off() -> None:
    """As ffmpeg writes into a pipe: all sizes are 2^32 - 1."""
    data = bytearray(written(sine()))
    data[4:8] = data[40:44] = b"\xff" * 4
    assert decoded(bytes(data))[1] == 16000
