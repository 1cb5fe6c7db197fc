"""Exemplar: every image is a class of its own, whose samples are all that can be made of it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import margin_triplet
from unlabeled.losses.similarity import cosine
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.registry import Positive, Width, register

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
"""For 256 images, of ResNets: Kolesnikov, Zhai & Beyer 2019, "Revisiting Self-Supervised Visual Representation Learning",
§4.1."""
MOST = 32_000
"""Surrogate classes that the paper goes up to (Dosovitskiy et al. 2014, §2.1)."""

Form = Literal["auto", "softmax", "triplets"]


@register("exemplar", recipe={"views": "exemplar", "optimizer": SGD})
class Exemplar(Comparison):
    """Discriminative Unsupervised Feature Learning with Convolutional Neural Networks (Dosovitskiy et al. 2014), eq. 1.

    Each image has a seed patch, which is a surrogate class: a linear classifier tells of each transformed patch which of N
    seeds it was made of. So a layer grows with the data, which the authors give as the limit of the method; beyond
    32,000 images there is a triplet in its place (Doersch & Zisserman 2017, "Multi-task Self-Supervised Visual Learning",
    §3.1): of two patches of one seed each lies nearer to the other than to those of other seeds, by a margin in the
    cosine. They draw one other seed of the batch; here it is the mean over all.

    Args:
        surrogates: N, how many images have a class, drawn from all; the others are left out (50 to 32,000: Dosovitskiy et
            al. 2014, §2.1). 0 is all of them.
        form: `softmax` (eq. 1), `triplets`, or `auto`: a softmax up to 32,000 classes (the most of Dosovitskiy et al. 2014).
        margin: of the triplets (0.5: Doersch & Zisserman 2017, §3.1).
    """

    def __init__(
        self, encoder: Encoder, shape: DataShape, *, surrogates: Width = 0, form: Form = "auto", margin: Positive = 0.5
    ) -> None:
        super().__init__(encoder, shape)
        if shape.n < 2:
            raise UserError(
                "one image is one class, of which there is nothing to tell: give more images, or another --method"
            )
        if surrogates > shape.n:
            raise UserError(
                f"surrogates {surrogates:,} is not possible: each is an image of its own, and {shape.n:,} are trained on; "
                f"give --method.surrogates {shape.n} or less, or 0 for all"
            )
        count = surrogates or shape.n
        self.classifier = nn.Linear(encoder.dim, count) if form == "softmax" or (form == "auto" and count <= MOST) else None
        self.margin = margin
        surrogate = torch.full((shape.n,), -1)
        surrogate[torch.randperm(shape.n)[:count]] = torch.arange(count)
        self.register_buffer("surrogate", surrogate)  # (n,): the class of each image, -1 of those left out

    def sampling(self) -> Tensor | None:
        """Tells the loop to draw no image without a class, and all others alike."""
        held = self.get_buffer("surrogate") >= 0
        return None if bool(held.all()) else held.float()

    def embed(self, batch: Batch) -> Embedded:
        """Passes two views of each seed through the encoder."""
        first, second = batch.views
        return {"first": self.encoder(first), "second": self.encoder(second)}  # (B, D) each

    def constants(self, batch: Batch) -> Embedded:
        """Tells which classes they are of."""
        return {"surrogate": self.get_buffer("surrogate")[batch.index]}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the cross-entropy with the surrogate classes (eq. 1), or the triplets' hinge, averaged over patches."""
        first, second, surrogate = embedded["first"], embedded["second"], embedded["surrogate"]
        memory = {"z": first.detach()}
        if self.classifier is None:
            everyone = gather(first), gather(second)
            return Loss(
                margin_triplet(first, second, self.margin, gathered=everyone, offset=rank() * len(first)), {}, memory
            )
        logits = self.classifier(torch.cat([first, second])).float()  # (2B, N)
        classes = surrogate.repeat(2)
        correct = (logits.detach().argmax(1) == classes).float().mean()
        loss = F.cross_entropy(logits, classes, ignore_index=-1, reduction="sum") / (classes >= 0).sum().clamp(min=1)
        return Loss(loss, {"accuracy": correct}, memory)

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws a view of each seed, the second view of all seeds shown that is most like it, and that of its own."""
        first, second = batch.views
        nearest = cosine(self.encoder(first), self.encoder(second)).argmax(1)
        return {"view": first, "most like it": second[nearest], "of its seed": second}
