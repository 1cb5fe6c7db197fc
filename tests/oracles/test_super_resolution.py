"""Super-resolution: its loss and its figures in loops, where it begins, the sub-pixel decoder, pictures and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.parts.decoders import MapDecoder
from unlabeled.registry import Choice, build

from .small import array, at

SIZE = 16


def method(**options: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, SIZE, torch.zeros(3), torch.ones(3))
    made: Any = build("methods", Choice("super-resolution", {"width": 8, **options}), encoder, DataShape(9, 3, SIZE))
    return made.eval()


def batch(factor: int = 2, size: int = SIZE) -> Batch:
    x = torch.randint(0, 256, (3, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    policy = build("views", Choice("reduced", {"factor": factor, "scale": (1.0, 1.0)}), DataShape(9, 3, size))
    views, targets = policy({"image": x}, torch.Generator().manual_seed(2))
    return Batch(views, torch.arange(3), targets)


def trained(made: Any) -> Any:
    torch.nn.init.normal_(made.decoder.values.weight, std=0.1)
    return made


@pytest.mark.parametrize("factor", [2, 4])
def test_the_loss_is_the_mean_absolute_difference_beside_the_ratios(factor: int) -> None:
    made, of = trained(method()), batch(factor)
    assert of.views[0].shape == (3, 3, SIZE // factor, SIZE // factor)
    drawn, bicubic = (array(x) for x in made.made(of))
    true, loss = array(of.views[1]), made(of, at())
    assert float(loss.total.detach()) == pytest.approx(
        np.mean([abs(a - b) for a, b in zip(drawn, true, strict=True)]), rel=1e-5
    )
    for name, x in (("psnr", drawn), ("psnr_bicubic", bicubic)):
        each = [10 * np.log10(1 / np.mean((x[i].clip(0, 1) - true[i]) ** 2)) for i in range(3)]
        assert float(loss.terms[name]) == pytest.approx(np.mean(each), rel=1e-4)


def test_it_begins_with_the_bicubic_enlargement() -> None:
    made, of = method(), batch()
    drawn, bicubic = made.made(of)
    assert torch.equal(drawn, bicubic)
    loss = made(of, at())
    assert loss.terms["psnr"] == loss.terms["psnr_bicubic"]


def test_nothing_of_the_large_image_goes_in() -> None:
    made, of = trained(method()), batch()
    other = Batch([of.views[0], torch.rand_like(of.views[1])], of.index)
    assert torch.equal(made.made(other)[0], made.made(of)[0])


def test_a_few_steps_beat_the_bicubic_enlargement() -> None:
    """Of blocks, whose edges bicubic interpolation blurs."""
    made = method(width=16).train()
    blocks = torch.rand(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    true = F.interpolate(blocks, (SIZE, SIZE), mode="nearest")
    small = F.interpolate(true, (8, 8), mode="bicubic", antialias=True).clamp(0, 1)
    of, optimizer = Batch([small, true], torch.arange(4)), torch.optim.AdamW(made.parameters(), lr=3e-3)
    for _ in range(20):
        optimizer.zero_grad()
        made(of, at()).total.backward()
        optimizer.step()
    terms = made(of, at()).terms
    assert terms["psnr"] > terms["psnr_bicubic"] + 0.5


def test_the_decoder_doubles_by_sub_pixels_and_knows_the_whole() -> None:
    torch.manual_seed(0)
    decoder = MapDecoder(5, 6, 8, 2, 4.0).eval()
    h, last = torch.randn(2, 5), torch.randn(2, 6, 3, 3)
    shapes: list[torch.Size] = []
    for layer in decoder.layers:
        if isinstance(layer, torch.nn.PixelShuffle):
            layer.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    assert decoder(h, last, (12, 12)).shape == (2, 2, 12, 12)
    assert shapes == [(2, 8, 6, 6), (2, 8, 12, 12)]
    assert decoder(h, last, (7, 9)).shape == (2, 2, 7, 9)
    moved = decoder(h + torch.eye(2)[:, :1] * torch.randn(5), last, (12, 12)) - decoder(h, last, (12, 12))
    assert (moved[0].abs() > 0).float().mean() > 0.9, "every place of the first"
    assert not moved[1].any()


def test_pictures_and_refusals() -> None:
    made, of = method(), batch()
    shown = made.pictures(of, at())
    assert list(shown) == ["small", "bicubic", "drawn", "true"]
    assert len({picture.shape for picture in shown.values()}) == 1
    with pytest.raises(UserError, match="give --views reduced"):
        made.check([of.views[1], of.views[1]], {})
    with pytest.raises(UserError, match=r"leave 2 when reduced by 4.*--kind.size 16"):
        batch(4, 8)
    with pytest.raises(UserError, match="factor is 3, and must be one of 2, 4"):
        batch(3)
