"""Masked convolutions: networks that see of a grid what comes before a place, and nothing after it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class RowsAbove(nn.Module):
    """Maps a grid (B, D, H, W) to one of the same shape, in which each place has seen its own row and the rows above.

    Residual blocks of 1×1, 1×3 and 2×1 convolutions with ReLU, the last padded above (the context network of Hénaff et al.
    2020, "Data-Efficient Image Recognition with Contrastive Predictive Coding", appendix).

    Args:
        dim: D.
        width: of the layers within a block.
        depth: blocks; each sees one row further up, and one column further to each side.
    """

    def __init__(self, dim: int, width: int, depth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(dim, width, 1),
                nn.ReLU(),
                nn.Conv2d(width, width, (1, 3), padding=(0, 1)),
                nn.ZeroPad2d((0, 0, 1, 0)),
                nn.Conv2d(width, width, (2, 1)),
                nn.ReLU(),
                nn.Conv2d(width, dim, 1),
            )
            for _ in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, D, H, W) to the contexts (B, D, H, W) >= 0."""
        for block in self.blocks:
            x = x + block(x)
        return F.relu(x)
