"""The policy of several tasks at once: each draws its own views and targets of the same samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import Choice, register
from unlabeled.views.view import Views

Targets = dict[str, Tensor]


@register("tasks")
class Tasks:
    """The views that several methods prescribe, one after the other: each policy draws its own of every sample (Doersch &
    Zisserman 2017, "Multi-task Self-Supervised Visual Learning").

    The targets of a policy have its place before their names, "1.order"; "1.views" (B, V) has as many columns as it drew
    views.
    """

    def __init__(self, shape: DataShape, *, tasks: tuple[str, ...] = ("rotation",)) -> None:
        """Builds each.

        Args:
            shape: of the data.
            tasks: names of the methods whose views are drawn, with commas between: those of the method, and `supervised`
                for columns of labels.

        Raises:
            UserError: none, an unknown one, or one that draws views of several tasks itself.
        """
        parts = [registry.get("methods", name).prescribed("").get("views", "simclr") for name in tasks]
        choices = [Choice(part) if isinstance(part, str) else _choice(**part) for part in parts]
        if not tasks or "tasks" in (choice.name for choice in choices):
            raise UserError(f"tasks {','.join(tasks)!r} is not possible: give names of methods, such as rotation")
        self.tasks = tasks
        self.policies: dict[str, Views] = {
            f"{place}.": registry.build("views", choice, shape) for place, choice in enumerate(choices)
        }

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], Targets]:
        """Draws those of each policy."""
        views: list[Tensor] = []
        targets: Targets = {}
        for place, policy in self.policies.items():
            drawn, found = policy(fields, generator)
            counted = torch.zeros(len(drawn[0]), len(drawn), device=drawn[0].device)
            targets |= {place + name: values for name, values in {**found, "views": counted}.items()}
            views += drawn
        return views, targets

    def task(self, views: list[Tensor], targets: Targets) -> dict[str, Tensor]:
        """Draws what each asks for, or its views where it asks for nothing."""
        found: dict[str, Tensor] = {}
        each = zip(self.tasks, self.policies.values(), apart(views, targets), strict=True)
        for name, policy, (own, mine) in each:
            asks = getattr(policy, "task", None)
            drawn = asks(own, mine) if asks else {f"view {n}": view for n, view in enumerate(own, 1)}
            found |= {f"{name}: {what}": images for what, images in drawn.items()}
        return found


def _choice(name: str, **options: Any) -> Choice:
    return Choice(name, options)


def apart(views: list[Tensor], targets: Targets) -> list[tuple[list[Tensor], Targets]]:
    """Returns views and targets of each policy, as it drew them."""
    parts: list[tuple[list[Tensor], Targets]] = []
    first = 0
    while (place := f"{len(parts)}.") + "views" in targets:
        count = targets[place + "views"].shape[1]
        mine = {name.removeprefix(place): values for name, values in targets.items() if name.startswith(place)}
        parts.append((views[first : first + count], mine))
        first += count
    return parts
