"""DINO against loops over views, and its memory: the centre, the teacher, the frozen prototypes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from unlabeled.batch import DataShape
from unlabeled.errors import UserError
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.recipe import compose
from unlabeled.registry import Choice, build

from .small import VIT, array, at, images, learn, make

SMALL = {"hidden": 16, "bottleneck": 8, "prototypes": 12}
CROPS = (16, 16, 8, 8, 8)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("sizes", [CROPS, (16, 16), (16, 8)])
def test_the_cross_entropy_of_all_pairs_of_views_but_equal_ones(sizes: tuple[int, ...]) -> None:
    method = make("dino", VIT, temperature=0.2, teacher_temperature=0.05, **SMALL)
    with torch.no_grad():
        method.centre.copy_(0.1 * torch.randn(12))
        for p in method.teacher_encoder.parameters():
            p.mul_(1.2)
    batch = images(*sizes)
    student = [array(method.head(method.encoder(v))[1]) for v in batch.views]
    teacher = [array(method.teacher_head(method.teacher_encoder(v))[1]) for v in batch.views if v.shape[-1] == 16]
    found, pairs = 0.0, 0
    for w, t in enumerate(teacher):
        for v, s in enumerate(student):
            if v == w:
                continue
            pairs += 1
            for i in range(6):
                code, guess = softmax((t[i] - array(method.centre)) / 0.05), softmax(s[i] / 0.2)
                found -= sum(code[k] * np.log(guess[k]) for k in range(12)) / 6
    loss = method(batch, at())
    assert float(loss.total.detach()) == pytest.approx(found / pairs, rel=1e-4)
    codes = softmax((np.stack(teacher) - array(method.centre)) / 0.05)
    assert float(loss.terms["teacher_entropy"]) == pytest.approx(-(codes * np.log(codes)).sum(-1).mean(), rel=1e-3)


def test_only_the_largest_views_reach_the_teacher_and_each_size_is_one_batch() -> None:
    method = make("dino", VIT, **SMALL)
    seen: dict[str, list[tuple[int, int]]] = {"student": [], "teacher": []}
    for who, module in (("student", method.encoder), ("teacher", method.teacher_encoder.module)):
        module.register_forward_pre_hook(lambda _, x, who=who: seen[who].append((len(x[0]), x[0].shape[-1])))
    method(images(*CROPS), at())
    assert seen == {"student": [(12, 16), (18, 8)], "teacher": [(12, 16)]}


def test_one_view_is_refused() -> None:
    with pytest.raises(UserError, match="got 1 view: give --views multi-crop"):
        make("dino", VIT, **SMALL)(images(16), at())


def test_the_centre_is_a_running_mean_of_the_teachers_outputs_and_is_read_before_it_is_written() -> None:
    method = make("dino", VIT, centre_momentum=0.8, **SMALL)
    centre = np.zeros(12)
    for step in range(3):
        batch = images(*CROPS, seed=step)
        outputs = [array(method.teacher_head(method.teacher_encoder(v))[1]) for v in batch.views[:2]]
        loss = method(batch, at(step))
        np.testing.assert_allclose(array(method.centre), centre, atol=1e-6)
        method.observe(loss, at(step))
        centre = 0.8 * centre + 0.2 * np.concatenate(outputs).mean(0)
        np.testing.assert_allclose(array(method.centre), centre, atol=1e-6)
    assert "centre" in method.state_dict()


def test_a_constant_added_to_all_of_the_teachers_outputs_is_centred_away() -> None:
    method = make("dino", VIT, centre_momentum=0.0, **SMALL)
    method.observe(method(images(*CROPS), at()), at())
    codes = ((method.teacher_head(method.teacher_encoder(images(*CROPS).views[0]))[1] - method.centre) / 0.04).softmax(1)
    plain = (method.teacher_head(method.teacher_encoder(images(*CROPS).views[0]))[1] / 0.04).softmax(1)
    assert float(codes.mean(0).max()) < 0.5 * float(plain.mean(0).max())  # no prototype dominates


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_prototypes_do_not_turn_in_the_first_epochs_and_the_rest_learns(epochs: int) -> None:
    method = make("dino", VIT, frozen_epochs=epochs, **SMALL)
    for epoch in range(3):
        before = {n: p.clone() for n, p in method.named_parameters() if p.requires_grad}
        learn(method, images(*CROPS, seed=epoch), at(epoch, epoch=epoch))
        moved = {n for n, p in method.named_parameters() if p.requires_grad and not torch.equal(p, before[n])}
        assert ("head.prototypes" in moved) == (epoch >= epochs)
        assert before.keys() - {"head.prototypes"} <= moved
        assert method.head.prototypes.grad is not None  # as DistributedDataParallel wants it


def test_decay_does_not_turn_frozen_prototypes() -> None:
    method = make("dino", VIT, **SMALL)
    before = F.normalize(method.head.prototypes.detach(), dim=1)
    optimizer = torch.optim.AdamW(method.head.parameters(), lr=0.1, weight_decay=0.5)
    method(images(*CROPS), at()).total.backward()
    optimizer.step()
    torch.testing.assert_close(F.normalize(method.head.prototypes.detach(), dim=1), before)


def test_the_teacher_follows_encoder_and_head_ever_more_slowly() -> None:
    method = make("dino", VIT, momentum=0.9, frozen_epochs=0, **SMALL)
    for step in (0, 7):
        pairs = [(method.teacher_encoder, method.encoder), (method.teacher_head, method.head)]
        before = [[p.clone() for p in copy.parameters()] for copy, _ in pairs]
        learn(method, images(*CROPS), at(step))
        m = cosine_momentum(at(step), 0.9)
        for (copy, online), old in zip(pairs, before, strict=True):
            for new, was, goal in zip(copy.parameters(), old, online.parameters(), strict=True):
                torch.testing.assert_close(new, m * was + (1 - m) * goal.detach())


def test_batch_norm_is_in_the_head_only_if_asked_for() -> None:
    for asked in (False, True):
        method = make("dino", VIT, batch_norm=asked, **SMALL)
        assert any(isinstance(m, nn.BatchNorm1d) for m in method.head.modules()) == asked


def test_fewer_prototypes_than_classes_are_refused() -> None:
    encoder = make("random").encoder
    with pytest.raises(UserError, match=r"2 prototypes cannot tell 3 classes apart: give --method\.prototypes 3"):
        build("methods", Choice("dino", {"prototypes": 2}), encoder, DataShape(64, 3, 16, 3))


def test_a_resnet_and_a_vit_get_each_what_the_authors_train_it_with_for_100_epochs() -> None:
    """The published commands: vit_small, and resnet50; rates are for 256 images there, too."""
    resnet, vit = (compose({"method": "dino", "encoder": name}) for name in ("resnet50", "vit_small_patch16_224"))
    found = resnet.to_dict()["optimizer"]
    assert {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}.items() <= found.items()
    assert {"name": "adamw", "lr": 5e-4, "weight_decay": 0.04}.items() <= vit.to_dict()["optimizer"].items()
    scales = [(r.views.options["scale"], r.views.options["small_scale"]) for r in (resnet, vit)]
    assert scales == [((0.14, 1.0), (0.05, 0.14)), ((0.4, 1.0), (0.05, 0.4))]
    assert all((r.views.options["large"], r.views.options["small"]) == (2, 8) for r in (resnet, vit))
