"""Multi-task: one network that solves several tasks, of which each keeps it from what the others do not need."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Extract, Method
from unlabeled.parts.heads import LinearClassifier
from unlabeled.registry import Choice, register
from unlabeled.views.policies.tasks import apart

USUAL = "relative-patch", "colorization", "exemplar"
"""Those of Doersch & Zisserman 2017, §3, that need no video."""
ADAM = {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-4}
"""Ours: the gradients of several losses differ by orders of magnitude, from which Adam's steps are free."""
LABELS = "supervised"
"""The method whose views labels are learned from."""

Weights = tuple[float, ...] | Literal["equal", "learned"]


def asked(given: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of the tasks that a recipe asks for; of several columns of labels, none beside them."""
    said = given.get("method", {}).get("tasks") or ()
    names = tuple(part.strip() for part in (said.strip("()[] ").split(",") if isinstance(said, str) else said) if part)
    return names or (() if given.get("more_labels") else USUAL)


def prescribed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the views of all tasks, and what they ask of the encoder: where one sees the lightness alone, all do, as
    Doersch & Zisserman 2017 harmonise the inputs of their tasks."""
    names = [name for name in asked(given) if name != "multi-task"]
    parts = [registry.get("methods", name).prescribed("") for name in names]
    encoder: dict[str, Any] = {}
    for part in parts:
        wanted = {key: value for key, value in part.items() if key.startswith("encoder")}
        if unlike := [key for key, value in wanted.items() if encoder.get(key, value) != value]:
            raise UserError(
                f"the tasks {', '.join(names)} ask for encoders of which --{unlike[0]} is {encoder[unlike[0]]} and "
                f"{wanted[unlike[0]]}: leave one of them out"
            )
        encoder |= wanted
    views = {"name": "tasks", "tasks": [*names, *[LABELS] * bool(given.get("more_labels"))]}
    return {**encoder, "views": views, "optimizer": ADAM}


@register("multi-task", recipe=prescribed)
class MultiTask(Method):
    """Multi-task Self-Supervised Visual Learning (Doersch & Zisserman 2017); Multitask Learning (Caruana 1997).

    One encoder and a head for each task, which all tasks train together: hard sharing. A task is any method that learns from
    views of each image, with its own defaults, by name; each draws its own views of the same images, so that a batch costs
    the sum. Several columns of labels (`--label a --label b`) are tasks, too: linear classifiers on one mildly augmented
    view. A sample without a label of one column teaches the others.

    The loss is the weighted sum of theirs. Learned weights are those of Kendall, Gal & Cipolla 2018, "Multi-Task Learning
    Using Uncertainty to Weigh Losses": exp(-s) L + s for each task, where s = log σ² is a parameter that begins at 0; it is
    best at s = log L, where each task counts as log L.

    Args:
        tasks: names of methods, with commas between; by default relative-patch, colorization and exemplar (Doersch &
            Zisserman 2017, §3, who have motion segmentation as the fourth), and none beside several columns of labels.
        weights: `equal`; `learned` (Kendall et al. 2018); or a number for each task, with commas between: columns of labels
            after the others.
        alone: whether each column of labels has a network of its own, too, which begins with the same weights and learns
            that column alone, to be reported beside, as Caruana 1997 does; it costs as much again for each.
    """

    n_views = None
    many_labels = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        tasks: tuple[str, ...] = (),
        weights: Weights = "equal",
        alone: bool = True,
    ) -> None:
        super().__init__(encoder, shape)
        self.columns = [name for name, _ in shape.columns]
        tasks = asked({"method": {"tasks": tasks}, "more_labels": self.columns})
        self.names = [*tasks, *self.columns]
        _check_names(self.names)
        self.tasks = nn.ModuleDict({name: _task(name, encoder, shape) for name in tasks})
        self.classifiers = nn.ModuleList(LinearClassifier(encoder.dim, classes) for _, classes in shape.columns)
        self.needs_labels = bool(self.columns)
        self.adds_up = not self.columns and all(task.adds_up for task in self.each())
        self.parts = {f"tasks.{name}.{part}": how for name, task in self.tasks.items() for part, how in task.parts.items()}  # type: ignore[union-attr, operator]
        self.alone = nn.ModuleList()
        if alone and self.columns:
            self.alone.extend(copy.deepcopy(nn.Sequential(encoder, head)) for head in self.classifiers)
            self.parts = {**self.parts, "alone": {}}
        self.log_variance = nn.Parameter(torch.zeros(len(self.names))) if weights == "learned" else None
        fixed = (1.0,) * len(self.names) if isinstance(weights, str) else weights
        if len(fixed) != len(self.names) or min(fixed) < 0 or not any(fixed):
            raise UserError(
                f"weights {','.join(f'{w:g}' for w in fixed)} do not fit the {len(self.names)} tasks "
                f"{', '.join(self.names)}: give a number of at least 0 for each, or equal, or learned"
            )
        self.register_buffer("weights", torch.tensor(fixed), persistent=False)

    def each(self) -> list[Method]:
        """Returns the tasks that are methods."""
        return [task for task in self.tasks.values() if isinstance(task, Method)]

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that one of the tasks cannot use.

        Raises:
            UserError: others.
        """
        drawn = apart(list(views), dict(targets))
        if len(drawn) != len(self.tasks) + bool(self.columns):
            raise UserError(
                f"the tasks are {', '.join(self.names)}, and these views are for {len(drawn)}: leave --views out, or give "
                "--views tasks with --views.tasks, the same names, and last supervised where labels are learned"
            )
        for task, (own, mine) in zip(self.each(), drawn, strict=False):
            task.check(own, mine)
            if task.n_views not in (None, len(own)):
                raise UserError(f"a task compares {task.n_views} views, and its policy draws {len(own)}: give another")

    def batches(self, batch: Batch) -> list[Batch]:
        """Returns what each task sees of a batch, and last what the classifiers of columns see."""
        return [Batch(views, batch.index, targets) for views, targets in apart(batch.views, batch.targets)]

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes Σ w L of the tasks, or Σ exp(-s) L + s (Kendall et al. 2018, eq. 7, with s = log σ², times 2)."""
        seen = self.batches(batch)
        losses = [task(part, at) for task, part in zip(self.each(), seen, strict=False)]
        found = [loss.total.float() for loss in losses]
        terms, memory, rivals = dict[str, Tensor](), dict[str, Tensor](), dict[str, Tensor]()
        for name, loss in zip(self.names, losses, strict=False):
            terms |= {f"{name}_{term}": value for term, value in loss.terms.items()}
            memory |= {f"{name}.{key}": value for key, value in loss.memory.items()}
            rivals |= {f"tasks.{name}.{part}": value for part, value in loss.rivals.items()}
        if self.columns:
            told, more, apart_from_it = self._labelled(seen[-1].views[0], batch.targets["label"])
            found, terms = [*found, *told], {**terms, **more}
            rivals |= {"alone": apart_from_it} if len(self.alone) else {}
        stacked = torch.stack(found)  # (T,)
        terms |= {f"{name}_loss": value for name, value in zip(self.names, stacked.detach(), strict=True)}
        if self.log_variance is None:
            return Loss((self.get_buffer("weights") * stacked).sum(), terms, memory, rivals)
        s = self.log_variance
        terms |= {f"{name}_weight": value for name, value in zip(self.names, (-s.detach()).exp(), strict=True)}
        return Loss(((-s).exp() * stacked + s).sum(), terms, memory, rivals)

    def _labelled(self, x: Tensor, labels: Tensor) -> tuple[list[Tensor], dict[str, Tensor], Tensor]:
        """The cross-entropy of each column, what is logged, and the sum of those of the networks that learn one alone."""
        h = self.encoder(x)  # (B, D)
        shared = [told(head(h), labels[:, place]) for place, head in enumerate(self.classifiers)]
        own = [told(pair(x), labels[:, place]) for place, pair in enumerate(self.alone)]
        terms = {f"{name}_accuracy": right for name, (_, right) in zip(self.columns, shared, strict=True)}
        terms |= {f"{name}_alone_accuracy": right for name, (_, right) in zip(self.columns, own, strict=False)}
        return [loss for loss, _ in shared], terms, torch.stack([loss for loss, _ in own] or [h.new_zeros(())]).sum()

    def classifying(self) -> dict[str, Sequence[nn.Module]]:
        """Returns the shared network and the one that learned it alone, of each column."""
        shared = [nn.Sequential(self.encoder, head) for head in self.classifiers]
        alone = [[pair] for pair in self.alone] or [[] for _ in shared]
        return {name: [one, *own] for name, one, own in zip(self.columns, shared, alone, strict=True)}

    def observe(self, loss: Loss, at: Progress) -> None:
        """Lets each task remember its own."""
        for name, task in zip(self.names, self.each(), strict=False):
            mine = {key.removeprefix(f"{name}."): kept for key, kept in loss.memory.items() if key.startswith(f"{name}.")}
            task.observe(Loss(loss.total, memory=mine), at)

    def after_step(self, at: Progress) -> None:
        """Lets each task follow."""
        for task in self.each():
            task.after_step(at)

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Lets each task prepare."""
        for task in self.each():
            task.before_epoch(at, extract)

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws what each task makes."""
        drawn = zip(self.names, self.each(), self.batches(batch), strict=False)
        made = {name: task.pictures(part, at) for name, task, part in drawn}
        return {f"{name}: {what}": images for name, each in made.items() for what, images in each.items()}

    def full_cost_from(self, epochs: int) -> int:
        """Returns the epoch from which the last of the tasks costs what it does to the end."""
        return max((task.full_cost_from(epochs) for task in self.each()), default=0)


def told(logits: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean cross-entropy of those with a label >= 0, and the share of these that is right; 0 without any."""
    known = gather((label >= 0).float().sum()[None]).mean().clamp(min=0.5)  # as many in each process, in the mean
    loss = F.cross_entropy(logits.float(), label, ignore_index=-1, reduction="sum") / known
    return loss, (logits.detach().argmax(1) == label).sum() / known


def _task(name: str, encoder: Encoder, shape: DataShape) -> Method:
    """A method around the shared encoder."""
    made: Any = registry.get("methods", name).make
    task: Method | None = None if made is MultiTask else registry.build("methods", Choice(name), encoder, shape)
    learns = any(p.requires_grad for p in encoder.parameters())
    if task is None or task.needs_labels or task.labelled_beside(2) or task.n_views is None or not learns:
        raise UserError(
            f"the task {name!r} is not possible: a task learns from a fixed number of views of each image, and no label; "
            f"give such as rotation, {', '.join(USUAL)}"
        )
    return task


def _check_names(names: Sequence[str]) -> None:
    """Refuses fewer than two tasks, and one twice."""
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise UserError(
            f"the task {twice[0]!r} is given twice: give each once, and --method.weights for one that counts more"
        )
    if len(names) < 2:
        raise UserError(
            f"{names[0]!r} is one task alone, and the method learns several: give --method.tasks of two or more, such as "
            f"{names[0]},rotation, or --method {names[0]}"
        )
