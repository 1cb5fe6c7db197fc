"""What people see of a sound, and the plainest features of it: the bands of its mel spectrogram."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.encoders.sound import mean_and_deviation, valid_length
from unlabeled.plots import COLOURS

WINDOW, HOP = 0.025, 0.01
"""Seconds that a frame sees, and from one frame to the next (Young et al., "The HTK Book", section 5.2)."""
FLOOR = 1e-10
"""Power of silence; a sine of full scale has 1/4, and rounding to 16 bits about this."""
SHOWN = math.log(1e8)
"""Of a picture: 80 dB, from its loudest place down."""


def mel(hertz: Tensor) -> Tensor:
    """Returns the pitch that is heard, in mel: 2595 log₁₀(1 + f / 700) (Young et al., "The HTK Book", section 5.4)."""
    return 2595 * torch.log10(1 + hertz / 700)


def mel_filters(bands: int, size: int, rate: int) -> Tensor:
    """Returns triangles (bands, size // 2 + 1), all equally wide in mel; each ends where its neighbours are 1.

    Args:
        bands: M; their centres divide the mels from 0 to rate / 2 into M + 1 parts.
        size: samples of the Fourier transform.
        rate: samples a second.
    """
    pitch = mel(torch.linspace(0, rate / 2, size // 2 + 1))
    step = float(pitch[-1]) / (bands + 1)
    centres = step * torch.arange(1, bands + 1)[:, None]
    return (1 - (pitch - centres).abs() / step).clamp(min=0)


def log_mel(x: Tensor, rate: int, bands: int = 40, hop: int = 0) -> Tensor:
    """Returns the logarithm of the power in each band of each frame: (B, bands, L), L = ⌈T / hop⌉, low bands first.

    Frame t is a Hann window centred on samples t · hop to (t + 1) · hop; beyond the ends there is silence.

    Args:
        x: (B, 1, T), float in [-1, 1].
        rate: samples a second.
        bands: M (40: the usual number of speech recognition; Hinton et al. 2012, "Deep Neural Networks for Acoustic
            Modeling in Speech Recognition", section on filter banks).
        hop: samples from a frame to the next; 0: `HOP` seconds.
    """
    hop = hop or round(HOP * rate)
    window = max(hop, round(WINDOW * rate))
    frames = -(-x.shape[2] // hop)
    before = (window - hop) // 2
    after = (frames - 1) * hop + window - before - x.shape[2]
    taper = torch.hann_window(window, device=x.device)
    pieces = F.pad(x[:, 0], (before, after)).unfold(1, window, hop)  # (B, L, window)
    size = 2 ** math.ceil(math.log2(2 * window))  # the lowest bands are narrower than 1 / WINDOW
    power = torch.fft.rfft(pieces * (taper / taper.sum()), size).abs().square()  # (B, L, size / 2 + 1)
    maps: Tensor = power @ mel_filters(bands, size, rate).to(x.device).T  # (B, L, bands)
    return maps.clamp(min=FLOOR).log().mT


def log_mel_statistics(x: Tensor, rate: int, bands: int = 40) -> Tensor:
    """Returns (B, 2 · bands): mean and standard deviation over time of each band of `log_mel`, which is what a sound tells
    without learning. Zeros at its end are padding, and are not counted.

    Args:
        x: (B, 1, T), float in [-1, 1].
        rate: samples a second.
        bands: M.
    """
    frames = -(-valid_length(x).clamp(min=1) // round(HOP * rate))
    return mean_and_deviation(log_mel(x, rate, bands), frames)


def spectrogram_picture(x: Tensor, rate: int, width: int, height: int) -> Tensor:
    """Draws a log-mel spectrogram, time from left to right, low bands below: uint8 (3, height, width).

    Colours are viridis, which is even to the eye (Smith and van der Walt 2015) and safe for the colour-blind.

    Args:
        x: (1, T), float in [-1, 1].
        rate: samples a second.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    from matplotlib import colormaps

    hop = max(1, min(round(HOP * rate), x.shape[1] // width))
    maps = log_mel(x[None], rate, min(height, 64), hop)  # (1, M, L)
    share = ((maps - maps.max()) / SHOWN + 1).clamp(0, 1).flip(1)
    share = F.interpolate(share[None], (height, width), mode="bilinear", antialias=True, align_corners=False)[0, 0]
    colours = torch.from_numpy(colormaps["viridis"](share.clamp(0, 1).cpu().numpy())[..., :3])  # (H, W, 3)
    return (255 * colours).round().to(torch.uint8).permute(2, 0, 1).contiguous()


def wave_picture(x: Tensor, width: int, height: int) -> Tensor:
    """Draws a wave, from its least to its greatest value in each column, on white: uint8 (3, height, width).

    The loudest sample reaches the border; silence is a line.

    Args:
        x: (1, T), float.
        width: of the picture, in pixels.
        height: of the picture, in pixels.
    """
    ends = torch.linspace(0, x.shape[1], width + 1, dtype=torch.float64).long().tolist()
    columns = [x[0, a : max(b, a + 1)] for a, b in pairwise(ends)]
    extent = torch.stack([torch.stack([c.min(), c.max()]) for c in columns], 1)  # (2, W)
    peak = float(x.abs().max()) or 1.0
    low, high = ((1 - extent / peak) / 2 * (height - 1)).round().long()  # rows, from above
    rows = torch.arange(height)[:, None]
    drawn = (rows >= high) & (rows <= low)  # (H, W)
    colour = torch.tensor([int(COLOURS[0][i : i + 2], 16) for i in (1, 3, 5)], dtype=torch.uint8)
    return torch.where(drawn, colour[:, None, None], 255).to(torch.uint8)
