"""Rules of a batch in pieces (`--accumulate`): the gradient is that of the whole."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, Loss
from unlabeled.methods.base import Comparison, Method
from unlabeled.parts.memory import in_passes
from unlabeled.registry import Choice
from unlabeled.testing.rule import near, require, rule
from unlabeled.testing.trial import AT, Trial, differing, forward, gradients, optimizer, snapshot
from unlabeled.training import accumulate

SEEDS = [11, 12, 13, 14, 1000 + AT.step]
"""Of the pieces, and of the comparison: what it draws is what the whole batch draws in `forward`."""
PIECES = len(SEEDS) - 1
UNEVEN = 30
"""Samples that four pieces cannot share."""
EVEN = 28
"""Samples that they can, and the labelled ones that go with so many, too: as a run has it."""

Found = tuple[float, dict[str, Tensor]]
Autocast = Callable[[], AbstractContextManager[object]]


def half() -> torch.autocast:
    """The precision of many runs."""
    return torch.autocast("cpu", torch.bfloat16)


def without_norms(trial: Trial) -> Choice | None:
    """A network whose representation of a sample depends on no other sample."""
    for network in trial.networks.values():
        parts = trial.built(network).modules()
        if not any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in parts):
            return network
    return None


def exact(trial: Trial) -> bool:
    """Whether a gradient in pieces can be that of the whole batch."""
    return trial.learns and trial.in_pieces and trial.once(without_norms) is not None


def size(trial: Trial) -> int:
    """Of the batch that comes in pieces."""
    return EVEN if trial.plain.labelled_beside(EVEN) else UNEVEN


def _backward(method: Method, loss: Loss) -> Found:
    optimizer(method).backward(loss)
    return float(loss.total.detach()), gradients(method)


def whole(trial: Trial, autocast: Autocast = nullcontext) -> Found:
    """Loss and gradients of the batch at once."""
    method = trial.make(network=trial.once(without_norms))
    with autocast():
        loss = forward(method, trial.batch(0, size(trial)), AT)
    return _backward(method, loss)


def in_pieces(method: Method, drawn: Batch, autocast: Autocast = nullcontext) -> Found:
    """Loss and gradients of a batch in pieces."""
    method.train()
    loss = accumulate.backward(method, drawn, AT, SEEDS, autocast, optimizer(method).backward)
    return float(loss.total.detach()), gradients(method)


def of_pieces(trial: Trial, autocast: Autocast = nullcontext) -> Found:
    """The same batch in pieces."""
    return in_pieces(trial.make(network=trial.once(without_norms)), trial.batch(0, size(trial)), autocast)


def in_one_graph(method: Comparison, drawn: Batch) -> Found:
    """One graph that holds all pieces: what gradient caching must give, batch norm and drop-out included."""
    method.train()
    parts = []
    for seed, part in zip(SEEDS, accumulate._split(drawn, PIECES), strict=False):
        torch.manual_seed(seed)
        parts.append({**method.embed(part), **({} if method.groups_batch else method.constants(part))})
    torch.manual_seed(SEEDS[-1])
    with in_passes(method, PIECES):
        grouped = method.constants(drawn) if method.groups_batch else {}
    return _backward(method, method.compare({n: torch.cat([p[n] for p in parts]) for n in parts[0]} | grouped, AT))


def close(a: dict[str, Tensor], b: dict[str, Tensor], rtol: float) -> None:
    """Holds each gradient to another, relative to its norm; one in which terms cancel, as in a bias before a norm, relative
    to the largest: it keeps the rounding of its terms.

    Raises:
        ContractError: they differ.
    """
    require(a.keys() == b.keys(), "other parameters have a gradient")
    scale = max(float(v.norm()) for v in b.values())
    require(scale > 0, "all gradients are zero")
    for n in a:
        error, size = float((a[n] - b[n]).norm()), float(b[n].norm())
        require(error <= rtol * max(size, 5e-2 * scale), f"the gradient of {n} is off by {error:g} of {size:g}")


def cosine(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Of two gradients."""
    require(a.keys() == b.keys(), "other parameters have a gradient")
    left, right = (torch.cat([v.flatten() for v in g.values()]) for g in (a, b))
    return float(torch.nn.functional.cosine_similarity(left, right, dim=0))


REMEDY = "Keep `embed` to one sample at a time and heads in `compare`; a loss that `adds_up` is a mean over samples."


@rule(REMEDY, exact)
def pieces_give_the_gradient_of_the_whole(trial: Trial) -> None:
    """Without batch norm in the encoder, a batch in pieces gives loss and gradient of the batch at once."""
    (total, expected), (again, found) = trial.once(whole), trial.once(of_pieces)
    require(near(again, total, 1e-5), f"the loss is {again:g}, and {total:g} at once")
    close(found, expected, 1e-5)


@rule(REMEDY, exact)
def pieces_in_bfloat16_are_as_near(trial: Trial) -> None:
    """In bfloat16 the gradient in pieces is as near that of float32 as the gradient of the batch at once."""
    expected = trial.once(of_pieces)[1]
    parts, at_once = cosine(of_pieces(trial, half)[1], expected), cosine(whole(trial, half)[1], expected)
    require(parts > min(0.95, at_once - 0.02), f"cosines of {parts:.3f} in pieces and {at_once:.3f} at once")


@rule(
    "Write nothing in `embed` and `constants`, and draw from the global generator or `at.generator()`.",
    lambda trial: trial.compares,
)
def both_passes_of_pieces_see_the_same(trial: Trial) -> None:
    """With batch norm and drop-out, both passes over the pieces see the same network; statistics are written once."""
    network = dropping(trial.encoder)
    plain, method = trial.make(network=network), trial.make(network=network)
    before = snapshot(method)
    assert isinstance(plain, Comparison)
    total, expected = in_one_graph(plain, trial.batch(0, 32))
    again, found = in_pieces(method, trial.batch(0, 32))
    require(near(again, total, 1e-5), f"the loss is {again:g}, and {total:g} with one graph")
    close(found, expected, 1e-4)
    others = differing(snapshot(plain), snapshot(method))
    require(not others, f"state is written otherwise: {', '.join(others[:5])}")
    norms = any("running_mean" in name for name in before)
    require(not norms or differing(before, snapshot(method)), "no statistics are written")


def dropping(network: Choice) -> Choice:
    """The network with paths of its blocks left out at random, in each sample by itself."""
    return Choice(network.name, {**network.options, "drop_path_rate": 0.3})
