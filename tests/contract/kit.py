"""What the contract suite builds methods, batches and steps from: small nets, synthetic clusters, and train.py's loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Fields, Loss, Progress
from unlabeled.encoders import Encoder, Lab, build_encoder
from unlabeled.methods.base import Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.optim.schedules import SCHEDULES
from unlabeled.probes.extract import features
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.training.batches import Drawn, generator
from unlabeled.training.step import Step
from unlabeled.views.view import Views

NAMES = registry.names("methods")
SIZE, CLASSES = 16, 8
TOTAL, PER_EPOCH = 12, 4

RESNET = Choice("resnet10t", {"width": 4})
VIT = Choice("vit_tiny_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": 4})
"""Without batch norm: for what batch statistics in groups would make incomparable."""
FINE = Choice(VIT.name, {k: v for k, v in VIT.options.items() if k != "patch_size"})
"""With as many patches as policies of masks expect."""

SMALL = {
    "dim": 32,
    "queue": 64,
    "hardest": 64,
    "mixed": 8,
    "query_mixed": 4,
    "prototypes": 64,
    "noise": 64,
    "negatives": 64,
    "invariance": 30.0,
    "width": 32,
    "depth": 1,
    "heads": 2,
}
"""Upper bounds of options that make a method small, where it has them. (Hardest: all keys of the queue; with eight clusters
the nearest few would all be of the query's own.)"""
GIVEN = {"hidden": 64, "bottleneck": 16, "clusters": "8", "batch_norm": True}
GIVEN |= {"mix_from": 0, "queue_from": 1, "frozen_epochs": 0, "warm_up": 0.0, "epsilon": 0.01, "pool": 0.5}
"""Options, where it has them, with which a few steps of a small network show everything."""
MILD = {"scale": (0.5, 1.0), "small_scale": (0.3, 0.6)}
"""Options of views, where they have them: a 16-pixel texture does not survive a crop of a twelfth."""


def clusters(n: int, seed: int = 0, *, coloured: bool = False) -> tuple[Tensor, Tensor]:
    """Images (n, 3, 16, 16) uint8 and their cluster (n,): one of 8 patterns, shifted, under noise.

    The noise is what an untrained encoder sees as well as the pattern, and what two crops do not share. The
    pattern is grey; coloured, it is in the colours as well as in the lightness.
    """
    patterns = np.random.default_rng(0).normal(size=(CLASSES, 4, 4))
    patterns -= patterns.mean((1, 2), keepdims=True)
    patterns /= patterns.std((1, 2), keepdims=True)
    large = np.kron(patterns, np.ones((SIZE // 4, SIZE // 4)))
    numbers = np.random.default_rng([1, seed])
    y = numbers.integers(0, CLASSES, n)
    shifted = np.stack([np.roll(large[c], tuple(numbers.integers(0, 3, 2)), (0, 1)) for c in y])
    grey = numbers.uniform(0.45, 0.55, (n, 1, 1, 1))
    tint = np.array([0.6, 0.6, -0.6] if coloured else [1.0] * 3).reshape(3, 1, 1)
    x = grey + 0.15 * tint * shifted[:, None] + 0.2 * numbers.normal(size=(n, 3, SIZE, SIZE))
    return torch.from_numpy((255 * x.clip(0, 1)).astype(np.uint8)), torch.from_numpy(y)


@dataclass(frozen=True)
class Images:
    """A source in memory, as `features` reads it."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def seen(self, index: np.ndarray) -> Tensor:
        return self.x[torch.from_numpy(index)]


@cache
def images(n: int = 512, seed: int = 0, *, coloured: bool = False) -> Images:
    return Images(*clusters(n, seed, coloured=coloured))


def source_of(encoder: Encoder, seed: int = 0) -> Images:
    """Images from which this encoder can learn: coloured ones where it sees lightness and colours apart."""
    return images(seed=seed, coloured=isinstance(encoder.backbone, Lab))


SHAPE = DataShape(512, 3, SIZE, CLASSES, frozenset({"colour", "intensity"}))


def fitting(name: str, encoder: Choice = RESNET) -> Choice:
    """The encoder, or a small ViT in its place where the method's recipe prescribes one."""
    return FINE if compose({"method": name}).encoder.name == FINE.name else encoder


def make(name: str, encoder: Choice = RESNET, seed: int = 0, **options: object) -> Method:
    """The method, small, on a small encoder with the options of its recipe; `options` are given where it has them."""
    encoder = fitting(name, encoder)
    torch.manual_seed(seed)
    pixels = images().x.float() / 255
    entry = registry.get("methods", name)
    of_recipe = {k.partition(".")[2]: v for k, v in entry.recipe.items() if k.startswith("encoder.")}
    choice = Choice(encoder.name, {**encoder.options, **of_recipe})
    built = build_encoder(choice, 3, SIZE, pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)))
    given = {**small(name), **{k: v for k, v in options.items() if k in entry.options()}}
    method: Method = registry.build("methods", Choice(name, given), built, SHAPE)
    begin_epoch(method, Progress(0, TOTAL, 0))
    return method


def small(name: str) -> dict[str, object]:
    """Options of a method that keep it small."""
    known = registry.get("methods", name).options()
    bounded = {k: min(bound, known[k].default) for k, bound in SMALL.items() if k in known}
    return bounded | {k: v for k, v in GIVEN.items() if k in known}


@torch.no_grad()
def begin_epoch(method: Method, at: Progress) -> None:
    torch.manual_seed(at.epoch)
    method.before_epoch(at, lambda module: features(module, source_of(method.encoder), device="cpu"))


def policy(name: str) -> Views:
    """The views of the method's recipe."""
    recipe = compose({"method": name}).views
    known = registry.get("views", recipe.name).options()
    options = {**recipe.options, **{k: v for k, v in MILD.items() if k in known}}
    if "views" in options:
        options["views"] = min(4, options["views"])
    made: Views = registry.build("views", Choice(recipe.name, options), SHAPE)
    return made


def optimizer(method: Method, name: str = "adamw", **options: object) -> Optimizers:
    """Of all parts, with constant learning rates."""
    made = Optimizers(method, Choice(name, options), method.parts, scaling="none")
    made.schedules = dict.fromkeys(made.held, SCHEDULES["constant"])
    return made


def samples(method: Method, step: int, size: int = 16) -> tuple[Fields, np.ndarray, np.ndarray]:
    """The `step`-th samples that `train` would draw, their places and labels."""
    source = source_of(method.encoder)
    index = torch.randperm(len(source), generator=torch.Generator().manual_seed(step))[:size]
    return {"image": source.x[index]}, index.numpy(), source.y[index].numpy()


def beside(method: Method, step: int, size: int) -> Drawn | None:
    """The labelled samples that go with a batch of so many."""
    if not (count := method.labelled_beside(size)):
        return None
    x, index, _ = samples(method, 1000 + step, count)
    return Drawn(index, x)


def stepper(name: str, method: Method, optimizers: Optimizers | None = None) -> Step:
    """Takes the method's steps, as `training.train` does."""
    views = policy(name)
    return Step(method, lambda at: views, optimizers or optimizer(method))


def batch(name: str, method: Method, step: int, size: int = 16) -> Batch:
    """The `step`-th batch that one process would draw."""
    x, index, labels = samples(method, step, size)
    views, targets = policy(name)(x, generator(0, 0, step))
    return Batch(
        views, torch.from_numpy(index), targets | ({"label": torch.from_numpy(labels)} if method.needs_labels else {})
    )


def learns(method: Method) -> bool:
    return any(p.requires_grad for p in method.parameters())


def forward(method: Method, of: Batch, at: Progress) -> Loss:
    method.train()
    torch.manual_seed(1000 + at.step)
    loss: Loss = method(of, at)
    return loss


def train(
    name: str,
    method: Method,
    optimizers: Optimizers,
    steps: Iterable[int],
    *,
    total: int = TOTAL,
    size: int = 16,
    per_epoch: int = PER_EPOCH,
    each: Callable[[Loss], None] = lambda loss: None,
) -> list[Loss]:
    """Takes steps as the loop does; `each` is called after each, while its gradients are there."""
    losses, step = [], stepper(name, method, optimizers)
    for number in steps:
        at = Progress(number, total, number // per_epoch)
        if number % per_epoch == 0:
            begin_epoch(method, at)
        x, index, _ = samples(method, number, size)
        losses.append(step(Drawn(index, x), at, source_of(method.encoder).y.numpy(), beside(method, number, size)))
        each(losses[-1])
    return losses


def snapshot(method: Method, *, statistics: bool = True) -> dict[str, Tensor]:
    """A copy of the state; without the running statistics of batch norms unless asked for."""
    running = ("running_mean", "running_var", "num_batches_tracked")
    state = method.state_dict().items()
    return {k: v.clone() for k, v in state if statistics or k.rpartition(".")[2] not in running}


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names whose values are not the same bits."""
    assert a.keys() == b.keys()
    return [k for k in a if not torch.equal(a[k], b[k])]
