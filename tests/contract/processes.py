"""What each of two processes computes, for the parent to compare with one process. Importable by a spawned child."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from unlabeled.batch import Batch, Progress
from unlabeled.distributed import any_process, gather, share_statistics
from unlabeled.methods.base import Comparison
from unlabeled.registry import Choice
from unlabeled.training.step import Step

from .kit import NAMES, RESNET, TOTAL, VIT, batch, learns, make, optimizer, policy, snapshot

WORLD, STEPS, SIZE, PIECES = 2, 3, 16, 2
RATE = 0.001
"""Small enough that steps do not blow rounding up: at 0.05, that of views alone moved BYOL's states by over a percent; at
0.01, that of a processor with AMX moved MoCo v3's by two."""
ENCODERS: dict[str, tuple[Choice, dict[str, Any]]] = {
    "batch norm": (RESNET, {"splits": 1}),  # keys in shuffled groups have statistics that depend on who is in a group
    "layer norm": (VIT, {}),
}


def part(of: Batch, rank: int) -> Batch:
    """This process's samples of a whole batch."""

    def mine(x: Tensor) -> Tensor:
        return x.chunk(WORLD)[rank]

    return Batch([mine(v) for v in of.views], mine(of.index), {k: mine(t) for k, t in of.targets.items()})


def run(name: str, encoder: str, rank: int | None, pieces: int = 1) -> dict[str, Any]:
    """A few steps as train.py takes them: images, losses, first gradients, state. `rank` None is one process."""
    choice, options = ENCODERS[encoder]
    method = share_statistics(make(name, choice, **options)).train()
    optimizers = optimizer(method, "sgd", lr=RATE)
    module = None if rank is None or pieces > 1 else DistributedDataParallel(method, broadcast_buffers=False)
    step = Step(method, lambda at: policy(name), optimizers, module=module, pieces=pieces)
    losses, images = [], []
    for number in range(STEPS):
        at = Progress(number, TOTAL, number)  # an epoch a step: what begins later has begun, too
        drawn = batch(name, method, number, SIZE)
        mine = drawn if rank is None else part(drawn, rank)
        optimizers.zero_grad()
        torch.manual_seed(1000 + number)
        loss = step.backward(mine, at)
        gradients = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
        with torch.no_grad():
            method.observe(loss, at)
            optimizers.step()
            method.after_step(at)
        losses.append(float(loss.total.detach()))
        images.append(mine.index.tolist())
        if number == 0:
            first = gradients
    return {"images": images, "losses": losses, "gradients": first, "state": snapshot(method)}


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


def child(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    found: dict[str, Any] = {"norm": normalised(rank), "gather": gathered(rank)}
    found["any"] = [any_process(rank == 1), any_process(False)]
    for name in NAMES:
        for encoder in ENCODERS:
            if learns(make(name)):
                found[f"{name}, {encoder}"] = run(name, encoder, rank)
        if isinstance(make(name), Comparison):
            found[f"{name} in pieces"] = run(name, "layer norm", rank, PIECES)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
