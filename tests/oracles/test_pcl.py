"""PCL: InfoNCE in the warm-up and ProtoNCE after it, in loops; the E step; what is remembered."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.pcl import PCL
from unlabeled.parts.clustering import agreement
from unlabeled.registry import Choice

N, B, DIM, QUEUE, TAU, ALPHA = 90, 6, 5, 7, 0.3, 4.0
CLUSTERS = (4, 9)
WARM, FIRST, LATER = Progress(0, 20, 0), Progress(4, 20, 2), Progress(6, 20, 3)
"""Epochs of 2 steps in a run of 10: the warm-up is two epochs."""


def method(**options: object) -> PCL:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    given = {"clusters": CLUSTERS, "warm_up": 0.2, "queue": QUEUE, "dim": DIM, "temperature": TAU, "smoothing": ALPHA}
    return PCL(encoder, DataShape(N, 3, 16, 4), **{**given, **options})  # type: ignore[arg-type]


def features(seed: int = 0) -> Tensor:
    return torch.randn(N, DIM, generator=torch.Generator().manual_seed(seed)) * torch.arange(1, N + 1)[:, None]


def begin(made: PCL, at: Progress, seed: int = 0) -> list[nn.Module]:
    asked: list[nn.Module] = []

    def extract(module: nn.Module) -> Tensor:
        asked.append(module)
        return features(seed)

    torch.manual_seed(at.epoch)
    with torch.no_grad():
        made.before_epoch(at, extract)
    return asked


def embedded(made: PCL, index: Tensor) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(1)
    assigned = torch.stack([p.get_buffer("labels")[index] for p in made.partitions], 1)
    h, k = torch.randn(B, made.encoder.dim, generator=numbers), torch.randn(B, DIM, generator=numbers)
    return {"h": h, "k": k, "assigned": assigned}


def unit(x: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = x / np.sqrt((x**2).sum(1, keepdims=True))
    return lengths


def info_nce(q: np.ndarray, k: np.ndarray, queue: np.ndarray) -> float:
    total = 0.0
    for i in range(B):
        own = np.exp(q[i] @ k[i] / TAU)
        total -= np.log(own / (own + sum(np.exp(q[i] @ old / TAU) for old in queue))) / B
    return total


def test_info_nce_in_the_warm_up_and_proto_nce_after_it() -> None:
    made, index = method(), torch.arange(0, 6 * B, 6)
    for at in (WARM, Progress(2, 20, 1)):
        assert begin(made, at) == []
    given = embedded(made, index)
    with torch.no_grad():
        q = unit(made.projector(given["h"]).double().numpy())
    k, queue = unit(given["k"].double().numpy()), made.queue.keys.double().numpy()
    instance = info_nce(q, k, queue)
    assert float(made.compare(given, WARM).total.detach()) == pytest.approx(instance, rel=1e-5)

    assert begin(made, FIRST) == [made.key_encoder.module]
    given = embedded(made, index)
    total = instance
    for m, partition in enumerate(made.partitions):
        c, phi = partition.get_buffer("centroids").double().numpy(), partition.get_buffer("concentration").double().numpy()
        for i in range(B):
            s = int(partition.get_buffer("labels")[index[i]])
            assert s == int(given["assigned"][i, m])
            all_of_them = sum(np.exp(q[i] @ c[j] / phi[j]) for j in range(len(c)))
            total -= np.log(np.exp(q[i] @ c[s] / phi[s]) / all_of_them) / B / len(CLUSTERS)
    assert total > instance + 0.1
    loss = made.compare(given, FIRST)
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-5)
    assert float(loss.terms["mutual_information"]) == pytest.approx(np.log(QUEUE + 1) - instance, rel=1e-4)


def test_the_e_step_finds_prototypes_and_their_concentration() -> None:
    made = method()
    begin(made, FIRST)
    v = F.normalize(features(), dim=1).double().numpy()
    for k, partition in zip(CLUSTERS, made.partitions, strict=True):
        c, labels = partition.get_buffer("centroids").double().numpy(), partition.get_buffer("labels").numpy()
        np.testing.assert_allclose((c**2).sum(1), 1, rtol=1e-5)
        assert np.array_equal((v @ c.T).argmax(1), labels)
        phi = []
        for j in range(k):
            members = [i for i in range(N) if labels[i] == j]
            apart = sum(np.sqrt(((v[i] - c[j]) ** 2).sum()) for i in members)
            phi.append(apart / (len(members) * np.log(len(members) + ALPHA)))
        clipped = np.clip(phi, np.quantile(phi, 0.1), np.quantile(phi, 0.9))
        expected = TAU * clipped / clipped.mean()
        np.testing.assert_allclose(partition.get_buffer("concentration").numpy(), expected, rtol=1e-3)
        assert expected.max() > expected.min() * 1.01


def test_the_log_says_how_well_epochs_agree() -> None:
    made = method()
    begin(made, FIRST)
    assert all(float(p.get_buffer("nmi")) == 0 for p in made.partitions)
    old = [p.get_buffer("labels").clone() for p in made.partitions]
    begin(made, LATER, seed=1)
    each = [agreement(a, p.get_buffer("labels")) for a, p in zip(old, made.partitions, strict=True)]
    loss = made.compare(embedded(made, torch.arange(B)), LATER)
    assert float(loss.terms["nmi"]) == pytest.approx(np.mean(each))
    assert 0 < np.mean(each) < 1


def test_only_the_query_is_differentiated() -> None:
    made = method()
    begin(made, FIRST)
    given = embedded(made, torch.arange(B))
    made.compare(given, FIRST).total.backward()  # type: ignore[no-untyped-call]
    reached = {n for n, p in made.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, _ in made.named_parameters() if n.startswith("projector")}


def test_a_perfect_match_costs_nothing_in_the_warm_up() -> None:
    made = method(temperature=1e-5)
    given = embedded(made, torch.arange(B))
    with torch.no_grad():
        given["k"] = made.projector(given["h"])
    assert float(made.compare(given, WARM).total.detach()) < 1e-3


def test_keys_enter_the_queue_and_the_copy_follows() -> None:
    made = method(momentum=0.5)
    loss = made.compare(embedded(made, torch.arange(B)), WARM)
    made.observe(loss, WARM)
    torch.testing.assert_close(made.queue.keys[:B], F.normalize(loss.memory["keys"], dim=1))
    weight, copy = made.projector[0].weight, made.key_encoder.module[1][0].weight  # type: ignore[index, union-attr, operator]
    before = copy.clone()
    with torch.no_grad():
        weight.add_(1)
    made.after_step(WARM)
    torch.testing.assert_close(copy, before + 0.5)


def test_a_resumed_run_has_the_same_prototypes() -> None:
    made, other = method(), method(hidden=0)
    begin(made, FIRST)
    other.load_state_dict(made.state_dict())
    given = embedded(made, torch.arange(B))
    a, b = made.compare(given, LATER), other.compare(embedded(other, torch.arange(B)), LATER)
    assert torch.equal(a.total, b.total)
    assert float(other.get_buffer("clustered")) == 1


def test_refusals() -> None:
    with pytest.raises(UserError, match=rf"91 clusters cannot be made of {N} .*--method\.clusters"):
        method(clusters=(4, 91))
    with pytest.raises(UserError, match=r"give --method\.clusters"):
        method(clusters=())
