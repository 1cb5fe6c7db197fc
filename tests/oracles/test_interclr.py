"""InterCLR: both branches in loops, who is drawn as positive and as negative, and the labels that follow step by step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.interclr import InterCLR, semi_hard
from unlabeled.registry import Choice

N, B, K, DIM, QUEUE, TAU = 80, 6, 4, 5, 9, 0.3
AT = Progress(0, 100, 0)


def method(**options: object) -> InterCLR:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    given = {"clusters": K, "queue": QUEUE, "dim": DIM, "temperature": TAU, "negatives": 6, "pool": 0.2, "refresh": 3}
    return InterCLR(encoder, DataShape(N, 3, 16, 4), **{**given, **options})  # type: ignore[arg-type]


def begun(**options: object) -> InterCLR:
    made = method(**options)
    begin(made, AT)
    return made


def begin(made: InterCLR, at: Progress) -> list[nn.Module]:
    asked: list[nn.Module] = []

    def extract(module: nn.Module) -> Tensor:
        asked.append(module)
        return torch.randn(N, DIM, generator=torch.Generator().manual_seed(0)) * 3

    torch.manual_seed(at.epoch)
    with torch.no_grad():
        made.before_epoch(at, extract)
    return asked


def embedded(made: InterCLR, index: Tensor) -> dict[str, Tensor]:
    numbers = torch.Generator().manual_seed(1)
    h, k = torch.randn(B, made.encoder.dim, generator=numbers), torch.randn(B, DIM, generator=numbers)
    return {"h": h, "k": k, "index": index}


def draws(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit(x: Tensor) -> np.ndarray:
    rows: np.ndarray = F.normalize(x.detach().double(), dim=1).numpy()
    return rows


@pytest.mark.parametrize("margin", [-0.5, 0.0, 0.2])
def test_both_branches_in_loops(margin: float) -> None:
    made, index = begun(margin=margin, weight=0.6), torch.tensor([3, 70, 12, 41, 8, 55])
    given, labels = embedded(made, index), made.clusters.labels
    shared = AT.generator()
    positive, drawn = made._companions(index, shared), made._candidates(shared, index.device)
    with torch.no_grad():
        q = unit(made.projector(given["h"]))
    k, queue, bank = unit(given["k"]), made.queue.keys.double().numpy(), made.bank.vectors.double().numpy()
    intra = inter = 0.0
    for i in range(B):
        own = np.exp(q[i] @ k[i] / TAU)
        intra -= np.log(own / (own + sum(np.exp(q[i] @ old / TAU) for old in queue))) / B
        own = np.exp((q[i] @ bank[positive[i]] - margin) / TAU)
        others = [q[i] @ bank[j] for j in drawn.tolist() if labels[j] != labels[index[i]]]
        near = sorted(others, reverse=True)[: round(0.2 * len(drawn))]
        assert len(near) == 6 < len(others)
        inter -= np.log(own / (own + sum(np.exp(s / TAU) for s in near))) / B
    loss = made.compare(given, AT)
    assert float(loss.total.detach()) == pytest.approx(0.6 * intra + 0.4 * inter, rel=1e-4)
    assert float(loss.terms["inter"]) == pytest.approx(inter, rel=1e-4)


def test_a_query_without_negatives_costs_nothing_and_has_a_gradient() -> None:
    q = torch.randn(2, 3, requires_grad=True)
    negative = torch.tensor([[False, False], [True, False]])
    each = semi_hard(q, F.normalize(torch.randn(2, 3), dim=1), F.normalize(torch.randn(2, 3), dim=1), negative, 2, 0.0, 0.5)
    each.backward()  # type: ignore[no-untyped-call]
    assert q.grad is not None
    assert q.grad.isfinite().all()
    assert not q.grad[0].any()
    assert q.grad[1].any()


def test_a_smaller_margin_is_less_strict() -> None:
    made = begun()
    given = embedded(made, torch.arange(B))
    costs = []
    for margin in (-0.5, 0.0, 0.5):
        made.margin = margin
        torch.manual_seed(0)
        costs.append(float(made.compare(given, AT).total.detach()))
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_the_positive_is_each_other_image_of_the_cluster_equally_often() -> None:
    made, index = begun(), torch.arange(N)
    labels = made.clusters.labels
    counts, rounds = torch.zeros(N, N), 2000
    for seed in range(rounds):
        positive = made._companions(index, torch.Generator().manual_seed(seed))
        assert torch.equal(labels[positive], labels)
        assert not (positive == index).any()
        counts[index, positive] += 1
    sizes = labels.bincount()[labels]
    expected = (labels[:, None] == labels).float() / (sizes[:, None] - 1)
    expected.fill_diagonal_(0)
    assert float((counts / rounds - expected).abs().max()) < 0.06


def test_an_image_alone_in_its_cluster_is_its_own_positive() -> None:
    made = begun()
    labels = torch.arange(N) % (K - 1)
    labels[7] = K - 1
    made.clusters.write(labels=labels)
    assert made._companions(torch.tensor([7]), draws()).tolist() == [7]


def test_a_draw_does_not_depend_on_who_else_is_in_the_batch() -> None:
    made, index = begun(), torch.randperm(N)
    whole = made._companions(index, draws())
    parts = [made._companions(part, draws()) for part in index.chunk(2)]
    assert torch.equal(whole, torch.cat(parts))


def test_draws_stay_even_far_into_a_large_data_set() -> None:
    """In single precision, multiples of the golden ratio of a million and more are only some hundred different numbers."""
    made = begun()
    n, k = 1_000_000, 2
    made.clusters.labels = torch.arange(n) % k
    made.clusters.centroids = torch.zeros(k, DIM)
    index = torch.arange(n - 4000, n)
    assert len(made._companions(index, draws()).unique()) > 3900


def test_candidates_leave_each_query_its_number_of_negatives() -> None:
    drawn = begun()._candidates(draws(), torch.device("cpu"))
    assert len(drawn) == 6 / 0.2
    assert len(drawn.unique()) == len(drawn)
    assert len(begun(negatives=1000)._candidates(draws(), torch.device("cpu"))) == N
    assert begun(negatives=1, pool=0.0)._count(N) == 1


def test_bank_and_labels_begin_with_the_clusters_of_the_key_encoder() -> None:
    made = method()
    assert begin(made, AT) == [made.key_encoder.module]
    torch.testing.assert_close(made.bank.vectors.norm(dim=1), torch.ones(N))
    similar = made.bank.vectors @ made.clusters.centroids.T
    assert torch.equal(similar.argmax(1), made.clusters.labels)
    assert (made.clusters.labels.bincount(minlength=K) > 0).all()


def test_a_step_stores_keys_and_moves_images_and_every_third_moves_centroids() -> None:
    made, index = begun(), torch.tensor([3, 70, 12, 41, 8, 55])
    for step in range(4):
        at = Progress(step, 100, 0)
        given = embedded(made, index)
        given["k"] = torch.randn(B, DIM, generator=torch.Generator().manual_seed(50 + step))
        centroids, labels = made.clusters.centroids.clone(), made.clusters.labels.clone()
        loss = made.compare(given, at)
        assert torch.equal(labels, made.clusters.labels), "forward wrote labels"
        made.observe(loss, at)
        keys = unit(given["k"])
        np.testing.assert_allclose(made.bank.vectors[index].numpy(), keys, atol=1e-6)
        nearest = (keys @ centroids.double().numpy().T).argmax(1)
        assert made.clusters.labels[index].tolist() == nearest.tolist()
        rest = torch.ones(N, dtype=torch.bool).index_fill(0, index, False)
        assert torch.equal(made.clusters.labels[rest], labels[rest])
        assert float(loss.terms["changed"]) == pytest.approx(np.mean(nearest != labels[index].numpy()))
        if step != 2:
            assert torch.equal(made.clusters.centroids, centroids)
            continue
        for c in range(K):
            mean = made.bank.vectors[made.clusters.labels == c].mean(0)
            torch.testing.assert_close(made.clusters.centroids[c], mean / mean.norm(), atol=1e-5, rtol=1e-4)


def test_an_empty_cluster_keeps_its_centroid_until_the_epoch_ends() -> None:
    made = begun()
    made.clusters.write(labels=made.clusters.labels.clamp(max=K - 2))
    old = made.clusters.centroids[K - 1].clone()
    assert torch.equal(made._means()[K - 1], old)
    assert begin(made, Progress(10, 100, 1)) == [], "the bank is clustered, not the images anew"
    assert (made.clusters.labels.bincount(minlength=K) > 0).all()
    torch.testing.assert_close(made.clusters.centroids.norm(dim=1), torch.ones(K))


def test_too_many_clusters_are_refused_at_once() -> None:
    with pytest.raises(UserError, match=rf"{N + 1} clusters cannot be made of {N} .*--method\.clusters"):
        method(clusters=N + 1)
