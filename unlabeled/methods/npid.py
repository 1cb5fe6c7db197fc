"""NPID: each image is a class of its own, whose weights are what the network last said of it."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.losses import nce
from unlabeled.losses.similarity import dot
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.parts.memory import Bank
from unlabeled.registry import Count, Decay, Positive, Sampled, Share, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}


@register("npid", recipe={"views": "instance", "optimizer": SGD})
class NPID(Comparison):
    """Non-Parametric Instance Discrimination (Wu et al. 2018): a softmax over all images, learned by noise contrast.

    P(i|v) = exp(v_i·v/τ)/Z over the bank's vectors v_i. An image is told from noise by h = P/(P + m/n), with Z a constant
    that the first step estimates. The noise is one draw for the whole batch, from the images that are not in it: the paper
    draws for each image, from all n.

    The defaults are for ImageNet. In a trial on 50,000 images of 16 px they made features worse than an untrained encoder's;
    for small sets take the recipe `cifar10/npid`, whose τ 0.1 and AdamW do not.

    Args:
        noise: m, drawn images (4,096: Wu et al. 2018); fewer where the bank holds fewer.
        temperature: τ (0.07: Wu et al. 2018).
        momentum: share of a bank's vector that stays when its image is seen (0.5: Wu et al. 2018, published code).
        proximal: λ of λ‖v - v_i‖², which holds an image near its vector in the bank. Wu et al. 2018 compare 0, 10, 30 and
            50 (which their results use is not known here); 30 was best of 0, 10 and 30 in our small trials.
        dim: of a vector (128: Wu et al. 2018).
    """

    n_views = 1
    partition: Tensor  # () Z; 0 before the first step

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        noise: Sampled = 4096,
        temperature: Positive = 0.07,
        momentum: Share = 0.5,
        proximal: Decay = 30.0,
        dim: Count = 128,
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.projector("linear", encoder.dim, 0, dim)
        self.bank = Bank(shape.n, dim)
        self.register_buffer("partition", torch.zeros(()))
        self.noise, self.temperature, self.momentum, self.proximal = noise, temperature, momentum, proximal

    def embed(self, batch: Batch) -> Embedded:
        """Passes the view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Tells which images they are."""
        return {"index": batch.index}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes -log h(i, v) - Σ_noise log(1 - h(j, v)) + λ‖v - v_i‖²; v and its index are handed to `observe`."""
        v, index = F.normalize(self.projector(embedded["h"]).float(), dim=1), embedded["index"]  # (B, dim), (B,)
        own, everyone = self.bank.of(index), gather(index)  # (B, dim), (N,)
        scores = dot(v, self.bank.draw(self.noise, everyone, at.generator())) / self.temperature  # (B, m)
        partition = self.partition.where(self.partition > 0, self._estimate(scores.detach()))
        log_z = partition.log()
        uniform = torch.full_like(scores, -math.log(self.shape.n))  # log of the noise's probability
        data = (v * own).sum(1) / self.temperature  # (B,)
        contrast = nce(data - log_z, scores - log_z, uniform[:, 0], uniform)
        drift = (v - own).square().sum(1).mean()
        memory = {"z": v.detach(), "index": everyone, "vectors": gather(v.detach()), "partition": partition}
        return Loss(contrast + self.proximal * drift, {"nce": contrast.detach(), "drift": drift.detach()}, memory)

    def _estimate(self, scores: Tensor) -> Tensor:
        """Z: n times the mean of exp over the noise of this batch, in all processes."""
        return self.shape.n * gather(scores.exp().mean()[None]).mean()

    def observe(self, loss: Loss, at: Progress) -> None:
        """Moves the bank's vectors to the images of all processes; Z stays what it was first."""
        self.bank.write(loss.memory["index"], loss.memory["vectors"], self.momentum)
        self.partition.copy_(loss.memory["partition"])
