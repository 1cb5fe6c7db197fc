"""Decoders: from what an encoder made of a part of a sample back to the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from timm.layers.norm import LayerNorm
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.parts.patches import joined, positions


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
        _start(self)

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


class BlockPredictor(nn.Module):
    """Tokens of blocks that are not seen from those that are: a narrow transformer (Assran et al. 2023, §3, "Prediction").

    Tokens are brought to its width; a learned token, with the place's fixed position, stands for each patch asked for; every
    block is predicted by itself. Weights start as `PatchDecoder`'s.

    Args:
        dim: width of the tokens that come in, and of those predicted.
        width: of the predictor, a multiple of 4 and of `heads`.
        depth: blocks of the transformer.
        heads: of attention.
    """

    def __init__(self, dim: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.embed, self.mask = nn.Linear(dim, width), nn.Parameter(torch.empty(1, 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)), LayerNorm(width))
        self.tokens = nn.Linear(width, dim)
        _start(self)

    def forward(self, tokens: Tensor, keep: Tensor, asked: Tensor, grid: tuple[int, int]) -> Tensor:
        """Returns the tokens of each block, (B, M, T, dim).

        Args:
            tokens: (B, K, dim) of the patches that were seen.
            keep: (B, K) int64, where these lie, row by row.
            asked: (B, M, T) int64, where those of each of M blocks lie.
            grid: rows and columns.
        """
        at = positions(*grid, self.mask.shape[2], tokens.device)  # (N, width)
        (count, blocks, places), seen = asked.shape, keep.shape[1]
        x = (self.embed(tokens) + at[keep])[:, None].expand(-1, blocks, -1, -1)  # (B, M, K, width)
        x = torch.cat([x, (self.mask + at[asked.flatten(1)]).view(count, blocks, places, -1)], 2)
        predicted: Tensor = self.tokens(self.blocks(x.flatten(0, 1))[:, seen:])
        return predicted.view(count, blocks, places, -1)


class MapDecoder(nn.Module):
    """Values at every place of a larger grid from the last map of an encoder, and from its representation.

    Both are brought to the decoder's width, and h is added at every place: what is judged always learns, and every place
    knows of the whole image. Then the map is doubled until it is as large as what is asked for, each time by a 3×3
    convolution to four times the channels, which become four places (the sub-pixel convolution of Shi et al. 2016), with
    `map_norm` and ReLU; a last convolution gives the values.

    Args:
        encoded: length of h.
        channels: of the map.
        width: of the decoder.
        values: of each place.
        ratio: side of the grid asked for, in sides of the map; the next power of 2 is taken.
    """

    def __init__(self, encoded: int, channels: int, width: int, values: int, ratio: float) -> None:
        super().__init__()
        self.local, self.whole = nn.Conv2d(channels, width, 1), nn.Linear(encoded, width, bias=False)
        layers: list[nn.Module] = [map_norm(width), nn.ReLU()]
        for _ in range(max(0, math.ceil(math.log2(ratio) - 1e-9))):
            layers += _doubled(width, width)
        self.layers, self.values = nn.Sequential(*layers), nn.Conv2d(width, values, 3, padding=1)

    def forward(self, h: Tensor, last: Tensor, places: tuple[int, int]) -> Tensor:
        """Returns the values at each place.

        Args:
            h: (B, encoded) representations.
            last: (B, channels, H, W) maps.
            places: rows and columns asked for; of another size than the layers give, the map is resized before the last.

        Returns:
            (B, values, *places).
        """
        x = self.layers(self.local(last) + self.whole(h)[:, :, None, None])
        if x.shape[2:] != places:
            x = F.interpolate(x, places, mode="bilinear", align_corners=False)
        decoded: Tensor = self.values(x)
        return decoded


class MirrorDecoder(nn.Module):
    """Images from a representation alone, by the stages of a convolutional encoder in reverse.

    A linear layer makes of h a map as large as the last stage's. It is doubled to the side of each stage before, with that
    stage's channels, and then to the image's, as `MapDecoder` doubles; a last convolution gives the values.

    Args:
        encoded: length of h.
        stages: channels, rows and columns of each stage's map, first to last.
        values: channels of the image.
        size: its side; where doubling does not meet it, the map is resized before the last convolution.
    """

    def __init__(self, encoded: int, stages: Sequence[tuple[int, ...]], values: int, size: int) -> None:
        super().__init__()
        width, side, columns = stages[-1]
        self.seed, self.size = nn.Linear(encoded, width * side * columns), size
        layers: list[nn.Module] = [nn.Unflatten(1, (width, side, columns)), map_norm(width), nn.ReLU()]
        for channels, rows in [*((c, r) for c, r, _ in reversed(stages[:-1])), (stages[0][0], size)]:
            while side < rows:
                layers += _doubled(width, channels)
                width, side = channels, 2 * side
        self.layers, self.values = nn.Sequential(*layers), nn.Conv2d(width, values, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """Returns images (B, values, size, size) of h (B, encoded)."""
        x, size = self.layers(self.seed(h)), (self.size, self.size)
        if x.shape[2:] != size:
            x = F.interpolate(x, size, mode="bilinear", align_corners=False)
        decoded: Tensor = self.values(x)
        return decoded


class PatchMirror(nn.Module):
    """Images from a representation alone, by as many blocks as a ViT has: `PatchDecoder`, for which all patches are hidden.

    Args:
        encoded: length of h.
        width: of the ViT; the next multiple of four times its heads is taken.
        depth: its blocks.
        heads: of its attention.
        side: of its patches, in pixels.
        values: channels of the image.
        size: its side.
    """

    def __init__(self, encoded: int, width: int, depth: int, heads: int, side: int, values: int, size: int) -> None:
        super().__init__()
        multiple = 4 * heads
        self.side, self.size = side, size
        self.patches = PatchDecoder(encoded, -(-width // multiple) * multiple, depth, heads, side**2 * values)

    def forward(self, h: Tensor) -> Tensor:
        """Returns images (B, values, size, size) of h (B, encoded)."""
        rows = -(-self.size // self.side)
        hidden = torch.arange(rows * rows, device=h.device).expand(len(h), -1)
        patches = self.patches(h, h[:, None, :][:, :0], hidden[:, :0], hidden, (rows, rows))  # (B, N, p²C)
        return joined(patches, self.side, self.size, self.size)


def _doubled(width: int, channels: int) -> list[nn.Module]:
    """A map of `width` channels with twice the side and so many channels, by sub-pixels."""
    return [
        nn.Conv2d(width, 4 * channels, 3, padding=1, bias=False), nn.PixelShuffle(2), map_norm(channels), nn.ReLU(),
    ]  # fmt: skip


def map_norm(width: int) -> nn.GroupNorm:
    """Builds a norm of maps of so many channels, over all of an image's places and channels (group norm of one group, Wu &
    He 2018). It sees one image at a time, so that a batch in pieces is the whole; and it leaves what all places of a channel
    share, such as h, which a norm of few channels would take away."""
    return nn.GroupNorm(1, width)


def _start(decoder: PatchDecoder | BlockPredictor) -> None:
    nn.init.normal_(decoder.mask, std=0.02)
    for layer in decoder.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
