"""CPC on images: what was seen above tells what comes below from what comes elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses.prediction import Ahead, info_nce_ahead
from unlabeled.methods.base import Method
from unlabeled.parts.masked import RowsAbove
from unlabeled.registry import Count, Width, register
from unlabeled.views.policies.grid import GRID, PATCHES, SEEN, covered

FIRST = 2
"""Rows down to the first that is predicted: the next one shares half its pixels with the context's."""
SCALE = 0.1
"""Of predictions, so that training begins with candidates nearly alike (Hénaff et al. 2020, appendix)."""
RECIPE = {
    "encoder": {"name": "resnet18", "norm_layer": "groupnorm1"},
    "views": "patch-grid",
    "optimizer": {"name": "adamw", "lr": 2e-4, "weight_decay": 0.0},
    "lr_scaling": "none",
}
"""Adam at 2e-4: van den Oord et al. 2018, §3.2, whose ResNet has no norms; layer norm is Hénaff et al. 2020, §3.1."""


@register(
    "cpc-v2",
    recipe={**RECIPE, "views": "patch-grid-v2"},
    directions=4,
    dim=64,
    says="Data-Efficient Image Recognition with Contrastive Predictive Coding (Hénaff et al. 2020): CPC v2 on images.",
)
@register("cpc-v1", recipe=RECIPE)
class CPCImage(Method):
    """Representation Learning with Contrastive Predictive Coding (van den Oord et al. 2018), §3.2: images; and its second
    form, Data-Efficient Image Recognition with Contrastive Predictive Coding (Hénaff et al. 2020).

    Each patch of a grid goes through the encoder by itself. A masked convolutional network makes of the patches in the rows
    above, and of that row, a context; it predicts the patches two to six rows below by a matrix each, among patches of the
    whole batch. The next row is left out, as its patches share pixels with those that the context has seen: v2's
    pseudo-code likewise leaves out the rows that do. A batch norm would tell patches of one image by their statistics, so
    the encoder has layer norms (v2, §3.1).

    `cpc-v1` predicts downwards. `cpc-v2` predicts in four directions, with a context network for each, projects what is
    predicted to 64 dimensions, and changes each patch by itself (its views).

    A batch of B images is 49 B patches, of three times the images' pixels. Negatives are drawn once for all predictions of
    a step, from all patches of the batch; the papers take all of them.

    Args:
        steps: K, how many rows are predicted (5: van den Oord et al. 2018, §3.2), at most those that there are.
        directions: 1: downwards; 2: upwards, too; 4: to the sides as well (Hénaff et al. 2020, §3.1).
        dim: of what is predicted (64: Hénaff et al. 2020, appendix); 0 is the representation itself.
        width: of the context network's layers (256: Hénaff et al. 2020, appendix).
        depth: its residual blocks (5: Hénaff et al. 2020, appendix).
        negatives: N, patches that are drawn as negatives (1,024: ours; see Hénaff et al. 2020, appendix, for all).
    """

    n_views = 1

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        steps: Count = 5,
        directions: Literal[1, 2, 4] = 1,
        dim: Width = 0,
        width: Count = 256,
        depth: Count = 5,
        negatives: Count = 1024,
    ) -> None:
        super().__init__(encoder, shape)
        if any(isinstance(part, nn.BatchNorm2d) for part in encoder.modules()):
            encoder.notes.append(
                "batch norms, which tell patches of one image from others: --encoder.norm_layer groupnorm1 has none"
            )
        self.dim, self.negatives = dim or encoder.dim, negatives
        self.turns = range(0, 4, 4 // directions)
        self.steps = min(steps, GRID - FIRST)
        self.target = nn.Linear(encoder.dim, dim) if dim else nn.Identity()
        self.contexts = nn.ModuleList(RowsAbove(encoder.dim, width, depth) for _ in self.turns)
        self.ahead = nn.ModuleList(nn.Linear(encoder.dim, self.steps * self.dim, bias=False) for _ in self.turns)

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are no grid of patches.

        Raises:
            UserError: others.
        """
        if views[0].ndim != 5 or views[0].shape[1] != PATCHES:
            raise UserError(
                f"the method predicts patches of a {GRID}×{GRID} grid: give --views patch-grid, or patch-grid-v2"
            )

    def grids(self, patches: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Returns what is predicted (B·7, 7, dim) and contexts (B·7, 7, D) of patches (B, 49, C, p, p), for each direction:
        seven columns of each image, in the order of prediction."""
        h = self.encoder(patches.flatten(0, 1)).view(-1, GRID, GRID, self.encoder.dim)  # (B, 7, 7, D)
        z = self.target(h)
        found = []
        for turns, context in zip(self.turns, self.contexts, strict=True):
            c = context(h.rot90(turns, (1, 2)).permute(0, 3, 1, 2)).permute(0, 3, 2, 1)  # (B, columns, rows, D)
            found.append((z.rot90(turns, (1, 2)).transpose(1, 2).flatten(0, 1), c.flatten(0, 1)))
        return found

    def weights(self, direction: int) -> Tensor:
        """Returns the matrices (K, dim, D) of a direction."""
        return SCALE * self.ahead[direction].weight.view(self.steps, self.dim, -1)  # type: ignore[operator]

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes InfoNCE of every patch that has one k rows before it, for k from 2 to K + 1, averaged over them and over
        directions."""
        found: list[Ahead] = []
        patches = len(batch.views[0]) * PATCHES
        for direction, (z, c) in enumerate(self.grids(batch.views[0])):
            every = gather(z).flatten(0, 1)  # (N·49, dim)
            drawn = (torch.rand(self.negatives, generator=at.generator()) * len(every)).long().to(z.device)
            length = torch.full((len(z),), GRID, device=z.device)
            origin = drawn - rank() * patches
            found.append(info_nce_ahead(z, c, self.weights(direction), length, every[drawn], origin, FIRST))
        losses, hits, pairs = (torch.stack(each).sum() for each in zip(*found, strict=True))
        return Loss(losses / pairs, {"accuracy": hits / pairs})

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the patches of three rows; for those two to four rows below the third, the patch of all images shown that
        is most like what is predicted; and all patches as they are."""
        patches = batch.views[0]  # (B, 49, C, p, p)
        z, c = self.grids(patches)[0]
        every, all_patches = z.view(-1, GRID, GRID, self.dim).transpose(1, 2).flatten(0, 2), patches.flatten(0, 1)
        predicted = covered(patches, SEEN)
        last = SEEN - 1
        for step, matrix in enumerate(self.weights(0)[: GRID - FIRST - last]):
            likely = (c[:, last] @ matrix.T @ every.T).argmax(1).view(-1, GRID)  # (B, 7), of each column
            row = (last + FIRST + step) * GRID
            predicted[:, row : row + GRID] = all_patches[likely]
        return {"above": covered(patches, SEEN), "predicted": predicted, "true": patches}
