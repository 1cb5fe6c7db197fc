"""Mel spectrograms against a discrete Fourier transform in loops, and sines in their bands; pictures of what is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.plots import COLOURS
from unlabeled.views.spectrogram import (
    FLOOR,
    log_mel,
    log_mel_statistics,
    mel,
    mel_filters,
    spectrogram_picture,
    wave_picture,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sine(hertz: float, rate: int, samples: int, amplitude: float = 1.0) -> Tensor:
    return amplitude * torch.sin(2 * math.pi * hertz * torch.arange(samples) / rate).float()[None]


def triangle(hertz: float, band: int, bands: int, rate: int) -> float:
    """Of a filter, by its corners in mel."""

    def pitch(f: float) -> float:
        return 2595 * math.log10(1 + f / 700)

    step = pitch(rate / 2) / (bands + 1)
    return max(0.0, 1 - abs(pitch(hertz) - (band + 1) * step) / step)


def by_loops(x: np.ndarray, rate: int, bands: int) -> np.ndarray:
    """The transform of every Hann-windowed frame, term by term: (bands, L)."""
    hop, window = rate // 100, rate // 40
    size = 2 ** math.ceil(math.log2(2 * window))
    hann = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / window) for i in range(window)])
    result = []
    for start in range(0, len(x), hop):
        first = start + hop // 2 - window // 2  # both are centred on the same sample
        frame = np.array([x[i] if 0 <= i < len(x) else 0.0 for i in range(first, first + window)]) * hann / hann.sum()
        power = np.zeros(bands)
        for k in range(size // 2 + 1):
            turns = np.exp(-2j * math.pi * k * np.arange(window) / size)
            strength = abs((frame * turns).sum()) ** 2
            power += [triangle(k * rate / size, b, bands, rate) * strength for b in range(bands)]
        result.append(np.log(np.maximum(power, FLOOR)))
    return np.array(result).T


@pytest.mark.parametrize(("rate", "samples", "bands"), [(8000, 640, 12), (16000, 350, 5), (8000, 1, 3)])
def test_it_is_the_definition(rate: int, samples: int, bands: int) -> None:
    x = noise(2, 1, samples)
    ours = log_mel(x, rate, bands)
    for maps, row in zip(ours, x[:, 0].double().numpy(), strict=True):
        np.testing.assert_allclose(maps, by_loops(row, rate, bands), atol=1e-3)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("hertz", [200, 440, 1000, 3000])
def test_a_sine_is_in_its_band(hertz: float, rate: int) -> None:
    maps = log_mel(sine(hertz, rate, rate // 2)[None], rate)[0]  # (40, L)
    centres = mel(torch.tensor(rate / 2)) * torch.arange(1, 41) / 41
    nearest = int((centres - mel(torch.tensor(float(hertz)))).abs().argmin())
    inner = maps[:, 3:-3]
    assert (inner.argmax(0) - nearest).abs().max() <= 1
    assert float(inner.amax(0).std()) < 0.05


def test_twice_as_loud_is_log_4_more() -> None:
    x = noise(1, 1, 4000)
    torch.testing.assert_close(log_mel(2 * x, 8000), log_mel(x, 8000) + math.log(4), atol=1e-4, rtol=0)


def test_silence_is_the_floor() -> None:
    assert (log_mel(torch.zeros(1, 1, 400), 8000) == torch.tensor(FLOOR).log()).all()


def test_filters_share_every_frequency_among_two() -> None:
    filters = mel_filters(20, 1024, 16000)
    inside = (mel(torch.linspace(0, 8000, 513)) / mel(torch.tensor(8000.0)) * 21 - 10.5).abs() <= 9.5
    torch.testing.assert_close(filters.sum(0)[inside], torch.ones(int(inside.sum())))
    assert ((filters > 0).sum(0) <= 2).all()


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_no_band_is_empty(rate: int) -> None:
    size = 2 ** math.ceil(math.log2(2 * round(0.025 * rate)))
    assert (mel_filters(40, size, rate).sum(1) > 0).all()


def test_statistics_are_those_of_the_recording_without_padding() -> None:
    x = noise(2, 1, 1234)
    statistics = log_mel_statistics(x, 8000, 10)
    maps = log_mel(x, 8000, 10)
    expected = torch.cat([maps.mean(2), maps.std(2, correction=0)], 1)
    torch.testing.assert_close(statistics, expected, rtol=1e-4, atol=1e-4)
    padded = torch.cat([x, torch.zeros(2, 1, 999)], 2)
    torch.testing.assert_close(log_mel_statistics(padded, 8000, 10), statistics, rtol=1e-4, atol=1e-4)
    assert log_mel_statistics(torch.zeros(1, 1, 500), 8000).isfinite().all()


def test_the_picture_of_a_sine_is_a_bright_line_at_its_height() -> None:
    picture = spectrogram_picture(sine(440, 16000, 16000), 16000, 60, 64)
    assert picture.shape == (3, 64, 60)
    assert picture.dtype == torch.uint8
    bright = picture.float().sum(0)[:, 5:-5]
    row = 63 - round(float(mel(torch.tensor(440.0)) / mel(torch.tensor(8000.0)) * 65) - 1)  # low bands are below
    assert (bright.argmax(0) - row).abs().max() <= 1
    assert picture[:, 5, 30].tolist() == [68, 1, 84]  # where viridis begins


def test_the_picture_of_a_short_sound_is_as_large() -> None:
    assert spectrogram_picture(noise(1, 7), 8000, 50, 40).shape == (3, 40, 50)
    assert spectrogram_picture(torch.zeros(1, 20000), 8000, 50, 120).shape == (3, 120, 50)


def test_the_picture_of_a_wave_is_its_extent() -> None:
    x = torch.zeros(1, 100)
    x[0, 20:40], x[0, 60:80] = 0.5, -0.25
    x[0, 65] = 0
    picture = wave_picture(x, 10, 9)
    colour = [int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)]
    drawn = (picture == torch.tensor(colour)[:, None, None]).all(0)
    assert (picture[:, ~drawn] == 255).all()
    assert [drawn[:, c].nonzero().flatten().tolist() for c in (0, 2, 6, 7, 9)] == [[4], [0], [4, 5, 6], [6], [4]]


def test_the_picture_of_silence_is_a_line() -> None:
    picture = wave_picture(torch.zeros(1, 5), 20, 11)
    assert picture.shape == (3, 11, 20)
    assert (picture[0] != 255).sum(0).tolist() == [1] * 20
