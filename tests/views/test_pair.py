"""The pair: both views are one crop, one of them transformed, in the order asked for."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from unlabeled import registry
from unlabeled.batch import DataShape
from unlabeled.errors import UserError
from unlabeled.registry import Choice
from unlabeled.views import ops
from unlabeled.views.policies.pair import TRANSFORMATIONS, Pair, Sobel


def shape(channels: int = 3, size: int = 16, *more: str) -> DataShape:
    return DataShape(100, channels, size, 10, frozenset({"mirror", "colour", "intensity", *more}))


def images(n: int = 40, channels: int = 3, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (n, channels, side, side), dtype=torch.uint8, generator=seeded(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def views(x: torch.Tensor, of: DataShape | None = None, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    (changed, plain), targets = registry.build("views", Choice("pair", options), of or shape())({"image": x}, seeded())
    assert targets == {}
    return changed, plain


WHOLE = {"scale": (1.0, 1.0)}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_edges_are_scipys_sobel(channels: int) -> None:
    x = torch.rand(2, channels, 9, 7, generator=seeded())
    weights = np.array([0.299, 0.587, 0.114]) if channels == 3 else np.full(channels, 1 / channels)
    grey = np.tensordot(x.double().numpy(), weights, (1, 0))
    for ours, picture in zip(ops.edges(x), grey, strict=True):
        length = np.hypot(ndimage.sobel(picture, 0, mode="nearest"), ndimage.sobel(picture, 1, mode="nearest")) / 4
        for channel in ours:
            np.testing.assert_allclose(channel.numpy(), length, atol=1e-6)


def test_edges_of_a_step_are_one_and_of_nothing_zero() -> None:
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 1
    edges = ops.edges(x)
    assert float(edges.max()) == pytest.approx(1)
    assert edges[0, 0].sum(0).tolist() == pytest.approx([0, 0, 0, 8, 8, 0, 0, 0])
    assert not ops.edges(torch.full((1, 3, 8, 8), 0.7)).round(decimals=5).any()


def test_noise_is_the_field_times_its_own_deviation() -> None:
    x, field = torch.rand(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    sigma = torch.tensor([0.0, 0.5, 2.0])
    expected = np.stack([a + s * f for a, s, f in zip(x.numpy(), sigma.numpy(), field.numpy(), strict=True)])
    np.testing.assert_allclose(ops.noise(x, sigma, field).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_the_other_view_is_the_crop_alone_whatever_happens_to_the_first(name: str) -> None:
    x = images()
    changed, plain = views(x, first=name, second=name)
    _, other = views(x, first="noise", second="rotate")
    assert torch.equal(plain, other)
    assert not torch.equal(changed, plain)
    torch.testing.assert_close(views(x, first=name, second=name, **WHOLE)[1], x.float() / 255, rtol=0, atol=1e-6)


def test_each_does_what_it_is_called() -> None:
    x = images(200)
    pixels = x.float() / 255
    torch.testing.assert_close(views(x, first="sobel", second="sobel", **WHOLE)[0], ops.edges(pixels).clamp(0, 1))
    cut = views(x, first="cutout", second="cutout", **WHOLE)[0]
    gone = (cut == 0).all(1) & (pixels > 0).any(1)
    assert torch.equal(cut[~gone.unsqueeze(1).expand_as(cut)], pixels[~gone.unsqueeze(1).expand_as(cut)])
    assert int(gone.sum((1, 2)).max()) == 64
    turned = views(x, first="rotate", second="rotate", **WHOLE)[0]
    which = torch.stack([(turned == torch.rot90(pixels, k, (2, 3))).flatten(1).all(1) for k in range(4)])
    assert which.any(0).all()
    assert (which.sum(1) > 30).all()
    noisy = views(torch.full_like(x, 128), first="noise", second="noise", sigma=0.1, **WHOLE)[0]
    deviations = noisy.flatten(1).std(1)
    assert 0 <= float(deviations.min()) < 0.01 < 0.09 < float(deviations.max()) < 0.11
    blurred = views(x, first="blur", second="blur", **WHOLE)[0]
    left = (blurred - pixels).flatten(1).abs().amax(1) < 1e-5
    assert 60 < int(left.sum()) < 140
    assert (blurred.flatten(1).std(1)[~left] < pixels.flatten(1).std(1)[~left] + 1e-6).all()
    coloured = views(x, first="colour", second="colour", **WHOLE)[0]
    grey = (coloured.amax(1) - coloured.amin(1)).flatten(1).amax(1) < 1e-5
    assert 20 < int(grey.sum()) < 65
    cropped = views(x, first="crop", second="crop")
    assert not any(torch.equal(a, b) for a, b in zip(*cropped, strict=True))


def test_the_first_comes_first() -> None:
    x = images()
    after, _ = views(x, first="noise", second="sobel", **WHOLE)
    before, _ = views(x, first="sobel", second="noise", **WHOLE)
    noisy, _ = views(x, first="noise", second="noise", **WHOLE)
    torch.testing.assert_close(after, Sobel().apply(noisy, {}))
    assert not torch.equal(after, before)


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations_with_replacement(TRANSFORMATIONS, 2)))
def test_every_pair_stays_in_range_at_every_size(first: str, second: str) -> None:
    for channels, side, size in ((3, 24, 16), (1, 8, 8), (5, 16, 20)):
        for view in views(images(3, channels, side), shape(channels, size), first=first, second=second):
            assert view.shape == (3, channels, size, size)
            assert view.dtype == torch.float32
            assert 0 <= float(view.min()) <= float(view.max()) <= 1


def test_pieces_of_a_large_batch_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Pair(shape(), first="noise", second="cutout")
    whole = made({"image": images(30)}, seeded())[0]
    monkeypatch.setattr("unlabeled.views.policies.pair.pieces", lambda x, size: [slice(0, 7), slice(7, 30)])
    for a, b in zip(made({"image": images(30)}, seeded())[0], whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_what_the_data_does_not_allow_is_left_out_but_not_rotation() -> None:
    nothing = DataShape(100, 3, 16, 10, frozenset())
    changed, plain = views(images(), nothing, first="colour", second="colour")
    assert torch.equal(changed, plain)
    changed, plain = views(images(), nothing, first="rotate", second="rotate")
    assert not torch.equal(changed, plain)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"first": "color"}, "first is 'color'.*'colour'"),
        ({"strength": -1}, "strength -1"),
        ({"sigma": 2.0}, "sigma 2.0"),
        ({"scale": (1.0, 0.5)}, "upside down"),
    ],
)
def test_a_bad_option_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        views(images(), **options)
