"""InterCLR: MoCo whose queries are also drawn to other images of their cluster; clusters follow step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.losses import info_nce, info_nce_bound
from unlabeled.losses.numeric import full_precision
from unlabeled.methods.base import Comparison, Embedded, Extract
from unlabeled.parts import heads
from unlabeled.parts.clustering import check_clusters, kmeans, without_empty
from unlabeled.parts.memory import Bank, Clustering, Ema, Queue
from unlabeled.registry import Count, Positive, Sampled, Share, Width, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
GOLDEN = 0.6180339887498949
"""Multiples of it, without their whole part, fill the unit interval evenly."""


@register("interclr", recipe={"views": "moco-v2", "optimizer": SGD})
class InterCLR(Comparison):
    """Delving into Inter-Image Invariance for Unsupervised Visual Representations (Xie et al. 2020), its MoCo form.

    A bank holds the last key of every image. Intra-image branch: MoCo v2. Inter-image branch: the positive is the bank's
    vector of another image of the same cluster, the negatives are semi-hard: of randomly drawn images, the nearest that
    are of other clusters. After each step the images of the batch go to the cluster whose centroid is nearest to their new
    key; every `refresh` steps centroids become the directions of their members' means. Clusters that lost all members keep
    their centroid until the epoch ends; then the fullest are split for them (the published code also dissolves small ones,
    each step). The log's `changed` is the share of images that changed cluster.

    The published code draws negatives for each query from its own neighbours; here all queries share the images drawn, as
    many as leave each query `negatives` when the nearest `pool` of them count. So no (B, negatives, dim) is ever built.

    Args:
        clusters: k (10,000 for ImageNet, ten for each of its classes: 2020; 100 here, as for ten classes).
        weight: λ of the intra-image branch, 1 - λ of the other (0.75: published code, 2022).
        margin: taken from the cosine of the inter-image positive; below 0 the decision boundary is less strict (-0.5:
            published code, 2022).
        negatives: of each query in the inter-image branch (16,384 for ImageNet: published code, 2022; fewer here).
        pool: share of the images that count as near: semi-hard negatives (128,000 of ImageNet's 1.28 million: 2022).
        refresh: steps between two updates of the centroids (10: published code, 2022).
        queue: number of keys kept for the intra-image branch (65,536 for ImageNet: 2022; 4,096 as MoCo's CIFAR-10
            demonstration).
        momentum: m of the key encoder (0.999: MoCo, 2020).
        temperature: τ of both branches (0.2: published code, 2022).
        dim: of queries and keys (128: MoCo, 2020).
        hidden: width of the projector's hidden layer; 0 takes the encoder's own (MoCo v2, 2020).
        splits: groups of keys with batch statistics of their own (8 GPUs: MoCo, 2020); 1 for one group.
    """

    groups_batch = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        clusters: Count = 100,
        weight: Share = 0.75,
        margin: float = -0.5,
        negatives: Sampled = 1024,
        pool: Share = 0.1,
        refresh: Count = 10,
        queue: Sampled = 4096,
        momentum: Share = 0.999,
        temperature: Positive = 0.2,
        dim: Count = 128,
        hidden: Width = 0,
        splits: Count = 8,
    ) -> None:
        super().__init__(encoder, shape)
        check_clusters(clusters, shape.n)
        self.projector = heads.mlp(encoder.dim, hidden or encoder.dim, dim, norm=False)
        self.key_encoder = Ema(nn.Sequential(encoder, self.projector))
        self.queue = Queue(queue, dim)
        self.bank = Bank(shape.n, dim)
        self.clusters = Clustering(shape.n, clusters, dim)
        self.weight, self.margin, self.pool, self.negatives = weight, margin, pool, negatives
        self.refresh, self.momentum, self.temperature, self.splits = refresh, momentum, temperature, splits

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Fills the bank and clusters it before the first; before any other, splits clusters where some are empty."""
        seed = int(torch.randint(1 << 31, ()))
        if at.epoch == 0:
            self.bank.fill(extract(self.key_encoder.module))
            centroids, labels = kmeans(self.bank.vectors, len(self.clusters.centroids), seed, spherical=True)
        else:
            centroids, labels = without_empty(self.bank.vectors, self.clusters.centroids, self.clusters.labels, seed)
        self.clusters.write(centroids=centroids, labels=labels)

    def embed(self, batch: Batch) -> Embedded:
        """Passes the first view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Returns the keys: the second view through the key encoder."""
        return {"k": self.key_encoder.in_groups(batch.views[1], self.splits), "index": batch.index}  # (B, dim), (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes both branches; keys and the clusters nearest to them are handed to `observe`."""
        q, k, index = self.projector(embedded["h"]), embedded["k"], embedded["index"]  # (B, dim), (B, dim), (B,)
        shared = at.generator()
        label = self.clusters.labels[index]  # (B,)
        positive = self._companions(index, shared)  # (B,)
        drawn = self._candidates(shared, index.device)  # (M,)
        intra = info_nce(q, self.queue.keys, k, self.temperature)
        other = self.clusters.labels[drawn] != label[:, None]  # (B, M)
        vectors = self.bank.vectors
        inter = semi_hard(
            q, vectors[positive], vectors[drawn], other, self._count(len(drawn)), self.margin, self.temperature
        )
        nearest = (F.normalize(k.float(), dim=1) @ self.clusters.centroids.T).argmax(1)  # (B,)
        terms = {
            "mutual_information": info_nce_bound(intra.detach(), len(self.queue.keys) + 1),
            "inter": inter.detach(),
            "changed": (nearest != label).float().mean(),
        }
        memory = {"z": q.detach(), "keys": gather(k), "index": gather(index), "nearest": gather(nearest)}
        return Loss(self.weight * intra + (1 - self.weight) * inter, terms, memory)

    def _companions(self, index: Tensor, shared: torch.Generator) -> Tensor:
        """(B,) another image of each image's cluster, each as likely; the image itself where it is alone.

        One number is drawn for all, and the golden ratio makes one of it for each image: so the draw of an image does not
        depend on who else is in this process's part of the batch.
        """
        labels = self.clusters.labels
        by_cluster = labels.argsort(stable=True)  # (n,) images, cluster after cluster
        sizes = labels.bincount(minlength=len(self.clusters.centroids))  # (k,)
        first = sizes.cumsum(0) - sizes  # (k,) where each cluster begins
        place = torch.empty_like(labels).index_copy_(0, by_cluster, torch.arange(len(labels), device=labels.device))
        label = labels[index]
        others, at = sizes[label] - 1, place[index] - first[label]  # (B,) each
        start = torch.rand((), generator=shared, dtype=torch.float64).to(index.device)
        number = (start + GOLDEN * index.double()) % 1  # (B,)
        step = 1 + (number * others).long()
        return by_cluster[first[label] + (at + step) % sizes[label]]

    def _candidates(self, shared: torch.Generator, device: torch.device) -> Tensor:
        """(M,) images whose nearest `pool` are the negatives, drawn without replacement."""
        n = len(self.bank.vectors)
        wanted = min(n, round(self.negatives / max(self.pool, 1e-9)))
        return torch.randperm(n, generator=shared)[:wanted].to(device)

    def _count(self, candidates: int) -> int:
        return min(candidates, max(1, round(self.pool * candidates)))

    def observe(self, loss: Loss, at: Progress) -> None:
        """Enqueues the keys, writes them into the bank, and moves the images to their nearest clusters."""
        keys, index = loss.memory["keys"], loss.memory["index"]
        self.queue.push(keys)
        self.bank.write(index, keys, 0.0)
        self.clusters.write(index, labels=loss.memory["nearest"])
        if (at.step + 1) % self.refresh == 0:
            self.clusters.write(centroids=self._means())

    def _means(self) -> Tensor:
        """(k, dim) unit means of each cluster's vectors; an empty cluster keeps its centroid."""
        labels, old = self.clusters.labels, self.clusters.centroids
        sums = torch.zeros_like(old).index_add_(0, labels, self.bank.vectors)
        return F.normalize(sums, dim=1).where(labels.bincount(minlength=len(old))[:, None] > 0, old)

    def after_step(self, at: Progress) -> None:
        """Lets the key encoder follow (MoCo, eq. 2)."""
        self.key_encoder.update(nn.Sequential(self.encoder, self.projector), self.momentum)


@full_precision
def semi_hard(
    query: Tensor, positive: Tensor, candidates: Tensor, negative: Tensor, count: int, margin: float, temperature: float
) -> Tensor:
    """Computes -log( exp((s⁺ - m)/τ) / (exp((s⁺ - m)/τ) + Σ exp(s⁻/τ)) ) over the `count` nearest of the negatives.

    Args:
        query: (B, D).
        positive: (B, D) unit vectors.
        candidates: (M, D) unit vectors.
        negative: (B, M) whether a candidate is a negative of a query.
        count: nearest negatives that count, at most M.
        margin: m.
        temperature: τ > 0.

    Returns:
        The mean over queries; one without negatives costs nothing.
    """
    q = F.normalize(query, dim=1)
    own = ((q * positive).sum(1) - margin) / temperature  # (B,)
    others = (q @ candidates.T / temperature).masked_fill(~negative, float("-inf"))  # (B, M)
    logits = torch.cat([own[:, None], others.topk(count, dim=1, sorted=False).values], 1)  # (B, 1 + count)
    return F.cross_entropy(logits, torch.zeros_like(logits[:, 0], dtype=torch.long))
