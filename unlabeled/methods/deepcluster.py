"""DeepCluster: k-means on the network's own features gives the labels that it is then trained with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.methods.base import Comparison, Embedded, Extract
from unlabeled.parts.clustering import agreement, check_clusters, kmeans, whiten
from unlabeled.parts.memory import Clustering
from unlabeled.registry import Count, register

WHITENED = 256
"""Dimensions that are clustered, at most (Caron et al. 2018)."""

VIEW = {"name": "crop", "pad": 0.0, "scale": (0.08, 1.0)}
SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-5, "nesterov": False}


@register("deepcluster", recipe={"views": VIEW, "optimizer": SGD})
class DeepCluster(Comparison):
    """Deep Clustering for Unsupervised Learning of Visual Features (Caron et al. 2018).

    Before each epoch all images are clustered by their features, and the classifier starts anew, as clusters have no names
    that last; images are then drawn uniformly over the clusters. The log's `nmi` is how well this epoch's clusters agree
    with those of the epoch before.

    The optimiser's memory of the classifier (its momentum) is not cleared: a method does not see its optimiser; with a
    momentum of 0.9 it is gone after some tens of steps. The paper's step size is constant; here it follows the run's
    schedule. The Sobel filter that the paper puts before its networks is left out.

    Args:
        clusters: k (10,000 for ImageNet, ten for each of its classes: 2018; 100 here, as for ten classes).
    """

    n_views = 1

    def __init__(self, encoder: Encoder, shape: DataShape, *, clusters: Count = 100) -> None:
        super().__init__(encoder, shape)
        check_clusters(clusters, shape.n)
        self.classifier = nn.Linear(encoder.dim, clusters)
        self.clusters = Clustering(shape.n, clusters, min(WHITENED, encoder.dim))

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Clusters the whitened unit features of all images, and starts the classifier anew."""
        h = F.normalize(whiten(extract(self.encoder), WHITENED), dim=1)  # (n, 256)
        centroids, labels = kmeans(h, len(self.clusters.centroids), int(torch.randint(1 << 31, ())))
        nmi = torch.tensor(agreement(labels, self.clusters.labels))
        self.clusters.write(centroids=centroids, labels=labels, nmi=nmi)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)

    def sampling(self) -> Tensor:
        """Draws each cluster as often as any other."""
        labels = self.clusters.labels
        return 1 / labels.bincount().double()[labels]  # (n,)

    def embed(self, batch: Batch) -> Embedded:
        """Passes the one view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Returns the cluster of each image."""
        return {"label": self.clusters.labels[batch.index]}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the cross-entropy with the clusters."""
        logits, label = self.classifier(F.relu(embedded["h"])).float(), embedded["label"]  # (B, k), (B,)
        correct = (logits.detach().argmax(1) == label).float().mean()
        terms = {"nmi": self.clusters.nmi.clone(), "pseudo_accuracy": correct}
        return Loss(F.cross_entropy(logits, label), terms, {"z": embedded["h"].detach()})
