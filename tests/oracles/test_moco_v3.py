"""MoCo v3 against loops: who is the positive, who the negatives, who follows whom, and what stays random."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled.optim.schedules import cosine_momentum
from unlabeled.recipe import compose

from .small import RESNET, VIT, array, at, embedded, images, learn, make, total

SMALL = {"hidden": 16, "dim": 8}


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_both_directions_of_infonce_times_two_tau(temperature: float) -> None:
    method = make("moco-v3", temperature=temperature, **SMALL)
    given = embedded(method, "h1", "h2", "t1", "t2")
    q = [array(method.predictor(method.projector(given[h]))) for h in ("h1", "h2")]
    k = [array(method.key_projector(given[t])) for t in ("t1", "t2")]
    unit = [x / np.sqrt((x**2).sum(1, keepdims=True)) for x in q + k]
    expected = 0.0
    for queries, keys in ((unit[0], unit[3]), (unit[1], unit[2])):
        for i in range(6):
            scores = [np.exp(queries[i] @ keys[j] / temperature) for j in range(6)]
            expected -= 2 * temperature * np.log(scores[i] / sum(scores)) / 6
    assert total(method, given) == pytest.approx(expected, rel=1e-4)


def test_identical_keys_give_the_logarithm_of_the_batch() -> None:
    method = make("moco-v3", temperature=0.5, **SMALL)
    given = embedded(method, "h1", "h2", n=5)
    method.key_projector.module = nn.Linear(method.encoder.dim, 8).requires_grad_(False)  # no batch norm, so one key for all
    same = torch.ones(5, method.encoder.dim)
    assert total(method, given | {"t1": same, "t2": same}) == pytest.approx(2 * 2 * 0.5 * np.log(5), rel=1e-5)


def test_keys_give_no_gradient() -> None:
    method = make("moco-v3", **SMALL)
    given = embedded(method, "h1", "h2", "t1", "t2")
    method.compare(given, at()).total.backward()  # type: ignore[no-untyped-call]
    assert given["t1"].grad is None
    assert given["t2"].grad is None
    assert given["h1"].grad is not None
    assert given["h2"].grad is not None


def test_the_keys_network_follows_encoder_and_projector_ever_more_slowly() -> None:
    method = make("moco-v3", momentum=0.9, **SMALL)
    for step in (0, 7):
        pairs = [(method.key_encoder, method.encoder), (method.key_projector, method.projector)]
        before = [[p.clone() for p in copy.parameters()] for copy, _ in pairs]
        learn(method, images(16, 16), at(step))
        m = cosine_momentum(at(step), 0.9)
        for (copy, online), old in zip(pairs, before, strict=True):
            for new, was, goal in zip(copy.parameters(), old, online.parameters(), strict=True):
                torch.testing.assert_close(new, m * was + (1 - m) * goal.detach())
    assert cosine_momentum(at(0), 0.9) == pytest.approx(0.9)


def test_patches_of_a_vit_stay_random_and_a_resnet_learns_whole() -> None:
    method = make("moco-v3", VIT, **SMALL)
    patches = method.encoder.backbone.patch_embed
    before = {n: p.clone() for n, p in method.encoder.named_parameters()}
    learn(method, images(16, 16), at())
    moved = {n for n, p in method.encoder.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {n for n in before if "patch_embed" not in n}
    assert len(list(patches.parameters())) > 0
    assert all(p.requires_grad for p in make("moco-v3", RESNET, **SMALL).encoder.parameters())


@pytest.mark.parametrize(("encoder", "layers"), [(RESNET, 2), (VIT, 3)])
def test_every_layer_is_normalised_the_last_without_scale_and_shift(encoder: Any, layers: int) -> None:
    """But for the predictor of a ResNet, which ends with a matrix (published code)."""
    method = make("moco-v3", encoder, **SMALL)
    for head, depth in ((method.projector, layers), (method.predictor, 2)):
        plain = head is method.predictor and encoder == RESNET
        norms = [m for m in head if isinstance(m, nn.BatchNorm1d)]
        assert len([m for m in head if isinstance(m, nn.Linear)]) == depth
        assert [n.affine for n in norms] == [True] * (depth - 1) + [False] * (not plain)
        assert isinstance(head[-1], nn.Linear) if plain else head[-1] is norms[-1]


def test_a_resnet_and_a_vit_get_each_what_the_authors_train_it_with() -> None:
    """The published commands: ResNet-50 (300 epochs), and ViT-Small."""
    resnet, vit = (compose({"method": "moco-v3", "encoder": name}) for name in ("resnet50", "vit_small_patch16_224"))
    expected = {"name": "lars", "lr": 0.3, "momentum": 0.9, "weight_decay": 1e-6, "trust": 1e-3, "vector_factor": 1.0}
    assert resnet.to_dict()["optimizer"] == expected
    assert (resnet.method.options["temperature"], vit.method.options["temperature"]) == (1.0, 0.2)
    assert (resnet.views.options["scale"], vit.views.options["scale"]) == ((0.2, 1.0), (0.08, 1.0))
    assert {vit.views.name, resnet.views.name} == {"byol"}
    found = vit.to_dict()["optimizer"]
    assert (found["name"], found["lr"], found["weight_decay"]) == ("adamw", 1.5e-4, 0.1)
    assert resnet.method.options["momentum"] == vit.method.options["momentum"] == 0.99


def test_what_is_given_goes_before_what_the_encoder_brings() -> None:
    given = {"method": "moco-v3", "method.temperature": 0.2, "optimizer": "sgd", "views.scale": "0.5,1"}
    made = compose({"encoder": "resnet18"}, given)
    assert made.method.options["temperature"] == 0.2
    assert made.optimizer.name == "sgd"
    assert made.views.options["scale"] == (0.5, 1.0)
    assert compose(made.to_dict(), {"encoder": "vit_tiny_patch16_224"}).optimizer.name == "sgd"
    assert compose({"method": "moco-v3"}) == compose({"method": "moco-v3", "encoder": "resnet18"})
