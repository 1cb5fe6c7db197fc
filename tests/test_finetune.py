"""Fine-tuning: it learns, leaves what it was given alone, and is the same twice."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from command import images

from unlabeled.data.kinds.kind import build
from unlabeled.encoders import Encoder, build_encoder
from unlabeled.errors import UserError
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.extract import features
from unlabeled.probes.finetune import Finetune
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice


class Noted:
    """Images by position, which notes the positions that were fetched."""

    channels, invariances, classes, kind = 3, frozenset[str](), (), build(Choice("image", {"size": 12}))

    def __init__(self, x: Any) -> None:
        self.x = torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
        self.noted: set[int] = set()

    def __len__(self) -> int:
        return len(self.x)

    def seen(self, indices: Any) -> torch.Tensor:
        self.noted |= {int(i) for i in indices}
        return self.x[torch.as_tensor(np.asarray(indices))]

    def fetch(self, indices: Any) -> dict[str, torch.Tensor]:
        return {"image": self.seen(indices)}


def stripes(n: int, seed: int) -> tuple[Any, Any]:
    """Six directions of stripes of any phase, on noise: an untrained network's features tell them apart badly."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 6
    x = rng.integers(78, 178, (n, 12, 12, 3)).astype(float)
    row, column = np.mgrid[0:12, 0:12]
    for i, turn in enumerate(np.pi * y / 6):
        along = row * np.sin(turn) + column * np.cos(turn)
        x[i] += 60 * np.sin(np.pi / 2 * along + rng.uniform(0, 2 * np.pi))[..., None]
    return x.clip(0, 255).astype(np.uint8), y


def encoder(size: int = 12, eval_size: int | None = None) -> Encoder:
    torch.manual_seed(0)
    middle = torch.full((3,), 0.5)
    return build_encoder(Choice("resnet10t", {"width": 4}), 3, size, middle, middle / 3, eval_size)


def test_it_beats_chance_and_the_frozen_features() -> None:
    (x, y), (test_x, test_y) = stripes(180, 0), stripes(180, 1)
    source, test, made = Noted(x), Noted(test_x), encoder()
    figures = Finetune().fit(Subject("run", made), source, np.arange(180), y, seed=0).score(test, np.arange(180), test_y)
    scores = {name: figure.value for name, figure in figures.items()}
    h, test_h = (features(made.eval(), s, device="cpu") for s in (source, test))
    labels = torch.from_numpy(y), torch.from_numpy(test_y)
    frozen = evaluate_features(h, labels[0], test_h, labels[1], protocol=Choice("linear")).mean()
    assert scores["top1"] > frozen + 0.2
    assert scores["top1"] > 0.6
    assert scores["top5"] >= scores["top1"]


def test_the_encoder_stays_as_it_is_and_the_test_images_are_unseen_in_fit() -> None:
    x, y = images(60, classes=3)
    source, made = Noted(x), encoder(8).eval()
    before = copy.deepcopy(made.state_dict())
    chosen = np.array([0, 1, 2, 30, 31, 32, 50])
    tuned = Finetune(epochs=1, steps=4).fit(Subject("run", made), source, chosen, y[chosen], seed=0)
    assert source.noted <= set(chosen.tolist())
    assert not made.training
    assert all(torch.equal(value, made.state_dict()[name]) for name, value in before.items())
    moved = tuned.model_.encoder.state_dict()
    assert any(not torch.equal(value, moved[name]) for name, value in before.items() if name.endswith("weight"))
    assert set(tuned.score(source, np.arange(60), y)) == {"top1"}


def test_the_same_seed_gives_the_same_and_the_global_generator_is_left_alone() -> None:
    x, y = images(30, classes=3)
    made, draws = encoder(8), []
    for seed in (3, 3, 4):
        torch.manual_seed(7)
        tuned = Finetune(epochs=2, steps=1, batch_size=8).fit(Subject("run", made), Noted(x), np.arange(30), y, seed=seed)
        draws.append(torch.cat([p.flatten() for p in tuned.model_.parameters()]))
        assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_classes_are_named_as_given_and_images_resized_as_they_are_judged() -> None:
    x, y = images(30, classes=3)
    tuned = Finetune().fit(Subject("run", encoder(8, eval_size=12)), Noted(x), np.arange(30), 10 * y + 2, seed=0)
    assert tuned.score(Noted(x), np.arange(30), 10 * y + 2)["top1"].value == 1
    assert tuned.score(Noted(x), np.arange(30), y)["top1"].value < 0.4


def test_views_augment_where_asked_and_must_be_one() -> None:
    x, y = images(30, classes=3)
    subject, means = Subject("run", encoder(8)), []
    for views in ("none", "crop", "crop"):
        tuned = Finetune(epochs=1, steps=3, views=views).fit(subject, Noted(x), np.arange(30), y, seed=0)
        means.append(next(tuned.model_.parameters()).detach().flatten())
    assert torch.equal(means[1], means[2])
    assert not torch.equal(means[0], means[1])
    with pytest.raises(UserError, match="draws 2 views of an image"):
        Finetune(views="simclr").fit(subject, Noted(x), np.arange(30), y, seed=0)


def test_what_cannot_be() -> None:
    x, y = images(4)
    with pytest.raises(UserError, match="batch_size 2"):
        Finetune(batch_size=1).fit(Subject("run", encoder(8)), Noted(x), np.arange(4), y, seed=0)
    with pytest.raises(ValueError, match="two labelled images"):
        Finetune().fit(Subject("run", encoder(8)), Noted(x), np.arange(1), y[:1], seed=0)


def test_from_scratch_each_draw_has_its_own_initialisation() -> None:
    x, y = images(30, classes=3)

    def fresh(seed: int) -> Encoder:
        torch.manual_seed(seed)
        middle = torch.full((3,), 0.5)
        return build_encoder(Choice("resnet10t", {"width": 4}), 3, 8, middle, middle / 3, None)

    def weights(subject: Subject, seed: int) -> torch.Tensor:
        tuned = Finetune(epochs=1, steps=1, lr=1e-9).fit(subject, Noted(x), np.arange(30), y, seed=seed)
        return next(tuned.model_.encoder.parameters()).detach()

    given = fresh(7)
    run = Subject("run", given, fresh=fresh)
    torch.testing.assert_close(weights(run, 0), weights(run, 1))
    scratch = Subject("random", given, fresh=fresh, trained=False)
    assert (weights(scratch, 0) - weights(scratch, 1)).abs().max() > 0.01
    torch.testing.assert_close(weights(scratch, 1), next(fresh(1).parameters()).detach())


def test_what_is_predicted_is_what_is_scored() -> None:
    (x, y), (test_x, test_y) = stripes(60, 0), stripes(60, 1)
    tuned = Finetune(epochs=2, steps=20).fit(Subject("run", encoder()), Noted(x), np.arange(60), 10 * y, seed=0)
    found = tuned.predict(Noted(test_x), np.arange(5, 60))
    assert set(found.tolist()) <= set((10 * y).tolist())
    y = 10 * test_y[5:]
    assert tuned.score(Noted(test_x), np.arange(5, 60), y)["top1"].value == (found == y).mean() > 1 / 6


def test_frozen_stages_stay_as_pretraining_left_them() -> None:
    """Their weights and the statistics of their norms, and the maps that they make; all that follows learns."""
    x, y = images(30, classes=3)
    given = encoder(8).eval()
    tuned = Finetune(epochs=2, steps=6, frozen=2).fit(Subject("run", given), Noted(x), np.arange(30), y, seed=0)
    before, after = given.state_dict(), tuned.model_.encoder.state_dict()
    stem = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.")
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert not [name for name in moved if name.startswith(stem)]
    assert moved == {name for name in before if name.startswith("backbone.layer") and not name.startswith(stem)}
    (_, maps), (_, ours) = given.local(Noted(x).seen(range(30))), tuned.model_.encoder.local(Noted(x).seen(range(30)))
    assert [torch.equal(a, b) for a, b in zip(maps, ours, strict=True)] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("choice", "size", "stays"),
    [
        (
            Choice("vit_tiny_patch16_224", {"embed_dim": 48, "depth": 3}),
            32,
            ("cls", "pos_embed", "patch_embed.", "blocks.0."),
        ),
        (Choice("resnet9", {"width": 4, "features": 8}), 16, None),
    ],
)
def test_of_any_backbone_the_same_stages_are_frozen_as_are_judged(choice: Choice, size: int, stays: Any) -> None:
    middle = torch.full((3,), 0.5)
    made = build_encoder(choice, 3, size, middle, middle / 3, None).train()
    x = torch.rand(4, 3, size, size)
    made.freeze(1, x[:1])
    fixed = {name for name, weight in made.backbone.named_parameters() if not weight.requires_grad}
    assert fixed
    if stays:
        assert {name for name, _ in made.backbone.named_parameters() if name.startswith(stays)} == fixed
    made.train()
    learning = [weight for weight in made.backbone.parameters() if weight.requires_grad]
    before = made.local(x)[1][0].detach()
    with torch.no_grad():
        for weight in learning:
            weight.add_(1.0)
    torch.testing.assert_close(made.local(x)[1][0], before, rtol=0, atol=0)


def test_from_scratch_nothing_is_frozen_and_more_stages_than_there_are_cannot_be() -> None:
    x, y = images(30, classes=3)
    given = encoder(8).eval()
    scratch = Subject("random", given, trained=False)
    tuned = Finetune(epochs=1, steps=2, frozen=2).fit(scratch, Noted(x), np.arange(30), y, seed=0)
    assert not torch.equal(given.backbone.conv1.weight, tuned.model_.encoder.backbone.conv1.weight)
    with pytest.raises(UserError, match="6 frozen stages: this encoder has 5"):
        Finetune(frozen=6).fit(Subject("run", given), Noted(x), np.arange(30), y, seed=0)
    with pytest.raises(UserError, match="frozen 0"):
        Finetune(frozen=-1).fit(Subject("run", given), Noted(x), np.arange(30), y, seed=0)
