"""Relative patch: who can tell where a patch lies beside another knows what they are parts of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.parts.heads import mlp
from unlabeled.registry import Count, register
from unlabeled.views.policies.neighbours import NEIGHBOURS, PATCHES, around

SGD = {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
"""For 256 images, of ResNets: Kolesnikov, Zhai & Beyer 2019, "Revisiting Self-Supervised Visual Representation Learning",
§4.1. The paper's AlexNet has a momentum of 0.999."""


@register("relative-patch", recipe={"views": "neighbours", "optimizer": SGD})
class RelativePatch(Method):
    """Unsupervised Visual Representation Learning by Context Prediction (Doersch, Gupta & Efros 2015), §3.

    A patch and one of the eight around it go through one encoder, each by itself; late layers see both and tell which of
    eight places the second has beside the first. All eight neighbours of a patch are asked for at once: a batch of B images
    is 8 B pairs, and costs 9 B patches.

    Args:
        hidden: width of the two layers that see both patches (4,096: Doersch et al. 2015, figure 3, fc7 and fc8).
    """

    n_views = 1
    adds_up = True

    def __init__(self, encoder: Encoder, shape: DataShape, *, hidden: Count = 4096) -> None:
        super().__init__(encoder, shape)
        self.classifier = mlp(2 * encoder.dim, hidden, hidden, NEIGHBOURS, norm=False)

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are no patches with neighbours.

        Raises:
            UserError: others.
        """
        if "position" not in targets:
            raise UserError(
                "the method tells where patches lie beside another, and these views are none: give --views neighbours"
            )

    def logits(self, patches: Tensor) -> Tensor:
        """Returns how likely each neighbour is to lie in each place: (B, 8, 8), of patches (B, 9, C, p, p), the centre
        first."""
        h = self.encoder(patches.flatten(0, 1)).view(len(patches), PATCHES, -1)  # (B, 9, D)
        pairs = torch.cat([h[:, :1].expand(-1, NEIGHBOURS, -1), h[:, 1:]], 2)  # (B, 8, 2D)
        return self.classifier(pairs).float()  # type: ignore[no-any-return]

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the cross-entropy with the true places, averaged over pairs."""
        logits, position = self.logits(batch.views[0]), batch.targets["position"]
        correct = (logits.detach().argmax(2) == position).float().mean()
        return Loss(F.cross_entropy(logits.flatten(0, 1), position.flatten()), {"accuracy": correct})

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the centre; around it, in each place, the neighbour that is most likely there; and the patches as they
        lie."""
        patches = batch.views[0]
        centre, others = patches[:, 0], patches[:, 1:]
        likely = self.logits(patches).log_softmax(2).argmax(1)  # (B, 8), of each place
        predicted = others[torch.arange(len(others), device=others.device)[:, None], likely]
        return {"centre": centre, "predicted": around(centre, predicted), "true": around(centre, others)}
