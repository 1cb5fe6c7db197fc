"""CMC: what the lightness of an image tells of its colours, and they of it."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder, Lab
from unlabeled.errors import UserError
from unlabeled.losses import info_nce, info_nce_bound, nce
from unlabeled.losses.similarity import dot
from unlabeled.methods.base import Comparison, Embedded, Extract
from unlabeled.parts import heads
from unlabeled.parts.memory import Bank
from unlabeled.registry import Count, Positive, Sampled, Share, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
CROP = {"name": "crop", "pad": 0.0, "scale": [0.2, 1.0]}

Contrast = Literal["infonce", "nce"]


class Halves(nn.Module):
    """(B, 2D) -> (B, 2 dim): each half by its own linear projector."""

    def __init__(self, encoded: int, dim: int) -> None:
        super().__init__()
        self.l, self.ab = (heads.projector("linear", encoded // 2, 0, dim) for _ in range(2))

    def forward(self, h: Tensor) -> Tensor:
        """Returns both, side by side."""
        h_l, h_ab = h.chunk(2, 1)  # (B, D) each
        return torch.cat([self.l(h_l), self.ab(h_ab)], 1)


@register("cmc", recipe={"views": CROP, "optimizer": SGD, "encoder.streams": "lab"})
class CMC(Comparison):
    """Contrastive Multiview Coding (Tian et al. 2020), with the two views L and ab of the Lab colour space.

    The encoder is two networks, one for each view (`--encoder.streams lab`), each of the given width. What one says of
    an image is told, in both directions, from other images by the image's vector in the bank of the other view, as in
    the published code: with a positive of now among negatives of before, both networks could simply move away from the
    past. The objective is the paper's softmax over one positive and k negatives (InfoNCE), or noise contrast, which
    approximates the softmax over all images: exp(z·v/τ)/Z, with a constant Z for each direction that the first step
    estimates. Negatives are one draw for the whole batch, of images that are not in it. Before the first epoch the
    untrained networks fill the banks.

    Args:
        loss: `infonce`, which the authors advise, or `nce`, the default of the published code and what its weights were
            trained with (Tian et al. 2020).
        negatives: k, drawn vectors (16,384: Tian et al. 2020, published code; 4,096 with `nce`, for their published
            weights); fewer where the bank holds fewer.
        temperature: τ (0.07: Tian et al. 2020).
        momentum: share of a bank's vector that stays when its image is seen (0.5: Tian et al. 2020, published code).
        dim: of a vector (128: Tian et al. 2020).
    """

    n_views = 1
    partition: Tensor  # (2,) Z from L to ab and from ab to L, with `nce`; 0 before the first step

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        loss: Contrast = "infonce",
        negatives: Sampled = 16384,
        temperature: Positive = 0.07,
        momentum: Share = 0.5,
        dim: Count = 128,
    ) -> None:
        super().__init__(encoder, shape)
        if not isinstance(encoder.backbone, Lab):
            raise UserError("method 'cmc' contrasts two streams, and this encoder has one: give --encoder.streams lab")
        self.projectors = Halves(encoder.dim, dim)
        self.bank_l, self.bank_ab = Bank(shape.n, dim), Bank(shape.n, dim)
        if loss == "nce":
            self.register_buffer("partition", torch.zeros(2))
        self.loss, self.negatives, self.temperature, self.momentum = loss, negatives, temperature, momentum

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Makes the warm-up pass: what the untrained networks say of each image."""
        if at.epoch == 0:
            z_l, z_ab = extract(nn.Sequential(self.encoder, self.projectors)).chunk(2, 1)  # (n, dim) each
            self.bank_l.fill(z_l)
            self.bank_ab.fill(z_ab)

    @property
    def g(self) -> nn.Module:
        """Both streams through their projectors."""
        return self.projectors

    def embed(self, batch: Batch) -> Embedded:
        """Passes the view through both networks."""
        return {"h": self.encoder(batch.views[0])}  # (B, 2D)

    def constants(self, batch: Batch) -> Embedded:
        """Tells which images they are."""
        return {"index": batch.index}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Compares L with the bank of ab, and ab with that of L; both are handed to `observe`."""
        z_l, z_ab = self.projectors(embedded["h"]).chunk(2, 1)  # (B, dim) each
        index, everyone = embedded["index"], gather(embedded["index"])  # (B,), (N,)
        others_l, others_ab = (
            bank.draw(self.negatives, everyone, at.generator()) for bank in (self.bank_l, self.bank_ab)
        )  # (k, dim)
        own_l, own_ab = self.bank_l.of(index), self.bank_ab.of(index)  # (B, dim) each
        memory = {"z": z_l.detach(), "index": everyone, "l": gather(z_l.detach()), "ab": gather(z_ab.detach())}
        if self.loss == "nce":
            known = self.partition.unbind()
            from_l, of_l = self._noise_contrast(z_l, own_ab, others_ab, known[0])
            from_ab, of_ab = self._noise_contrast(z_ab, own_l, others_l, known[1])
            return Loss(from_l + from_ab, memory={**memory, "partition": torch.stack([of_l, of_ab])})
        from_l = info_nce(z_l, others_ab, own_ab, self.temperature)
        from_ab = info_nce(z_ab, others_l, own_l, self.temperature)
        bound = info_nce_bound((from_l + from_ab).detach() / 2, len(others_l) + 1)
        return Loss(from_l + from_ab, {"mutual_information": bound}, memory)

    def _noise_contrast(self, z: Tensor, own: Tensor, others: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """Tells own vectors (B, dim) from noise (k, dim), which is uniform over the n images; and Z, where it is not known
        yet n times the mean of exp over all scores of this batch, in all processes."""
        z, n = F.normalize(z.float(), dim=1), self.shape.n
        data, noise = (z * own).sum(1) / self.temperature, dot(z, others) / self.temperature  # (B,), (B, k)
        scores = torch.cat([data[:, None], noise], 1).detach()  # (B, 1 + k)
        partition = known.where(known > 0, n * gather(scores.exp().mean()[None]).mean())
        uniform = torch.full_like(noise, -math.log(n))
        return nce(data - partition.log(), noise - partition.log(), uniform[:, 0], uniform), partition

    def observe(self, loss: Loss, at: Progress) -> None:
        """Moves each view's bank to what its network said of the images of all processes."""
        self.bank_l.write(loss.memory["index"], loss.memory["l"], self.momentum)
        self.bank_ab.write(loss.memory["index"], loss.memory["ab"], self.momentum)
        if "partition" in loss.memory:
            self.partition.copy_(loss.memory["partition"])
