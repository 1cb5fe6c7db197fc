"""Local aggregation: an image comes nearer to those of its clusters, among those that are near."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.losses import local_aggregation
from unlabeled.losses.similarity import dot
from unlabeled.methods.base import Comparison, Embedded, Extract
from unlabeled.parts import heads
from unlabeled.parts.clustering import check_clusters, kmeans
from unlabeled.parts.memory import Bank, Clustering
from unlabeled.registry import Count, Positive, Sampled, Share, Width, register

SGD = {"name": "sgd", "lr": 0.06, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
"""0.03 for batches of 128 (published code), so 0.06 for 256."""
FULL = 43
"""Images a cluster: 30,000 clusters of ImageNet's 1.28 million (published code)."""


@register("local-aggregation", recipe={"views": "instance", "optimizer": SGD})
class LocalAggregation(Comparison):
    """Local Aggregation for Unsupervised Learning of Visual Embeddings (Zhuang, Zhai & Yamins 2019), §3.

    The bank holds a vector of each image. Of an image's vector v, the background B are the k nearest of the bank; its close
    neighbours C are all that share a cluster with it in one of several runs of k-means over the bank, which are made anew
    before each epoch. The loss is -log P(C ∩ B | v) / P(B | v), with softmax probabilities. The image's own vector always
    is in both, where the published code adds a small number.

    A run begins as instance discrimination does: until the first clusters, an image's only close neighbour is itself. The
    paper takes the noise-contrastive loss of Wu et al. 2018 for that, this the loss above. The untrained network fills the
    bank, which in the published code starts at random: clusters of noise would teach noise.

    Args:
        background: k (4,096: Zhuang et al. 2019); fewer where the bank holds fewer.
        clusters: m of a run of k-means; 0 for one in 43 images (30,000 of 1.28 million: Zhuang et al. 2019).
        runs: H, of k-means with other seeds (10, for ResNets: Zhuang et al. 2019, published code).
        warm_up: share of the run before the first clusters (10 of 200 epochs: Zhuang et al. 2019, published code).
        temperature: τ (0.07: Zhuang et al. 2019, published code).
        momentum: share of a bank's vector that stays when its image is seen (0.5: Zhuang et al. 2019, published code).
        dim: of a vector (128: Zhuang et al. 2019, published code).
    """

    n_views = 1

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        background: Sampled = 4096,
        clusters: Width = 0,
        runs: Count = 10,
        warm_up: Share = 0.05,
        temperature: Positive = 0.07,
        momentum: Share = 0.5,
        dim: Count = 128,
    ) -> None:
        super().__init__(encoder, shape)
        clusters = clusters or max(2, shape.n // FULL)
        check_clusters(clusters, shape.n)
        self.projector = heads.projector("linear", encoder.dim, 0, dim)
        self.bank = Bank(shape.n, dim)
        self.partitions = nn.ModuleList(Clustering(shape.n, clusters, dim) for _ in range(runs))
        self.register_buffer("clustered", torch.zeros((), dtype=torch.bool))
        self.background, self.warm_up, self.temperature, self.momentum = background, warm_up, temperature, momentum

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Fills the bank, once, with what the untrained network says; and clusters it, several times."""
        if at.epoch == 0:
            self.bank.fill(extract(nn.Sequential(self.encoder, self.projector)))
        if at.fraction < self.warm_up:
            return
        for partition in self.partitions:
            assert isinstance(partition, Clustering)
            seed = int(torch.randint(1 << 31, ()))
            centroids, labels = kmeans(self.bank.vectors, len(partition.centroids), seed, spherical=True)
            partition.write(centroids=centroids, labels=labels)
        self.get_buffer("clustered").fill_(True)

    def full_cost_from(self, epochs: int) -> int:
        """Returns the first epoch after the warm-up, before which are the first clusters."""
        return bisect_left(range(epochs), self.warm_up, key=lambda epoch: epoch / epochs)

    def embed(self, batch: Batch) -> Embedded:
        """Passes the view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Tells which images they are."""
        return {"index": batch.index}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes -log P(C ∩ B | v) / P(B | v); v and its index are handed to `observe`."""
        v, index = F.normalize(self.projector(embedded["h"]).float(), dim=1), embedded["index"]  # (B, dim), (B,)
        self.bank.of(index)  # refuses an image that has none
        similarity = dot(v, self.bank.vectors)  # (B, n)
        nearest = similarity.detach().scatter(1, index[:, None], 2.0)  # its own first: no cosine is 2
        b = nearest.topk(min(self.background, nearest.shape[1]), 1).indices  # (B, k)
        close = self.close(index, b)
        loss = local_aggregation(similarity.gather(1, b), close, self.temperature)
        memory = {"z": v.detach(), "index": gather(index), "vectors": gather(v.detach())}
        return Loss(loss, {"close": close.float().sum(1).mean()}, memory)

    def close(self, index: Tensor, others: Tensor) -> Tensor:
        """Returns which of the images `others` (B, k) are close neighbours of those at `index` (B,): (B, k) bool."""
        labels = torch.stack([partition.get_buffer("labels") for partition in self.partitions])  # (H, n)
        shared = (labels[:, others] == labels[:, index, None]).any(0) & self.get_buffer("clustered")
        return shared | (others == index[:, None])

    def observe(self, loss: Loss, at: Progress) -> None:
        """Moves the bank's vectors to the images of all processes."""
        self.bank.write(loss.memory["index"], loss.memory["vectors"], self.momentum)
