"""PCL: MoCo whose queries are also compared with the prototypes of clusters, found anew before each epoch."""

from __future__ import annotations

from bisect import bisect_left

import torch
from torch import nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import concentration, info_nce_bound, proto_nce
from unlabeled.methods.base import Comparison, Embedded, Extract
from unlabeled.parts import heads
from unlabeled.parts.clustering import agreement, check_clusters, kmeans
from unlabeled.parts.memory import Clustering, Ema, Queue
from unlabeled.registry import Count, Positive, Sampled, Share, Width, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}


@register("pcl", recipe={"views": "moco-v2", "optimizer": SGD})
class PCL(Comparison):
    """Prototypical Contrastive Learning of Unsupervised Representations (Li et al. 2021), in its second version, on MoCo v2.

    E step, before each epoch after the warm-up: the momentum features of all images are clustered at several granularities.
    M step: ProtoNCE (eq. 11), which is InfoNCE while there are no clusters. All prototypes are compared, and the
    concentrations are clipped to the 10th to 90th percentile, as in the published code, which however takes the best of five
    runs of k-means; here it is one. The log's `nmi` is how well an epoch's clusters agree with those of the epoch before.

    Args:
        clusters: numbers of clusters k_m, one for each granularity. 25,000, 50,000 and 100,000 for ImageNet's 1.28 million
            images (2021) are 51, 26 and 13 images a cluster; the defaults are a coarse, a middle and a fine partition that
            any set of some thousand images can fill. For 50,000 images 1000,2000,4000 would be the paper's sizes.
        warm_up: share of the run with InfoNCE only (20 of 200 epochs: 2021).
        queue: number of keys kept (16,384 for ImageNet: 2021; 4,096 as MoCo's CIFAR-10 demonstration).
        momentum: m of the key encoder (0.999: 2021).
        temperature: τ of InfoNCE, and the mean concentration of a granularity (0.2 for the second version: 2021).
        smoothing: α of the concentration (10: 2021, eq. 12).
        dim: of queries, keys and prototypes (128: 2021).
        hidden: width of the projector's hidden layer; 0 takes the encoder's own (MoCo v2, 2020).
        splits: groups of keys with batch statistics of their own (8 GPUs: MoCo, 2020); 1 for one group.
    """

    groups_batch = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        clusters: tuple[int, ...] = (100, 250, 500),
        warm_up: Share = 0.1,
        queue: Sampled = 4096,
        momentum: Share = 0.999,
        temperature: Positive = 0.2,
        smoothing: Positive = 10.0,
        dim: Count = 128,
        hidden: Width = 0,
        splits: Count = 8,
    ) -> None:
        super().__init__(encoder, shape)
        if not clusters:
            raise UserError("without clusters there are no prototypes: give --method.clusters, such as 100,250,500")
        for k in clusters:
            check_clusters(k, shape.n)
        self.projector = heads.mlp(encoder.dim, hidden or encoder.dim, dim, norm=False)
        self.key_encoder = Ema(nn.Sequential(encoder, self.projector))
        self.queue = Queue(queue, dim)
        self.partitions = nn.ModuleList(Clustering(shape.n, k, dim) for k in clusters)
        self.register_buffer("clustered", torch.zeros(()))  # 1 from the first E step on
        self.warm_up, self.momentum, self.splits = warm_up, momentum, splits
        self.temperature, self.smoothing = temperature, smoothing

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Does the E step: prototypes, the cluster of each image, and how concentrated each cluster is."""
        if at.fraction < self.warm_up:
            return
        v = F.normalize(extract(self.key_encoder.module), dim=1)  # (n, dim)
        for partition in self._partitions():
            k, seed = len(partition.centroids), int(torch.randint(1 << 31, ()))
            centroids, labels = kmeans(v, k, seed, spherical=True)
            phi = concentration(v, centroids, labels, self.temperature, self.smoothing)  # (k,)
            phi = phi.clamp(phi.quantile(0.1), phi.quantile(0.9))
            nmi = torch.tensor(agreement(labels, partition.labels))
            phi = self.temperature * phi / phi.mean()
            partition.write(centroids=centroids, labels=labels, concentration=phi, nmi=nmi)
        self.get_buffer("clustered").fill_(1)

    def full_cost_from(self, epochs: int) -> int:
        """Returns the first epoch after the warm-up, before which is the first E step."""
        return bisect_left(range(epochs), self.warm_up, key=lambda epoch: epoch / epochs)

    def embed(self, batch: Batch) -> Embedded:
        """Passes the first view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Returns the keys of the second view, and the image's cluster at each granularity."""
        assigned = torch.stack([partition.labels[batch.index] for partition in self._partitions()], 1)
        return {"k": self.key_encoder.in_groups(batch.views[1], self.splits), "assigned": assigned}  # (B, dim), (B, M)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Compares queries with their keys and the queue, and with the prototypes; current keys are handed to `observe`."""
        q, k = self.projector(embedded["h"]), embedded["k"]  # (B, dim) each
        partitions, assigned = self._partitions(), list(embedded["assigned"].T)
        c, phi = [p.centroids for p in partitions], [p.concentration for p in partitions]  # (k_m, dim), (k_m,) each
        instance = proto_nce(q, self.queue.keys, [], [], [], k, self.temperature)
        both = proto_nce(q, self.queue.keys, c, assigned, phi, k, self.temperature)
        loss = torch.lerp(instance, both, self.get_buffer("clustered"))
        bound = info_nce_bound(instance.detach(), len(self.queue.keys) + 1)
        nmi = torch.stack([partition.nmi for partition in partitions]).mean()
        return Loss(loss, {"mutual_information": bound, "nmi": nmi}, {"z": q.detach(), "keys": gather(k)})

    def _partitions(self) -> list[Clustering]:
        return [partition for partition in self.partitions if isinstance(partition, Clustering)]

    def observe(self, loss: Loss, at: Progress) -> None:
        """Enqueues the keys of all processes."""
        self.queue.push(loss.memory["keys"])

    def after_step(self, at: Progress) -> None:
        """Lets the key encoder follow (MoCo, eq. 2)."""
        self.key_encoder.update(nn.Sequential(self.encoder, self.projector), self.momentum)
