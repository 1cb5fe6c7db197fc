"""Context encoder: its masks, its loss in loops, its critic, what it may not see, pictures and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.batch import Batch, DataShape
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.optim.optimizers import Optimizers
from unlabeled.registry import Choice, build

from .small import array, at

SIZE = 16


def method(size: int = SIZE, **options: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, size, torch.full((3,), 0.4), torch.ones(3))
    made: Any = build("methods", Choice("context-encoder", {"width": 8, **options}), encoder, DataShape(9, 3, size))
    return made.eval()


def batch(mask: str = "regions", n: int = 3, size: int = SIZE) -> Batch:
    x = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    policy = build("views", Choice("holes", {"mask": mask}), DataShape(9, 3, size))
    views, targets = policy({"image": x}, torch.Generator().manual_seed(2))
    return Batch(views, torch.arange(n), targets)


@pytest.mark.parametrize("mask", ["centre", "blocks", "regions"])
def test_masks_hide_a_quarter_at_most_and_ask_for_a_band_around_it(mask: str) -> None:
    targets = batch(mask, 40, 32).targets
    hidden, asked = targets["hidden"].numpy()[:, 0], targets["asked"].numpy()[:, 0]
    shares = hidden.mean((1, 2))
    assert shares.max() <= 0.25 + 1e-9
    if mask == "centre":
        assert hidden[:, 8:24, 8:24].all()
        assert hidden.sum() == 40 * 16 * 16
    elif mask == "regions":
        np.testing.assert_allclose(shares, 0.25)
    else:
        assert len(np.unique(shares)) > 3, "squares overlap"
    assert mask == "centre" or not (hidden[0] == hidden[1]).all()
    for i in range(3):
        for row in range(32):
            for column in range(32):
                near = hidden[i, max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]  # 4 of 128 px: 1 of 32
                assert asked[i, row, column] == near.any()


def test_the_loss_is_the_papers() -> None:
    made, of = method(adversarial=0.25), batch()
    x, drawn = 2 * array(of.views[0]) - 1, array(made.made(of))
    hidden, asked = of.targets["hidden"].numpy(), of.targets["asked"].numpy()
    rec = []
    for i in range(3):
        costs = [
            (1 if hidden[i, 0, row, column] else 10) * (drawn[i, c, row, column] - x[i, c, row, column]) ** 2
            for row in range(SIZE)
            for column in range(SIZE)
            for c in range(3)
            if asked[i, 0, row, column]
        ]
        rec.append(np.mean(costs))
    d = [array(made.critic(torch.from_numpy(asked * y).float())) for y in (x, drawn)]
    real, fake = (1 / (1 + np.exp(-scores)) for scores in d)
    loss = made(of, at())
    expected = 0.75 * np.mean(rec) - 0.25 * np.log(fake).mean()
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-4)
    rival = -np.log(real).mean() - np.log(1 - fake).mean()
    assert float(loss.rivals["critic"].detach()) == pytest.approx(rival, rel=1e-4)


def test_the_weights_are_the_papers_and_the_critic_can_be_left_out() -> None:
    made, of = method(), batch()
    loss = made(of, at())
    parts = {name: float(term) for name, term in loss.terms.items()}
    assert float(loss.total.detach()) == pytest.approx(0.999 * parts["reconstruction"] + 0.001 * parts["adversarial"])
    alone = method(adversarial=0.0)
    assert not alone.parts
    assert not alone(of, at()).rivals


def test_each_side_moves_its_own_parameters() -> None:
    made, of = method(adversarial=1.0).train(), batch()
    optimizers = Optimizers(made, Choice("adamw", {"lr": 1e-3}), made.parts, scaling="none")
    loss = made(of, at())
    optimizers.backward(loss)
    grads = {name: p.grad.clone() for name, p in made.named_parameters() if p.grad is not None}
    critic = [p for name, p in made.named_parameters() if name.startswith("critic.")]
    expected = torch.autograd.grad(made(of, at()).rivals["critic"], critic)
    found = [g for name, g in grads.items() if name.startswith("critic.")]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
    assert grads["decoder.values.weight"].abs().max() > 0


def test_nothing_of_what_is_hidden_goes_in() -> None:
    made, of = method(), batch()
    other = Batch([torch.where(of.targets["hidden"], torch.rand(3, 3, SIZE, SIZE), of.views[0])], of.index, of.targets)
    assert not torch.equal(other.views[0], of.views[0])
    assert torch.equal(made.made(other), made.made(of))
    seen = Batch([torch.where(of.targets["hidden"], of.views[0], torch.rand(3, 3, SIZE, SIZE))], of.index, of.targets)
    assert not torch.allclose(made.made(seen), made.made(of))


def test_pictures_differ_within_the_hole_alone() -> None:
    made, of = method(), batch("centre")
    with torch.no_grad():
        shown = made.pictures(of, at())
    assert list(shown) == ["hole", "filled", "true"]
    inside = of.targets["hidden"].expand(-1, 3, -1, -1)
    assert (shown["hole"][inside] == 0.5).all()
    for name in ("hole", "filled"):
        assert torch.equal(shown[name][~inside], shown["true"][~inside])
    assert 0 <= float(shown["filled"].min()) <= float(shown["filled"].max()) <= 1
    policy: Any = build("views", Choice("holes"), DataShape(9, 3, SIZE))
    assert torch.equal(policy.task(of.views, of.targets)["hole"], shown["hole"])


def test_refusals() -> None:
    with pytest.raises(UserError, match="give --views holes"):
        method().check([torch.rand(2, 3, SIZE, SIZE)], {})
    with pytest.raises(UserError, match=r"views of 3 pixels are too small.*--kind.size 4"):
        batch(size=3)
    with pytest.raises(UserError, match="mask is 'square', and must be one of 'centre', 'blocks', 'regions'"):
        batch("square")
