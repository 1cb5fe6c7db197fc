"""Objectives without negatives: predict the other view's embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean over samples of ‖p/‖p‖ - t/‖t‖‖² = 2 - 2 cos(p, t) (BYOL, eq. 2). No gradient flows into `target`.

    Args:
        prediction: (B, D), of the online network.
        target: (B, D), of the target network.

    Returns:
        Scalar in [0, 4], float32.
    """
    with torch.autocast(prediction.device.type, enabled=False):
        p, t = F.normalize(prediction.float(), dim=1), F.normalize(target.detach().float(), dim=1)
        return (p - t).square().sum(1).mean()
