"""Split-brain autoencoders: both losses in loops, halves that share nothing, pictures and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.batch import Batch, DataShape
from unlabeled.encoders import build_encoder
from unlabeled.encoders.lab import CENTRE, SPREAD, gamut, lab_to_rgb, rgb_to_lab
from unlabeled.errors import UserError
from unlabeled.registry import Choice, build

from .small import array, at

SIZE = 12


def method(streams: str = "lab", **options: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4, "streams": streams}), 3, SIZE, torch.zeros(3), torch.ones(3))
    made: Any = build("methods", Choice("split-brain", {"width": 8, **options}), encoder, DataShape(6, 3, SIZE))
    return made.eval()


def batch(n: int = 2) -> Batch:
    x = 0.25 + 0.5 * torch.rand(n, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return Batch([x], torch.arange(n))


def log_softmax(y: np.ndarray) -> np.ndarray:
    return y - np.log(np.exp(y).sum())


@pytest.mark.parametrize("form", ["classification", "regression"])
def test_the_loss_is_the_sum_of_both_halves_over_places(form: str) -> None:
    made, of = method(form=form), batch()
    told_ab, told_l = (array(told) for told in made.told(of.views[0]))
    lab, bins = array(rgb_to_lab(of.views[0])), array(gamut())
    costs = []
    for b in range(2):
        for i in range(3):
            for j in range(3):
                target = lab[b, :, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean((1, 2))
                if form == "regression":
                    scaled = (target - CENTRE) / SPREAD
                    told = np.concatenate([told_l[b, :, i, j], told_ab[b, :, i, j]])
                    costs.append(0.5 * ((told - scaled) ** 2).sum())
                    continue
                distances = ((bins - target[1:]) ** 2).sum(1)
                near = np.argsort(distances)[:5]
                z = np.exp(-distances[near] / 50)
                costs.append(-(z / z.sum() * log_softmax(told_ab[b, :, i, j])[near]).sum())
                costs[-1] -= log_softmax(told_l[b, :, i, j])[int(target[0] // 2)]  # 50 bins of size 2
    assert float(made(of, at()).total.detach()) == pytest.approx(np.mean(costs), rel=1e-4)


def test_neither_half_sees_what_it_is_asked_for() -> None:
    """The shortcut. Gradients, too, stay within a half."""
    made, x = method(), batch().views[0]
    lab, other = rgb_to_lab(x), rgb_to_lab(batch(4).views[0][2:])
    colours, light = made.told(x)
    kept_light, kept_colours = (
        made.told(lab_to_rgb(torch.cat(both, 1)))
        for both in ((lab[:, :1], 0.3 * lab[:, 1:]), (0.2 * other[:, :1] + 40, 0.3 * lab[:, 1:]))
    )
    torch.testing.assert_close(kept_light[0], colours, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(kept_colours[1], kept_light[1], atol=1e-3, rtol=1e-3)
    assert (kept_light[1] - light).abs().max() > 1e-3
    colours.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in made.encoder.backbone.colour.parameters())
    assert any(p.grad is not None and p.grad.any() for p in made.encoder.backbone.lightness.parameters())


def test_the_representation_is_both_halves() -> None:
    made, x = method(), batch().views[0]
    h = made.encoder(x)
    assert h.shape == (2, made.encoder.dim) == (2, 2 * made.encoder.backbone.lightness.num_features)


@pytest.mark.parametrize("form", ["classification", "regression"])
def test_pictures_put_what_was_told_in_place(form: str) -> None:
    made, of = method(form=form), batch()
    shown = made.pictures(of, at())
    assert list(shown) == ["colours told", "lightness told", "true"]
    assert all(picture.shape == of.views[0].shape for picture in shown.values())
    inside = ((shown["colours told"] > 0) & (shown["colours told"] < 1)).all(1)
    light = [rgb_to_lab(picture)[:, 0][inside] for picture in (shown["colours told"], of.views[0])]
    torch.testing.assert_close(*light, atol=0.05, rtol=0)
    assert rgb_to_lab(shown["lightness told"])[:, 1:].abs().max() < 0.1


def test_an_encoder_that_sees_all_channels_at_once_is_refused() -> None:
    for streams in ("none", "lightness"):
        with pytest.raises(UserError, match=r"sees both at once: give --encoder.streams lab, and images in colour"):
            method(streams)


def test_grey_images_are_refused_before_anything_is_learned() -> None:
    made, x = method(), torch.rand(6, 1, SIZE, SIZE).expand(-1, 3, -1, -1)
    with pytest.raises(UserError, match=r"all 6 training images are grey, and split-brain asks.*another --method"):
        made.before_epoch(at(), lambda part: part(x))
    tinted = x.clone()
    tinted[4, 0, :4, :4] = 1.0
    tinted[4, 1:, :4, :4] = 0.0
    made.before_epoch(at(), lambda part: part(tinted))
