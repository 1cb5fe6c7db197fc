"""Windows lie anywhere within what is recorded, alike for all places."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import DataShape
from unlabeled.registry import Choice
from unlabeled.views.policies.sound import Window


def recordings(*lengths: int, size: int = 50) -> dict[str, Tensor]:
    """Each counts its samples from 1, and is padded with zeros."""
    count = torch.arange(1, size + 1).expand(len(lengths), 1, size)
    length = torch.tensor(lengths)
    return {"sound": count.where(count <= length[:, None, None], 0).short(), "length": length}


def window(x: dict[str, Tensor], samples: int, seed: int = 0) -> Tensor:
    policy = registry.build("views", Choice("window", {"samples": samples}), DataShape(9, 1, x["sound"].shape[2]))
    (view,), targets = policy(x, torch.Generator().manual_seed(seed))
    assert targets == {}
    return view


def test_a_window_is_a_piece_of_its_recording() -> None:
    x = recordings(*[50] * 40)
    view = window(x, 8)
    assert view.shape == (40, 1, 8)
    assert view.dtype == torch.float32
    assert ((view * 32768).diff() == 1).all()
    assert int((view * 32768).max()) <= 50


def test_every_place_within_the_length_is_as_likely() -> None:
    starts = (window(recordings(*[20] * 6500), 8)[:, 0, 0] * 32768).long()
    counts = torch.bincount(starts, minlength=14)[1:]
    assert len(counts) == 13  # starts 0 to 12, counted from 1
    assert (counts - 500).abs().max() < 5 * 500**0.5


def test_a_short_recording_is_there_from_its_beginning_with_its_padding() -> None:
    x = recordings(3, 8, 1)
    assert torch.equal(window(x, 8) * 32768, x["sound"][:, :, :8].float())


def test_a_window_is_no_longer_than_the_data() -> None:
    x = recordings(50, 20)
    assert torch.equal(window(x, 20480) * 32768, x["sound"].float())
    assert Window(DataShape(9, 1, 50)).size == 50
    assert Window(DataShape(9, 1, 160_000)).size == 20480


def test_the_same_state_of_the_generator_gives_the_same_windows() -> None:
    x = recordings(*range(10, 50))
    assert torch.equal(window(x, 8), window(x, 8))
    assert not torch.equal(window(x, 8), window(x, 8, seed=1))


@pytest.mark.parametrize("samples", [1, 8, 50])
def test_options_do_not_change_what_is_drawn(samples: int) -> None:
    x, generator = recordings(*[50] * 5), torch.Generator().manual_seed(0)
    Window(DataShape(9, 1, 50), samples=samples)(x, generator)
    expected = torch.Generator().manual_seed(0)
    torch.rand(5, generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())


def test_values_are_of_full_scale() -> None:
    x = {"sound": torch.tensor([[[-32768, 0, 16384, 32767]]], dtype=torch.int16), "length": torch.tensor([4])}
    assert window(x, 4).flatten().tolist() == [-1, 0, 0.5, 32767 / 32768]
