"""Methods trained for a moment on scikit-learn's digits, some of them hurt so that they collapse."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import nn

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.data import Source, open_data
from unlabeled.encoders import Encoder
from unlabeled.encoders.image import ImageFront
from unlabeled.methods.base import Method
from unlabeled.parts import heads
from unlabeled.probes.subject import Subject
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.training.batches import generator

VIEWS = Choice("affine", {"shift": 0.1, "mirror": 0.0})


@cache
def digits() -> tuple[Source, Source]:
    """The training and the test split."""
    data = open_data("digits", kind=Choice("", {"size": 8}), seed=0)
    assert data.test is not None
    return data.train, data.test


def encoder(seed: int = 0) -> Encoder:
    """A small perceptron, which is fast on images of 8 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = nn.Sequential(nn.Flatten(), *heads.mlp(64, 128, 64), nn.BatchNorm1d(64), nn.ReLU())
    return Encoder(ImageFront(8, 8, torch.tensor([0.3]), torch.tensor([0.37])), backbone, 64)


def train(
    name: str,
    steps: int,
    hurt: Callable[[Any], None] = lambda method: None,
    *,
    lr: float = 3e-3,
    batch: int = 64,
    views: Choice | None = VIEWS,
    **options: Any,
) -> Method:
    """The method after so many steps of AdamW, in evaluation mode; `hurt` changes it before the first."""
    source, _ = digits()
    recipe = compose({"method": name}, {f"method.{key}": value for key, value in options.items()})
    shape = DataShape(len(source), 1, 8, 10, source.invariances)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        method: Method = registry.build("methods", recipe.method, encoder(), shape)
        hurt(method)
        policy = registry.build("views", recipe.views if views is None else views, shape)
        optimizer = torch.optim.AdamW(method.parameters(), lr)
        drawn = np.random.default_rng(0)
        method.train()
        for step in range(steps):
            at = Progress(step, steps, step * batch // len(source))
            index = drawn.choice(len(source), batch, replace=False)
            seen, targets = policy(source.fetch(index), generator(0, 0, step))
            if method.needs_labels:
                assert source.labels is not None
                targets = {**targets, "label": torch.from_numpy(source.labels[index])}
            torch.manual_seed(step)
            optimizer.zero_grad(set_to_none=True)
            loss = method(Batch(seen[: method.n_views], torch.from_numpy(index), targets), at)
            loss.total.backward()
            with torch.no_grad():
                method.observe(loss, at)
                optimizer.step()
                method.after_step(at)
    return method.eval()


def no_predictor(byol: Any) -> None:
    """BYOL's target is then met by one point for all images."""
    byol.predictor = nn.Identity()


def no_stop_gradient(byol: Any) -> None:
    """The target is the online network, and gradients go through it. Heads have no batch norm, which keeps the images apart
    for longer than a test lasts."""
    byol.projector, byol.predictor = heads.mlp(64, 128, 64, norm=False), heads.mlp(64, 128, 64, norm=False)
    _one_network(byol)


def neither(byol: Any) -> None:
    """No predictor and no stop-gradient."""
    no_predictor(byol)
    _one_network(byol)


def _one_network(byol: Any) -> None:
    byol.target_encoder, byol.target_projector = byol.encoder, byol.projector
    byol.after_step = lambda at: None


def subject(method: Method, views: Choice | None = VIEWS) -> Subject:
    """As `evaluate` would present it."""
    return Subject("run", method.encoder.eval(), lambda: method, views=views)
