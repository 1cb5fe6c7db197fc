"""SimSiam against loops, and the two things that keep it from collapse: the stopped gradient, the steady predictor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unlabeled

from .small import array, at, embedded, make, total

SMALL = {"hidden": 16, "dim": 12}


def test_the_symmetrised_negative_cosine() -> None:
    method = make("simsiam", **SMALL)
    given = embedded(method, "h1", "h2")
    z1, z2 = (array(method.projector(given[h])) for h in ("h1", "h2"))
    p1, p2 = (array(method.predictor(method.projector(given[h]))) for h in ("h1", "h2"))
    expected = 0.0
    for i in range(6):
        for p, z in ((p1[i], z2[i]), (p2[i], z1[i])):
            expected -= 0.5 * (p @ z) / np.sqrt(p @ p) / np.sqrt(z @ z) / 6
    assert total(method, given) == pytest.approx(expected, abs=1e-5)


def test_equal_views_and_a_predictor_that_changes_nothing_give_minus_one() -> None:
    method = make("simsiam", **SMALL)
    method.predictor = nn.Identity()
    h = embedded(method, "h1")["h1"]
    assert total(method, {"h1": h, "h2": h}) == pytest.approx(-1, abs=1e-5)


def gradients(method: nn.Module, given: dict[str, Tensor], *, stopped: bool) -> list[Tensor]:
    """Of the algorithm box, with or without its `detach`."""
    z1, z2 = method.projector(given["h1"]), method.projector(given["h2"])  # type: ignore[operator]
    p1, p2 = method.predictor(z1), method.predictor(z2)  # type: ignore[operator]
    t1, t2 = (z1.detach(), z2.detach()) if stopped else (z1, z2)
    loss = -(F.cosine_similarity(p1, t2).mean() + F.cosine_similarity(p2, t1).mean()) / 2
    return list(torch.autograd.grad(loss, [given["h1"], given["h2"]]))


def test_the_gradient_is_that_of_the_stopped_targets_and_would_be_another_without() -> None:
    method = make("simsiam", **SMALL)
    given = embedded(method, "h1", "h2")
    found = torch.autograd.grad(method.compare(given, at()).total, [given["h1"], given["h2"]])
    stopped, flowing = (gradients(method, given, stopped=s) for s in (True, False))
    for mine, right, wrong in zip(found, stopped, flowing, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-4, atol=1e-6)
        assert float((mine - wrong).norm()) > 0.1 * float(wrong.norm())


def test_no_gradient_flows_into_a_target() -> None:
    class Fixed(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return z.detach().roll(1, 0)

    method = make("simsiam", **SMALL)
    method.predictor = Fixed()  # only the targets are left to flow into
    assert not method.compare(embedded(method, "h1", "h2"), at()).total.requires_grad


def test_all_layers_of_the_projector_are_normalised_and_the_predictor_narrows() -> None:
    method = make("simsiam", hidden=16, dim=40)
    assert [type(m) for m in method.projector].count(nn.BatchNorm1d) == 3
    z = method.projector(5 + 3 * torch.randn(64, method.encoder.dim))
    torch.testing.assert_close(z.mean(0), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std(0, unbiased=False), torch.ones(40), atol=1e-2, rtol=0)
    widths = [m.out_features for m in method.predictor if isinstance(m, nn.Linear)]
    assert widths == [10, 40]
    assert isinstance(method.predictor[-1], nn.Linear)
    assert make("simsiam", hidden=16, dim=40, bottleneck=7).predictor[0].out_features == 7


def test_the_predictors_rate_is_the_only_one_that_stays(tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (40, 16, 16, 3), dtype=np.uint8)
    options = {"encoder.width": 4, "method.hidden": 8, "method.dim": 8, "optimizer.lr": 0.5}
    run = unlabeled.pretrain(
        (pictures, np.arange(40) % 2),
        method="simsiam",
        out=tmp_path / "r",
        accelerator="cpu",
        encoder="resnet10t",
        epochs=2,
        batch_size=16,
        options=options,
    )
    state = run.read_checkpoint()
    assert state is not None
    assert state["optimizers"].keys() == {"", "predictor"}
    for part, group in ((part, g) for part, held in state["optimizers"].items() for g in held["param_groups"]):
        rate = 0.5 * 16 / 256
        assert group["lr"] == rate if part == "predictor" else 0 < group["lr"] < 0.6 * rate
