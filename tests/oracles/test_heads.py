"""Heads: what ends an MLP, and the invariances of cosines with prototypes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from unlabeled.parts.heads import PrototypeHead, mlp


def test_the_end_of_an_mlp() -> None:
    assert mlp(3, 4, 2)[-1].bias is not None
    assert mlp(3, 4, 2, end="plain")[-1].bias is None
    head = mlp(3, 4, 2, end="norm")
    assert head[-2].bias is None
    assert not list(head[-1].parameters())
    z = head(7 + torch.randn(50, 3))
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert [type(m) for m in mlp(3, 4, 2, norm=False)] == [nn.Linear, nn.ReLU, nn.Linear]


@pytest.mark.parametrize("norm", [False, True])
def test_scores_are_the_cosines_of_the_bottleneck_with_each_prototype(norm: bool) -> None:
    torch.manual_seed(0)
    head = PrototypeHead(5, 16, 4, 7, norm=norm)
    h = 3 * torch.randn(6, 5)
    z, scores = head(h)
    assert z.shape == (6, 4)
    assert scores.shape == (6, 7)
    assert scores.abs().max() <= 1 + 1e-6
    for i in range(6):
        for k in range(7):
            expected = torch.nn.functional.cosine_similarity(z[i], head.prototypes[k], dim=0)
            torch.testing.assert_close(scores[i, k], expected)


def test_neither_length_counts_of_a_prototype_nor_of_the_bottleneck() -> None:
    head = PrototypeHead(5, 16, 4, 7)
    h = torch.randn(6, 5)
    _, before = head(h)
    with torch.no_grad():
        head.prototypes.mul_(torch.rand(7, 1) + 0.1)
        head.mlp[-1].weight.mul_(9)
    torch.testing.assert_close(head(h)[1], before)
    with torch.no_grad():
        head.prototypes.copy_(head(h)[0][0].repeat(7, 1))
    torch.testing.assert_close(head(h)[1][0], torch.ones(7))


def test_several_views_are_as_each_alone() -> None:
    head = PrototypeHead(5, 16, 4, 7)
    h = torch.randn(6, 3, 5)
    z, scores = head(h)
    for v in range(3):
        torch.testing.assert_close(z[:, v], head(h[:, v])[0])
        torch.testing.assert_close(scores[:, v], head(h[:, v])[1])


@pytest.mark.parametrize("gate", [0.0, 1.0])
def test_the_gate_is_on_the_gradient_of_the_prototypes_only(gate: float) -> None:
    torch.manual_seed(0)
    head = PrototypeHead(5, 16, 4, 7)
    h = torch.randn(6, 5)
    scores = head(h, gate)[1]
    torch.testing.assert_close(scores, head(h)[1])
    scores.square().sum().backward()
    assert head.prototypes.grad is not None
    assert head.prototypes.grad.any() == (gate > 0)
    assert all(p.grad is not None and p.grad.any() for p in head.mlp.parameters())


def test_prototypes_turn_as_fast_as_those_of_a_weight_normalised_layer() -> None:
    """The published code's last layer is a `Linear` under weight normalisation: AdamW moves each number by the learning
    rate, so that how far a row turns is decided by its length at the start."""
    torch.manual_seed(0)
    head, bottleneck = PrototypeHead(5, 16, 256, 400), 256
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(bottleneck, 400, bias=False))
    rows = layer.parametrizations.weight.original1
    ours, theirs = (float(each.detach().norm(dim=1).mean()) for each in (head.prototypes, rows))
    assert ours == pytest.approx(3**-0.5, rel=0.01)
    assert ours == pytest.approx(theirs, rel=0.02)
    z, goal = torch.randn(32, bottleneck), torch.randint(400, (32,))
    turned = []
    for parameter, scores in (
        (head.prototypes, torch.nn.functional.normalize(head.prototypes, dim=1)),
        (rows, layer.weight),
    ):
        before = torch.nn.functional.normalize(parameter.detach(), dim=1)
        torch.nn.functional.cross_entropy(torch.nn.functional.normalize(z, dim=1) @ scores.T / 0.1, goal).backward()
        torch.optim.AdamW([parameter], lr=5e-4, weight_decay=0.0).step()
        turned.append(float(1 - (before * torch.nn.functional.normalize(parameter.detach(), dim=1)).sum(1).mean()))
    assert turned[0] == pytest.approx(turned[1], rel=0.05)
