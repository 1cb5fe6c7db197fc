"""The optimisers of a method: one for each part that has its own, one for the rest; each with its schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled import registry
from unlabeled.batch import Loss, Progress
from unlabeled.errors import UserError
from unlabeled.optim.optim import groups
from unlabeled.optim.schedules import SCHEDULES, scaled_lr
from unlabeled.recipe import Scaling
from unlabeled.registry import Choice

Parts = Mapping[str, Mapping[str, Any]]
"""Submodule -> what differs for it: `{"lr": 0.01}`, `{"name": "adam", ...}`, `{"schedule": "constant"}`."""


class Optimizers:
    """Differentiates a loss and moves the parameters of a module.

    Args:
        module: whose trainable parameters.
        choice: the optimiser of all parts that name no other; its learning rate is for a batch of 256.
        parts: submodules with an optimiser of their own: options given there replace those of `choice`; with a `name`, all
            of them. `schedule` is one of `SCHEDULES`: `cosine` (with the warm-up), `constant`, `part-of-cosine`.
        batch_size: samples of a step, over all processes.
        scaling: how learning rates follow it.
        warmup: steps of linear warm-up.
        prepare: what is done to each optimiser when it is made.
    """

    def __init__(
        self,
        module: nn.Module,
        choice: Choice,
        parts: Parts,
        *,
        batch_size: int = 256,
        scaling: Scaling = "linear",
        warmup: int = 0,
        prepare: Callable[[Optimizer], Optimizer] = lambda optimizer: optimizer,
    ) -> None:
        self.warmup, self.given = warmup, parts
        self.held: dict[str, Optimizer] = {}
        self.rates: dict[str, float] = {}
        self.named = {part: str(parts.get(part, {}).get("schedule", "cosine")) for part in ("", *parts)}
        self.schedules = {part: SCHEDULES[name] for part, name in self.named.items()}
        trainable = {name: p for name, p in module.named_parameters() if p.requires_grad}
        for part in ("", *parts):
            mine = [p for name, p in trainable.items() if _part_of(name, parts) == part]
            if mine:
                own = _own(choice, parts.get(part, {}))
                self.held[part] = prepare(registry.build("optim", own, groups(mine)))
                rate = registry.get("optim", own.name).resolve(own.options).options["lr"]
                self.rates[part] = scaled_lr(float(rate), batch_size, scaling)

    def at(self, at: Progress) -> None:
        """Sets the learning rates of a step; a group may have a multiple of its part's, its `factor`."""
        for part, optimizer in self.held.items():
            for group in optimizer.param_groups:
                group["lr"] = self.schedules[part](at, self.rates[part], self.warmup) * group.get("factor", 1.0)

    @property
    def lr(self) -> float:
        """The learning rate of the rest, as it is now."""
        return float(next(iter(self.held.values())).param_groups[0]["lr"])

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for optimizer in self.held.values():
            optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Loss, share: float = 1.0, beside: Sequence[Tensor] = ()) -> None:
        """Differentiates: `total` by all parameters but those of rivals, each rival by its own part's alone.

        A rival so learns against the others in one pass, without taking turns: both gradients are those of Goodfellow et al.
        2014, algorithm 1, with one step of the discriminator.

        Args:
            loss: of a forward pass.
            share: of the batch that it is the mean of, in (0, 1].
            beside: leaves that are no parameters, and get the gradient of `total`, too.

        Raises:
            UserError: a rival that is no part.
        """
        if not loss.rivals:
            (loss.total * share if share < 1 else loss.total).backward()  # type: ignore[no-untyped-call]
            return
        if lacking := [part for part in loss.rivals if part not in self.held]:
            raise UserError(f"the loss has a rival {lacking[0]!r}, and the method no such part: add it to `parts`")
        rest = [*beside, *(p for part in self.held if part not in loss.rivals for p in self.parameters(part))]
        torch.autograd.backward(loss.total * share, inputs=rest, retain_graph=True)
        for part, rival in loss.rivals.items():
            torch.autograd.backward(rival * share, inputs=self.parameters(part), retain_graph=True)

    def parameters(self, part: str) -> list[nn.Parameter]:
        """Returns those of a part; of the rest for ""."""
        return [p for group in self.held[part].param_groups for p in group["params"]]

    def step(self) -> None:
        """Moves all parameters."""
        for optimizer in self.held.values():
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of each optimiser, by part."""
        return {part: optimizer.state_dict() for part, optimizer in self.held.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state_dict` gave.

        Raises:
            ValueError: of other parts or parameters.
        """
        if state.keys() != self.held.keys():
            raise ValueError(f"optimisers of {sorted(state)}, not of {sorted(self.held)}")
        for part, optimizer in self.held.items():
            optimizer.load_state_dict(state[part])


def _part_of(name: str, parts: Parts) -> str:
    """The part that a parameter belongs to, "" for the rest."""
    return next((part for part in parts if name == part or name.startswith(f"{part}.")), "")


def _own(choice: Choice, given: Mapping[str, Any]) -> Choice:
    options = {key: value for key, value in given.items() if key not in ("name", "schedule")}
    return Choice(given["name"], options) if "name" in given else Choice(choice.name, {**choice.options, **options})
