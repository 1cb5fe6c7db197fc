"""SimMIM: its loss in loops, nothing of what is hidden goes in, a learned patch that is a ViT's mask token, pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.parts.patches import covered
from unlabeled.registry import Choice

AT = Progress(0, 1, 0)
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
VIT = Choice("vit_tiny_patch16_224", {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": 4, "global_pool": "avg"})
NETWORKS = [VIT, Choice("resnet10t", {"width": 4})]


def method(network: Choice, size: int = 16) -> Any:
    torch.manual_seed(0)
    built = build_encoder(network, 3, size, MEAN, STD)
    made = registry.build("methods", Choice("simmim", {}), built, DataShape(9, 3, size)).eval()
    made.encoder.front.train()  # as pictures are drawn: at the size of training
    torch.nn.init.normal_(made.patch)
    return made


def masked(size: int = 16, rows: int = 4, kept: int = 6) -> Batch:
    drawn = torch.Generator().manual_seed(1)
    order = torch.rand(3, rows**2, generator=drawn).argsort(1)
    x = torch.rand(3, 3, size, size, generator=drawn)
    return Batch([x], torch.arange(3), {"keep": order[:, :kept], "hidden": order[:, kept:]})


def is_hidden(of: Batch, i: int, row: int, column: int, side: int = 4) -> bool:
    rows = of.views[0].shape[2] // side
    return row // side * rows + column // side in of.targets["hidden"][i].tolist()


@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_is_the_absolute_difference_of_hidden_pixels_alone(network: Choice) -> None:
    made, of = method(network), masked()
    predicted = made.predicted(of.views[0], made.hidden(of)).detach()
    costs = []
    for i in range(3):
        for row in range(16):
            for column in range(16):
                if is_hidden(of, i, row, column):
                    true = (of.views[0][i, :, row, column] - MEAN) / STD
                    costs += (predicted[i, :, row, column] - true).abs().tolist()
    assert float(made(of, AT).total.detach()) == pytest.approx(np.mean(costs), rel=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_of_a_hidden_patch_goes_in(network: Choice) -> None:
    made, of = method(network), masked()
    hidden = made.hidden(of)
    other = torch.where(hidden, torch.rand_like(of.views[0]), of.views[0])
    assert torch.equal(made.predicted(other, hidden), made.predicted(of.views[0], hidden))
    seen = torch.where(hidden, of.views[0], torch.rand_like(of.views[0]))
    assert not torch.allclose(made.predicted(seen, hidden), made.predicted(of.views[0], hidden))


def test_the_learned_patch_is_the_mask_token_of_a_vit() -> None:
    """Its first layer is linear: each hidden patch becomes one and the same token, before its position."""
    made, of = method(VIT), masked()
    tokens = []
    made.encoder.backbone.patch_embed.register_forward_hook(lambda module, given, found: tokens.append(found))
    made.predicted(of.views[0], made.hidden(of))
    weights = made.encoder.backbone.patch_embed.proj
    token = torch.nn.functional.conv2d(made.patch[None], weights.weight, weights.bias, stride=4)[0, :, 0, 0]
    for i in range(3):
        for place in of.targets["hidden"][i].tolist():
            torch.testing.assert_close(tokens[0].flatten(0, -2).view(3, 16, -1)[i, place], token, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "rows"), [(16, 4), (16, 2), (30, 4), (7, 7)])
def test_pixels_of_patches_row_by_row(size: int, rows: int) -> None:
    chosen = torch.tensor([[0, rows + 1], [rows * rows - 1, 1]])
    found, side = covered(chosen, rows**2, size, size), -(-size // rows)
    assert found.shape == (2, 1, size, size)
    for i in range(2):
        for row in range(size):
            for column in range(size):
                assert bool(found[i, 0, row, column]) == (row // side * rows + column // side in chosen[i].tolist())


def test_sides_that_no_stage_divides_are_predicted_whole() -> None:
    made = method(Choice("resnet10t", {"width": 4, "stem": "large"}), 28)
    of = masked(28, 4)
    assert made.predicted(of.views[0], made.hidden(of)).shape == (3, 3, 28, 28)


def test_it_starts_with_the_mean_colour_and_learns_its_patch() -> None:
    torch.manual_seed(0)
    made = registry.build("methods", Choice("simmim", {}), build_encoder(VIT, 3, 16, MEAN, STD), DataShape(9, 3, 16))
    assert not made.patch.any()
    made(masked(), AT).total.backward()
    assert made.patch.grad.abs().sum() > 0


def test_pictures_show_what_is_seen_and_what_was_said() -> None:
    made, of = method(VIT), masked()
    with torch.no_grad():
        found = made.pictures(of, AT)
    hidden = made.hidden(of).expand(-1, 3, -1, -1)
    assert list(found) == ["view", "masked", "reconstructed"]
    assert (found["masked"][hidden] == 0.5).all()
    for name in ("masked", "reconstructed"):
        assert torch.equal(found[name][~hidden], of.views[0][~hidden])
    assert all(float(x.min()) >= 0 and float(x.max()) <= 1 for x in found.values())


def test_views_that_hide_nothing_are_refused() -> None:
    made = method(VIT)
    with pytest.raises(UserError, match="these hide none: give --views masked"):
        made.check([torch.zeros(2, 3, 16, 16)], {})
