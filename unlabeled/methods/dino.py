"""DINO: the student says of every view what a slow copy of it, the teacher, says of the large ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import swapped_prediction
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.parts import heads
from unlabeled.parts.clustering import check_prototypes
from unlabeled.parts.memory import Ema
from unlabeled.registry import Count, Positive, Share, Width, register

VIEWS = {"name": "multi-crop", "large": 2, "small": 8, "scale": (0.4, 1.0), "small_scale": (0.05, 0.4)}
VIT = {"views": VIEWS, "optimizer": {"name": "adamw", "lr": 5e-4, "weight_decay": 0.04}}
RESNET = {
    "views.scale": (0.14, 1.0),
    "views.small_scale": (0.05, 0.14),
    "optimizer": {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False},
}
NARROW = {"prototypes": 1024, "hidden": 512, "bottleneck": 128, "momentum": 0.99, "batch_norm": True}
MEASURED = {**SHORT_RUNS, **{f"method.{name}": value for name, value in NARROW.items()}}


@register("dino", recipe=VIT, encoders={"resnet": RESNET}, measured={"resnet": MEASURED})
class DINO(Comparison):
    """Emerging Properties in Self-Supervised Vision Transformers (Caron et al. 2021), algorithm 1, with multi-crop.

    The teacher sees the views of the largest size, the student all. Two forces keep the teacher from collapse: subtracting
    the centre, its running mean, is against one prototype for all images; the low temperature is against all prototypes for
    each.

    Options, optimiser and crops are those of the published code's runs of 100 epochs: AdamW for a ViT; for a ResNet SGD and
    smaller crops. (For a ViT and 300 epochs it has `--method.teacher-temperature 0.07`, reached in 30 epochs.) Distortion is
    SwAV's: no solarisation, and one chance of blur for all. A ViT's weight decay stays at 0.04, where the paper's rises to
    0.4, and gradients are not clipped (at 3 there).

    Args:
        prototypes: K, length of the output (65,536: Caron et al. 2021).
        hidden: width of the head's hidden layers (2048: Caron et al. 2021).
        bottleneck: dimension in which prototypes are compared (256: Caron et al. 2021).
        batch_norm: in the head, too (none for ViT: Caron et al. 2021); with a ResNet and short runs it keeps the head's
            common direction from drowning what differs (ours, 2026).
        temperature: τ_s of the student (0.1: Caron et al. 2021).
        teacher_temperature: τ_t, constant (0.04, where the published code begins and stays by default; the paper's long runs
            raise it to 0.07 in the first 30 epochs: Caron et al. 2021).
        momentum: λ of the teacher at the start; rises to 1 along a cosine (0.996: Caron et al. 2021, in both runs of 100
            epochs; for 256 images a batch their code advises 0.9995, with the 5,000 steps an epoch that ImageNet then has).
        centre_momentum: m of the centre (0.9: Caron et al. 2021).
        frozen_epochs: first epochs in which prototypes do not turn (1: published code of Caron et al. 2021).
    """

    n_views = None
    rising = True
    centre: Tensor  # (K,)

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        prototypes: Count = 65536,
        hidden: Width = 2048,
        bottleneck: Count = 256,
        batch_norm: bool = False,
        temperature: Positive = 0.1,
        teacher_temperature: Positive = 0.04,
        momentum: Share = 0.996,
        centre_momentum: Share = 0.9,
        frozen_epochs: Width = 1,
    ) -> None:
        super().__init__(encoder, shape)
        check_prototypes(prototypes, shape.classes)
        self.head = heads.PrototypeHead(encoder.dim, hidden, bottleneck, prototypes, norm=batch_norm)
        self.teacher_encoder, self.teacher_head = Ema(encoder), Ema(self.head)
        self.register_buffer("centre", torch.zeros(prototypes))
        self.temperature, self.teacher_temperature = temperature, teacher_temperature
        self.momentum, self.centre_momentum, self.frozen_epochs = momentum, centre_momentum, frozen_epochs

    @property
    def g(self) -> nn.Module:
        """What lies before the prototypes."""
        return self.head.mlp

    def embed(self, batch: Batch) -> Embedded:
        """Passes every view through the student's encoder, those of one size as one batch, the largest first."""
        return {"h": torch.cat([_encode(self.encoder, views) for views in _by_size(batch.views)], 1)}  # (B, V, D)

    def constants(self, batch: Batch) -> Embedded:
        """Passes the G views of the largest size through the teacher's encoder."""
        return {"t": _encode(self.teacher_encoder, _by_size(batch.views)[0])}  # (B, G, D), no gradient

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the cross-entropy of each student's view with each of the teacher's, but for the same view."""
        z, scores = self.head(embedded["h"], float(at.epoch >= self.frozen_epochs))  # (B, V, bottleneck), (B, V, K)
        _, outputs = self.teacher_head(embedded["t"])  # (B, G, K), no gradient
        codes = ((outputs - self.centre) / self.teacher_temperature).softmax(2)  # centred and sharpened
        loss = swapped_prediction(scores.unbind(1), codes.unbind(1), self.temperature)
        entropy = torch.special.entr(codes).sum(2).mean()  # 0 and log K are the two collapses (figure 7)
        mean = gather(outputs.mean((0, 1))[None]).mean(0)  # (K,), of all processes
        return Loss(loss, {"teacher_entropy": entropy}, {"z": z[:, 0].detach(), "teacher": mean})

    def observe(self, loss: Loss, at: Progress) -> None:
        """Lets the centre follow the teacher's mean output (eq. 4)."""
        self.centre.lerp_(loss.memory["teacher"], 1 - self.centre_momentum)

    def after_step(self, at: Progress) -> None:
        """Lets the teacher follow, ever more slowly."""
        momentum = cosine_momentum(at, self.momentum)
        self.teacher_encoder.update(self.encoder, momentum)
        self.teacher_head.update(self.head, momentum)


def _by_size(views: list[Tensor]) -> list[list[Tensor]]:
    if len(views) < 2:
        raise UserError(
            "'dino' compares views of one image, and got 1 view: give --views multi-crop, or another of 2 or more"
        )
    sides = sorted({view.shape[-1] for view in views}, reverse=True)
    return [[view for view in views if view.shape[-1] == side] for side in sides]


def _encode(encoder: nn.Module, views: list[Tensor]) -> Tensor:
    """V views (B, C, H, W) of one size -> (B, V, D)."""
    return torch.stack(encoder(torch.cat(views)).chunk(len(views)), 1)
