"""Each loss against loops over its paper's equation, and at points where its value is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unlabeled import losses

from .loss_cases import data, normal

Array = np.ndarray


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def dist(a: Array, b: Array) -> float:
    return math.sqrt(sum((float(u) - float(v)) ** 2 for u, v in zip(a, b, strict=True)))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def close(found: torch.Tensor, expected: float) -> None:
    assert float(found) == pytest.approx(expected, rel=1e-9, abs=1e-12)


Z1, Z2, LABELS, PROTOTYPES = data(7, 4)
A, B, Y, C = (t.numpy() for t in (Z1, Z2, LABELS, PROTOTYPES))


def test_contrastive() -> None:
    same = [True, False, False, True, False, True, False]
    total = 0.0
    for x, y, s in zip(A, B, same, strict=True):
        d = dist(x, y)
        total += d**2 / 2 if s else max(0, 1.5 - d) ** 2 / 2
    close(losses.contrastive(Z1, Z2, torch.tensor(same), 1.5), total / 7)
    far = torch.tensor([[0.0, 0], [3, 4]], dtype=torch.float64)
    close(losses.contrastive(far[:1], far[1:], torch.tensor([1])), 12.5)
    close(losses.contrastive(far[:1], far[1:], torch.tensor([0]), 6.0), 0.5)
    close(losses.contrastive(far[:1], far[1:], torch.tensor([0])), 0.0)


def test_triplet() -> None:
    negative = normal(7, 4, seed=9)
    total = 0.0
    for a, p, n in zip(A, B, negative.numpy(), strict=True):
        total += max(0, dist(a, p) ** 2 - dist(a, n) ** 2 + 0.7)
    close(losses.triplet(Z1, Z2, negative, 0.7), total / 7)
    close(losses.triplet(Z1, Z1, Z1, 0.7), 0.7)
    close(
        losses.triplet(3 * Z1, Z2, negative, 0.7, normalize=True),
        float(losses.triplet(*map(unit_t, (Z1, Z2, negative)), 0.7)),
    )


def unit_t(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(unit(x.numpy()))


def test_batch_triplet() -> None:
    terms = []
    for i in range(7):
        for j in range(7):
            if i == j or Y[i] != Y[j]:
                continue
            negatives = [k for k in range(7) if Y[k] != Y[i]]
            terms.append(
                sum(max(0, dist(A[i], A[j]) ** 2 - dist(A[i], A[k]) ** 2 + 0.5) for k in negatives) / len(negatives)
            )
    close(losses.batch_triplet(Z1, LABELS, 0.5, mining="all"), sum(terms) / len(terms))


def test_lifted_structure() -> None:
    total, pairs = 0.0, 0
    for i in range(7):
        for j in range(i + 1, 7):
            if Y[i] != Y[j]:
                continue
            inside = sum(math.exp(1.2 - dist(A[i], A[k])) for k in range(7) if Y[k] != Y[i])
            inside += sum(math.exp(1.2 - dist(A[j], A[k])) for k in range(7) if Y[k] != Y[j])
            total += max(0, math.log(inside) + dist(A[i], A[j])) ** 2
            pairs += 1
    close(losses.lifted_structure(Z1, LABELS, 1.2), total / (2 * pairs))
    same, other = torch.zeros(1, 2).double(), torch.tensor([[3.0, 4.0]]).double()
    close(losses.lifted_structure(torch.cat([same, same, other]), torch.tensor([0, 0, 1]), 5.0), math.log(2) ** 2 / 2)


def test_n_pair() -> None:
    total = 0.0
    for i in range(7):
        total += math.log(1 + sum(math.exp(A[i] @ B[j] - A[i] @ B[i]) for j in range(7) if j != i))
    close(losses.n_pair(Z1, Z2), total / 7)
    close(losses.n_pair(torch.zeros(7, 4).double(), torch.ones(7, 4).double()), math.log(7))


@pytest.mark.parametrize("ratio", [1, 3])
def test_nce(ratio: int) -> None:
    data, noise = normal(5), normal(5, ratio, seed=1)
    under, over = normal(5, seed=2) - 1, normal(5, ratio, seed=3) - 1
    total = 0.0
    for i in range(5):
        h = [1 / (1 + ratio * math.exp(-(float(data[i]) - float(under[i]))))]
        h += [1 / (1 + ratio * math.exp(-(float(noise[i, k]) - float(over[i, k])))) for k in range(ratio)]
        total -= math.log(h[0]) + sum(math.log(1 - x) for x in h[1:])
    close(losses.nce(data, noise, under, over), total / 5)
    if ratio == 1:
        close(losses.nce(data, noise[:, 0], under, over[:, 0]), total / 5)
    at_chance = (1 + ratio) * math.log(1 + ratio) - ratio * math.log(ratio)
    close(losses.nce(data, noise, data, noise), at_chance)


def test_info_nce_with_another_similarity() -> None:
    weight = normal(4, 4, seed=5)
    scores = losses.bilinear(Z1, Z2, weight).numpy()
    total = sum(math.log(sum(math.exp(s) for s in row)) - row[i] for i, row in enumerate(scores))
    close(losses.info_nce(Z1 @ weight, Z2, temperature=1.0, normalize=False), total / 7)


def two_views() -> list[tuple[int, Array, float, list[float]]]:
    """Of each anchor: its number, itself, the similarity of its positive, and those of its negatives."""
    z = unit(np.concatenate([A, B]))
    found = []
    for i in range(14):
        other = (i + 7) % 14
        found.append((i, z[i], float(z[i] @ z[other]), [float(z[i] @ z[j]) for j in range(14) if j not in (i, other)]))
    return found


def test_nt_logistic() -> None:
    total = 0.0
    for _, _, own, others in two_views():
        total -= math.log(sigmoid(own / 0.3)) + sum(math.log(sigmoid(-s / 0.3)) for s in others) / len(others)
    close(losses.nt_logistic(Z1, Z2, 0.3), total / 14)
    semi = 0.0
    for _, _, own, others in two_views():
        farther = [s for s in others if s < own]
        semi -= math.log(sigmoid(own / 0.3)) + (math.log(sigmoid(-max(farther) / 0.3)) if farther else 0)
    close(losses.nt_logistic(Z1, Z2, 0.3, mining="semi-hard"), semi / 14)
    close(losses.nt_logistic(torch.eye(4).double(), torch.eye(4).double(), 1.0), -math.log(sigmoid(1)) + math.log(2))


def test_margin_triplet() -> None:
    total = semi = hardest = 0.0
    for _, _, own, others in two_views():
        total += sum(max(0, s - own + 0.6) for s in others) / len(others)
        hardest += max(0, max(others) - own + 0.6)
        within = [s for s in others if own - 0.6 < s < own]
        semi += max(within) - own + 0.6 if within else 0
    close(losses.margin_triplet(Z1, Z2, 0.6), total / 14)
    close(losses.margin_triplet(Z1, Z2, 0.6, mining="semi-hard"), semi / 14)
    close(losses.margin_triplet(Z1, Z2, 0.6, mining="hardest"), hardest / 14)
    close(losses.margin_triplet(torch.ones(5, 3).double(), torch.ones(5, 3).double(), 0.6), 0.6)


def test_soft_nearest_neighbor() -> None:
    total = 0.0
    for i in range(7):
        mates = sum(math.exp(-(dist(A[i], A[j]) ** 2) / 1.7) for j in range(7) if j != i and Y[j] == Y[i])
        total -= math.log(mates / sum(math.exp(-(dist(A[i], A[j]) ** 2) / 1.7) for j in range(7) if j != i))
    close(losses.soft_nearest_neighbor(Z1, LABELS, 1.7), total / 7)
    close(losses.soft_nearest_neighbor(torch.ones(4, 3).double(), torch.tensor([0, 0, 1, 1])), math.log(3))


def test_supervised_contrastive() -> None:
    z, total = unit(A), 0.0
    for i in range(7):
        mates = [j for j in range(7) if j != i and Y[j] == Y[i]]
        every = sum(math.exp(z[i] @ z[a] / 0.2) for a in range(7) if a != i)
        total -= sum(math.log(math.exp(z[i] @ z[p] / 0.2) / every) for p in mates) / len(mates)
    close(losses.supervised_contrastive(Z1, LABELS, 0.2), total / 7)
    both, names = torch.cat([Z1, Z2]), torch.arange(7).repeat(2)
    close(losses.supervised_contrastive(both, names, 0.2), float(losses.nt_xent(Z1, Z2, 0.2)))
    close(losses.supervised_contrastive(torch.ones(6, 3).double(), torch.arange(6) % 2, 0.2), math.log(5))


def test_proto_nce() -> None:
    phis = [np.array([0.3, 0.5, 0.2, 0.4]), np.array([0.6, 0.1])]
    assigned = [np.array([0, 3, 1, 1, 2, 0, 3]), np.array([0, 1, 1, 0, 0, 0, 1])]
    sets, v, w = [C, C[1:3]], unit(A), unit(B)
    total = 0.0
    for i in range(7):
        total -= math.log(math.exp(v[i] @ w[i] / 0.3) / sum(math.exp(v[i] @ k / 0.3) for k in w))
        for c, s, phi in zip(sets, assigned, phis, strict=True):
            c = unit(c)
            every = sum(math.exp(v[i] @ c[j] / phi[j]) for j in range(len(c)))
            total -= math.log(math.exp(v[i] @ c[s[i]] / phi[s[i]]) / every) / 2
    tensors = [[torch.from_numpy(x) for x in xs] for xs in (sets, assigned, phis)]
    close(losses.proto_nce(Z1, Z2, *tensors, temperature=0.3), total / 7)


def test_concentration() -> None:
    assigned = np.array([0, 1, 1, 1, 0, 1, 1])
    v, c = unit(A), unit(C)
    phi = []
    for j in (0, 1):
        members = [dist(v[i], c[j]) for i in range(7) if assigned[i] == j]
        phi.append(sum(members) / (len(members) * math.log(len(members) + 10)))
    phi += [max(phi)] * 2
    expected = 0.2 * np.array(phi) / np.mean(phi)
    found = losses.concentration(Z1, PROTOTYPES, torch.from_numpy(assigned), 0.2)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    assert losses.concentration(PROTOTYPES, PROTOTYPES, torch.arange(4), 0.2).tolist() == pytest.approx([0.2] * 4)


def test_a_cluster_of_one_is_as_wide_as_the_widest_in_float32_too() -> None:
    features = torch.nn.functional.normalize(normal(200, 32).float(), dim=1)
    assigned = torch.cat([torch.arange(100), torch.full((100,), 100)])
    prototypes = torch.cat([features[:100], features[100:].mean(0, keepdim=True)]) * 1.7
    found = losses.concentration(features, prototypes, assigned, 0.2)
    np.testing.assert_allclose(found.numpy(), 0.2, rtol=1e-6)


def test_swapped_prediction() -> None:
    scores = [unit(z) @ unit(C).T for z in (A, B, A + B)]
    codes = [np.random.default_rng(i).dirichlet(np.ones(4), 7) for i in range(2)]
    total, swaps = 0.0, 0
    for w, q in enumerate(codes):
        for v, s in enumerate(scores):
            if v == w:
                continue
            swaps += 1
            for i in range(7):
                every = sum(math.exp(x / 0.1) for x in s[i])
                total -= sum(q[i, k] * math.log(math.exp(s[i, k] / 0.1) / every) for k in range(4))
    found = losses.swapped_prediction([torch.from_numpy(s) for s in scores], [torch.from_numpy(q) for q in codes])
    close(found, total / 7 / swaps)
    close(losses.swapped_prediction([torch.zeros(3, 8).double()] * 2, [torch.full((3, 8), 1 / 8).double()]), math.log(8))


def test_sinkhorn_uses_all_prototypes() -> None:
    scores = normal(40, 5)
    q = np.exp(scores.numpy() / 0.5)
    for _ in range(3):
        q = q / q.sum(0) / 5
        q = q / q.sum(1, keepdims=True) / 40
    np.testing.assert_allclose(losses.sinkhorn(scores, 0.5).numpy(), q * 40, rtol=1e-9)
    balanced = losses.sinkhorn(scores, 0.5, 200)
    torch.testing.assert_close(balanced.sum(0), torch.full((5,), 8.0).double())
    torch.testing.assert_close(balanced.sum(1), torch.ones(40).double())
    assert losses.sinkhorn(1000 * scores, 0.01).isfinite().all()


def test_barlow_twins() -> None:
    a, b, total = A - A.mean(0), B - B.mean(0), 0.0
    for i in range(4):
        for j in range(4):
            norm = math.sqrt(sum(x * x for x in a[:, i])) * math.sqrt(sum(x * x for x in b[:, j]))
            c = sum(a[k, i] * b[k, j] for k in range(7)) / norm
            total += (1 - c) ** 2 if i == j else 5e-3 * c**2
    close(losses.barlow_twins(Z1, Z2, eps=0.0), total)
    assert float(losses.barlow_twins(Z1, Z2)) == pytest.approx(total, rel=1e-6)
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).double()
    close(losses.barlow_twins(signs, 3 * signs + 1, eps=0.0), 0.0)
    close(losses.barlow_twins(signs, -signs, eps=0.0), 8.0)


def test_vicreg() -> None:
    total = 25 * sum((A[i, d] - B[i, d]) ** 2 for i in range(7) for d in range(4)) / 28
    for z in (A, B):
        m = z.mean(0)
        cov = [[sum((z[k, i] - m[i]) * (z[k, j] - m[j]) for k in range(7)) / 6 for j in range(4)] for i in range(4)]
        total += 25 * sum(max(0, 1 - math.sqrt(cov[i][i] + 1e-4)) for i in range(4)) / 4
        total += sum(cov[i][j] ** 2 for i in range(4) for j in range(4) if i != j) / 4
    close(losses.vicreg(Z1, Z2), total)
    close(losses.vicreg(torch.ones(5, 3).double(), torch.ones(5, 3).double()), 2 * 25 * (1 - 0.01))


def test_info_nce_bound() -> None:
    assert losses.info_nce_bound(0.0, 128) == pytest.approx(math.log(128))
    assert float(losses.info_nce_bound(losses.info_nce(torch.ones(9, 3), torch.ones(9, 3)), 9)) == pytest.approx(0, abs=1e-5)
    with pytest.raises(ValueError, match="0 candidates"):
        losses.info_nce_bound(1.0, 0)


def test_info_nce_bound_is_below_the_information_of_gaussians() -> None:
    """With the density ratio as score the bound is close to -½ D log(1 - ρ²), and not above it but by sampling error."""
    rho, dim, n = 0.7, 2, 2000
    x = normal(n, dim)
    y = rho * x + math.sqrt(1 - rho**2) * normal(n, dim, seed=1)
    information = -dim / 2 * math.log(1 - rho**2)
    scale = rho / (1 - rho**2)
    q = torch.cat([scale * x, torch.ones(n, 1).double()], 1)
    k = torch.cat([y, -(rho**2) / (2 * (1 - rho**2)) * y.square().sum(1, keepdim=True)], 1)
    bound = losses.info_nce_bound(losses.info_nce(q, k, temperature=1.0, normalize=False), n)
    assert 0.9 * information < float(bound) < 1.06 * information
