"""Jigsaw: who can lay the tiles of a picture knows its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.parts.heads import mlp
from unlabeled.parts.patches import standardised
from unlabeled.registry import Count, register
from unlabeled.views.policies.puzzle import TILES, laid, mean_distance, orders

SGD = {"name": "sgd", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4}
"""For 256 images: Noroozi & Favaro 2016, §3.3; decay: the published configuration."""


@register("jigsaw", recipe={"views": "puzzle", "optimizer": SGD})
class Jigsaw(Method):
    """Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles (Noroozi & Favaro 2016), §3.

    The context-free network: nine tiles go through one encoder, each by itself, so that no edge can be followed from one to
    the next before all is seen; two layers tell of all of them in which of a set of orders they lie. Each tile has one mean
    and deviation, in each channel: brightness and tint, which neighbours share, tell nothing. A batch of B images so costs
    9 B tiles, each of a sixteenth of the image.

    Args:
        permutations: how many orders are told apart, those of the views (1,000: Noroozi & Favaro 2016, §3.3). The fewer,
            the easier (table 4).
        dim: of what is known of a tile (512: §3.1, fc6).
        hidden: width of the layer that sees all tiles (4,096: §3.1, fc7).
    """

    n_views = 1
    adds_up = True

    def __init__(
        self, encoder: Encoder, shape: DataShape, *, permutations: Count = 1000, dim: Count = 512, hidden: Count = 4096
    ) -> None:
        super().__init__(encoder, shape)
        self.of_tile = nn.Linear(encoder.dim, dim)
        self.of_tiles = mlp(TILES * dim, hidden, permutations, norm=False)
        self.permutations = permutations
        distance = mean_distance(orders(permutations))
        encoder.notes.append(f"{permutations:,} orders of {TILES} tiles, two of which differ in {distance:.2f} places")

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are no puzzles, or of another set of orders.

        Raises:
            UserError: others.
        """
        if "orders" not in targets:
            raise UserError("the method lays the tiles of puzzles, and these views are none: give --views puzzle")
        if (drawn := int(targets["orders"][0])) != self.permutations:
            raise UserError(
                f"the views draw {drawn:,} orders of the tiles, and the method tells {self.permutations:,} apart: give both "
                f"the same, as in --method.permutations {drawn} --views.permutations {drawn}"
            )

    def logits(self, tiles: Tensor) -> Tensor:
        """Returns how likely each order is: (B, permutations), of tiles (B, 9, C, t, t)."""
        h = self.encoder(standardised(tiles, self.encoder.front).flatten(0, 1))  # (9B, D)
        return self.of_tiles(self.of_tile(h).relu().view(len(tiles), -1)).float()  # type: ignore[no-any-return]

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the cross-entropy with the order that was drawn."""
        logits, order = self.logits(batch.views[0]), batch.targets["order"]
        correct = (logits.detach().argmax(1) == order).float().mean()
        return Loss(F.cross_entropy(logits, order), {"accuracy": correct})

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the tiles as they come, as they are predicted to lie, and as they lie."""
        tiles = batch.views[0]
        predicted = orders(self.permutations).to(tiles.device)[self.logits(tiles).argmax(1)]
        true = laid(tiles, batch.targets["permutation"])
        return {"shuffled": tiles, "predicted": laid(tiles, predicted), "true": true}
