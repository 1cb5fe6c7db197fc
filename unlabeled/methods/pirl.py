"""PIRL: an image and its shuffled patches say the same, and not what other images say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import info_nce, nce
from unlabeled.losses.numeric import full_precision
from unlabeled.losses.similarity import dot
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded, Extract
from unlabeled.parts import heads
from unlabeled.parts.memory import Bank
from unlabeled.registry import Count, Positive, Sampled, Share, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
PATCHES = 9


@register(
    "pirl",
    recipe={"views": "pirl", "optimizer": SGD},
    measured={"resnet": SHORT_RUNS},
    formerly={"loss": "info-nce"},
)
class PIRL(Comparison):
    """Pretext-Invariant Representation Learning with jigsaw patches (Misra & van der Maaten 2020).

    The image's vector in the bank is the positive of both its patches and itself. Negatives are one draw for the batch,
    from the images that are not in it. Before the first epoch the untrained network fills the bank.

    The loss is noise contrastive estimation (eqs. 4, 5): -log h(positive) - Σ log(1 - h(negative)) over the negatives, where
    h(u) = exp(s(u)/τ) / (exp(s(u)/τ) + Σ exp(s(negative)/τ)). The sum stands for the constant of the noise's model, so no
    gradient flows through it; the published code estimates it once, from the first batch of a bank of random vectors.

    Args:
        loss: `nce` (eq. 5), or `info-nce`, -log h (eq. 4) with the gradient of the sum; the published code has both.
        negatives: N, drawn vectors of other images (32,000: Misra & van der Maaten 2020); fewer where the bank holds fewer.
        temperature: τ (0.07: Misra & van der Maaten 2020).
        weight: λ of the patches' loss, 1 - λ of the image's (0.5: Misra & van der Maaten 2020).
        momentum: share of a bank's vector that stays when its image is seen (0.5: Misra & van der Maaten 2020).
        dim: of a vector, also of each patch before they are joined (128: Misra & van der Maaten 2020).
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        loss: Literal["nce", "info-nce"] = "nce",
        negatives: Sampled = 32000,
        temperature: Positive = 0.07,
        weight: Share = 0.5,
        momentum: Share = 0.5,
        dim: Count = 128,
    ) -> None:
        super().__init__(encoder, shape)
        self.f = heads.projector("linear", encoder.dim, 0, dim)
        self.of_patch = heads.projector("linear", encoder.dim, 0, dim)
        self.of_patches = heads.projector("linear", PATCHES * dim, 0, dim)
        self.bank = Bank(shape.n, dim)
        self.objective = noise_contrast if loss == "nce" else info_nce
        self.negatives, self.temperature, self.weight, self.momentum = negatives, temperature, weight, momentum

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Makes the warm-up pass: what the untrained network says of each image."""
        if at.epoch == 0:
            self.bank.fill(extract(nn.Sequential(self.encoder, self.f)))

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are no image with its patches.

        Raises:
            UserError: others.
        """
        if [view.ndim for view in views] != [4, 5] or views[-1].shape[1] != PATCHES:
            raise UserError(f"the method compares an image with {PATCHES} patches of it: give --views pirl")

    @property
    def g(self) -> nn.Module:
        """The head of whole images."""
        return self.f

    def embed(self, batch: Batch) -> Embedded:
        """Passes the image, and its patches in the order drawn, through the one encoder."""
        image, patches = batch.views  # (B, C, S, S), (B, 9, C, p, p)
        h = self.encoder(patches.flatten(0, 1))  # (B·9, D)
        return {"image": self.encoder(image), "patches": h.view(len(image), PATCHES, -1)}  # (B, D), (B, 9, D)

    def constants(self, batch: Batch) -> Embedded:
        """Tells which images they are."""
        return {"index": batch.index}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes λ L(m, g(patches)) + (1 - λ) L(m, f(image)), m the image's vector in the bank; f(image) is handed to
        `observe`."""
        v, index = self.f(embedded["image"]), embedded["index"]  # (B, dim), (B,)
        g = self.of_patches(self.of_patch(embedded["patches"]).flatten(1))  # (B, 9·dim) -> (B, dim)
        everyone, m = gather(index), self.bank.of(index)  # (N,), (B, dim)
        negatives = self.bank.draw(self.negatives, everyone, at.generator())  # (M, dim)
        patches = self.objective(g, negatives, m, self.temperature)
        image = self.objective(v, negatives, m, self.temperature)
        loss = self.weight * patches + (1 - self.weight) * image
        memory = {"z": v.detach(), "index": everyone, "vectors": gather(v.detach())}
        return Loss(loss, {"patches": patches.detach(), "image": image.detach()}, memory)

    def observe(self, loss: Loss, at: Progress) -> None:
        """Moves the bank's vectors to the images of all processes."""
        self.bank.write(loss.memory["index"], loss.memory["vectors"], self.momentum)


@full_precision
def noise_contrast(query: Tensor, negatives: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """Computes -log h(positive) - Σ log(1 - h(negative)), with h(u) = e(u) / (e(u) + Σ e(negative)), e(u) = exp(s(u)/τ), s
    the cosine: the value of eqs. 4 and 5. The gradient takes the sum for a constant.

    Args:
        query: (B, D).
        negatives: (M, D) unit vectors.
        positive: (B, D) unit vectors.
        temperature: τ > 0.

    Returns:
        The mean over queries.
    """
    q = F.normalize(query, dim=1)
    own, others = (q * positive).sum(1) / temperature, dot(q, negatives) / temperature  # (B,), (B, M)
    mean = others.detach().logsumexp(1, keepdim=True) - math.log(len(negatives))  # (B, 1) log of the mean of e
    return nce(own, others, mean.squeeze(1), mean.expand_as(others))
