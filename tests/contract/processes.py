"""What each of two processes computes, for the parent to compare with one process. Importable by a spawned child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unlabeled.distributed import any_process, gather, share_statistics
from unlabeled.testing.processes import WORLD, take_part


def normalised(rank: int | None) -> dict[str, Tensor]:
    """Batch norm of unequal halves (their means differ by 3), forward and backward, over images and vectors."""
    found = {}
    for kind, norm, shape in (("2d", nn.BatchNorm2d(3), (8, 3, 2, 2)), ("1d", nn.BatchNorm1d(3), (8, 3))):
        whole = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        whole[4:] += 3
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        norm = share_statistics(nn.Sequential(norm))
        x = (whole if rank is None else whole.chunk(WORLD)[rank]).requires_grad_()
        y = norm(x)
        (y.sin() * (weight if rank is None else weight.chunk(WORLD)[rank])).sum().backward()
        assert x.grad is not None
        found |= {f"{kind} y": y.detach(), f"{kind} gradient": x.grad}
        found |= {f"{kind} {k}": v.float() for k, v in norm[0].state_dict().items()}
    return found


def gathered(rank: int | None) -> dict[str, Tensor]:
    """All rows, and the gradient of the mean over processes of (1 + rank)/2 · ‖XᵀX‖², X being all rows."""
    whole = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    x = (whole if rank is None else whole.chunk(WORLD)[rank]).clone().requires_grad_()
    rows = gather(x)
    factor = 3 / 4 if rank is None else (1 + rank) / 2 / WORLD
    (factor * (rows.T @ rows).square().sum()).backward()
    assert x.grad is not None
    return {"rows": rows.detach(), "gradient": x.grad}


def child(rank: int, folder: str, job: bytes) -> None:
    found: dict[str, Any] = {"trials": take_part(rank, folder, job)}
    found |= {"norm": normalised(rank), "gather": gathered(rank)}
    found["any"] = [any_process(rank == 1), any_process(False)]
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
