"""MoCo with mixed negatives (MoCHi): from which epoch, and that it is InfoNCE with those negatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unlabeled.batch import DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.losses import info_nce, mixed_negatives
from unlabeled.methods.base import Comparison
from unlabeled.registry import Choice, build

OPTIONS = {"queue": 32, "dim": 8, "hidden": 8}


def method(name: str = "mochi", **options: object) -> Comparison:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    made: Comparison = build("methods", Choice(name, {**OPTIONS, **options}), encoder, DataShape(9, 3, 16))
    return made


def compared(made: Comparison, epoch: int) -> tuple[float, Tensor, Tensor]:
    h = torch.randn(5, made.encoder.dim, generator=torch.Generator().manual_seed(1))
    k = torch.randn(5, 8, generator=torch.Generator().manual_seed(2))
    total = made.compare({"h": h, "k": k}, Progress(epoch * 4, 100, epoch)).total
    return float(total.detach()), made.projector(h).detach(), k


def test_mixing_begins_with_its_epoch() -> None:
    made = method(hardest=6, mixed=5, query_mixed=4, mix_from=2)
    before, q, k = compared(made, 1)
    after, _, _ = compared(made, 2)
    assert before == pytest.approx(float(info_nce(q, made.queue.keys, k, 0.1)))
    further = mixed_negatives(q, made.queue.keys, 6, 5, 4, Progress(8, 100, 2).generator())
    assert after == pytest.approx(float(info_nce(q, made.queue.keys, k, 0.1, further=further)))
    assert after > before, "more negatives cost more"


def test_mixing_more_keys_than_the_queue_holds_is_refused() -> None:
    with pytest.raises(UserError, match=r"--method.hardest 33 is more than the 32 keys"):
        method(hardest=33)


@pytest.mark.parametrize("options", [{"hardest": 0}, {"hardest": 8, "mixed": 0, "query_mixed": 0}])
def test_mixing_nothing_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match="mixes nothing"):
        method(**options)


def test_moco_alone_does_not_mix() -> None:
    made = method("moco")
    total, q, k = compared(made, 50)
    assert total == pytest.approx(float(info_nce(q, made.queue.keys, k, 0.1)))


@pytest.mark.parametrize(
    ("options", "said"), [({"tau_plus": 1.0}, "one class"), ({"tau_plus": 0.1, "normalize": False}, "no debiased form")]
)
def test_simclr_refuses_corrections_without_meaning(options: dict[str, object], said: str) -> None:
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    with pytest.raises(UserError, match=said):
        build("methods", Choice("simclr", options), encoder, DataShape(9, 3, 16))
