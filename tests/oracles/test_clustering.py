"""Whitening, k-means and agreement against closed forms and loops, and the memory of a partition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.parts.clustering import agreement, kmeans, whiten, without_empty
from unlabeled.parts.memory import Bank, Clustering


def blobs(seed: int = 0, each: int = 20) -> tuple[Tensor, Tensor]:
    """Three groups far apart, in mixed order, and which group each point is of."""
    numbers = np.random.default_rng(seed)
    group = numbers.permutation(np.repeat([0, 1, 2], each))
    middle = np.array([[10.0, 0, 0, 1], [0, 10, 0, 2], [0, 0, 10, 3]])
    return torch.from_numpy(middle[group] + numbers.normal(size=(3 * each, 4))).float(), torch.from_numpy(group)


def test_groups_are_found_and_centroids_are_their_means() -> None:
    x, group = blobs()
    centroids, labels = kmeans(x, 3, seed=1, restarts=3)
    assert agreement(labels, group) == pytest.approx(1)
    for c in range(3):
        torch.testing.assert_close(centroids[c], x[labels == c].mean(0))
    assert labels.dtype == torch.int64


def test_the_nearest_centroid_is_the_label_and_the_seed_decides() -> None:
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(0))
    centroids, labels = kmeans(x, 12, seed=3)
    assert torch.equal(torch.cdist(x, centroids).argmin(1), labels)
    again = kmeans(x, 12, seed=3)
    assert torch.equal(again[0], centroids)
    assert torch.equal(again[1], labels)
    assert not torch.equal(kmeans(x, 12, seed=4)[1], labels)


def test_spherical_means_compare_by_cosine() -> None:
    x = torch.nn.functional.normalize(torch.randn(200, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    centroids, labels = kmeans(x, 7, seed=0, spherical=True)
    torch.testing.assert_close(centroids.norm(dim=1), torch.ones(7))
    assert torch.equal((x @ centroids.T).argmax(1), labels)


@pytest.mark.parametrize("spherical", [False, True])
@pytest.mark.parametrize(("n", "distinct", "k"), [(64, 3, 32), (64, 1, 2), (40, 5, 40), (200, 6, 50)])
def test_no_cluster_is_empty_where_points_repeat(n: int, distinct: int, k: int, spherical: bool) -> None:
    points = torch.nn.functional.normalize(torch.randn(distinct, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    x = points[torch.arange(n) % distinct]
    centroids, labels = kmeans(x, k, seed=0, spherical=spherical)
    assert (labels.bincount(minlength=k) > 0).all()
    assert len(labels.bincount()) == k
    assert centroids.isfinite().all()
    assert len(centroids.unique(dim=0)) == k, "two clusters have the same centroid"


def test_features_that_are_all_zero_are_partitioned_too() -> None:
    centroids, labels = kmeans(torch.zeros(12, 3), 5, seed=0)
    assert (labels.bincount(minlength=5) > 0).all()
    assert centroids.isfinite().all()


def test_more_clusters_than_images_and_broken_features_are_refused() -> None:
    with pytest.raises(UserError, match=r"9 clusters cannot be made of 8 .*--method\.clusters from 2 to 8"):
        kmeans(torch.randn(8, 2), 9, seed=0)
    with pytest.raises(UserError, match="1 cluster cannot"):
        kmeans(torch.randn(8, 2), 1, seed=0)
    with pytest.raises(UserError, match=r"not finite: .*--optimizer\.lr"):
        kmeans(torch.full((8, 2), float("nan")), 2, seed=0)


def test_it_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    kmeans(torch.randn(8, 2), 8, seed=0)
    kmeans(torch.randn(50, 2), 4, seed=0)
    assert capfd.readouterr() == ("", "")


def test_an_empty_cluster_gets_half_of_the_fullest() -> None:
    x, group = blobs()
    x = torch.nn.functional.normalize(x, dim=1)
    labels = group * 2  # clusters 1 and 3 are empty
    labels[group == 2] = 0  # and 0 is the fullest
    centroids, after = without_empty(x, torch.eye(4), labels, seed=0)
    sizes = after.bincount(minlength=4)
    assert sorted(sizes.tolist()) == [10, 10, 20, 20]
    assert (after[labels == 2] == 2).sum() in (10, 20)
    for c in (1, 3):
        expected = torch.nn.functional.normalize(x[after == c].mean(0), dim=0)
        torch.testing.assert_close(centroids[c], expected, atol=1e-3, rtol=0)
    full = without_empty(x, torch.eye(4)[:3], group, seed=0)
    assert torch.equal(full[1], group)
    assert torch.equal(full[0], torch.eye(4)[:3])


def test_whitened_features_have_the_identity_as_covariance() -> None:
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6) * 3 + 5
    white = whiten(x, 4).double().numpy()
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=1e-4)
    centred = (x - x.mean(0)).double().numpy()
    _, _, right = np.linalg.svd(centred, full_matrices=False)
    largest = centred @ right[:4].T
    np.testing.assert_allclose(np.abs(white), np.abs(largest / largest.std(0, ddof=1)), rtol=1e-3, atol=1e-3)


def test_whitening_forgets_every_linear_map() -> None:
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    there = x @ torch.tensor([[2.0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 3, 0], [1, 0, 0, 1]]) - 7
    torch.testing.assert_close(whiten(x) @ whiten(x).T, whiten(there) @ whiten(there).T, atol=1e-3, rtol=1e-3)


def test_directions_without_variance_are_zero() -> None:
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))  # five points span four directions
    white = whiten(x)
    assert white.shape == (5, 8)
    assert int((white.abs().amax(0) > 0).sum()) == 4
    assert not whiten(torch.ones(6, 3)).any()


def test_agreement_is_the_normalised_mutual_information() -> None:
    a, b = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0]), torch.tensor([1, 1, 1, 0, 0, 0, 2, 1])
    n, mutual = len(a), 0.0
    entropies = []
    for labels in (a, b):
        shares = [(labels == c).double().mean().item() for c in labels.unique()]
        entropies.append(-sum(p * np.log(p) for p in shares))
    for i in a.unique():
        for j in b.unique():
            both = float(((a == i) & (b == j)).sum()) / n
            if both:
                mutual += both * np.log(both / ((a == i).double().mean().item() * (b == j).double().mean().item()))
    assert agreement(a, b) == pytest.approx(mutual / np.sqrt(entropies[0] * entropies[1]))
    assert agreement(a, (a + 1) % 3) == pytest.approx(1)
    assert agreement(a, torch.zeros_like(a)) == 0


def test_a_partition_is_written_whole_or_in_part_and_saved() -> None:
    memory, other = Clustering(6, 3, 2), Clustering(6, 3, 2)
    memory.write(labels=torch.tensor([0, 1, 2, 0, 1, 2]), nmi=torch.tensor(0.5), centroids=torch.ones(3, 2))
    memory.write(torch.tensor([4, 0]), labels=torch.tensor([2, 1]))
    assert memory.labels.tolist() == [1, 1, 2, 0, 2, 2]
    other.load_state_dict(memory.state_dict())
    assert other.labels.tolist() == memory.labels.tolist()
    assert float(other.nmi) == 0.5
    assert torch.equal(other.centroids, torch.ones(3, 2))


def test_a_bank_moves_towards_what_is_written() -> None:
    bank = Bank(4, 2)
    bank.fill(torch.tensor([[2.0, 0], [0, 3], [1, 1], [5, 0]]))
    bank.write(torch.tensor([3, 1]), torch.tensor([[0.0, 4], [-1, 0]]), 0.25)
    expected = np.array([[1, 0], [-0.75, 0.25], [1, 1], [0.25, 0.75]])
    np.testing.assert_allclose(bank.vectors.numpy(), expected / np.linalg.norm(expected, axis=1, keepdims=True), rtol=1e-6)
