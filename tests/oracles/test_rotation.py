"""Predicting rotations: the turns are NumPy's, the loss is the paper's, and both need no invariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.registry import Choice
from unlabeled.views.view import Views

AT = Progress(0, 1, 0)


def policy(size: int, invariances: frozenset[str] = frozenset(), **options: Any) -> Views:
    made: Views = registry.build("views", Choice("turns", options), DataShape(9, 3, size, invariances=invariances))
    return made


def images(count: int = 5, side: int = 8) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def method() -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    return registry.build("methods", Choice("rotation"), encoder, DataShape(9, 3, 16))


@pytest.mark.parametrize("size", [8, 7])
def test_every_image_comes_in_the_four_turns_of_numpy(size: int) -> None:
    views, targets = policy(size)({"image": images(side=size)}, torch.Generator().manual_seed(3))
    (turned,), turns = views, targets["rotation"]
    assert turned.shape == (5, 4, 3, size, size)
    assert turns.tolist() == [[0, 1, 2, 3]] * 5
    for i in range(5):
        upright = turned[i, 0].numpy().transpose(1, 2, 0)
        for k in range(4):
            expected = np.rot90(upright, turns[i, k]).transpose(2, 0, 1)
            assert np.array_equal(turned[i, k].numpy(), expected), "turns are exact"


def test_without_shift_and_mirror_the_first_is_the_image() -> None:
    x = images()
    (turned,), _ = policy(8, pad=0.0, mirror=0.0)({"image": x}, torch.Generator().manual_seed(3))
    assert torch.equal(turned[:, 0], x.float() / 255)


def test_turns_need_no_invariance_and_mirrors_do() -> None:
    x = images(64)
    for invariances, fewest in ((frozenset[str](), 0), (frozenset({"mirror"}), 16)):
        (turned,), _ = policy(8, invariances, pad=0.0, mirror=0.5)({"image": x}, torch.Generator().manual_seed(3))
        assert (turned[:, 1] == torch.rot90(turned[:, 0], 1, (2, 3))).all()
        mirrored = [torch.equal(view, image.flip(2)) for view, image in zip(turned[:, 0], x.float() / 255, strict=True)]
        assert fewest <= sum(mirrored) <= 3 * fewest


def test_the_black_border_of_a_shift_tells_no_direction() -> None:
    x = torch.full((4000, 1, 8, 8), 255, dtype=torch.uint8)
    made = registry.build("views", Choice("turns"), DataShape(9, 1, 8))
    (turned,), _ = made({"image": x}, torch.Generator().manual_seed(3))
    dark = (turned[:, 0, 0] == 0).float().mean(0)  # where an upright view is black
    for k in range(1, 4):
        torch.testing.assert_close(torch.rot90(dark, k), dark, rtol=0, atol=0.04)
    assert float(dark.max()) > 0.3


def test_the_loss_is_the_mean_over_images_and_turns() -> None:
    made = method().eval()
    (turned,), targets = policy(16)({"image": images(side=16)}, torch.Generator().manual_seed(3))
    loss = made(Batch([turned], torch.arange(5), targets), AT)
    costs, right = [], []
    for i in range(5):
        for k in range(4):
            logits = made.classifier(made.encoder(turned[i, k][None]))[0].detach().double().numpy()
            costs.append(np.log(np.exp(logits).sum()) - logits[k])
            right.append(logits.argmax() == k)
    assert float(loss.total.detach()) == pytest.approx(np.mean(costs), rel=1e-5)
    assert float(loss.terms["accuracy"]) == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1


def test_images_that_look_alike_in_all_turns_cost_at_least_log_4() -> None:
    """No classifier of four turns knows which; equality only where it knows that it does not."""
    made = method().eval()
    ring = torch.zeros(3, 1, 16, 16)
    ring[:, :, 4:12, 4:12] = 1
    turned = ring.expand(3, 3, 16, 16)[:, None].expand(-1, 4, -1, -1, -1)
    batch = Batch([turned], torch.arange(3), {"rotation": torch.arange(4).expand(3, 4)})
    assert float(made(batch, AT).total.detach()) >= np.log(4) - 1e-6
    torch.nn.init.zeros_(made.classifier.weight)
    torch.nn.init.zeros_(made.classifier.bias)
    assert float(made(batch, AT).total.detach()) == pytest.approx(np.log(4), rel=1e-6)


def test_what_is_known_is_drawn_upright() -> None:
    """By a classifier that is right of all turns but the first, which it takes for the second."""
    made = method().eval()
    views, targets = policy(16)({"image": images(side=16)}, torch.Generator().manual_seed(3))
    made.classifier = torch.nn.Identity()
    made.encoder.forward = lambda x: torch.eye(4)[torch.tensor([1, 1, 2, 3]).repeat(len(x) // 4)]
    drawn = made.pictures(Batch(views, torch.arange(5), targets), AT)
    assert torch.equal(drawn["turned"], views[0])
    assert torch.equal(drawn["turned back"][:, 1:], views[0][:, :1].expand(-1, 3, -1, -1, -1))
    assert torch.equal(drawn["turned back"][:, 0], torch.rot90(views[0][:, 0], -1, (2, 3)))
