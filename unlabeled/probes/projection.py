"""z = g(h): what the head of a method makes of features, for the protocols that ask what it throws away."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from unlabeled.probes.subject import Subject

NAMES = ("projector", "projectors", "expander")
"""What methods call g."""


def projector_of(subject: Subject) -> nn.Module | None:
    """A copy of g in evaluation mode, on the subject's device; None where there is none, or one that changes nothing."""
    method = subject.method() if subject.method else None
    found = next((getattr(method, name) for name in NAMES if hasattr(method, name)), None)
    if not isinstance(found, nn.Module) or isinstance(found, nn.Identity):
        return None
    return copy.deepcopy(found).to(subject.device).eval()


@torch.no_grad()
def project(projector: nn.Module, h: Tensor, device: torch.device | str) -> Tensor:
    """h (N, D) -> z (N, dim) float32 on the CPU; a projector's batch norms use the statistics they have."""
    return torch.cat([projector(part.to(device)).float().cpu() for part in torch.split(h, 1024)])
