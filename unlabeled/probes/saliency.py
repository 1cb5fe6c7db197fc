"""Which places of a picture a representation comes from: Grad-CAM for convolutions, attention roll-out for transformers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.probes.extract import frozen

COARSEST = 4
"""Places a side that a map of Grad-CAM has at least, where any stage has as many."""


@dataclass(frozen=True, slots=True)
class Saliency:
    """Where B pictures are looked at.

    Attributes:
        maps: (B, h, w) float32 on the CPU, >= 0, each of sum 1; all 0 where nothing speaks for the representation.
        covers: the share of the map's height and width that the picture fills, from the top left, in (0, 1]: less than 1
            where a transformer's patches reach beyond it.
        means: how it was found, in words.
    """

    maps: Tensor
    covers: float
    means: str


def saliency(encoder: Encoder, x: Tensor) -> Saliency:
    """Computes roll-out where the encoder is a ViT of timm, Grad-CAM otherwise. Everything in the encoder stays as it is.

    Args:
        x: images (B, C, H, W) uint8, on the encoder's device.

    Raises:
        UserError: an encoder that neither works for.
    """
    encoder = encoder.plain()
    with frozen(encoder):
        found = roll_out(encoder, x) if _attentions(encoder.backbone) else grad_cam(encoder, x)
    total = found.maps.sum((1, 2), keepdim=True)
    return Saliency(found.maps / torch.where(total > 0, total, 1), found.covers, found.means)


def grad_cam(encoder: Encoder, x: Tensor) -> Saliency:
    """Computes Grad-CAM (Selvaraju et al. 2017, §3, equations 1 and 2), for a representation in place of a class.

    The score whose gradient weighs the channels is h(x) · h(x') / ‖h(x')‖, the similarity with another view x' of the
    picture, held fixed: what contrastive methods raise, as in CAST (Selvaraju et al. 2021), in place of a class's logit.
    x' is the mirrored picture, so that nothing is drawn. The maps are those of the deepest stage with at least 4×4 places;
    in papers, of the last. Where the last stage is averaged into h, the map, before it is clipped at 0, adds up to the
    similarity but for a constant factor.
    """
    other = _mirrored(encoder, x)
    with torch.enable_grad():
        h, stages = encoder.local((x.float() / 255).requires_grad_())
        stage = _deepest(stages)
        gradient = torch.autograd.grad((h * other).sum(), stage, allow_unused=True)[0]
    if gradient is None:
        raise UserError(
            "this encoder's features are not made from the maps it shows: give another --encoder, such as resnet18"
        )
    weights = gradient.mean((2, 3), keepdim=True)  # (B, C, 1, 1), equation 1
    cam = (weights * stage).sum(1).relu().detach().float().cpu()  # (B, h, w), equation 2
    place = "last stage" if stage is stages[-1] else "deepest stage of 4×4 places or more"
    return Saliency(cam, 1.0, f"Grad-CAM of the {place}, for the similarity with the mirrored picture")


def roll_out(encoder: Encoder, x: Tensor) -> Saliency:
    """Computes attention roll-out (Abnar and Zuidema 2020, §3): how much of each patch reaches what h is read from.

    Each block passes on a half of its input by the residual connection and a half by attention, A = (W + 1) / 2, W the mean
    over heads; blocks multiply, A_L ... A_1. Read is the row of the class token, or the mean over the rows of the patches,
    as the encoder pools; the columns of class token and registers are left out.
    """
    backbone: Any = encoder.backbone
    prefix, pooling = backbone.num_prefix_tokens, backbone.global_pool
    if pooling not in ("token", "avg"):
        raise UserError(
            f"attention roll-out knows what pooling by 'token' or 'avg' reads, and this encoder pools by {pooling!r}"
        )
    joint: Tensor | None = None
    with torch.no_grad(), _weights(_attentions(backbone)) as found:
        encoder(x)
        for attention in found:
            mixed = (attention.float().mean(1) + torch.eye(attention.shape[-1], device=x.device)) / 2  # (B, N, N)
            joint = mixed if joint is None else mixed @ joint
    assert joint is not None
    read = joint[:, 0] if pooling == "token" else joint[:, prefix:].mean(1)  # (B, N)
    height, width = backbone.patch_embed.dynamic_feat_size((encoder.front.eval_size, encoder.front.eval_size))
    maps = read[:, prefix:].reshape(-1, height, width).cpu()
    return Saliency(
        maps, min(1.0, encoder.front.eval_size / (height * backbone.patch_embed.patch_size[0])), "attention roll-out"
    )


def _mirrored(encoder: Encoder, x: Tensor) -> Tensor:
    with torch.no_grad():
        return F.normalize(encoder(x.flip(3)), dim=1)


def _deepest(stages: list[Tensor]) -> Tensor:
    fine = [s for s in stages if min(s.shape[-2:]) >= COARSEST]
    return fine[-1] if fine else max(stages, key=lambda s: s.shape[-1])


def _attentions(backbone: nn.Module) -> list[Any]:
    """The attention of each block, first to last; none if it is not built so."""
    found = [getattr(block, "attn", None) for block in getattr(backbone, "blocks", ())]
    shown = hasattr(backbone, "num_prefix_tokens") and all(
        hasattr(a, "fused_attn") and hasattr(a, "attn_drop") for a in found
    )
    return found if shown else []


@contextmanager
def _weights(attentions: list[Any]) -> Iterator[list[Tensor]]:
    """A list that a pass fills with the attention weights (B, heads, N, N) of each block. PyTorch's fused attention makes
    none, so it is off for that time."""
    found: list[Tensor] = []
    before = [a.fused_attn for a in attentions]
    hooks = [a.attn_drop.register_forward_hook(lambda _, __, weights: found.append(weights)) for a in attentions]
    try:
        for a in attentions:
            a.fused_attn = False
        yield found
    finally:
        for a, fused, hook in zip(attentions, before, hooks, strict=True):
            a.fused_attn = fused
            hook.remove()
