"""timm's backbones: fitted to small images and any channels, and the same network again from its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from command import ABOUT, file, mistake

from unlabeled.encoders import Encoder, build_encoder
from unlabeled.encoders.image import price, with_stem, work
from unlabeled.errors import UserError
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run, load

SMALL_STEM = "the stem is one 3×3 convolution of stride 1, without max-pool"


def build(name: str, size: int, channels: int = 3, eval_size: int | None = None, **options: Any) -> Encoder:
    torch.manual_seed(0)
    mean, std = torch.rand(channels), torch.rand(channels) + 0.1
    return build_encoder(Choice(name, options), channels, size, mean, std, eval_size)


@pytest.mark.parametrize(
    ("name", "size", "options", "note"),
    [
        ("resnet18", 8, {"width": 4}, SMALL_STEM),
        ("resnet18", 65, {"width": 4}, ""),
        ("resnet18", 64, {"width": 4}, SMALL_STEM),  # as encoders that were written before `stem` was an option
        ("resnet18", 64, {"stem": "auto"}, ""),
        ("resnet18", 64, {"width": 4, "stem": "auto"}, SMALL_STEM),  # narrow: a large stem is most of its work
        ("resnet18", 32, {"width": 4, "stem": "large"}, ""),
        ("resnet18", 72, {"width": 4, "stem": "small"}, SMALL_STEM),
        ("resnet50", 16, {"width": 4}, SMALL_STEM),
        ("resnet18", 32, {}, SMALL_STEM),
        ("resnet10t", 16, {"drop_rate": 0.1}, SMALL_STEM),
        ("resnet18d", 16, {"width": 6}, SMALL_STEM),
        ("vit_tiny_patch16_224", 32, {"depth": 1}, "patches of 4 px"),
        ("vit_tiny_patch16_224", 16, {"depth": 1}, "patches of 2 px"),
        ("vit_tiny_patch16_224", 28, {"depth": 1}, "patches of 3 px"),
        ("deit_tiny_patch16_224", 16, {"depth": 1}, "patches of 2 px"),
        ("resnet9", 8, {"width": 4}, ""),
        ("resnet9", 4, {"width": 4}, ""),
        ("resnet9", 8, {"width": 4, "features": 24}, ""),
        ("resnet9", 65, {"width": 2}, "made for images up to 64 px"),
        ("convnext_atto", 32, {}, "its stem stays as it is"),
        ("efficientnet_b0", 32, {}, "its stem stays as it is"),
        ("regnety_002", 32, {}, "its stem stays as it is"),
        ("resnetv2_50", 32, {}, "its stem stays as it is"),
    ],
)
def test_a_backbone_at_its_size_and_back_from_its_file(
    tmp_path: Path, name: str, size: int, options: dict[str, Any], note: str
) -> None:
    encoder = build(name, size, **options).eval()
    assert note in "".join(encoder.notes)
    assert bool(encoder.notes) == bool(note)
    x = torch.rand(2, 3, size, size)
    with torch.no_grad():
        h = encoder(x)
        assert h.shape == (2, encoder.dim)
        assert (h[0] - h[1]).abs().max() > 0.01 * h.abs().max()
        run = Run(tmp_path)
        run.start(compose({"encoder": {"name": name, **options}}), ABOUT)
        run.write_encoder(encoder)
        assert torch.equal(load(tmp_path)(x), h)
    parameters = dict(encoder.named_parameters())
    encoder.train()(x).sum().backward()
    assert [n for n, p in parameters.items() if p.grad is None] == []


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_any_number_of_channels(name: str, channels: int) -> None:
    encoder = build(name, 16, channels, **({"width": 4} if name == "resnet18" else {"depth": 1}))
    assert encoder(torch.zeros(2, channels, 16, 16, dtype=torch.uint8)).shape == (2, encoder.dim)
    with pytest.raises(UserError, match=f"shape \\(B, {channels}, H, W\\)"):
        encoder(torch.zeros(2, channels + 1, 16, 16))


@pytest.mark.parametrize("side", [3, 2])
def test_in_bf16_weights_that_meet_only_padding_have_no_gradient(side: int) -> None:
    encoder = build_encoder(Choice("resnet18", {"width": 4}), 3, 8, torch.full((3,), 0.5), torch.full((3,), 0.25))
    images = torch.rand(64, 3, side, side)
    found = []
    for half in (False, True):
        encoder.zero_grad()
        memory = [torch.full((n,), torch.nan) for n in range(100, 10_000, 100)]
        del memory  # what is read before it is written is NaN
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = encoder(images).float().square().mean()
        loss.backward()
        found.append({name: p.grad.flatten() for name, p in encoder.named_parameters() if p.grad is not None})
    untouched = 0
    for name, exact in found[0].items():
        assert torch.isfinite(found[1][name]).all(), name
        assert not found[1][name][exact == 0].any(), name
        untouched += int((exact == 0).sum())
    assert untouched


def test_it_normalises_and_judges_at_its_own_size() -> None:
    encoder = build("resnet18", 16, eval_size=24, width=4)
    seen: list[torch.Tensor] = []
    encoder.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    encoder.train()(x)
    torch.testing.assert_close(seen[0], (x / 255 - encoder.front.mean) / encoder.front.std)
    encoder.eval()(x)
    assert seen[1].shape == (2, 3, 24, 24)
    torch.testing.assert_close(encoder(torch.full((1, 3, 9, 9), 0.5)), encoder(torch.full((1, 3, 40, 40), 0.5)))


def test_the_width_is_that_of_the_first_stage() -> None:
    assert build("resnet18", 16, width=4).dim == 32
    assert build("resnet18", 16).dim == 512
    assert build("resnet50", 16, width=4).dim == 128


def multiply_adds(backbone: torch.nn.Module, side: int) -> int:
    """Of its convolutions for one image, by the sizes of what they really make."""
    made: list[int] = []
    for part in backbone.modules():
        if isinstance(part, torch.nn.Conv2d):
            part.register_forward_hook(lambda conv, inputs, y: made.append(y.shape[2] * y.shape[3] * conv.weight.numel()))
    with torch.no_grad():
        backbone.eval()(torch.zeros(1, 3, side, side))
    return sum(made)


@pytest.mark.parametrize("stem", ["small", "large"])
def test_the_work_of_a_stem_is_counted(stem: str) -> None:
    choice = Choice("resnet18", {"width": 8, "stem": stem})
    assert work(choice, stem, 3, 40) == multiply_adds(build("resnet18", 40, width=8, stem=stem).backbone, 40)


def test_the_stem_is_the_small_one_until_an_image_is_more_work_than_one_of_the_paper() -> None:
    """The paper's: 1.8 thousand million multiply-adds (He et al. 2016, table 1)."""
    plain = Choice("resnet18")
    papers = work(plain, "large", 3, 224)
    assert papers == pytest.approx(1.8e9, rel=0.01)
    chosen = {size: with_stem(plain, 3, size).options.get("stem") for size in (32, 56, 57, 64, 65)}
    assert chosen == {32: None, 56: None, 57: "large", 64: "large", 65: None}, "said where it is not what it was before"
    assert work(plain, "small", 3, 56) <= papers < work(plain, "small", 3, 57)
    for stem in ("small", "large"):
        assert with_stem(Choice("resnet18", {"stem": stem}), 3, 64).options["stem"] == stem
    assert with_stem(Choice("resnet18", {"stem": "auto"}), 3, 32).options["stem"] == "small"
    assert with_stem(Choice("convnext_atto"), 3, 64) == Choice("convnext_atto")
    (said,) = price(plain, 3, 32)
    assert f"{work(plain, 'small', 3, 32) / work(plain, 'large', 3, 32):.0f} times the work of the large one" in said


@pytest.mark.parametrize(
    ("name", "size", "options", "said"),
    [
        ("resnet81", 32, {}, "did you mean 'resnet18'"),
        ("resnet18", 32, {"widht": 8}, "did you mean 'width'"),
        ("vit_tiny_patch16_224", 32, {"embd_dim": 8}, "did you mean 'embed_dim'"),
        ("convnext_atto", 32, {"width": 8}, "only ResNets have"),
        ("convnext_atto", 32, {"stem": "small"}, "only ResNets have"),
        ("resnet9", 32, {"stem": "small"}, "only ResNets have"),
        ("resnet18", 32, {"stem": "middle"}, "must be one of small, large, auto"),
        ("resnet18", 32, {"width": 5}, "an even number"),
        ("resnet18", 32, {"width": 0}, "an even number"),
        ("convnext_atto", 16, {}, "does not take images of 16 px"),
        ("mixer_s32_224", 32, {}, "does not take images of 32 px"),
    ],
)
def test_mistakes(name: str, size: int, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(name, size, **options)


def test_views_that_a_network_cannot_take_are_refused_before_the_run(tmp_path: Path) -> None:
    """Small views of 14 px ended a run at its first step, with a traceback."""
    said = mistake("pretrain", file(tmp_path / "x.npz"), "--method", "dino", "--image-size", 32,
                   "--encoder", "convnext_atto", "--out", tmp_path / "run")  # fmt: skip
    assert "does not take images of 14 px" in said
    assert "give larger --views" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [torch.uint16, torch.int16, torch.int32, torch.int64, torch.bool])
def test_integers_of_an_unknown_range_are_refused(kind: torch.dtype) -> None:
    """Taken as they are, the features of int64 in 0..255 were 400 times as long, without a word."""
    encoder = build_encoder(Choice("resnet9", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3)).eval()
    with pytest.raises(
        UserError, match=rf"the images are {str(kind)[6:]}, whose range nobody knows: give uint8, or floats in"
    ):
        encoder(torch.ones(2, 3, 16, 16).to(kind))


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (-2.1, 2.6), (-0.5, 0.5)])
def test_floats_of_another_range_are_refused(low: float, high: float) -> None:
    encoder = build_encoder(Choice("resnet9", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3)).eval()
    x = torch.linspace(low, high, 2 * 3 * 16 * 16).view(2, 3, 16, 16)
    with pytest.raises(
        UserError, match=rf"hold floats from {low:.4g} to {high:.4g}, and this encoder takes uint8, or floats"
    ):
        encoder(x)


def test_the_same_picture_has_the_same_features_however_it_is_given() -> None:
    encoder = build_encoder(Choice("resnet9", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3)).eval()
    x = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = encoder(x)
    for given in (x.float() / 255, x.double() / 255, x.float() / 255 + 1e-4 * (x == 255), x[:0]):
        torch.testing.assert_close(encoder(given), expected[: len(given)], rtol=1e-3, atol=1e-3)


def test_norms_are_given_by_timms_names() -> None:
    layered = build_encoder(
        Choice("resnet10t", {"width": 4, "norm_layer": "groupnorm1"}), 3, 16, torch.zeros(3), torch.ones(3)
    )
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in layered.modules())
    with pytest.raises(UserError, match="'layered', and timm knows no such norm: give batchnorm2d, groupnorm1"):
        build_encoder(Choice("resnet10t", {"norm_layer": "layered"}), 3, 16, torch.zeros(3), torch.ones(3))
