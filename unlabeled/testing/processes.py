"""The rule of several processes: two with half a batch each are one with the whole (see `unlabeled.distributed`)."""

from __future__ import annotations

import io
import multiprocessing
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes
from torch.nn.parallel import DistributedDataParallel

from unlabeled import registry
from unlabeled.batch import Batch, Progress
from unlabeled.distributed import share_statistics
from unlabeled.parts.memory import Ema
from unlabeled.registry import Choice
from unlabeled.testing.pieces import EVEN, exact, without_norms
from unlabeled.testing.rule import Rule, require
from unlabeled.testing.trial import TOTAL, Trial, differing, optimizer, snapshot

WORLD, SIZE, PIECES = 2, 16, 2

RATE = 0.001
"""Small enough that steps do not blow rounding up: at 0.05, that of views alone moved BYOL's states by over a percent; at
0.01, that of a processor with AMX moved MoCo v3's by two."""

Found = dict[str, Any]


def run(trial: Trial, network: Choice, batches: Sequence[Batch], rank: int | None, pieces: int = 1) -> Found:
    """A few steps as training takes them: samples, losses, first gradients, state. `rank` None is one process.

    Keys in shuffled groups (`splits`) have statistics that depend on who is in a group: there is one group.
    """
    method = share_statistics(trial.make(network=network, splits=1)).train()
    optimizers = optimizer(method, "sgd", lr=RATE)
    parallel = rank is not None and pieces == 1 and not any("name" in part for part in method.parts.values())
    module = DistributedDataParallel(method, broadcast_buffers=False) if parallel else None
    step = trial.stepper(method, optimizers, module=module, pieces=pieces)
    losses, samples = [], []
    for number, whole in enumerate(batches):
        at = Progress(number, TOTAL, number)  # an epoch a step: what begins later has begun, too
        mine = whole if rank is None else part(whole, rank)
        optimizers.zero_grad()
        torch.manual_seed(1000 + number)
        loss = step.backward(mine, at)
        if number == 0:
            first = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
        with torch.no_grad():
            method.observe(loss, at)
            optimizers.step()
            method.after_step(at)
        losses.append(float(loss.total.detach()))
        samples.append(mine.index.tolist())
    return {"samples": samples, "losses": losses, "gradients": first, "state": snapshot(method)}


def start(job: Callable[..., None], *given: Any) -> None:
    """Runs `job(rank, *given)` in each of two processes; they are forked from one that has imported what it takes, which is
    half of the time of a short job."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()  # not on Windows
    if forks:
        multiprocessing.set_forkserver_preload([__name__])
    start_processes(job, given, WORLD, start_method="forkserver" if forks else "spawn")  # type: ignore[no-untyped-call]


def part(of: Batch, rank: int) -> Batch:
    """One process's samples of a whole batch."""

    def mine(x: Tensor) -> Tensor:
        return x.chunk(WORLD)[rank]

    beside = part(of.labelled, rank) if of.labelled else None
    return Batch([mine(v) for v in of.views], mine(of.index), {k: mine(t) for k, t in of.targets.items()}, beside)


def drawn(trial: Trial) -> list[Batch]:
    """Draws the whole batches of a step, and of another where it reads what the first wrote."""
    size = EVEN if trial.plain.labelled_beside(EVEN) else SIZE
    return [trial.batch(number, size) for number in range(2 if remembers(trial) else 1)]


def remembers(trial: Trial) -> bool:
    """Tells whether a step writes what a second one reads: more than weights and running statistics."""
    weights = {name for name, _ in trial.plain.named_parameters()}
    kept = {name for name in snapshot(trial.plain, statistics=False) if ".front." not in name}
    return bool(kept - weights) or trial.holds(Ema)


def plain_network(trial: Trial) -> Choice | None:
    """The network on which a batch may come in pieces: without batch norm, as a piece's statistics are its own."""
    return trial.once(without_norms) if exact(trial) else None


def work(trial: Trial, network: Choice | None, batches: Sequence[Batch], rank: int | None) -> dict[str, Found]:
    """What a process computes of a trial: at once, and on that network in pieces.

    At once with the batch norms of the first network where there is no other, or where something copies them: that they
    share their statistics is no matter of the method.
    """
    copies = trial.holds(Ema)
    found = {"at once": run(trial, trial.encoder if copies or not network else network, batches, rank)}
    if network and rank is None:
        found["in pieces"] = run(trial, network, batches[:1], None) if copies else found["at once"]
    elif network:
        found["in pieces"] = run(trial, network, batches[:1], rank, PIECES)
    return found


def packed(trials: Sequence[Trial]) -> bytes:
    """What a child needs: files that hold the methods, and the trials with their batches."""
    modules = {getattr(sys.modules.get(trial.entry.make.__module__), "__file__", None) for trial in trials}
    files = [file for file in modules if file and registry.is_plugin(file)]
    held = io.BytesIO()
    torch.save([(plain_network(trial), drawn(trial)) for trial in trials], held)
    told = pickle.dumps([(trial.entry, trial.network, trial.views, dict(trial.given)) for trial in trials])
    return pickle.dumps((files, told, held.getvalue()))


def take_part(rank: int, folder: str, job: bytes) -> dict[str, dict[str, Found]]:
    """In a child: meets the other one and computes its half of every trial."""
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=FutureWarning)  # newer PyTorch has other words for what older knows
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    files, told, held = pickle.loads(job)
    for file in files:
        registry.load_plugin(file)
    trials = [Trial(*each) for each in pickle.loads(told)]
    needed = torch.load(io.BytesIO(held), weights_only=False)
    return {
        trial.name: work(trial, network, batches, rank) for trial, (network, batches) in zip(trials, needed, strict=True)
    }


def child(rank: int, folder: str, job: bytes) -> None:
    """A process of its own."""
    torch.save(take_part(rank, folder, job), Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def in_two(trials: Sequence[Trial]) -> list[dict[str, dict[str, Found]]]:
    """What each of two processes computes of the trials, by name."""
    with tempfile.TemporaryDirectory() as folder:
        start(child, folder, packed(trials))
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


def compare(trial: Trial, found: Sequence[dict[str, Found]]) -> None:
    """Holds what two processes found to what this one finds.

    Raises:
        ContractError: they differ.
    """
    for way, one in work(trial, plain_network(trial), drawn(trial), None).items():
        two = [each[way] for each in found]
        require(two[0]["samples"] != two[1]["samples"], f"{way}, both saw the same samples")
        for number, (a, b, expected) in enumerate(zip(two[0]["losses"], two[1]["losses"], one["losses"], strict=False)):
            difference = abs((a + b) / 2 - expected)
            require(difference <= 1e-4 + 1e-3 * abs(expected), f"{way}, the loss of step {number} is off by {difference:g}")
        for what in ("gradients", "state"):
            others = differing(two[0][what], two[1][what])
            require(not others, f"{way}, {what} differ between the processes: {', '.join(others[:5])}")
        _close(two[0]["gradients"], one["gradients"], 1e-2, f"{way}, the gradient of")
        if way == "at once":
            _close(two[0]["state"], one["state"], 5e-3, f"{way}, the state")


def _close(a: dict[str, Tensor], b: dict[str, Tensor], rtol: float, what: str) -> None:
    """Each tensor, relative to its norm."""
    require(a.keys() == b.keys(), f"{what} other parameters")
    scale = max(float(v.float().norm()) for v in b.values())
    for k in a:
        error, size = float((a[k].float() - b[k].float()).norm()), float(b[k].float().norm())
        require(error <= rtol * max(size, 1e-3 * scale), f"{what} {k} is off by {error:g} of {size:g}")


TWO = Rule(
    "two processes are one",
    "two processes with half a batch each give loss, gradient and state of one with the whole",
    "Gather candidates (`distributed.gather`), keep anchors local, take means over local anchors, and draw what the batch "
    "shares from `at.generator()`.",
    lambda trial: trial.learns,
    lambda trial: compare(trial, [each[trial.name] for each in in_two([trial])]),
)
"""Asked for by itself: it starts two processes."""
