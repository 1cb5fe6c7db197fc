"""Rules of a step: what it moves, what it writes when, and that it can be repeated. Most look at the same six steps."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, Loss, Progress
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.parts.memory import Ema, Queue
from unlabeled.testing.rule import listed, near, require, rule
from unlabeled.testing.trial import AT, Trial, differing, forward, gradients, optimizer, snapshot
from unlabeled.training.step import Step

Part = TypeVar("Part", bound=nn.Module)

STEPS, SAVED = 6, 3
"""Steps that are watched, over an epoch's end, and those after which they are saved."""


def learns(trial: Trial) -> bool:
    """Whether it takes steps."""
    return trial.learns


def modules(method: Method, kind: type[Part]) -> dict[str, Part]:
    """Its parts of a kind, by name."""
    return {n: m for n, m in method.named_modules() if isinstance(m, kind)}


@dataclass
class Watched:
    """What some steps showed.

    Attributes:
        losses: of each.
        moving: parameters with a gradient that is not zero.
        astray: frozen parameters with a gradient.
        written: state that forward or backward wrote, but for running statistics.
        shaken: frozen parameters that something else than `after_step` moved.
        queued: what is wrong with what the queues hold and when.
        checkpoint: saved after `SAVED` steps.
        state: after the last.
    """

    losses: list[Loss] = field(default_factory=list)
    moving: set[str] = field(default_factory=set)
    astray: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    shaken: set[str] = field(default_factory=set)
    queued: set[str] = field(default_factory=set)
    checkpoint: io.BytesIO = field(default_factory=io.BytesIO)
    state: dict[str, Tensor] = field(default_factory=dict)


class Watching(Step):
    """The step, and a look at the state around each of its moments."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.seen = Watched()
        self.frozen: dict[str, Tensor] = {}
        self.keys: list[dict[str, Tensor]] = []
        for one in self.optimizers.held.values():
            one.register_step_post_hook(lambda *_: self.seen.shaken.update(differing(self.frozen, _frozen(self.method))))

    def backward(self, batch: Batch, at: Progress) -> Loss:
        """As it is, with a look before and after."""
        before = snapshot(self.method, statistics=False)
        keys = _keys(self.method)
        loss = super().backward(batch, at)
        self.keys = [keys, _keys(self.method)]
        self.seen.written.update(differing(before, snapshot(self.method, statistics=False)))
        for name, p in self.method.named_parameters():
            if p.grad is not None and not p.requires_grad:
                self.seen.astray.add(name)
            elif p.grad is not None and p.grad.any():
                self.seen.moving.add(name)
        self.frozen = {n: p.clone() for n, p in _frozen(self.method).items()}
        return loss

    def look_at_queues(self, loss: Loss) -> None:
        """After a step: the keys of this step are in the queue now, and were not when it was read."""
        for name, queue in modules(self.method, Queue).items():
            keys = queue.get_buffer("keys")
            fitting = [t.float() for t in loss.memory.values() if t.ndim == 2 and t.shape[1] == keys.shape[1]]
            given = [F.normalize(t, dim=1) for t in fitting]
            entered = [t for t in given if torch.cdist(t, keys).min(1).values.max() < 1e-3]
            if not entered:
                self.seen.queued.add(f"nothing of a step is in {name} after it")
            if any((t[:, None] == held[name]).all(2).any() for t in entered for held in self.keys):
                self.seen.queued.add(f"{name} holds the keys of a step when that step reads it")


def _keys(method: Method) -> dict[str, Tensor]:
    """A copy of what each queue holds."""
    return {n: queue.get_buffer("keys").clone() for n, queue in modules(method, Queue).items()}


def _frozen(method: Method) -> dict[str, Tensor]:
    return {n: p for n, p in method.named_parameters() if not p.requires_grad}


def watched(trial: Trial, rule: str = "adamw") -> Watched:
    """Six steps of a method, watched; saved after three."""
    method = trial.make()
    step = trial.stepper(method, optimizer(method, rule, lr=5e-3), Watching)
    assert isinstance(step, Watching)
    for number in range(STEPS):
        if number == SAVED:
            state = {"method": method.state_dict(), "optimizers": step.optimizers.state_dict()}
            torch.save(state, step.seen.checkpoint)
        step.seen.losses += trial.train(step, [number])
        step.look_at_queues(step.seen.losses[-1])
    step.seen.state = snapshot(method)
    return step.seen


@rule("Freeze what is not trained (`requires_grad_(False)`), and let the loss depend on the rest.", learns)
def gradients_reach_what_is_trainable(trial: Trial) -> None:
    """Within a few steps gradients reach every trainable parameter, and no frozen one."""
    seen, wanted = trial.once(watched), {n for n, p in trial.plain.named_parameters() if p.requires_grad}
    require(not seen.astray, f"frozen, and with a gradient: {listed(seen.astray)}")
    require(seen.moving == wanted, f"without a gradient: {listed(wanted - seen.moving)}")


@rule("Move copies in `after_step`.", lambda trial: trial.learns and bool(_frozen(trial.plain)))
def frozen_parameters_are_moved_by_after_step_alone(trial: Trial) -> None:
    """Neither forward, nor `observe`, nor the optimiser moves a frozen parameter."""
    seen = trial.once(watched)
    require(not seen.shaken, f"moved: {listed(seen.shaken)}")


@rule("Write state in `observe` or `after_step`.")
def forward_writes_nothing(trial: Trial) -> None:
    """Forward and backward write nothing but the running statistics of batch norms."""
    if trial.learns:
        written = trial.once(watched).written
    else:
        method = trial.make()
        before = snapshot(method, statistics=False)
        forward(method, trial.batch(2), AT)
        written = set(differing(before, snapshot(method, statistics=False)))
    require(not written, f"written: {listed(written)}")


@rule("Return `Loss(total, terms, memory)`: total a float32 scalar with its graph, all else detached.")
def forward_gives_a_loss(trial: Trial) -> None:
    """Forward gives a scalar to minimise, detached scalars to log, and the embedding z that a `Comparison` compares."""
    loss = forward(trial.make(), trial.batch(0), AT)
    require(loss.total.shape == (), f"total has the shape {tuple(loss.total.shape)}")
    require(loss.total.dtype == torch.float32, f"total is {loss.total.dtype}")
    require(loss.total.isfinite(), f"total is {float(loss.total.detach())}")
    require(loss.total.requires_grad == trial.learns, "total has no graph" if trial.learns else "total has a graph")
    if trial.compares:
        z = loss.memory.get("z")
        require(z is not None and z.shape[:-1] == (16,), 'memory["z"] (B, D) is missing: a collapse would not be seen')
    attached = [n for n, t in {**loss.terms, **loss.memory}.items() if t.requires_grad]
    require(not attached, f"with a graph: {listed(attached)}")
    large = [n for n, t in loss.terms.items() if t.shape != ()]
    require(not large, f"terms that are no scalars: {listed(large)}")
    unknown = loss.rivals.keys() - trial.plain.parts.keys()
    require(not unknown, f"rivals that are not among its `parts`: {listed(unknown)}")


@rule("Draw from the global generator or from `at.generator()`, and keep nothing outside the state.")
def the_same_step_gives_the_same_bits(trial: Trial) -> None:
    """Two methods that were built alike give the same loss for the same batch."""
    a, b = (forward(trial.make(), trial.batch(3), AT).total.detach() for _ in range(2))
    require(torch.equal(a, b), f"{float(a)!r} and {float(b)!r}")


@rule("Keep everything that lasts in parameters and buffers (`register_buffer`), so that `state_dict` has it.", learns)
def a_run_that_is_resumed_has_the_same_bits(trial: Trial) -> None:
    """Three steps, saved, and three more from the file are six steps."""
    resumed(trial, trial.once(watched))


def resumed(trial: Trial, whole: Watched, rule: str = "adamw") -> None:
    """Goes on from the checkpoint with a method that was built with another seed.

    Raises:
        ContractError: losses or state at the end are others.
    """
    second = trial.make(seed=7)
    optimizers = optimizer(second, rule, lr=5e-3)
    whole.checkpoint.seek(0)
    state = torch.load(whole.checkpoint, weights_only=True)
    second.load_state_dict(state["method"])
    optimizers.load_state_dict(state["optimizers"])
    late = trial.train(trial.stepper(second, optimizers), range(SAVED, STEPS))
    losses = zip(whole.losses[SAVED:], late, strict=True)
    changed = [number for number, (a, b) in enumerate(losses, SAVED) if not torch.equal(a.total, b.total)]
    require(not changed, f"the losses of steps {changed} are others")
    others = differing(whole.state, second.state_dict())
    require(not others, f"other values after the last step: {listed(others)}")


@rule("Compute losses in float32: `with torch.autocast(device, enabled=False)`, and `.float()`.", learns)
def bfloat16_is_near_float32(trial: Trial) -> None:
    """Under autocast to bfloat16 loss and gradient are nearly those of float32, and `observe` takes what forward gives."""

    def take(half: bool) -> tuple[float, Tensor]:
        method = trial.make()
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=half)
        with autocast:
            loss = forward(method, trial.batch(1, 32), AT)
        require(loss.total.dtype == torch.float32, f"total is {loss.total.dtype}")
        optimizer(method).backward(loss)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            method.observe(loss, AT)
        return float(loss.total.detach()), torch.cat([g.flatten() for g in gradients(method).values()])

    (exact, gradient), (rough, other) = take(False), take(True)
    require(near(rough, exact, 0.03, 5e-3), f"the loss is {rough:g} for {exact:g}")  # a negative cosine may be near 0
    cosine = float(F.cosine_similarity(gradient, other, dim=0))
    require(cosine > 0.9, f"the gradients have a cosine of {cosine:.2f}")


@rule("Let small batches pass, or raise a `UserError` that names the option to give, such as --batch-size.")
def odd_batches_work(trial: Trial) -> None:
    """Batches of 7, 5, 3 and 2 samples give finite numbers; of one sample too, or a word on what to do."""
    method = trial.make()
    step = trial.stepper(method) if trial.learns else None
    for number, size in enumerate((7, 5, 3, 2)):
        loss = trial.train(step, [number], size=size)[0] if step else forward(method, trial.batch(number, size), AT)
        require(loss.total.isfinite(), f"of {size} samples the loss is {float(loss.total.detach())}")
    lost = [n for n, t in method.state_dict().items() if not t.isfinite().all()]
    require(not lost, f"not finite: {listed(lost)}")
    alone = trial.make()
    try:
        loss = trial.take(trial.stepper(alone), 0, AT, 1) if trial.learns else forward(alone, trial.batch(0, 1), AT)
    except UserError as error:
        require(re.search("--[a-z-]+", str(error)), f"what is said of one sample has no remedy: {error}")
    else:
        require(loss.total.isfinite(), f"of one sample the loss is {float(loss.total.detach())}")


@rule("Push keys in `observe`, after the loss has read the queue.", lambda trial: trial.learns and trial.holds(Queue))
def a_queue_is_read_before_it_is_written(trial: Trial) -> None:
    """The keys of a step are in a queue after it, and not while it is read."""
    seen = trial.once(watched)
    require(not seen.queued, "; ".join(sorted(seen.queued)))


@rule("Call `update` of every copy in `after_step`.", lambda trial: trial.learns and trial.holds(Ema))
def a_copy_follows_its_network(trial: Trial) -> None:
    """After a step every number of a momentum copy has moved with its network, those of batch norms too, but for what is
    fixed in it."""
    method = trial.make(momentum=0.5)
    trial.train(trial.stepper(method, optimizer(method, "sgd", lr=0.1)), range(2))
    before = snapshot(method)
    with torch.no_grad():
        for p in method.parameters():
            if p.requires_grad:
                p.add_(0.1)
        for n, b in method.encoder.named_buffers():
            if n.endswith("running_mean"):
                b.add_(0.1)
        method.after_step(AT)
    still = (".mean", ".std", "running_var")
    fixed = {k for k, p in method.encoder.named_parameters() if not p.requires_grad}
    for n, copy in modules(method, Ema).items():
        values = {f"{n}.{k}": v for k, v in copy.state_dict().items() if v.is_floating_point() and not k.endswith(still)}
        left = [k for k, v in values.items() if torch.equal(v, before[k]) and k.removeprefix(f"{n}.module.") not in fixed]
        require(not left, f"did not follow: {listed(left)}")
