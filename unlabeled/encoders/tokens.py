"""Vision transformers that see some of their tokens only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unlabeled.errors import UserError


def visible(backbone: Any, x: Tensor, keep: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Encodes some patches of each image, as masked autoencoders do (He et al. 2021, §3, "MAE encoder").

    The others, and mask tokens, never go in. Positions are added before patches are left out.

    Args:
        backbone: timm's VisionTransformer.
        x: (B, C, H, W) normalised images.
        keep: (B, K) int64, places of patches, row by row.

    Returns:
        h (B, dim) as the backbone pools it, and the tokens (B, dim, K) of each block, in the order of `keep`; the last after
        the final norm, as h is.

    Raises:
        UserError: a network without such tokens.
    """
    if not all(hasattr(backbone, part) for part in ("patch_embed", "_pos_embed", "blocks", "norm_pre", "forward_head")):
        raise UserError(
            f"a network of type {type(backbone).__name__} cannot leave patches out: give a ViT as --encoder, such as "
            "vit_tiny_patch16_224"
        )
    tokens = backbone._pos_embed(backbone.patch_embed(x))  # (B, P + N, D), P class tokens and registers
    prefix = backbone.num_prefix_tokens
    chosen = keep[:, :, None].expand(-1, -1, tokens.shape[2])
    tokens = torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, chosen)], 1)  # (B, P + K, D)
    tokens = backbone.norm_pre(backbone.patch_drop(tokens))
    maps = []
    for block in backbone.blocks:
        tokens = block(tokens)
        maps.append(tokens[:, prefix:].mT)
    tokens = backbone.norm(tokens)
    maps[-1] = tokens[:, prefix:].mT
    return backbone.forward_head(tokens), maps
