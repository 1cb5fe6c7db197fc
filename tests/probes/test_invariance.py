"""What h keeps and z throws away: known encoders give known answers, and the test images reach nothing but the score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from command import images
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.data import Source, open_data
from unlabeled.encoders import Encoder
from unlabeled.encoders.image import ImageFront
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.probes.base import Figure, binomial
from unlabeled.probes.invariance import Invariance, grey, noisy
from unlabeled.probes.subject import Subject


class Head(Method):
    """A method whose head is given."""

    def __init__(self, encoder: Encoder, projector: nn.Module | None) -> None:
        super().__init__(encoder, DataShape(1, 3, 8))
        if projector is not None:
            self.projector = projector

    def forward(self, batch: Batch, at: Progress) -> Loss:
        return Loss(torch.zeros(()))


class Luma(nn.Module):
    """Flat colour pixels (B, 192) to flat grey ones (B, 64)."""

    def forward(self, h: Tensor) -> Tensor:
        return h.view(-1, 3, 8, 8).movedim(1, -1) @ torch.tensor([0.299, 0.587, 0.114])


class Flat(nn.Sequential):
    def __init__(self, head: nn.Module) -> None:
        super().__init__(head, nn.Flatten())


class Chroma(nn.Module):
    """Deviation of the channels, mean over the pixels: (B, 1); 0 for grey."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.std(1).mean((1, 2)), torch.ones(len(x))], 1)


@pytest.fixture(scope="module")
def sources() -> tuple[Source, Source]:
    """Images with an upright position: bright on top, coloured."""
    made = []
    for seed in (0, 1):
        x, y = images(120, seed=seed)
        x[:, :4] = np.minimum(x[:, :4].astype(int) + 60, 255)
        made.append(open_data((x, y), seed=0).train)
    return made[0], made[1]


def subject(backbone: nn.Module, projector: nn.Module | None = None) -> Subject:
    encoder = Encoder(ImageFront(8, 8, torch.zeros(3), torch.ones(3)), backbone, 192).eval()
    return Subject("run", encoder, lambda: Head(encoder, projector))


def measured(judged: Subject, sources: tuple[Source, Source], **options: float) -> tuple[dict[str, Figure], Invariance]:
    train, test = sources
    probe = Invariance(**options)  # type: ignore[arg-type]
    nobody = np.full(len(train), -1)
    probe.fit(judged, train, np.arange(len(train)), nobody, seed=0)
    return dict(probe.score(test, np.arange(len(test)), nobody[: len(test)])), probe


def test_pixels_keep_all_and_a_grey_head_throws_the_colour_away(sources: tuple[Source, Source]) -> None:
    found, probe = measured(subject(nn.Flatten(), Flat(Luma())), sources)
    assert list(found) == [f"{name} {on}" for name in ("colour", "rotation", "noise", "sobel") for on in "hz"]
    assert found["rotation h"].value > 0.9
    assert found["rotation z"].value > 0.9
    assert found["sobel h"].value == found["sobel z"].value == 1
    assert found["colour z"].value == pytest.approx(0.5, abs=0.2)
    assert found["colour z"].value < found["colour h"].value
    assert "invariance: chance is colour 50%, rotation 25%, noise 50%, sobel 50%" in probe.notes_


def test_what_sees_colour_alone_knows_no_rotation(sources: tuple[Source, Source]) -> None:
    found, probe = measured(subject(Chroma()), sources)
    assert found["colour h"].value > 0.95
    assert found["rotation h"].value == pytest.approx(0.25, abs=0.15)
    assert not [name for name in found if name.endswith("z")]
    assert any("no projector" in note for note in probe.notes_)


def test_an_encoder_that_says_nothing_is_at_chance(sources: tuple[Source, Source]) -> None:
    class Nothing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 4)

    found, _ = measured(subject(Nothing()), sources)
    tested = len(sources[1])
    for name, figure in found.items():
        chance = 0.25 if "rotation" in name else 0.5
        assert figure.value == pytest.approx(chance, abs=1 / tested)
        assert figure.interval == binomial(figure.value, tested)


def test_only_so_many_training_images_are_fetched_and_no_test_image_before_the_score(
    sources: tuple[Source, Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, test = sources
    seen: set[int] = set()
    fetch = train.fetch
    monkeypatch.setattr(train, "fetch", lambda index: (seen.update(int(i) for i in index), fetch(index))[1])
    monkeypatch.setattr(test, "fetch", lambda index: pytest.fail("a test image was fetched in fit"))
    chosen = np.arange(0, len(train), 2)
    Invariance(images=30).fit(subject(nn.Flatten()), train, chosen, chosen, seed=0)
    assert len(seen) == 30
    assert seen <= set(chosen.tolist())


def test_the_same_seed_gives_the_same(sources: tuple[Source, Source]) -> None:
    judged = subject(nn.Flatten())
    assert measured(judged, sources)[0] == measured(judged, sources)[0]


def test_without_colour_and_without_an_upright_position_these_are_not_asked(sources: tuple[Source, Source]) -> None:
    x, y = images(60, channels=1)
    train = open_data((x, y), seed=0).train
    encoder = Encoder(ImageFront(8, 8, torch.zeros(1), torch.ones(1)), nn.Flatten(), 64)
    monkey = Invariance()
    train.invariances = frozenset({"rotation"})
    monkey.fit(Subject("run", encoder), train, np.arange(len(train)), y, seed=0)
    assert list(monkey.asked_) == ["noise", "sobel"]
    assert any("without colour" in note for note in monkey.notes_)
    assert any("no upright position" in note for note in monkey.notes_)


def test_the_versions() -> None:
    x = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    luma = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    for channel in grey(x).unbind(1):
        torch.testing.assert_close(channel, luma)
    generator = torch.Generator().manual_seed(0)
    middle = torch.full((4, 3, 32, 32), 0.5)
    assert float((noisy(middle, 0.1, generator) - middle).std()) == pytest.approx(0.1, rel=0.05)


def test_mistakes(sources: tuple[Source, Source]) -> None:
    train, _ = sources
    with pytest.raises(UserError, match="raw features have none"):
        Invariance().fit(Subject("pixels", None), train, np.arange(9), np.arange(9), seed=0)
    with pytest.raises(UserError, match="3 images are too few to tell 2 versions apart"):
        Invariance().fit(subject(nn.Flatten()), train, np.arange(3), np.arange(3), seed=0)
