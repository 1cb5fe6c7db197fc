"""Masked autoencoder: its loss in loops, what its encoder and decoder may see, its patches, positions and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.encoders.tokens import visible
from unlabeled.errors import UserError
from unlabeled.parts.patches import cut, joined, patch_side, positions
from unlabeled.recipe import compose
from unlabeled.registry import Choice

AT = Progress(0, 1, 0)
SIZE, SIDE, PLACES = 16, 4, 16
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])


def method(size: int = SIZE, encoder: dict[str, Any] | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    given = {"embed_dim": 16, "depth": 2, "num_heads": 2, "patch_size": SIDE} | (encoder or {})
    built = build_encoder(Choice("vit_tiny_patch16_224", given), 3, size, MEAN, STD)
    small = {"width": 8, "depth": 1, "heads": 2, **options}
    return registry.build("methods", Choice("mae", small), built, DataShape(9, 3, size)).eval()


def masked(count: int = 3, size: int = SIZE, places: int = PLACES, kept: int = 4, seed: int = 1) -> Batch:
    drawn = torch.Generator().manual_seed(seed)
    order = torch.rand(count, places, generator=drawn).argsort(1)
    x = torch.rand(count, 3, size, size, generator=drawn)
    return Batch([x], torch.arange(count), {"keep": order[:, :kept], "hidden": order[:, kept:]})


def patch(x: Tensor, place: int, side: int = SIDE) -> np.ndarray:
    """Its values, pixel by pixel, channels last."""
    row, column = divmod(place, x.shape[2] // side)
    rows, columns = range(row * side, (row + 1) * side), range(column * side, (column + 1) * side)
    return np.array([float(x[c, i, j]) for i in rows for j in columns for c in range(len(x))])


@pytest.mark.parametrize("normalise", [True, False])
def test_the_loss_is_the_papers_on_hidden_patches_alone(normalise: bool) -> None:
    made, of = method(normalise=normalise), masked()
    predicted = made.predicted(of).detach().double().numpy()
    assert predicted.shape == (3, PLACES, SIDE**2 * 3)
    costs = []
    for i in range(3):
        seen = (of.views[0][i] - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
        for place in set(range(PLACES)) - set(of.targets["keep"][i].tolist()):
            target = patch(seen, place)
            if normalise:
                target = (target - target.mean()) / np.sqrt(target.var(ddof=1) + 1e-6)
            costs.append(np.mean((predicted[i, place] - target) ** 2))
    assert float(made(of, AT).total.detach()) == pytest.approx(np.mean(costs), rel=1e-5)


def test_predictions_of_the_hidden_get_gradient_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made, of = method(), masked()
    predicted = made.predicted(of).detach().requires_grad_()
    monkeypatch.setattr(made, "predicted", lambda batch: predicted)
    made(of, AT).total.backward()
    reached = predicted.grad.abs().sum(2) > 0
    expected = torch.zeros(3, PLACES, dtype=torch.bool).scatter(1, of.targets["hidden"], True)
    assert torch.equal(reached, expected)


def test_nothing_of_a_hidden_patch_goes_in() -> None:
    made, of = method(), masked()
    places = of.targets["hidden"][:, :, None].expand(-1, -1, SIDE**2)
    covered = joined(torch.zeros(3, PLACES, SIDE**2).scatter(1, places, 1.0), SIDE, SIZE, SIZE)
    other = torch.where(covered > 0, torch.rand_like(of.views[0]), of.views[0])
    assert not torch.equal(other, of.views[0])
    for a, b in zip(
        [*made.encoder.local(of.views[0], of.targets["keep"])[1], made.predicted(of)],
        [*made.encoder.local(other, of.targets["keep"])[1], made.predicted(Batch([other], of.index, of.targets))],
        strict=True,
    ):
        assert torch.equal(a, b)
    seen = torch.where(covered > 0, of.views[0], torch.rand_like(of.views[0]))
    assert not torch.allclose(made.predicted(of), made.predicted(Batch([seen], of.index, of.targets)))


def test_the_order_of_places_means_nothing() -> None:
    made, of = method(), masked()
    mixed = {name: places[:, torch.randperm(places.shape[1])] for name, places in of.targets.items()}
    assert not torch.equal(mixed["keep"], of.targets["keep"])
    other = Batch(of.views, of.index, mixed)
    torch.testing.assert_close(made(other, AT).total, made(of, AT).total)
    torch.testing.assert_close(made.predicted(other), made.predicted(of))


def test_the_decoder_puts_every_token_where_it_belongs() -> None:
    """Without blocks, a patch's pixels are those of its own token and position."""
    made, of = method(), masked()
    decoder = made.decoder
    decoder.blocks = torch.nn.Identity()
    h, tokens = torch.randn(3, 16), torch.randn(3, 4, 16)
    found = decoder(h, tokens, of.targets["keep"], of.targets["hidden"], (4, 4))
    where = positions(4, 4, 8)
    for i in range(3):
        keep = of.targets["keep"][i].tolist()
        for place in range(PLACES):
            token = decoder.embed(tokens[i, keep.index(place)]) if place in keep else decoder.mask[0, 0]
            torch.testing.assert_close(found[i, place], decoder.pixels(token + where[place]))


@pytest.mark.parametrize(("height", "width", "side"), [(16, 16, 4), (8, 12, 2), (10, 7, 3)])
def test_patches_are_cut_row_by_row_and_joined_again(height: int, width: int, side: int) -> None:
    x = torch.rand(2, 3, height, width)
    patches = cut(x, side)
    assert patches.shape == (2, -(-height // side) * -(-width // side), side**2 * 3)
    assert torch.equal(joined(patches, side, height, width), x)
    if height % side == width % side == 0:
        for place in range(patches.shape[1]):
            row, column = divmod(place, width // side)
            corner = x[1, :, row * side : (row + 1) * side, column * side : (column + 1) * side]
            assert torch.equal(patches[1, place], corner.permute(1, 2, 0).flatten())


def test_positions_are_sines_and_cosines_of_column_and_row() -> None:
    found, width = positions(3, 5, 16).numpy(), 16
    for place in range(15):
        row, column = divmod(place, 5)
        for half, at in enumerate((column, row)):
            for i in range(width // 4):
                angle = at / 10000 ** (4 * i / width)
                first = half * width // 2 + i
                assert found[place, first] == pytest.approx(np.sin(angle), abs=1e-6)
                assert found[place, first + width // 4] == pytest.approx(np.cos(angle), abs=1e-6)
    with pytest.raises(ValueError, match="4 divides"):
        positions(2, 2, 6)


def test_positions_of_both_networks_are_fixed() -> None:
    made = method()
    backbone = made.encoder.backbone
    assert not backbone.pos_embed.requires_grad
    torch.testing.assert_close(backbone.pos_embed[0, 1:], positions(4, 4, 16))
    assert not backbone.pos_embed[0, 0].any()
    made(masked(), AT).total.backward()
    assert [n for n, p in made.named_parameters() if p.requires_grad and p.grad is None] == []


VITS = {
    "vit_tiny_patch16_224": {},
    "vit_small_patch32_224": {"global_pool": "avg"},
    "vit_base_patch16_clip_224": {"pos_drop_rate": 0.5, "patch_drop_rate": 0.5},
    "vit_small_patch14_reg4_dinov2": {},
    "deit3_small_patch16_224": {},
    "deit_tiny_distilled_patch16_224": {},
    "vit_base_patch16_siglip_224": {},
}


@pytest.mark.parametrize("name", VITS)
@pytest.mark.parametrize("dynamic", [True, False])
def test_all_patches_in_any_order_are_timms_own_forward(name: str, dynamic: bool) -> None:
    torch.manual_seed(0)
    few = {"img_size": 24, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}
    backbone = timm.create_model(name, dynamic_img_size=dynamic, **few, **VITS[name]).eval()
    side = 32 if dynamic else 24  # of a size that it was not made for, too
    x, places = torch.rand(2, 3, side, side), (side // 8) ** 2
    expected, maps = backbone(x), backbone.forward_intermediates(x, norm=False)[1]
    order = torch.stack([torch.randperm(places) for _ in range(2)])
    for keep in (torch.arange(places).expand(2, -1), order):
        h, found = visible(backbone, x, keep)
        torch.testing.assert_close(h, expected, rtol=1e-4, atol=1e-5)
        first = maps[0].flatten(2).gather(2, keep[:, None].expand(-1, maps[0].shape[1], -1))
        torch.testing.assert_close(found[0], first, rtol=1e-4, atol=1e-5)


def test_other_networks_are_refused() -> None:
    for choice in (Choice("resnet10t", {"width": 4}), Choice("swin_tiny_patch4_window7_224", {"img_size": 32})):
        encoder = build_encoder(choice, 3, 32, MEAN, STD)
        with pytest.raises(UserError, match=r"cannot leave patches out: give a ViT as --encoder"):
            registry.build("methods", Choice("mae"), encoder, DataShape(9, 3, 32))


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"of 64 patches, and the encoder sees 16, of 4 px: give --views.patch-size 4"):
        batch = masked(places=64)
        method().check(batch.views, batch.targets)
    with pytest.raises(UserError, match=r"these hide none: give --views masked"):
        method().check(batch.views, {})
    with pytest.raises(UserError, match=r"width is 10, and must be a multiple of 4 and of its 2 heads"):
        method(width=10)
    with pytest.raises(UserError, match=r"width is 8, and must be a multiple of 4 and of its 3 heads"):
        method(heads=3)
    grey = torch.zeros(1), torch.ones(1)
    encoder = build_encoder(Choice("vit_tiny_patch16_224", {"patch_size": 1, "depth": 1}), 1, 8, *grey)
    with pytest.raises(UserError, match=r"patches of one value have no deviation"):
        registry.build("methods", Choice("mae"), encoder, DataShape(9, 1, 8))


@pytest.mark.parametrize(("size", "places"), [(8, 64), (32, 64), (36, 81), (64, 64), (96, 36), (224, 196)])
def test_the_policy_hides_three_quarters_of_the_patches_that_the_encoder_has(size: int, places: int) -> None:
    x = torch.randint(0, 256, (50, 3, size, size), dtype=torch.uint8)
    made = registry.build("views", Choice("masked"), DataShape(9, 3, size))
    (view,), targets = made({"image": x}, torch.Generator().manual_seed(0))
    keep, hidden = targets["keep"], targets["hidden"]
    assert view.shape == x.shape
    assert keep.shape == (50, round(places / 4))
    assert torch.equal(torch.cat([keep, hidden], 1).sort(1).values, torch.arange(places).expand(50, -1))
    assert len({tuple(k) for k in keep.sort(1).values.tolist()}) == 50, "each image has a mask of its own"
    assert patch_side(size) == (size // 8 if size <= 64 else 16)
    encoder = build_encoder(Choice("vit_tiny_patch16_224", {"depth": 1}), 3, size, MEAN, STD)
    with torch.no_grad():
        assert encoder.local(view[:1])[1][0].flatten(2).shape[2] == places


def test_every_patch_is_hidden_equally_often() -> None:
    made = registry.build("views", Choice("masked", {"masked": 0.5, "patch_size": 4}), DataShape(9, 1, 16))
    x = torch.zeros(8000, 1, 16, 16, dtype=torch.uint8)
    counts = made({"image": x}, torch.Generator().manual_seed(0))[1]["keep"].flatten().bincount(minlength=16)
    assert (counts / 8000 - 0.5).abs().max() < 0.02
    for masked_share in (0.0, 1.0):
        with pytest.raises(UserError, match="some must be seen and some hidden"):
            registry.build("views", Choice("masked", {"masked": masked_share}), DataShape(9, 1, 16))


@pytest.mark.parametrize("normalise", [True, False])
def test_pictures_show_what_is_seen_as_it_is_and_the_rest_as_predicted(normalise: bool) -> None:
    made, of = method(normalise=normalise), masked()
    with torch.no_grad():
        found, predicted = made.pictures(of, AT), made.predicted(of)
    assert list(found) == ["view", "masked", "reconstructed"]
    assert torch.equal(found["view"], of.views[0])
    for i in range(3):
        for place in range(PLACES):
            own, hid, again = (patch(picture[i], place) for picture in found.values())
            if place in of.targets["keep"][i].tolist():
                assert (own == hid).all()
                assert (own == again).all()
                continue
            assert (hid == 0.5).all()
            pixels = predicted[i, place].numpy()
            if normalise:
                seen = (own.reshape(-1, 3) - MEAN.numpy()) / STD.numpy()
                pixels = pixels * np.sqrt(seen.var(ddof=1) + 1e-6) + seen.mean()
            expected = (pixels.reshape(-1, 3) * STD.numpy() + MEAN.numpy()).clip(0, 1).flatten()
            np.testing.assert_allclose(again, expected, atol=1e-5)


def test_the_recipe_prescribes_a_vit_and_the_user_another() -> None:
    assert compose({"method": "mae"}).encoder == Choice("vit_tiny_patch16_224", {"weight_init": "jax"})
    deeper = compose({"method": "mae"}, {"encoder.depth": 3}).encoder
    assert deeper == Choice("vit_tiny_patch16_224", {"weight_init": "jax", "depth": 3})
    assert compose({"method": "mae"}, {"encoder": "vit_small_patch16_224"}).encoder == Choice("vit_small_patch16_224")
    assert compose({"method": "simclr"}).encoder == Choice("resnet18")
