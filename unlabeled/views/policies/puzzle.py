"""The policy of jigsaw puzzles: nine tiles of an image in one of a known set of orders."""

from __future__ import annotations

from functools import cache
from itertools import chain, permutations

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import Count, register
from unlabeled.views.ops import cut_out
from unlabeled.views.view import RATIO, View, check_number, draw_views

GRID = 3
TILES = GRID * GRID
ORDERS = 362_880
"""9!, in which nine tiles can be laid."""
CELL, TILE = 85, 64
"""Sides of a cell of the grid and of the tile cut from it, of an image of 255 px (Noroozi & Favaro 2016, §3.3)."""
LEAST = 4
SET_SEED = 0


@register("puzzle")
class Puzzle:
    """Nine tiles of an image, one at a random place in each cell of a 3×3 grid, in one of a set of orders (Noroozi & Favaro
    2016, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", §3.3).

    What would tell how tiles lie together without a look at what they show is taken away, as there: a gap, of a quarter
    of a cell on the average, so that edges do not go on in the neighbour; each colour shifted by itself, against chromatic
    aberration; 30% of images without colour. (Tiles are brought to one mean and deviation by the method.) The paper's
    images are mirrored by none; ours are, where the data allow it, which tells nothing of the order.

    The targets: "permutation" (B, 9), which cell, counted by rows, each tile comes from; "order" (B,), the number of that
    order in the set; and "orders" (B,), how many there are.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        permutations: Count = 1000,
        tile: int = 0,
        scale: tuple[float, float] = (1.0, 1.0),
        mirror: float = 0.5,
        grey: float = 0.3,
        shift: float = 2 / TILE,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            permutations: how many orders the set holds, of the method, too (1,000: Noroozi & Favaro 2016, §3.3).
            tile: side of a tile in pixels; 0 for 64/85 of a cell's.
            scale: least and largest area of the image's crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it.
            grey: probability of losing the colour (0.3: §4.3).
            shift: largest shift of each colour of a tile along each axis, as a fraction of the tile's side: 2 px of 64
                (§4.3), so none in tiles of 16 and fewer.

        Raises:
            UserError: a value out of range, or images too small for tiles.
        """
        cell = shape.size // GRID
        self.tile = int(tile) or max(LEAST, round(cell * TILE / CELL))
        if not 1 <= self.tile <= cell:
            raise UserError(
                f"tiles of {self.tile} px do not fit into views of {shape.size} px, whose {GRID}×{GRID} cells have {cell}: "
                f"give --image-size {GRID * max(self.tile, LEAST)} or more, or --views.tile {max(1, cell)} or less"
            )
        check_number("shift", shift, 0.0, 1.0, "it is a fraction of the tile's side")
        self.cell, self.shift = cell, round(shift * self.tile)
        self.starts = torch.tensor([place * shape.size // GRID for place in range(GRID)])
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts = [View(shape.size, scale, ratio, mirror=mirror, grey=grey).within(shape)]
        self.orders = orders(permutations)

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [tiles (B, 9, C, t, t)] in [0, 1]; "permutation", "order" and "orders" int64."""
        (whole,) = draw_views(self.parts, fields["image"], generator)  # (B, C, size, size)
        count, channels, size, _ = whole.shape
        chosen = torch.randint(len(self.orders), (count,), generator=generator)
        order = self.orders[chosen]  # (B, 9)
        gap = torch.randint(self.cell - self.tile + 1, (2, count, TILES, 1), generator=generator)
        moved = torch.randint(-self.shift, self.shift + 1, (2, count, TILES, channels), generator=generator)
        corner = torch.stack([self.starts[order // GRID], self.starts[order % GRID]])[..., None] + gap
        top, left = (corner + moved).clamp(0, size - self.tile).to(whole.device)  # (B, 9, C) each
        targets = {"permutation": order, "order": chosen, "orders": torch.full((count,), len(self.orders))}
        return [cut_out(whole, top, left, self.tile)], {name: values.to(whole.device) for name, values in targets.items()}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Draws the tiles as they come and as they lie in the image."""
        return {"shuffled": views[0], "true": laid(views[0], targets["permutation"])}


def laid(tiles: Tensor, order: Tensor) -> Tensor:
    """Lays tiles (B, 9, C, t, t) into the cells `order` (B, 9) that they come from."""
    places = order.argsort(1)
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], places]


@cache
def orders(count: int, seed: int = SET_SEED) -> Tensor:
    """Chooses so many orders of nine tiles that are far from each other: (count, 9) int64 (Noroozi & Favaro 2016,
    algorithm 1).

    One after the other, of all 9! that are left the one whose mean Hamming distance to those chosen is largest; ties are
    decided by the order in which the seed shuffles all of them.

    Raises:
        UserError: more than there are, or fewer than two, of which there is nothing to tell.
    """
    if not 2 <= count <= ORDERS:
        raise UserError(
            f"permutations {count:,} is not possible: nine tiles have {ORDERS:,} orders, and one alone is nothing to "
            f"tell; give a number from 2 to {ORDERS:,}, such as 1000"
        )
    table = np.fromiter(chain.from_iterable(permutations(range(TILES))), np.uint8, TILES * ORDERS).reshape(ORDERS, TILES)
    columns = np.ascontiguousarray(np.random.default_rng(seed).permutation(table).T)  # (9, 9!)
    shared = np.zeros(ORDERS, np.int32)  # places that an order shares with those chosen, all together
    chosen = np.empty(count, np.int64)
    for place in range(count):
        chosen[place] = nearest = shared.argmin()
        for tile in columns:
            shared += tile == tile[nearest]
        shared[nearest] = np.iinfo(np.int32).max // 2
    return torch.from_numpy(columns[:, chosen].T.astype(np.int64))


def mean_distance(chosen: Tensor) -> float:
    """Computes the mean Hamming distance between any two of some orders (n, 9), at most 9: the number of tiles that lie
    elsewhere."""
    n = len(chosen)
    counts = torch.stack([(chosen == cell).sum(0) for cell in range(TILES)]).double()  # (9, 9) of each cell and place
    shared = float((counts * (counts - 1)).sum()) / (n * (n - 1))
    return TILES - shared
