"""Features and pixels of a source."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabeled.data.kinds.kind import build
from unlabeled.probes.extract import features, raw
from unlabeled.registry import Choice


class Noise:
    """23 random images, which remembers how many were fetched at a time."""

    def __init__(self) -> None:
        self.images = torch.randint(256, (23, 2, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        self.fetched: list[int] = []

    def __len__(self) -> int:
        return len(self.images)

    kind, form = build(Choice("image")), None

    def seen(self, indices: np.ndarray) -> Tensor:
        self.fetched.append(len(indices))
        return self.images[torch.as_tensor(indices)]

    def fetch(self, indices: np.ndarray) -> dict[str, Tensor]:
        return {"image": self.seen(indices)}


class Encoder(nn.Module):
    """Has what behaves differently in training: dropout and batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x.float() / 255)
        return out


def test_features_are_those_of_eval_mode_in_order_whatever_the_batch() -> None:
    source, encoder = Noise(), Encoder().eval()
    with torch.no_grad():
        expected = encoder(source.images)
    encoder.train()
    h = features(encoder, source, device="cpu", batch_size=10)
    assert source.fetched == [10, 10, 3]
    assert (h.dtype, h.device.type, h.requires_grad, h.is_inference()) == (torch.float32, "cpu", False, False)
    torch.testing.assert_close(h, expected)
    chosen = np.array([22, 0, 5, 5])
    torch.testing.assert_close(features(encoder, source, device="cpu", indices=chosen, batch_size=3), expected[chosen])


def test_every_training_flag_and_buffer_is_left_as_it_was() -> None:
    encoder = Encoder().train()
    encoder.layers[2].eval()  # frozen by its owner
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    features(encoder, Noise(), device="cpu")
    assert encoder.training
    assert encoder.layers[3].training
    assert not encoder.layers[2].training
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_flags_come_back_after_an_error() -> None:
    encoder = nn.Sequential(nn.Identity(), nn.Dropout())
    with pytest.raises(ValueError, match=r"must give \(B, D\)"):
        features(encoder.train(), Noise(), device="cpu")
    assert encoder.training


def test_autocast_gives_float32_near_the_exact() -> None:
    encoder, source = Encoder().eval(), Noise()
    exact, fast = (features(encoder, source, device="cpu", precision=p) for p in (torch.float32, torch.bfloat16))
    assert fast.dtype == torch.float32
    assert not torch.equal(fast, exact)
    torch.testing.assert_close(fast, exact, atol=0.03, rtol=0.03)


def test_pixels() -> None:
    source = Noise()
    x = raw(source)
    assert (x.shape, x.dtype) == ((23, 32), torch.float32)
    torch.testing.assert_close(x, source.images.reshape(23, -1) / 255)
    assert torch.equal(raw(source, np.array([4, 1])), x[[4, 1]])


def test_nothing_to_extract_is_an_error() -> None:
    nothing = np.array([], dtype=np.int64)
    for call in (lambda: features(Encoder(), Noise(), device="cpu", indices=nothing), lambda: raw(Noise(), nothing)):
        with pytest.raises(ValueError, match="no sample"):
            call()
