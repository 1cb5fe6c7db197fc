"""What stands before the first step: hardware, encoder, method, samples; and what is judged after the last."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from unlabeled import registry
from unlabeled.batch import DataShape, Progress, seed_of
from unlabeled.compute.gradients import without_strides
from unlabeled.compute.speed import Speed, keep_memory, usual
from unlabeled.data import Source, balanced_draw, held_out_classes
from unlabeled.data.kinds.kind import Kind, build, sees
from unlabeled.data.split import parse_amount
from unlabeled.distributed import share_statistics, world
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Extract, Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.parts.heads import LinearClassifier
from unlabeled.parts.memory import Ema, Queue
from unlabeled.probes.extract import features, precision_of
from unlabeled.recipe import Recipe, compose
from unlabeled.registry import Choice
from unlabeled.training import accumulate, failing
from unlabeled.training.batches import Clock, generator
from unlabeled.training.step import Step, judged_parts
from unlabeled.training.warm_start import Origin, begin_from
from unlabeled.views.view import Views
from unlabeled.words import counted

WHITENED = 50_000
"""Samples that a whitening is found from, at most: many for a matrix of a few thousand rows, quickly seen by an encoder."""

NORMALISED_BY = 80 << 20
"""Bytes of samples that an encoder finds its normalisation from, at most: 557 images of 224 pixels, which take four times as
much in float32. Ours."""


def make_fabric(recipe: Recipe, accelerator: str, devices: int, loggers: Sequence[Any] = ()) -> Fabric:
    """Makes the Fabric for this recipe; `auto` precision is bf16 where the machine computes in it.

    Raises:
        UserError: no such hardware here.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    failing.tell_end()
    on_cpu = accelerator == "cpu" or (accelerator == "auto" and not torch.accelerator.is_available())
    device = torch.device("cpu" if on_cpu else "cuda")
    if on_cpu:
        keep_memory()
    half = (usual(device, recipe.precision) if recipe.speed == "auto" else Speed.parse(recipe.speed)).bf16
    strategy = DDPStrategy(broadcast_buffers=False, timeout=timedelta(seconds=failing.SILENCE)) if devices > 1 else "auto"
    try:
        return Fabric(
            accelerator="cpu" if on_cpu else accelerator,
            devices=devices,
            strategy=strategy,
            precision="bf16-mixed" if half else "32-true",
            loggers=list(loggers),
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"--accelerator {accelerator} --devices {devices} cannot be had here: {reason}") from error


@dataclass
class Setup:
    """A run before its first step.

    Attributes:
        fabric: of the device and precision.
        source: of the training samples.
        chosen: (n,) positions in it of those that are trained on.
        labels: (n,) of them, -1 where there is none to be seen.
        method: on the device.
        clock: of the steps; none to take where nothing is trainable.
        speed: how to compute.
        step: takes a step; None where there is none to take.
        ema: an average of the encoder's weights, which is judged in its place; None for none.
        schedule: the learning rate, in words.
        origin: where the weights come from; None for noise.
    """

    fabric: Fabric
    source: Source
    chosen: np.ndarray
    labels: np.ndarray
    method: Method
    clock: Clock
    speed: Speed
    step: Step | None
    ema: Ema | None
    schedule: str
    origin: Origin | None = None

    @property
    def judged(self) -> Encoder:
        """The encoder that is looked at, saved and exported."""
        return self.ema.module["encoder"] if self.ema else self.method.encoder  # type: ignore[index]

    @property
    def classifier(self) -> LinearClassifier | None:
        """The classifier on it, where the method learns one."""
        head = self.method.label_head
        return self.ema.module["classifier"] if self.ema and head is not None else head  # type: ignore[index]


def set_up(recipe: Recipe, source: Source, fabric: Fabric, *, resumed: bool = False) -> Setup:
    """Builds everything that a step needs; writes nothing. Of a run that is resumed the weights come from its checkpoint.

    Raises:
        UserError: a batch larger than the data, and what method and views refuse.
    """
    torch.manual_seed(recipe.seed)
    chosen, labels = chosen_images(recipe, source)
    learner = registry.get("methods", recipe.method.name).make
    _check_kind(source.kind, f"method {recipe.method.name!r}", sees(learner), f"--method {source.kind.method}")
    encoder = initial_encoder(recipe, source)
    origin = begin_from(encoder, recipe.encoder, recipe.start) if recipe.start and not resumed else None
    method = built(recipe, source, len(chosen), encoder)
    _check_batch(recipe, method, labels, source.kind.nouns)
    fabric.to_device(method)
    share_statistics(method)
    speed = usual(fabric.device, recipe.precision) if recipe.speed == "auto" else Speed.parse(recipe.speed)
    method.to(memory_format=speed.layout)
    trainable = any(p.requires_grad for p in method.parameters())
    clock = Clock(len(chosen) // recipe.batch_size, recipe.epochs if trainable else 0, recipe.seed)
    views = growing_views(recipe, method)
    _check_kind(source.kind, f"the policy {recipe.views.name!r}", sees(views(clock.at(0))), f"--views {source.kind.policy}")
    for first_or_last in (clock.at(0), clock.at(max(0, clock.total - 1))):
        drawn, targets = views(first_or_last)(source.fetch(chosen[:2]), generator(recipe.seed, 0, 0))
        method.check(drawn, targets)
        method.encoder.front.check(method.encoder.backbone, drawn)
    if method.n_views not in (None, len(drawn)):
        views_drawn = f"{counted(len(drawn), 'views')} of each {source.kind.noun}"
        raise UserError(
            f"the policy {recipe.views.name!r} draws {views_drawn}, and "
            f"{recipe.method.name!r} compares {method.n_views}: give other --views"
        )
    if recipe.tta > 1:
        method.encoder.with_tta(recipe.tta)  # whether it can
    warmup_epochs = min(10.0, recipe.epochs / 10) if recipe.warmup_epochs is None else recipe.warmup_epochs
    ema = Ema(judged_parts(method)) if recipe.ema and clock.total else None
    step = None
    if clock.total:
        optimizers = optimizers_of(recipe, method, speed, round(warmup_epochs * clock.per_epoch))
        speed.prepare(method.encoder, followers(method, method.encoder))
        parallel = world() > 1 and recipe.accumulate == 1 and not any("name" in part for part in method.parts.values())
        step = Step(
            method, views, optimizers, seed=recipe.seed, autocast=fabric.autocast, pieces=recipe.accumulate, ema=ema,
            decay=recipe.ema, module=fabric.strategy.setup_module(method) if parallel else None,
        )  # fmt: skip
    elif not resumed:
        torch.manual_seed(seed_of(recipe.seed, 0, 2))  # as before an epoch
        with torch.no_grad():
            method.before_epoch(clock.at(0), extractor(source, chosen, fabric, speed))
    schedule = _said(recipe, step.optimizers, warmup_epochs) if step else "nothing to optimise"
    return Setup(fabric, source, chosen, labels, method, clock, speed, step, ema, schedule, origin)


def extractor(source: Source, chosen: np.ndarray, fabric: Fabric, speed: Speed) -> Extract:
    """Returns what `before_epoch` is given: it runs a module over training samples, as they are."""

    def extract(module: nn.Module, rows: Tensor | None = None) -> Tensor:
        asked = chosen if rows is None else chosen[rows.numpy()]
        with speed.eager():
            return features(module, source, device=fabric.device, indices=asked, precision=precision_of(fabric))

    return extract


def _said(recipe: Recipe, optimizers: Optimizers, warmup_epochs: float) -> str:
    """Says the learning rate of the first part, usually all that no part of its own has, and how it falls."""
    part, lr = next(iter(optimizers.rates.items()))
    stated = float(recipe.optimizer.options["lr"])
    rate = f"learning rate {lr:g}"
    if recipe.lr_scaling != "none" and "lr" not in optimizers.given.get(part, {}):
        rate += f" = {stated:g} for 256 samples, {recipe.lr_scaling} scaling to {recipe.batch_size}"
    falls = {
        "cosine": f"{counted(warmup_epochs, 'epochs')} of warm-up, then cosine",
        "constant": "constant",
        "part-of-cosine": "falling along cos(7πt/16), without warm-up",
    }
    return f"{rate}; {falls[optimizers.named[part]]}"


def _check_kind(kind: Kind, what: str, sees: Sequence[str], remedy: str) -> None:
    """Refuses a method or views that are of other data."""
    if kind.name not in sees:
        raise UserError(f"{what} is for data of kind {', '.join(sees)}, and these are {kind.nouns}: give {remedy}, say")


def planned_steps(recipe: Recipe, source: Source) -> int:
    """Counts the steps that a run takes: none where nothing is trainable."""
    chosen, _ = chosen_images(recipe, source)
    trainable = any(p.requires_grad for p in built(recipe, source, len(chosen)).parameters())
    return len(chosen) // recipe.batch_size * recipe.epochs * trainable


def growing_views(recipe: Recipe, method: Method) -> Callable[[Progress], Views]:
    """Returns the recipe's policy at the size that progress asks for."""
    kind = _kind(recipe, method.shape.kind)
    policy = cache(lambda size: registry.build("views", recipe.views, replace(method.shape, size=size)))
    return lambda at: policy(kind.view_size(at))


def optimizers_of(recipe: Recipe, method: Method, speed: Speed, warmup: int) -> Optimizers:
    """Builds the recipe's optimiser for each part of the method."""
    return Optimizers(
        method, recipe.optimizer, method.parts, batch_size=recipe.batch_size, scaling=recipe.lr_scaling, warmup=warmup,
        prepare=speed.fuse,
    )  # fmt: skip


def _check_batch(recipe: Recipe, method: Method, labels: np.ndarray, nouns: str) -> None:
    n, beside = len(labels), method.labelled_beside(recipe.batch_size)
    if recipe.batch_size > n:
        raise UserError(
            f"the batch size is {recipe.batch_size}, larger than the {counted(n, nouns)} to train on: "
            f"give --batch-size {max(1, n - n % (world() * recipe.accumulate))} or less"
        )
    if recipe.batch_size % world():
        raise UserError(
            f"the batch size is {recipe.batch_size}, which {counted(world(), 'devices')} cannot share: give a multiple"
        )
    for part in method.modules():
        if isinstance(part, Queue):
            part.check(recipe.batch_size)
    if beside and not (labels >= 0).any():
        raise UserError(
            f"method {recipe.method.name!r} needs some labelled samples, and the data has none: give a folder with one "
            "sub-folder a class, or another method"
        )
    if beside % world():
        raise UserError(
            f"{counted(beside, 'labelled samples', 'go')} with each batch of {recipe.batch_size}, which "
            f"{counted(world(), 'devices')} cannot share: give another --batch-size"
        )
    accumulate.check(method, recipe.accumulate, recipe.batch_size // world())


def shape_of(recipe: Recipe, source: Source, n: int | None = None) -> DataShape:
    """Returns what methods and views may know of a source, of which n samples are trained on, all if None."""
    end = Progress(1, 1, 0)
    size = _kind(recipe, source.kind.name).view_size(end)
    columns = tuple((name, len(labelled.classes)) for name, labelled in label_columns(recipe, source).items())
    return DataShape(
        len(source) if n is None else n, source.channels, size, len(source.classes),
        source.invariances, source.kind.name, columns,
    )  # fmt: skip


def label_columns(recipe: Recipe, source: Source) -> dict[str, Source]:
    """Returns the samples with the labels of each column that is learned; {} where there is one at most.

    Raises:
        UserError: the method takes one alone; a column that is not there, holds no classes or one alone, or is named twice.
    """
    if not recipe.more_labels:
        return {}
    if not getattr(registry.get("methods", recipe.method.name).make, "many_labels", False):
        raise UserError(
            f"method {recipe.method.name!r} takes one column of labels, and --label names {1 + len(recipe.more_labels)}: "
            "give one, or --method multi-task, which learns several"
        )
    names = [recipe.label or source.label, *recipe.more_labels]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise UserError(f"--label {twice[0]} is given twice: give each column once")
    found = {name: source.labelled_by(name) for name in names}
    for name, labelled in found.items():
        if len(labelled.classes) < 2:
            raise UserError(f"--label {name}: there is one class alone, {', '.join(labelled.classes)}: give another column")
    return found


def followers(module: nn.Module, encoder: Encoder) -> list[nn.Module]:
    """Returns the encoders in a module beside the one that learns."""
    return [part for part in module.modules() if isinstance(part, Encoder) and part is not encoder]


def initial_encoder(recipe: Recipe, source: Source) -> Encoder:
    """Builds the untrained encoder of a recipe: a function of its seed and of some training samples, by which it
    normalises, 2,048 at most and not more than `NORMALISED_BY` bytes of them."""
    each = sum(math.prod(shape) * np.dtype(kind).itemsize for kind, shape in source.form.fields.values())
    count = max(1, min(len(source), 2048, NORMALISED_BY // each))
    sample = np.unique(np.linspace(0, len(source) - 1, count).astype(np.int64))
    fields = source.fetch(sample)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return _kind(recipe, source.kind.name).encoder(recipe.encoder, source.channels, fields)


def built(recipe: Recipe, source: Source, n: int, encoder: Encoder | None = None) -> Method:
    """Builds the untrained method of a recipe, for n training samples of the source; around that encoder, if one is given.

    Raises:
        UserError: options that do not go together, or with so many samples.
    """
    method: Method = registry.build(
        "methods", recipe.method, encoder or initial_encoder(recipe, source), shape_of(recipe, source, n)
    )
    without_strides(method)
    return method


def chosen_images(recipe: Recipe, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions (n,) of the samples to train on, and their labels (n,), of T columns (n, T), -1 where there is none
    to be seen: none of a held-out class, only labelled ones if the method takes no others, labels of the recipe's share
    only."""
    held = held_out_classes(len(source.classes), recipe.hold_out_classes, recipe.seed)
    if source.labels is None:
        return np.arange(len(source)), np.full(len(source), -1)
    labels = np.where(np.isin(source.labels, held), -2, source.labels)
    if recipe.labels != "100%":
        known = np.flatnonzero(labels >= 0)
        seen = known[balanced_draw(labels[known], parse_amount(recipe.labels), recipe.seed)]
        labels = np.where(np.isin(np.arange(len(labels)), seen) | (labels == -2), labels, -1)
    only_labelled = getattr(registry.get("methods", recipe.method.name).make, "only_labelled", False)
    chosen = np.flatnonzero(labels >= (0 if only_labelled else -1))
    if columns := label_columns(recipe, source):
        each = [np.full(len(source), -1) if one.labels is None else one.labels for one in columns.values()]
        hidden = labels < 0 if recipe.labels != "100%" else np.zeros(len(source), bool)
        return chosen, np.where(hidden[:, None], -1, np.stack(each, 1))[chosen]
    return chosen, labels[chosen]


def finished_encoder(
    encoder: Encoder, source: Source, chosen: np.ndarray, fabric: Fabric, *, tta: int, whiten: bool
) -> Encoder:
    """Returns what is judged and exported after training: the encoder, if asked a copy with test-time augmentation, and
    whitened by `chosen` samples of the source, at most `WHITENED` of them, evenly spread."""
    encoder = encoder.with_tta(tta) if tta > 1 else encoder
    if not whiten:
        return encoder
    taken = chosen[np.unique(np.linspace(0, len(chosen) - 1, min(len(chosen), WHITENED)).astype(np.int64))]
    h = features(encoder, source, device=fabric.device, indices=taken, precision=precision_of(fabric))
    return encoder.whitened(h) if h.isfinite().all() else encoder


def capped(recipe: Recipe, source: Source) -> tuple[Recipe, dict[str, int]]:
    """Returns the recipe with no option of its method above the number of training samples that counts those: a longer queue
    holds a sample twice, as a negative of itself; and what the options that are brought down were."""
    n = len(chosen_images(recipe, source)[0])
    known, options = registry.get("methods", recipe.method.name).options(), recipe.method.options
    asked = {name: value for name, value in options.items() if known[name].counts_samples and value > n}
    return replace(recipe, method=Choice(recipe.method.name, {**options, **dict.fromkeys(asked, n)})), asked


def _kind(recipe: Recipe, name: str) -> Kind:
    """The kind of the data, with the recipe's options: the recipe may leave its name open."""
    return build(Choice(name, recipe.kind.options))


def resolved(recipe: Recipe, source: Source, *, begun: bool = False) -> Recipe:
    """Returns the recipe with the kind of the data and what its options leave open; and with views of that kind where
    none are named and the usual ones are for other data. What an encoder's options leave open is chosen too, unless
    the run has `begun`: it goes on with the encoder that it has."""
    kind = _kind(recipe, source.kind.name)
    views = recipe.views
    usual = compose({"method": recipe.method.name}).views.name
    if views.name == usual and kind.name not in sees(registry.get("views", usual).make):
        views = registry.get("views", kind.policy).resolve({})
    known, encoder = kind.resolved(source.form), recipe.encoder
    encoder = encoder if begun else build(known).fitted(encoder, source.form)
    return replace(recipe, kind=known, encoder=encoder, views=views)
