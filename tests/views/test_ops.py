"""Each operation against torchvision with the same parameters; against NumPy where the definition differs on purpose."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tv
from torchvision.transforms.v2.functional import InterpolationMode

from unlabeled.views import ops, resample

B = 4
LUMA = np.array([0.299, 0.587, 0.114])


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def values(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers)


def close(ours: torch.Tensor, theirs: torch.Tensor | np.ndarray, tolerance: float = 2e-6) -> None:
    torch.testing.assert_close(ours.double(), torch.as_tensor(theirs).double(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("height", "width", "size"), [(32, 32, 32), (33, 47, 16), (256, 256, 96), (8, 8, 17)])
def test_crop_and_mirror_are_torchvisions_resized_crop(channels: int, height: int, width: int, size: int) -> None:
    x = images(B, channels, height, width)
    top, left = values(0, 1, 3, height // 2), values(0, 2, 0, 1)
    high, wide = values(height, height - 1, 4, height // 2), values(width, 5, width // 2, 1)
    mirror, flip = values(0, 1, 0, 1), values(0, 0, 1, 1)
    ours = resample.separable(
        x, [resample.crop_taps(top, high, height, size, flip)], [resample.crop_taps(left, wide, width, size, mirror)]
    )
    for i in range(B):
        box = [int(v[i]) for v in (top, left, high, wide)]
        theirs = tv.resized_crop(x[i], *box, [size, size], antialias=True)
        theirs = tv.horizontal_flip(theirs) if mirror[i] else theirs
        theirs = tv.vertical_flip(theirs) if flip[i] else theirs
        close(ours[i], theirs, 1e-5)


def test_a_crop_beyond_the_border_is_padded_with_black() -> None:
    x = images(B, 3, 9, 9)
    start, whole = values(-4, 0, 3, 8), torch.full((B,), 9.0)
    taps = [resample.crop_taps(start, whole, 9, 9)]
    for i in range(B):
        close(resample.separable(x, taps, taps)[i], tv.crop(x[i], int(start[i]), int(start[i]), 9, 9))


def test_the_whole_picture_at_its_own_size_is_unchanged() -> None:
    x, whole, none = images(B, 3, 15, 15), torch.full((B,), 15.0), torch.zeros(B)
    taps = [resample.crop_taps(none, whole, 15, 15)]
    assert torch.equal(resample.separable(x, taps, taps), x)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize(("height", "width", "radius"), [(32, 32, 1), (31, 45, 4), (5, 6, 4), (224, 224, 11)])
def test_blur_is_torchvisions(channels: int, height: int, width: int, radius: int) -> None:
    x, sigma = images(B, channels, height, width), values(0.1, 0.7, 2.0, 5.0)
    ours = resample.gaussian_blur(x, sigma, radius)
    for i in range(B):
        close(ours[i], tv.gaussian_blur(x[i], [2 * radius + 1] * 2, [float(sigma[i])] * 2))


def test_blur_without_sigma_does_nothing_and_kernels_are_a_tenth_of_the_side() -> None:
    x = images(2, 3, 40, 40)
    assert torch.equal(resample.gaussian_blur(x, torch.zeros(2)), x)
    assert [2 * resample.blur_radius(size) + 1 for size in (224, 96, 64, 32, 8)] == [23, 9, 7, 3, 3]
    with pytest.raises(ValueError, match="reflected"):
        resample.gaussian_blur(x, torch.ones(2), radius=40)


FACTORS = values(0.2, 0.9, 1.0, 1.8)


def jittered(x: torch.Tensor, **changed: torch.Tensor) -> torch.Tensor:
    one, zero = torch.ones(len(x)), torch.zeros(len(x))
    drawn = {"brightness": one, "contrast": one, "saturation": one, "hue": zero, **changed}
    return ops.recolour(x, *ops.colour_matrix(3, **drawn))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_factor_alone_is_torchvisions_but_for_its_rounded_luma_weights(name: str) -> None:
    x = images(B, 3, 13, 11)
    ours = jittered(x, **{name: FACTORS}).clamp(0, 1)
    for i in range(B):
        theirs = getattr(tv, f"adjust_{name}")(x[i], float(FACTORS[i]))
        close(ours[i], theirs, 1e-6 if name == "brightness" else 1.5e-4)  # 0.2989 + 0.587 + 0.114 is 0.9999


def test_grey_is_saturation_zero() -> None:
    x = images(B, 3, 13, 11)
    close(jittered(x, saturation=torch.zeros(B)), tv.rgb_to_grayscale(x, 3), 1.5e-4)


@pytest.mark.parametrize("channels", [1, 5])
def test_without_colour_contrast_is_about_the_mean_of_all_channels(channels: int) -> None:
    x = images(B, channels, 9, 9)
    ours = ops.recolour(x, *ops.colour_matrix(channels, torch.ones(B), FACTORS)).clamp(0, 1)
    for i, factor in enumerate(FACTORS.tolist()):
        mean = x[i].mean()
        close(ours[i], (factor * x[i] + (1 - factor) * mean).clamp(0, 1))
        if channels == 1:
            close(ours[i], tv.adjust_contrast(x[i], factor))


def rotated(pixel: np.ndarray, turn: float) -> np.ndarray:
    """Rodrigues' formula about the grey axis, by cross products."""
    axis, angle = np.ones(3) / np.sqrt(3), 2 * np.pi * turn
    return pixel * np.cos(angle) + np.cross(axis, pixel) * np.sin(angle) + axis * (axis @ pixel) * (1 - np.cos(angle))


def test_hue_rotates_about_the_grey_axis() -> None:
    x, turns = images(B, 3, 5, 5), values(-0.5, -0.1, 0.0, 0.2)
    ours = jittered(x, hue=turns)
    for i, turn in enumerate(turns.tolist()):
        theirs = np.apply_along_axis(rotated, 0, x[i].double().numpy(), turn)
        close(ours[i], theirs)
    close(ours.sum(1), x.sum(1))
    grey = x[:, :1].expand(-1, 3, -1, -1)
    close(jittered(grey, hue=turns), grey)


@pytest.mark.parametrize("turn", [-1 / 3, 1 / 3])
def test_a_third_of_a_turn_swaps_channels_as_torchvisions_hue_does(turn: float) -> None:
    x = images(2, 3, 8, 8)
    close(jittered(x, hue=torch.full((2,), turn)), tv.adjust_hue(x, turn), 2e-6)


@pytest.mark.parametrize(("turn", "most"), [(0.05, 0.04), (0.1, 0.06), (0.2, 0.06)])
def test_mean_difference_to_torchvisions_hue_is_what_the_documentation_says(turn: float, most: float) -> None:
    x = images(2, 3, 32, 32) * 0.6 + 0.2
    ours = jittered(x, hue=torch.full((2,), turn)).clamp(0, 1)
    assert float((ours - tv.adjust_hue(x, turn)).abs().mean()) < most


def test_all_colours_at_once_are_hue_and_then_the_others_in_any_order_without_a_clamp() -> None:
    x = images(B, 3, 6, 7)
    drawn = {"brightness": FACTORS, "contrast": FACTORS.flip(0), "saturation": values(0, 1.5, 0.5, 1), "hue": FACTORS / 9}
    ours = ops.recolour(x, *ops.colour_matrix(3, **drawn))
    for order in (["hue", "brightness", "contrast", "saturation"], ["hue", "saturation", "contrast", "brightness"]):
        for i in range(B):
            p = np.moveaxis(x[i].double().numpy(), 0, 2)  # (H, W, 3)
            for name in order:
                f = float(drawn[name][i])
                if name == "brightness":
                    p = f * p
                elif name == "contrast":
                    p = f * p + (1 - f) * (p @ LUMA).mean()
                elif name == "saturation":
                    p = f * p + (1 - f) * (p @ LUMA)[..., None]
                else:
                    p = np.apply_along_axis(rotated, 2, p, f)
            close(ours[i], np.moveaxis(p, 2, 0), 3e-6)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_solarise_is_torchvisions(channels: int) -> None:
    x, thresholds = images(B, channels, 9, 8), values(0.0, 0.5, 0.9, 2.0)
    ours = ops.solarise(x, thresholds)
    for i in range(3):
        close(ours[i], tv.solarize(x[i], float(thresholds[i])))
    assert torch.equal(ours[3], x[3])


@pytest.mark.parametrize("size", [8, 9])
def test_quarter_turns_are_torchvisions_rotations(size: int) -> None:
    x = images(B, 3, size, size)
    ours = ops.quarter_turns(x, torch.arange(B))
    for i in range(B):
        assert torch.equal(ours[i], torch.rot90(x[i], i, (1, 2)))
        close(ours[i], tv.rotate(x[i], 90.0 * i))
    with pytest.raises(ValueError, match="square"):
        ops.quarter_turns(images(1, 1, 3, 4), torch.ones(1))


@pytest.mark.parametrize("size", [16, 33])
def test_rotation_by_any_angle_is_torchvisions(size: int) -> None:
    x, degrees = images(B, 3, size, size), values(-30, 0, 12.5, 170)
    ours = ops.rotate(x, degrees)
    for i in range(B):
        close(ours[i], tv.rotate(x[i], float(degrees[i]), InterpolationMode.BILINEAR), 2e-5)


def test_affine_is_torchvisions() -> None:
    x = images(B, 1, 20, 20)
    degrees, scale = values(0, 15, -40, 5), values(1, 0.8, 1.3, 1)
    shift, shear = torch.tensor([[1, 0], [0, -2], [3, 3], [0, 0]]) / 20, torch.tensor([[0, 0], [10, 0], [0, -5], [20, 8.0]])
    ours = ops.warp(x, ops.affine_matrix(degrees, shift, shear, scale), 20)
    for i in range(B):
        theirs = tv.affine(
            x[i], float(degrees[i]), (shift[i] * 20).tolist(), float(scale[i]), shear[i].tolist(), InterpolationMode.BILINEAR
        )
        close(ours[i], theirs, 2e-5)


def test_a_constant_displacement_is_a_shift_and_interpolation_passes_through_the_knots() -> None:
    x = images(2, 1, 10, 10)
    still = ops.affine_matrix(torch.zeros(2), torch.zeros(2, 2), torch.zeros(2, 2), torch.ones(2))
    field = ops.elastic_displacement(torch.tensor([0.1, 0.0]).view(1, 2, 1, 1).expand(2, 2, 4, 4), 10)
    close(ops.warp(x, still, 10, field)[..., :9], x[..., 1:], 2e-5)
    knots = images(2, 2, 4, 4)
    close(ops.elastic_displacement(knots, 10)[..., ::3, ::3], knots)


def test_cutout_is_torchvisions_erase() -> None:
    x = images(B, 3, 12, 9)
    top, left, high, wide = values(0, 3, 10, -2), values(0, 2, 7, -1), values(1, 4, 9, 5), values(9, 4, 9, 3)
    ours = ops.cutout(x, top, left, high, wide, 0.25)
    for i in range(B):
        y0, x0 = max(0, int(top[i])), max(0, int(left[i]))
        y1, x1 = int(top[i] + high[i]), int(left[i] + wide[i])
        hole = x[i, :, y0:y1, x0:x1]
        theirs = tv.erase(x[i], y0, x0, hole.shape[1], hole.shape[2], torch.full_like(hole, 0.25))
        assert torch.equal(ours[i], theirs)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_sobel_is_the_difference_of_weighted_neighbours(channels: int) -> None:
    x = images(2, channels, 6, 5)
    weights = LUMA if channels == 3 else np.full(channels, 1 / channels)
    grey = np.pad(np.einsum("bchw,c->bhw", x.double().numpy(), weights), ((0, 0), (1, 1), (1, 1)))
    ours = ops.sobel(x)
    for y in range(6):
        for z in range(5):
            n = grey[:, y : y + 3, z : z + 3]
            across = n[:, 0, 2] + 2 * n[:, 1, 2] + n[:, 2, 2] - n[:, 0, 0] - 2 * n[:, 1, 0] - n[:, 2, 0]
            down = n[:, 2, 0] + 2 * n[:, 2, 1] + n[:, 2, 2] - n[:, 0, 0] - 2 * n[:, 0, 1] - n[:, 0, 2]
            close(ours[:, :, y, z], np.stack([across, down], 1))
