"""linear-layers: pooling against a loop, the stages of several networks, what is learned where, and what is never read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from unlabeled.data import Source, open_data
from unlabeled.encoders import Encoder, build_encoder
from unlabeled.errors import UserError
from unlabeled.probes.base import binomial
from unlabeled.probes.linear import Linear
from unlabeled.probes.linear_layers import LinearLayers, pool, stage_names
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice, get


def encoder(name: str = "resnet10t", size: int = 8, **options: object) -> Encoder:
    torch.manual_seed(0)
    made = build_encoder(Choice(name, options), 1, size, torch.tensor([0.5]), torch.tensor([0.5]))
    return made.eval()


@pytest.fixture(scope="module")
def digits() -> tuple[Source, Source]:
    data = open_data("digits", kind=Choice("", {"size": 8}))
    assert data.test is not None
    return data.train, data.test


def everything(source: Source) -> tuple[np.ndarray, np.ndarray]:
    assert source.labels is not None
    return np.arange(len(source)), source.labels


@pytest.mark.parametrize(
    ("channels", "side", "grid"), [(64, 32, 12), (512, 4, 4), (3, 32, 32), (20_000, 3, 1), (2048, 7, 2)]
)
def test_a_map_is_pooled_to_the_largest_grid_within_ten_thousand_numbers(channels: int, side: int, grid: int) -> None:
    pooled = pool(torch.rand(1, channels, side, side), 10_000)
    assert pooled.shape == (1, channels, grid, grid)
    assert channels > 10_000 or pooled.numel() <= 10_000 < channels * (grid + 1) ** 2 or grid == side


def test_pooling_is_the_mean_of_the_cells() -> None:
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    pooled = pool(x, 3 * 4)
    assert pooled.shape == (2, 3, 2, 2)
    for i in range(2):
        for j in range(2):
            cell = x[:, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].numpy()
            np.testing.assert_allclose(pooled[:, :, i, j].numpy(), cell.mean((2, 3)), rtol=1e-6)


def test_a_map_that_is_not_square_keeps_its_shape() -> None:
    assert pool(torch.rand(1, 4, 20, 10), 4 * 50).shape == (1, 4, 10, 5)


def test_the_interval_reaches_to_the_farther_end_of_scipys_wilson() -> None:
    for right, n in ((0, 30), (17, 30), (1999, 2000), (100, 100)):
        theirs = binomtest(right, n).proportion_ci(0.95, "wilson")
        farther = max(right / n - theirs.low, theirs.high - right / n)
        assert binomial(right / n, n) == pytest.approx(farther, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "options", "stages"),
    [
        ("resnet10t", {"width": 4}, [f"conv{i}" for i in range(1, 6)]),
        ("resnet26", {"width": 4}, [f"conv{i}" for i in range(1, 6)]),
        ("vit_tiny_patch16_224", {"depth": 3, "embed_dim": 12}, ["block1", "block2", "block3"]),
        ("convnext_atto", {"dims": (4, 8, 12, 16), "depths": (1, 1, 1, 1)}, [f"stage{i}" for i in range(1, 5)]),
    ],
)
def test_networks_of_several_kinds_show_their_stages(
    digits: tuple[Source, Source], name: str, options: dict[str, object], stages: list[str]
) -> None:
    train, test = digits
    judged = encoder(name, 32, **options)
    assert stage_names(judged, len(judged.local(torch.zeros(1, 1, 32, 32))[1])) == stages
    probe = LinearLayers(train_images=60, test_images=40, dimensions=50, C=1.0)
    figures = probe.fit(Subject("run", judged), train, *everything(train), seed=0).score(test, *everything(test))
    assert list(figures) == [f"{stage} {kind}" for stage in reversed(stages) for kind in ("linear", "knn")]
    assert all(figure.value > 0.15 for figure in figures.values())


def test_without_sampling_or_pooling_each_stage_is_the_linear_probe_on_its_map(digits: tuple[Source, Source]) -> None:
    train, test = (source.subset(np.arange(300)) for source in digits)
    judged = encoder(width=4)
    figures = LinearLayers(C=0.5).fit(Subject("run", judged), train, *everything(train), seed=0).score(
        test, *everything(test)
    )  # fmt: skip
    with torch.no_grad():
        learning, tested = (judged.local(s.seen(np.arange(300)))[1] for s in (train, test))
    y, truth = (torch.from_numpy(s.labels) for s in (train, test))
    for at, (h, t) in enumerate(zip(learning, tested, strict=True), 1):
        alone = Linear(C=0.5).fit(h.flatten(1), y).score(t.flatten(1), truth)["top1"]
        assert figures[f"conv{at} linear"].value == pytest.approx(alone, abs=0.005)
        assert figures[f"conv{at} linear"].interval == pytest.approx(binomial(alone, 300), rel=0.05)


def test_the_stage_at_which_the_classes_are_lost_is_found(digits: tuple[Source, Source]) -> None:
    train, test = digits
    judged = encoder(width=4)
    with torch.no_grad():
        for parameter in judged.backbone.layer4.parameters():  # type: ignore[union-attr, operator]
            parameter.zero_()
    probe = LinearLayers(train_images=200, test_images=150)
    figures = probe.fit(Subject("run", judged), train, *everything(train), seed=0).score(test, *everything(test))
    assert next(iter(figures)) == "conv5 linear"
    assert figures["conv5 linear"].value < 0.25 < 0.6 < figures["conv1 linear"].value
    assert any("is the best stage" in note and "the last, conv5, has" in note for note in probe.notes_)


def test_images_are_sampled_evenly_by_the_seed_and_test_labels_are_read_in_score_alone(
    digits: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = digits
    seen: list[np.ndarray] = []
    monkeypatch.setattr(test, "seen", lambda positions, real=test.seen: seen.append(np.array(positions)) or real(positions))
    subject = Subject("run", encoder(width=4))

    def judged(seed: int) -> dict[str, object]:
        probe = LinearLayers(train_images=100, test_images=50, dimensions=100, C=1.0)
        probe.fit(subject, train, *everything(train), seed=seed)
        before = len(seen)
        counts = torch.bincount(probe.probes_["conv1"][1].class_index_)
        assert counts.tolist() == [10] * 10
        figures = probe.score(test, *everything(test))
        assert len(seen) == before + 1 and len(seen[-1]) == 50
        return dict(figures)

    first, again, other = judged(0), judged(0), judged(1)
    assert first == again
    assert first != other
    assert np.array_equal(seen[0], seen[1])
    assert not np.array_equal(seen[0], seen[2])
    shuffled = LinearLayers(train_images=100, test_images=50, dimensions=100, C=1.0).fit(
        subject, train, *everything(train), seed=0
    )
    wrong = shuffled.score(test, np.arange(len(test)), (everything(test)[1] + 1) % 10)
    assert wrong["conv1 linear"].value < 0.3


def test_what_cannot_be_judged_is_said(digits: tuple[Source, Source]) -> None:
    train, _ = digits
    with pytest.raises(UserError, match="pixels has no stages"):
        LinearLayers().fit(Subject("pixels", None), train, *everything(train), seed=0)
    with pytest.raises(UserError, match="train_images is 1"):
        LinearLayers(train_images=1).fit(Subject("run", encoder(width=4)), train, *everything(train), seed=0)
    options = get("probes", "linear-layers").resolve({"C": "auto", "dimensions": "100"}).options
    assert (options["C"], options["dimensions"]) == ("auto", 100)
    assert get("probes", "linear-layers").resolve({"C": "0.1"}).options["C"] == 0.1


def test_what_is_predicted_is_what_is_scored_of_the_last_stage(digits: tuple[Source, Source]) -> None:
    train, test = digits
    probe = LinearLayers(train_images=100, dimensions=50, C=1.0)
    probe.fit(Subject("run", encoder(width=4)), train, *everything(train), seed=0)
    figures = probe.score(test, *everything(test))
    indices, y = everything(test)
    assert (probe.predict(test, indices) == y).mean() == figures["conv5 linear"].value
