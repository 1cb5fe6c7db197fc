"""Rotation: who can tell which way up a picture is knows what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.registry import register
from unlabeled.views.policies.turns import TURNS

SGD = {"name": "sgd", "lr": 0.2, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
"""0.1 for the paper's batch of 128 images, each in four turns, so 0.2 for 256 (§3.1); Nesterov: the published code."""


@register("rotation", recipe={"views": "turns", "optimizer": SGD})
class Rotation(Method):
    """Unsupervised Representation Learning by Predicting Image Rotations (Gidaris, Singh & Komodakis 2018), eq. 1 to 3.

    Each image comes in four turns, and a linear classifier tells them apart. A batch of B images so costs 4 B. The paper
    divides its step size by five at three epochs of a hundred; here it follows the run's schedule.

    The last layers know most about turns: for other tasks the paper finds an earlier one best, the second of four blocks on
    CIFAR-10 (table 1). `evaluate --protocol linear-layers` judges every stage. Images without an upright position, such as
    of textures or of cells, teach nothing.
    """

    n_views = 1
    adds_up = True

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__(encoder, shape)
        self.classifier = nn.Linear(encoder.dim, TURNS)

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are not turned.

        Raises:
            UserError: others.
        """
        if "rotation" not in targets:
            raise UserError("the method tells turns of an image apart, and these views have none: give --views turns")

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the cross-entropy with the turns, averaged over them and over images (eq. 2 and 3)."""
        turned, turns = batch.views[0].flatten(0, 1), batch.targets["rotation"].flatten()  # (4B, C, S, S), (4B,)
        logits = self.classifier(self.encoder(turned)).float()  # (4B, 4)
        correct = (logits.detach().argmax(1) == turns).float().mean()
        return Loss(F.cross_entropy(logits, turns), {"accuracy": correct})

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the image in its four turns, and each turned back by the turn that it is taken to have."""
        turned = batch.views[0]  # (B, 4, C, S, S)
        taken = self.classifier(self.encoder(turned.flatten(0, 1))).argmax(1).tolist()  # (4B,)
        back = [torch.rot90(x, -turn, (1, 2)) for x, turn in zip(turned.flatten(0, 1), taken, strict=True)]
        return {"turned": turned, "turned back": torch.stack(back).view_as(turned)}
