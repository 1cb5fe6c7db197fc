"""Where an encoder looks: against networks whose answer is known, and loops; the encoder stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from unlabeled.data import open_data
from unlabeled.encoders import Encoder, build_encoder
from unlabeled.encoders.image import ImageFront
from unlabeled.errors import UserError
from unlabeled.probes.attention import Attention, focus, overlay, pixels
from unlabeled.probes.base import Draws, Shown
from unlabeled.probes.saliency import grad_cam, roll_out, saliency
from unlabeled.probes.spelling import parse_protocol
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice


class Averaged(nn.Module):
    """Blocks of pixels averaged to `places` a side, three colours weighed, then averaged into h: all linear."""

    def __init__(self, places: int, weights: list[float]) -> None:
        super().__init__()
        self.pool, self.weights = nn.AdaptiveAvgPool2d(places), nn.Parameter(torch.tensor(weights))

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_intermediates(x)[0])

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        last = self.pool(x) * self.weights.view(1, 3, 1, 1)
        return last, [last]

    def forward_head(self, last: Tensor) -> Tensor:
        return last.mean((2, 3))


def encoder(backbone: nn.Module, size: int = 8) -> Encoder:
    return Encoder(ImageFront(size, size, torch.zeros(3), torch.ones(3)), backbone, 3)


def built(name: str, size: int = 16, **options: Any) -> Encoder:
    torch.manual_seed(0)
    middle = torch.full((3,), 0.5)
    return build_encoder(Choice(name, options), 3, size, middle, middle / 2).eval()


def vit(pooling: str = "token", **options: Any) -> Encoder:
    small = {"depth": 3, "embed_dim": 24, "num_heads": 2, "patch_size": 4, "global_pool": pooling}
    made = built("vit_tiny_patch16_224", **(small | options))
    for block in made.backbone.blocks:  # sharper than at the start, where all attention is nearly even
        block.attn.qkv.weight.data.mul_(20)
    return made


def pictures(n: int = 4, size: int = 16, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (n, 3, size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def test_grad_cam_in_closed_form() -> None:
    """h is linear in the picture: the map is the sum of colours, weighed by the mirrored picture's own h."""
    weights = torch.tensor([1.0, -2.0, 0.5])
    x = pictures(5, 8)
    found = grad_cam(encoder(Averaged(4, weights.tolist())).eval(), x).maps
    colours = x.float().div(255).unflatten(2, (4, 2)).unflatten(4, (4, 2)).mean((3, 5))  # (B, 3, 4, 4)
    h = weights * colours.mean((2, 3))  # the mirrored picture has the same
    alpha = h / h.norm(dim=1, keepdim=True) / 16
    expected = ((alpha * weights)[:, :, None, None] * colours).sum(1)
    assert torch.allclose(found, expected.relu(), atol=1e-7)
    similarity = h.norm(dim=1)
    assert torch.allclose(found.sum((1, 2)), similarity, atol=1e-6), "nothing was clipped, so the map adds up to h · x'"


def test_grad_cam_finds_the_bright_spot_and_what_speaks_against_is_clipped() -> None:
    x = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    x[0, 0, :2, 6:] = 255
    found = saliency(encoder(Averaged(4, [1.0, 1.0, 1.0])), x)
    expected = torch.zeros(4, 4)
    expected[0, 3] = 1
    assert torch.equal(found.maps[0], expected)
    assert focus(found.maps[0]) == 1 - 0.5 / 16
    assert found.means.startswith("Grad-CAM of the last stage")


class Signed(Averaged):
    """Its channels are less one half, so that dark places speak against what bright ones speak for."""

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        last = self.pool(x) - 0.5
        return last, [last]


def test_grad_cam_clips_what_speaks_against() -> None:
    x = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    x[..., :2] = 0
    found = grad_cam(encoder(Signed(4, [1.0, 1.0, 1.0])).eval(), x).maps[0]
    assert (found[:, 0] == 0).all()
    assert (found[:, 1:] > 0).all()


def test_maps_are_of_the_deepest_stage_that_is_fine_enough() -> None:
    made = built("resnet10t", 8, width=4)
    assert made.local(pictures(1, 8))[1][-1].shape[-1] < 4
    found = saliency(made, pictures(2, 8))
    assert found.maps.shape == (2, 4, 4)
    assert "deepest stage" in found.means
    assert found.maps.sum((1, 2)).tolist() == pytest.approx([1, 1])


def rolled_out(made: Encoder, image: Tensor) -> np.ndarray:
    """Of one image: attention from the queries and keys themselves, multiplied in loops. (N, N)."""
    x = (image[None].float() / 255 - made.front.mean) / made.front.std
    backbone: Any = made.backbone
    inputs: list[Tensor] = []
    hooks = [b.attn.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for b in backbone.blocks]
    with torch.no_grad():
        backbone(x)
    for hook in hooks:
        hook.remove()
    joint = np.eye(inputs[0].shape[1])
    for block, tokens in zip(backbone.blocks, inputs, strict=True):
        n, heads, length = tokens.shape[1], block.attn.num_heads, block.attn.head_dim
        qkv = (tokens[0] @ block.attn.qkv.weight.T + block.attn.qkv.bias).detach().double().numpy()
        mean = np.zeros((n, n))
        for head in range(heads):
            q, k = (qkv[:, part * heads * length + head * length :][:, :length] for part in (0, 1))
            for i in range(n):
                logits = np.array([q[i] @ k[j] / np.sqrt(length) for j in range(n)])
                weights = np.exp(logits - logits.max())
                mean[i] += weights / weights.sum() / heads
        joint = (0.5 * mean + 0.5 * np.eye(n)) @ joint
    return joint


@pytest.mark.parametrize(
    ("pooling", "options"),
    [("token", {}), ("avg", {}), ("token", {"reg_tokens": 2})],
    ids=["class token", "mean", "registers"],
)
def test_roll_out_in_loops(pooling: str, options: dict[str, Any]) -> None:
    made, x = vit(pooling, **options), pictures(2)
    found = roll_out(made, x)
    assert found.maps.shape == (2, 4, 4)
    for image, attention in zip(x, found.maps, strict=True):
        joint = rolled_out(made, image)
        assert joint.sum(1) == pytest.approx(np.ones(len(joint)))
        first = len(joint) - 16
        read = joint[0] if pooling == "token" else joint[first:].mean(0)
        assert attention.numpy() == pytest.approx(read[first:].reshape(4, 4), abs=1e-5)
        assert attention.std() > 1e-3


def test_patches_beyond_the_picture() -> None:
    found = roll_out(vit(size=14), pictures(1, 14))
    assert found.maps.shape == (1, 4, 4)
    assert found.covers == 14 / 16
    assert roll_out(vit(), pictures(1)).covers == 1


@pytest.mark.parametrize("made", [lambda: vit(), lambda: built("resnet10t", width=4)], ids=["vit", "resnet"])
@pytest.mark.parametrize("training", [True, False])
def test_everything_is_left_as_found(made: Any, training: bool) -> None:
    network = made().train(training)
    odd = next(m for m in network.backbone.modules() if isinstance(m, nn.LayerNorm | nn.BatchNorm2d))
    odd.train(not training)
    first = next(iter(network.parameters())).requires_grad_(False)
    fused = [m.fused_attn for m in network.modules() if hasattr(m, "fused_attn")]
    hooks = [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in network.modules()]
    h = network(pictures(1)) if not training else None
    state = {k: v.clone() for k, v in network.state_dict().items()}
    with torch.no_grad():
        saliency(network, pictures(3))
        assert not torch.is_grad_enabled()
    assert [m.fused_attn for m in network.modules() if hasattr(m, "fused_attn")] == fused
    assert all(m.training is (not training if m is odd else training) for m in network.modules())
    assert [(m._forward_hooks, m._forward_pre_hooks) for m in network.modules()] == hooks
    assert all(p.grad is None for p in network.parameters())
    assert [p is first for p in network.parameters()] == [not p.requires_grad for p in network.parameters()]
    assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
    assert h is None or torch.equal(network(pictures(1)), h)


def test_after_a_failure_too() -> None:
    network = vit()
    fused = [b.attn.fused_attn for b in network.backbone.blocks]
    with pytest.raises(UserError, match=r"takes images of shape"):
        saliency(network.train(), pictures(1)[:, :1])
    assert [b.attn.fused_attn for b in network.backbone.blocks] == fused
    assert all(not b.attn.attn_drop._forward_hooks for b in network.backbone.blocks)
    assert network.training


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_images_do_not_know_of_each_other(name: str) -> None:
    network = vit() if name == "vit" else built("resnet10t", width=4)
    x = pictures(3)
    together = saliency(network, x).maps
    assert torch.allclose(together[1:2], saliency(network, x[1:2]).maps, atol=1e-5)


def test_focus() -> None:
    assert focus(torch.full((4, 4), 0.3)) == pytest.approx(0.5)
    assert focus(torch.zeros(4, 4)) == 0.5
    assert focus(torch.tensor([[0.0, 1.0], [0.0, 0.0]])) == 1 - 0.5 / 4
    assert focus(torch.tensor([[0.2, 0.4], [0.3, 0.1]])) == pytest.approx(1 - (1 + 0.1 / 0.3) / 4)
    spread = torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
    assert focus(spread) == pytest.approx(focus(7 * spread.flatten()[torch.randperm(25)].view(5, 5)))


def data(tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    for i in range(50):  # a fifth is held out
        place = tmp_path / "data" / ("<b>a", "$b$")[i % 2] / f"{i:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(place)
    return open_data(tmp_path / "data").train


def scored(source: Any, made: Encoder, text: str, indices: Any = None) -> tuple[Attention, Any]:
    probe = Attention(**parse_protocol(text).choice.options)
    shown = np.arange(len(source)) if indices is None else indices
    probe.fit(Subject("run", made), source, shown, np.full(len(shown), -1), seed=0)
    return probe, probe.score(source, shown, np.full(len(shown), -1))


def test_the_figure_its_interval_and_the_files(tmp_path: Path) -> None:
    source = data(tmp_path)
    every = np.arange(len(source))
    spread = np.linspace(0, every[-1], 5).round().astype(int).tolist()
    probe, figures = scored(source, vit(), "attention:images=5")
    assert isinstance(probe, Draws)
    values = np.array([focus(m) for m in saliency(vit(), source.seen(probe.taken_)).maps])
    assert probe.focus_ == pytest.approx(values.tolist(), abs=1e-5)
    assert figures["focus"].value == pytest.approx(values.mean(), abs=1e-5)
    assert figures["focus"].interval == pytest.approx(1.96 * values.std(ddof=1) / np.sqrt(5), abs=1e-5)
    shown = Shown(source, every, np.where(every == probe.taken_[1], -1, source.labels))
    picture, described = probe.draw(tmp_path, "five", shown, shown)
    with Image.open(picture) as opened:
        assert opened.size == (5 * 210 + 6, 122 + 6)
    found = json.loads(described.read_text())
    assert found["means"] == "attention roll-out"
    assert found["classes"] == list(source.classes)
    assert [row["number"] for row in found["images"]] == source.numbers[probe.taken_].tolist()
    assert [row["index"] for row in found["images"]] == probe.taken_.tolist() == spread
    assert [row["label"] for row in found["images"]] == [source.labels[0], -1, *source.labels[spread[2:]]]
    assert np.sum([row["map"] for row in found["images"]], (1, 2)) == pytest.approx(np.ones(5), abs=1e-4)


def test_maps_of_other_encoders_stand_beside(tmp_path: Path) -> None:
    source = data(tmp_path)
    every = np.arange(len(source))
    shown = Shown(source, every, source.labels)
    probe, other = (
        scored(source, made, "attention:images=5")[0] for made in (vit(), encoder(Averaged(4, [1.0, 1.0, 1.0]), 16))
    )
    probe.beside_ = {"runs/supervised": other}
    picture, described = probe.draw(tmp_path, "both", shown, shown)
    with Image.open(picture) as opened:
        drawn = np.asarray(opened)
    assert drawn.shape == (20 + 2 * 122 + 6, 4 * 312 + 6, 3)  # four in a row, of a picture and two maps each
    first = source.seen(probe.taken_[:1])[0]
    for side, whose in enumerate((probe, other), 1):
        at = 6 + side * 102
        assert np.array_equal(drawn[46 : 46 + 96, at : at + 96], overlay(first, whose.maps_[0], whose.covers_))
        assert drawn[6:20, at : at + 96].min() < 128, "named above"
    found = json.loads(described.read_text())["beside"]["runs/supervised"]
    assert found["focus"] == other.focus_
    assert np.allclose(found["maps"], other.maps_.numpy(), atol=1e-6)


def test_which_images(tmp_path: Path) -> None:
    source, made = data(tmp_path), encoder(Averaged(4, [1.0, 1.0, 1.0]), 16)
    held_out = sorted(set(range(50)) - set(source.numbers.tolist()))
    chosen = scored(source, made, "attention:images=3,17,2")[0].taken_
    assert source.numbers[chosen].tolist() == [3, 17, 2] != chosen.tolist(), "numbers are those of the data as given"
    probe, figures = scored(source, made, "attention:images=(17)")
    assert source.numbers[probe.taken_].tolist() == [17]
    assert figures["focus"].interval is None
    assert scored(source, made, "attention:images=99")[0].taken_.tolist() == list(range(len(source)))
    some = np.arange(10, len(source))
    assert scored(source, made, "attention", some)[0].taken_[[0, -1]].tolist() == [10, len(source) - 1]
    for text, said in [
        (f"attention:images=3,{held_out[0]},-1", f"-1, {held_out[0]} is no test image that can be read: give numbers"),
        ("attention:images=0", "images is 0, and must be at least 1, or numbers such as 3,17,250"),
        ("attention:images=a", "must be"),
    ]:
        with pytest.raises(UserError, match=said):
            scored(source, made, text)


def test_an_encoder_that_gives_nothing(tmp_path: Path) -> None:
    probe, figures = scored(data(tmp_path), encoder(Averaged(4, [0.0, 0.0, 0.0]), 16), "attention:images=4")
    assert figures["focus"].value == 0.5
    assert "in 4 of 4 images no place speaks" in probe.notes_[1]


def test_what_cannot_be() -> None:
    with pytest.raises(UserError, match="raw features have no encoder"):
        Attention().fit(Subject("pixels", None), None, np.arange(2), np.arange(2), seed=0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="pools by 'max'"):
        saliency(vit("max", class_token=False), pictures(1))
    with pytest.raises(UserError, match="does not show its stages"):
        saliency(encoder(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())), pictures(1))


def test_overlay() -> None:
    """Where the attention is, the colour is the brightest; at even attention, the picture alone makes the difference."""
    image = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    spot = torch.zeros(4, 4)
    spot[1, 2] = 1
    drawn = overlay(image, spot, 1.0).astype(float).mean(2)
    assert np.unravel_index(drawn.argmax(), drawn.shape) == pytest.approx((36, 60), abs=13)
    assert drawn.max() > 1.5 * drawn.min()
    half = overlay(image, spot, 0.5).astype(float).mean(2)
    assert np.unravel_index(half.argmax(), half.shape) == pytest.approx((72, 95), abs=25)
    assert np.ptp(overlay(image, torch.ones(4, 4), 1.0).reshape(-1, 3), axis=0).tolist() == [0, 0, 0]
    assert pixels(image[:1]).shape == (8, 8, 3)
    assert (pixels(torch.stack([image[0], image[0] + 10])) == 105).all()
