"""What a whole tells of its parts."""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.losses.numeric import Reduction, check_rows, full_precision, reduce
from unlabeled.losses.tiles import log_sum_exp


@full_precision
def local_infomax(
    whole: Tensor, parts: Tensor, *, gathered: Tensor | None = None, offset: int = 0, reduction: Reduction = "mean"
) -> Tensor:
    """Tells each part of an image from the parts of all other images, given the whole: DIM(L) with InfoNCE.

    log(1 + Σ_{j≠i} Σ_m exp(g_i·p_jm - g_i·p_il)), the mean over the L parts l (Hjelm et al. 2019, in the
    form with InfoNCE). Nothing is normalised. The matrix of all scores is never built when it is large.

    Args:
        whole: (B, D), g: one vector of each image.
        parts: (B, L, D), p: of each image's L places.
        gathered: (N, L, D) parts of all processes.
        offset: where in `gathered` this process's images begin.
        reduction: over the B images.

    Returns:
        A number ≥ 0, or (B,); 0 for one image, log(1 + (N - 1) L) if all scores are equal.
    """
    check_rows("local_infomax", whole=whole)
    b, dim = whole.shape
    everyone = parts if gathered is None else gathered
    for key, tensor in (("parts", parts), ("gathered", everyone)):
        if tensor.ndim != 3 or tensor.shape[2] != dim or tensor.shape[1] == 0 or len(tensor) < b:
            raise ValueError(f"local_infomax: {key} has shape {tuple(tensor.shape)}; give ({b} or more, L, {dim})")
    if len(parts) != b or everyone.shape[1] != parts.shape[1]:
        raise ValueError(
            f"local_infomax: whole has shape {tuple(whole.shape)}, parts {tuple(parts.shape)} and gathered "
            f"{tuple(everyone.shape)}; give as many wholes as images, and as many parts of each"
        )
    if not 0 <= offset <= len(everyone) - b:
        raise ValueError(f"local_infomax: offset {offset} with {b} of {len(everyone)} images; give where these begin")
    places = parts.shape[1]
    first = (offset + torch.arange(b, device=whole.device)) * places  # (B,)
    others = log_sum_exp(whole, everyone.flatten(0, 1), 1.0, [first + place for place in range(places)])  # (B,)
    excess = others[:, None] - (whole[:, None] * parts).sum(2)  # (B, L)
    return reduce(torch.logaddexp(excess, torch.zeros_like(excess)).mean(1), reduction)
