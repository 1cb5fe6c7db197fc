"""Autoencoders: the loss against the clean image, the mirrored decoders, PCA's subspace, noise, pictures and refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape
from unlabeled.encoders import build_encoder
from unlabeled.encoders.encoder import Encoder
from unlabeled.encoders.image import ImageFront
from unlabeled.errors import UserError
from unlabeled.methods.autoencoder import Autoencoder
from unlabeled.parts.decoders import MirrorDecoder, PatchMirror
from unlabeled.registry import Choice, build

from .small import RESNET, VIT, array, at

MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])


def method(name: str = "dae", encoder: Choice = RESNET, size: int = 16) -> Any:
    torch.manual_seed(0)
    made: Any = build("methods", Choice(name), build_encoder(encoder, 3, size, MEAN, STD), DataShape(9, 3, size))
    return made.eval()


def batch(size: int = 16, **options: Any) -> Batch:
    x = torch.randint(1, 255, (4, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    policy = build("views", Choice("corrupted", options), DataShape(9, 3, size))
    views, targets = policy({"image": x}, torch.Generator().manual_seed(2))
    return Batch(views, torch.arange(4), targets)


@pytest.mark.parametrize("noise", ["zeros", "gaussian", "salt-pepper"])
def test_the_loss_is_against_the_clean_image(noise: str) -> None:
    made, of = method(), batch(noise=noise)
    loss, drawn = made(of, at()), array(made.made(of))
    clean, noised = (array(of.views[k]) for k in (1, 0))
    std = STD.numpy().reshape(1, 3, 1, 1)
    assert float(loss.total.detach()) == pytest.approx(np.mean(((drawn - clean) / std) ** 2), rel=1e-5)
    assert float(loss.total.detach()) != pytest.approx(np.mean(((drawn - noised) / std) ** 2), rel=1e-2)
    other = Batch([of.views[0], torch.rand_like(of.views[1])], of.index)
    assert torch.equal(made.made(other), made.made(of)), "nothing of the clean image goes in"


def test_noise_is_what_it_is_called() -> None:
    noised, clean = batch(32, amount=0.4).views
    gone = noised != clean
    assert float(gone.float().mean()) == pytest.approx(0.4, abs=0.02)
    assert not noised[gone].any()
    noised, clean = batch(32, noise="salt-pepper", amount=0.4).views
    gone = noised != clean
    assert float(gone.float().mean()) == pytest.approx(0.4, abs=0.02)
    assert float(noised[gone].mean()) == pytest.approx(0.5, abs=0.03)
    assert set(noised[gone].unique().tolist()) == {0.0, 1.0}
    noised, clean = batch(32, noise="gaussian", amount=0.05).views
    inside = (clean > 0.25) & (clean < 0.75)
    assert float((noised - clean)[inside].std()) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize(("encoder", "kind"), [(RESNET, MirrorDecoder), (VIT, PatchMirror)])
@pytest.mark.parametrize("size", [16, 20])
def test_the_decoder_mirrors_the_encoder(encoder: Choice, kind: type, size: int) -> None:
    made = method(encoder=encoder, size=size)
    assert isinstance(made.decoder, kind)
    h = torch.randn(2, made.encoder.dim, requires_grad=True)
    drawn = made.decoder(h)
    assert drawn.shape == (2, 3, size, size)
    (slope,) = torch.autograd.grad(drawn[0].square().sum(), h)
    assert slope[0].any()
    assert not slope[1].any(), "an image of its own code alone"


def test_stages_come_in_reverse() -> None:
    decoder = MirrorDecoder(5, [(4, 16, 16), (4, 16, 16), (6, 8, 8), (8, 4, 4)], 3, 32)
    shapes: list[tuple[int, ...]] = []
    for layer in decoder.layers:
        if isinstance(layer, nn.PixelShuffle):
            layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    assert decoder(torch.randn(2, 5)).shape == (2, 3, 32, 32)
    assert shapes == [(6, 8, 8), (4, 16, 16), (4, 32, 32)]


class Line(nn.Module):
    """A backbone of one linear layer, which shows no stages."""

    def __init__(self, values: int, dim: int) -> None:
        super().__init__()
        self.line = nn.Linear(values, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Returns h."""
        return self.line(x.flatten(1))  # type: ignore[no-any-return]


def test_a_linear_autoencoder_finds_the_subspace_of_principal_components() -> None:
    torch.manual_seed(0)
    size, dim = 4, 3
    basis = torch.linalg.qr(torch.randn(size * size, size * size)).Q
    spread = torch.tensor([0.12, 0.1, 0.08] + [0.01] * (size * size - dim))
    x = (0.5 + torch.randn(400, size * size) * spread @ basis.T).clamp(0, 1).view(-1, 1, size, size)
    front = ImageFront(size, size, x.mean((0, 2, 3)), torch.full((1,), 0.1))
    made = Autoencoder(Encoder(front, Line(size * size, dim), dim), DataShape(400, 1, size))
    of = Batch([x], torch.arange(400))
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=300, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        total = made(of, at()).total
        total.backward()
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    centred = x.flatten(1) - x.flatten(1).mean(0)
    principal = torch.linalg.svd(centred).Vh[:dim].T
    drawn = torch.linalg.qr(made.decoder[0].weight.detach()).Q  # type: ignore[index, operator, union-attr]
    cosines = torch.linalg.svdvals(principal.T @ drawn)  # of the principal angles
    assert float(cosines.min()) > 0.9999
    left = (centred - centred @ principal @ principal.T).square().mean() / 0.1**2
    assert float(closure().detach()) == pytest.approx(float(left), rel=1e-3)


def test_pictures_and_refusals() -> None:
    made, of = method(), batch()
    shown = made.pictures(of, at())
    assert list(shown) == ["true", "noised", "reconstructed"]
    assert torch.equal(shown["noised"], of.views[0])
    assert list(method("ae").pictures(Batch(of.views[1:], of.index), at())) == ["true", "reconstructed"]
    with pytest.raises(UserError, match="give --views none, or --views corrupted"):
        made.check([of.views[0]] * 3, {})
    with pytest.raises(UserError, match="give --views none, or --views corrupted"):
        made.check([torch.rand(2, 3, 8, 8), of.views[1]], {})
    with pytest.raises(UserError, match="an amount of 0 is no noise"):
        batch(amount=0.0)
    with pytest.raises(UserError, match="amount"):
        batch(amount=1.5)
