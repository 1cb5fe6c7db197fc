"""Data-dependent initialisation: unit deviations, filters that are clusters, statistics of norms; once, and without a
step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from command import images as pictures
from command import ok
from torch import nn

from unlabeled.batch import DataShape
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.data_init import filters
from unlabeled.registry import Choice, build
from unlabeled.run import Run

from .small import array, at

X = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def method(network: Choice | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    encoder = build_encoder(network or Choice("resnet10t", {"width": 4}), 3, 16, torch.full((3,), 0.5), torch.ones(3))
    made: Any = build("methods", Choice("data-init", {"images": 24, **options}), encoder, DataShape(24, 3, 16))
    with torch.no_grad():
        made.before_epoch(at(), lambda module, rows: module(X[rows]))
    return made


def test_filters_are_centroids_of_whitened_patches() -> None:
    """Of patches in three bundles, three filters each answer to one."""
    draw = torch.Generator().manual_seed(0)
    bundles = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]])
    patches = (bundles[torch.arange(300) % 3] + 0.05 * torch.randn(300, 3, generator=draw)) @ torch.diag(
        torch.tensor([1.0, 5, 20])
    )
    torch.manual_seed(0)
    w = filters(patches, 3)
    answers = ((patches - patches.mean(0)) @ w.T).argmax(1)
    groups = [set(answers[torch.arange(300) % 3 == bundle].tolist()) for bundle in range(3)]
    assert all(len(group) == 1 for group in groups)
    assert len(set.union(*groups)) == 3


def test_every_convolution_gives_unit_deviation_and_every_norm_has_its_statistics() -> None:
    made = method()
    seen: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
    for part in made.encoder.modules():
        if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
            part.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs[0], output)))
    with torch.no_grad():
        made.encoder.eval()(X)
    assert len(seen) > 8
    for module, given, output in seen:
        x, y = (array(t.transpose(0, 1).flatten(1)) for t in (given, output))
        if isinstance(module, nn.Conv2d):
            np.testing.assert_allclose(y.std(1, ddof=1), 1, rtol=1e-3)
        else:
            np.testing.assert_allclose(module.running_mean, x.mean(1), atol=1e-4)
            np.testing.assert_allclose(module.running_var, x.var(1, ddof=1), rtol=1e-3)


def test_a_bias_makes_the_mean_of_each_channel() -> None:
    made = method(Choice("vit_tiny_patch16_224", {"embed_dim": 8, "depth": 1, "num_heads": 2}), bias=0.25)
    conv: Any = made.encoder.backbone.patch_embed.proj
    with torch.no_grad():
        y = conv(made.encoder.eval().front(X)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.full((8,), 0.25), atol=1e-3, rtol=0)


def test_it_is_done_once_and_depends_on_the_data() -> None:
    made = method()
    kept = made.encoder.backbone.conv1.weight.clone()
    made.before_epoch(at(epoch=1), lambda module, rows: module(X[rows]))
    assert torch.equal(made.encoder.backbone.conv1.weight, kept)
    assert not any(p.requires_grad for p in made.parameters())
    with pytest.raises(UserError, match=r"this encoder has none: give another --encoder"):
        encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
        encoder.backbone = nn.Flatten()
        build("methods", Choice("data-init"), encoder, DataShape(24, 3, 16))


def test_no_more_images_are_read_than_it_learns_from_and_they_are_drawn_at_random() -> None:
    """A folder is in the order of its classes: the first images are of one."""
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.full((3,), 0.5), torch.ones(3))
    made: Any = build("methods", Choice("data-init", {"images": 16}), encoder, DataShape(24, 3, 16))
    asked: list[int] = []

    def extract(module: nn.Module, rows: torch.Tensor) -> torch.Tensor:
        asked.extend(rows.tolist())
        found: torch.Tensor = module(X[rows])
        return found

    torch.manual_seed(0)
    with torch.no_grad():
        made.before_epoch(at(), extract)
    assert len(set(asked)) == len(asked) == 16
    assert sorted(asked) != list(range(16))


def test_a_run_of_no_steps_keeps_what_the_data_gave(tmp_path: Any) -> None:
    x, y = pictures(60)
    np.savez(tmp_path / "x.npz", x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    for name in ("data-init", "random"):
        ok(
            "pretrain",
            tmp_path / "x.npz",
            "--method",
            name,
            "--encoder",
            "resnet10t",
            "--encoder.width",
            4,
            "--out",
            tmp_path / name,
        )
    one, other = (Run.open(tmp_path / name).encoder().state_dict() for name in ("data-init", "random"))
    assert not torch.equal(one["backbone.conv1.weight"], other["backbone.conv1.weight"])
