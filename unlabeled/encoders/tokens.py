"""Vision transformers that see some of their tokens only."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from unlabeled.errors import UserError
from unlabeled.parts.patches import positions


def vit(backbone: nn.Module) -> Any:
    """Returns the backbone, if it is timm's VisionTransformer: a sequence of patches that can be left out.

    Raises:
        UserError: it is another network.
    """
    if not isinstance(backbone, VisionTransformer):
        raise UserError(
            f"a network of type {type(backbone).__name__} cannot leave patches out: give a ViT as --encoder, such as "
            "vit_tiny_patch16_224"
        )
    return backbone


def visible(backbone: nn.Module, x: Tensor, keep: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Encodes some patches of each image, as masked autoencoders do (He et al. 2021, §3, "MAE encoder").

    The others, and mask tokens, never go in. Positions are added before patches are left out. timm's own dropping of patches
    at random (`patch_drop_rate`) is left out: `keep` says which go in.

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
    network = vit(backbone)
    tokens = network._pos_embed(network.patch_embed(x))  # (B, P + N, D), P class tokens and registers
    prefix = network.num_prefix_tokens
    chosen = keep[:, :, None].expand(-1, -1, tokens.shape[2])
    tokens = torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, chosen)], 1)  # (B, P + K, D)
    tokens = network.norm_pre(tokens)
    maps = []
    for block in network.blocks:
        tokens = block(tokens)
        maps.append(tokens[:, prefix:].mT)
    tokens = network.norm(tokens)
    maps[-1] = tokens[:, prefix:].mT
    return network.forward_head(tokens), maps


@torch.no_grad()
def fix_positions(backbone: Any) -> None:
    """Puts fixed sines and cosines in place of the positions that a ViT would learn, of its patches; none for its class
    token (He et al. 2021, appendix A.1)."""
    if backbone.pos_embed is not None:
        rows, columns = backbone.patch_embed.grid_size
        fixed = positions(rows, columns, backbone.embed_dim)  # (N, D)
        backbone.pos_embed.zero_()
        backbone.pos_embed[0, -len(fixed) :] = fixed
        backbone.pos_embed.requires_grad_(False)
