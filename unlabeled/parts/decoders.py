"""Decoders: from what an encoder made of a part of a sample back to the whole."""

from __future__ import annotations

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from unlabeled.parts.patches import positions


class PatchDecoder(nn.Module):
    """Pixels of every patch from the tokens of a few (He et al. 2021, §3, "MAE decoder").

    Tokens are brought to the decoder's width; a learned token stands for each patch that is not there; all are put in order,
    get fixed positions, and go through transformer blocks; a linear layer reads the pixels off. Matrices start as Xavier and
    Glorot (2010) say, the mask token with a deviation of 0.02 (appendix A.1 and published code).

    Args:
        encoded: width of the tokens that come in.
        width: of the decoder, a multiple of 4 and of `heads`.
        depth: blocks.
        heads: of attention.
        values: of a patch.
    """

    def __init__(self, encoded: int, width: int, depth: int, heads: int, values: int) -> None:
        super().__init__()
        self.embed = nn.Linear(encoded, width)
        self.mask = nn.Parameter(torch.empty(1, 1, width))
        blocks = [Block(width, heads, qkv_bias=True) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks, LayerNorm(width))
        self.pixels = nn.Linear(width, values)
        nn.init.normal_(self.mask, std=0.02)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, h: Tensor, tokens: Tensor, keep: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
        """Returns patches row by row, those that were seen too.

        Args:
            h: (B, encoded) representations, which go along as one more token, without a position: so what is judged learns.
            tokens: (B, K, encoded) of the patches that were seen.
            keep: (B, K) int64, where these lie.
            hidden: (B, N - K) int64, where the others lie.
            grid: rows and columns, together N.

        Returns:
            (B, N, values).
        """
        x = self.embed(torch.cat([h[:, None], tokens], 1))  # (B, 1 + K, width)
        restore = torch.cat([keep, hidden], 1).argsort(1)[:, :, None].expand(-1, -1, x.shape[2])  # (B, N, width)
        patches = torch.cat([x[:, 1:], self.mask.expand(*hidden.shape, -1)], 1).gather(1, restore)  # (B, N, width), in order
        patches = patches + positions(*grid, x.shape[2], x.device)
        decoded: Tensor = self.pixels(self.blocks(torch.cat([x[:, :1], patches], 1))[:, 1:])
        return decoded
