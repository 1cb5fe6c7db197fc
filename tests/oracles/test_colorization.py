"""Colorization: bins, targets, weights and the annealed mean in loops; what the encoder cannot see; pictures, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.batch import Batch, DataShape
from unlabeled.encoders import build_encoder
from unlabeled.encoders.lab import gamut, lab_to_rgb, rgb_to_lab
from unlabeled.errors import UserError
from unlabeled.parts.bins import annealed_mean, encoded, rarity
from unlabeled.registry import Choice, build
from unlabeled.views.policies.colours import grey

from .small import array, at

SIZE = 12
STREAM = {"width": 4, "streams": "lightness"}


def method(**options: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", STREAM), 3, SIZE, torch.zeros(3), torch.ones(3))
    made: Any = build("methods", Choice("colorization", {"width": 8, **options}), encoder, DataShape(6, 3, SIZE))
    return made.eval()


def images(n: int = 3) -> torch.Tensor:
    return torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def extract(x: torch.Tensor) -> Any:
    return lambda module: module.eval()(x)


def test_the_bins_are_the_corners_of_every_square_that_srgb_reaches() -> None:
    found = {tuple(map(int, bin)) for bin in gamut().tolist()}
    assert len(found) == len(gamut()) == 309
    ab = rgb_to_lab(torch.rand(1, 3, 100, 100, generator=torch.Generator().manual_seed(0)))[0, 1:].flatten(1).T.tolist()
    reached = {(int(np.floor(a / 10)), int(np.floor(b / 10))) for a, b in ab}
    corners = {(10 * (i + down), 10 * (j + right)) for i, j in reached for down in (0, 1) for right in (0, 1)}
    assert corners < found
    assert len(corners) > 230, "of so few colours within the cube"


def test_a_colour_is_spread_over_its_nearest_bins() -> None:
    x, centres = 20 * torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(1)), gamut()
    index, share = encoded(x, centres, 5, 5.0)
    assert index.shape == share.shape == (2, 5, 3)
    for b in range(2):
        for place in range(3):
            distances = ((array(centres) - array(x[b, :, place])) ** 2).sum(1)
            near = np.argsort(distances)[:5]
            weights = np.exp(-distances[near] / 50)
            assert index[b, :, place].tolist() == near.tolist()
            np.testing.assert_allclose(share[b, :, place], weights / weights.sum(), rtol=1e-4)


@pytest.mark.parametrize("uniform", [0.5, 0.1])
def test_rare_colours_weigh_more_by_equation_4(uniform: float) -> None:
    centres, counts = np.array([[0.0, 0], [10, 0], [40, 0]]), np.array([90.0, 9, 1])
    p = np.zeros(3)
    for i in range(3):
        kernel = np.exp(-((centres - centres[i]) ** 2).sum(1) / 50)
        p += counts[i] / 100 * kernel / kernel.sum()
    w = 1 / ((1 - uniform) * p + uniform / 3)
    w /= (p * w).sum()
    found = rarity(torch.tensor(counts), torch.tensor(centres), 5.0, uniform)
    np.testing.assert_allclose(found, w, rtol=1e-6)
    assert found[0] < found[1] < found[2]
    assert rarity(torch.tensor(counts), torch.tensor(centres), 5.0, 1.0).tolist() == pytest.approx([1] * 3)
    assert rarity(torch.tensor([1.0, 0, 0]), 1e3 * torch.tensor(centres), 5.0, 0.0).isfinite().all()


def test_the_annealed_mean_lies_between_mean_and_mode() -> None:
    logits, centres = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)), torch.randn(4, 2)
    z = np.exp(array(logits))
    z /= z.sum(1, keepdims=True)
    sharp = np.exp(np.log(z) / 0.38)
    expected = np.einsum("bqp,qd->bdp", sharp / sharp.sum(1, keepdims=True), array(centres))
    np.testing.assert_allclose(annealed_mean(logits, centres, 0.38), expected, rtol=1e-4, atol=1e-6)
    mode = centres[logits.argmax(1)].movedim(2, 1)
    torch.testing.assert_close(annealed_mean(logits, centres, 1e-3), mode, atol=1e-3, rtol=1e-3)


def test_the_loss_is_the_papers_over_places() -> None:
    made, x = method(), images()
    made.before_epoch(at(), extract(x))
    x[1] = grey(x[1:2])[0]  # teaches nothing
    loss, logits = made(Batch([x], torch.arange(3)), at()), array(made.logits(x))
    lab, centres, weights = array(rgb_to_lab(x)), array(gamut()), array(made.weights)
    costs = []
    for b in range(3):
        for i in range(3):
            for j in range(3):
                ab = lab[b, 1:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((1, 2))
                distances = ((centres - ab) ** 2).sum(1)
                near = np.argsort(distances)[:5]
                z = np.exp(-distances[near] / 50)
                y = logits[b, :, i, j] - np.log(np.exp(logits[b, :, i, j]).sum())
                costs.append(-weights[near[0]] * (z / z.sum() * y[near]).sum() * (b != 1))
    assert float(loss.total.detach()) == pytest.approx(np.mean(costs), rel=1e-4)


def test_weights_come_from_the_set_once_and_stay() -> None:
    made, x = method(), images()
    made.before_epoch(at(), extract(x))
    kept = made.weights.clone()
    nearest = encoded(rgb_to_lab(torch.nn.functional.avg_pool2d(x, 4))[:, 1:], gamut(), 1, 5.0)[0]
    assert kept[nearest.flatten()].mean() < kept.mean()
    made.before_epoch(at(4, epoch=1), extract(images().flip(1)))
    assert torch.equal(made.weights, kept)


def test_colours_make_no_difference_to_what_is_told() -> None:
    """The shortcut: an encoder that sees what it is asked for."""
    made, x = method(), images()
    other = lab_to_rgb(rgb_to_lab(x) * torch.tensor([1, 0.2, 0.2]).view(3, 1, 1))
    assert (other - x).abs().max() > 0.2
    torch.testing.assert_close(made.logits(other.clamp(0, 1)), made.logits(x), atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match=r"this encoder sees them: give --encoder.streams lightness"):
        encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, SIZE, torch.zeros(3), torch.ones(3))
        build("methods", Choice("colorization"), encoder, DataShape(6, 3, SIZE))


def test_grey_images_are_refused() -> None:
    made, x = method(), grey(images())
    with pytest.raises(UserError, match=r"all 3 training images are grey.*another --method"):
        made.before_epoch(at(), extract(x))
    with pytest.raises(UserError, match="no colours: give images in colour"):
        build("views", Choice("colours"), DataShape(6, 1, SIZE)).task([x[:, :1]], {})


def test_the_picture_has_the_lightness_of_the_image_and_the_colours_that_were_told() -> None:
    made, x = method(), images() * 0.5 + 0.25
    torch.nn.init.zeros_(made.decoder.values.weight)
    torch.nn.init.zeros_(made.decoder.values.bias)
    made.decoder.values.bias.data[(gamut() == torch.tensor([10.0, 20.0])).all(1)] = 50  # sure of one colour
    shown = made.pictures(Batch([x], torch.arange(3)), at())
    assert list(shown) == ["grey", "coloured", "true"]
    assert torch.equal(shown["true"], x)
    seen = rgb_to_lab(shown["grey"])
    torch.testing.assert_close(seen[:, 0], rgb_to_lab(x)[:, 0], atol=0.01, rtol=0)
    assert seen[:, 1:].abs().max() < 0.1
    told = rgb_to_lab(shown["coloured"])
    inside = (shown["coloured"] > 0).all(1) & (shown["coloured"] < 1).all(1)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(told[:, 1][inside], torch.full_like(told[:, 1][inside], 10), atol=0.1, rtol=0)


def test_an_image_of_a_few_pixels_has_a_place() -> None:
    made = method()
    assert made.logits(torch.rand(1, 3, 2, 2)).shape == (1, 309, 1, 1)
