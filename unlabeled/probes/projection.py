"""z = g(h): what the head of a method makes of features, for the protocols that ask what it throws away."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from unlabeled.probes.subject import Subject


def projector_of(subject: Subject) -> nn.Module | None:
    """Returns a copy of g in evaluation mode, on the subject's device; None where there is none, or one that changes
    nothing."""
    found = subject.method().g if subject.method else None
    return copy.deepcopy(found).to(subject.device).eval() if found is not None else None


@torch.no_grad()
def project(projector: nn.Module, h: Tensor, device: torch.device | str) -> Tensor:
    """Maps h (N, D) -> z (N, dim) float32 on the CPU; a projector's batch norms use the statistics they have."""
    return torch.cat([projector(part.to(device)).float().cpu() for part in torch.split(h, 1024)])
