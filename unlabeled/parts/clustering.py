"""Clustering of all training samples' features: whitening, k-means, and how well two partitions agree."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.words import counted


def check_clusters(k: int, n: int) -> None:
    """Refuses numbers of clusters that n samples do not fill.

    Raises:
        UserError: fewer than 2, or more than there are samples.
    """
    if not 2 <= k <= n:
        raise UserError(
            f"{counted(k, 'clusters')} cannot be made of {counted(n, 'training samples')}: give --method.clusters from 2 to "
            f"{n}, at best a small part of that"
        )


def check_prototypes(prototypes: int, classes: int) -> None:
    """Refuses fewer prototypes than there are classes.

    Raises:
        UserError: there are.
    """
    if prototypes < classes:
        raise UserError(
            f"{counted(prototypes, 'prototypes')} cannot tell {counted(classes, 'classes')} apart: give "
            f"--method.prototypes {classes} or more; ten times as many is a good start"
        )


def kmeans(
    features: Tensor, k: int, seed: int, iterations: int = 20, restarts: int = 1, *, spherical: bool = False
) -> tuple[Tensor, Tensor]:
    """Runs k-means on all features (faiss). None of the k clusters is empty: the fullest is split for each that would be.

    Args:
        features: (n, D).
        k: clusters, at most n.
        seed: of the first centroids, in [0, 2³¹): the same seed gives the same clusters.
        iterations: of assignment and update (20: the published code of DeepCluster, 2018, and of PCL, 2021).
        restarts: runs of which the best is taken.
        spherical: features are unit vectors, centroids are kept so, and the nearest is the one with the largest cosine.

    Returns:
        centroids (k, D) float32 and labels (n,) int64 in [0, k), on the features' device.

    Raises:
        UserError: fewer features than clusters, or features that are not finite.
    """
    import faiss

    n, dim = features.shape
    check_clusters(k, n)
    if not features.isfinite().all():
        raise UserError(
            "the features to be clustered hold numbers that are not finite: start a new run with another --out; "
            "what usually helps is a smaller --optimizer.lr, or --precision 32"
        )
    faiss.omp_set_num_threads(torch.get_num_threads())
    x = np.ascontiguousarray(features.detach().float().cpu().numpy())
    found = faiss.Clustering(dim, k)
    found.niter, found.nredo, found.seed, found.spherical = iterations, restarts, seed, spherical
    found.min_points_per_centroid, found.max_points_per_centroid = 1, n  # neither complains nor subsamples
    index = faiss.IndexFlatIP(dim) if spherical else faiss.IndexFlatL2(dim)
    found.train(x, index)
    centroids = faiss.vector_to_array(found.centroids).reshape(k, dim).copy()
    labels = index.search(x, 1)[1].ravel()
    _split_for_empty(x, centroids, labels, np.random.default_rng(seed))
    means = torch.from_numpy(centroids)
    means = torch.nn.functional.normalize(means, dim=1) if spherical else means
    return means.to(features.device), torch.from_numpy(labels).to(features.device)


def without_empty(features: Tensor, centroids: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Returns the same partition, but the fullest cluster is halved for each empty one; centroids of length 1.

    Args:
        features: (n, D).
        centroids: (k, D).
        labels: (n,) integers in [0, k).
        seed: of the directions in which clusters are split.

    Returns:
        centroids (k, D) and labels (n,), on the features' device.
    """
    means, assigned = centroids.float().cpu().numpy().copy(), labels.cpu().numpy().copy()
    _split_for_empty(features.float().cpu().numpy(), means, assigned, np.random.default_rng(seed))
    unit = torch.nn.functional.normalize(torch.from_numpy(means), dim=1)
    return unit.to(features.device), torch.from_numpy(assigned).to(features.device)


def _split_for_empty(x: np.ndarray, centroids: np.ndarray, labels: np.ndarray, numbers: np.random.Generator) -> None:
    """In place. An empty cluster gets the upper half of the fullest along a random direction, and both centroids are the
    halves' means, moved a little apart, so that they differ even where all members are the same point."""
    sizes = np.bincount(labels, minlength=len(centroids))
    for empty in np.flatnonzero(sizes == 0):
        fullest = int(sizes.argmax())
        members = np.flatnonzero(labels == fullest)
        direction = numbers.normal(size=(x.shape[1],)).astype(x.dtype)
        direction /= np.linalg.norm(direction)
        along = np.argsort(x[members] @ direction, kind="stable")
        halves = members[along[: len(along) // 2]], members[along[len(along) // 2 :]]
        labels[halves[1]] = empty
        small = 1e-4 * (np.linalg.norm(centroids[fullest]) or 1.0)
        centroids[fullest] = x[halves[0]].mean(0) - small * direction
        centroids[empty] = x[halves[1]].mean(0) + small * direction
        sizes[fullest], sizes[empty] = len(halves[0]), len(halves[1])


def whitening(features: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Finds the affine map that PCA-whitens: the `dim` directions of largest variance, each scaled to variance 1.

    Args:
        features: (n, D).
        dim: directions kept, at most D.

    Returns:
        The centre (D,), and a matrix (D, min(dim, D)) to multiply what is centred by; both float32. Directions in which
        nothing varies, of which there are some if n ≤ D, come out as 0.
    """
    centre = features.float().mean(0)
    centred = features.float() - centre
    spread = (centred.T @ centred).double() / max(1, len(features) - 1)  # (D, D)
    variances, directions = torch.linalg.eigh(spread)  # ascending
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    scale = torch.where(variances > 1e-6 * variances[0].clamp(min=1e-12), variances.clamp(min=1e-30).rsqrt(), 0.0)
    return centre, (directions * scale).float()


def whiten(features: Tensor, dim: int = 256) -> Tensor:
    """Returns the features after their own `whitening`.

    Args:
        features: (n, D).
        dim: directions kept (256: DeepCluster, 2018), at most D.

    Returns:
        (n, min(dim, D)) float32, centred.
    """
    centre, matrix = whitening(features, dim)
    return (features.float() - centre) @ matrix


def agreement(one: Tensor, other: Tensor) -> float:
    """Computes the normalised mutual information of two partitions (n,), I / √(H H'): 1 if they are the same, near 0 if they
    have nothing in common, and 0 if only one of them is a single cluster (DeepCluster, 2018)."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(one.cpu().numpy(), other.cpu().numpy(), average_method="geometric"))
