"""Two streams of the Lab colour space: the conversion against the published formula, and the encoder and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import ABOUT, unlabeled

from unlabeled.encoders import build_encoder
from unlabeled.encoders.lab import lab_to_rgb, rgb_to_lab
from unlabeled.errors import UserError
from unlabeled.probes.linear_layers import stage_names
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run, load

LAB = Choice("resnet10t", {"width": 4, "streams": "lab"})


def published(rgb: list[float]) -> list[float]:
    """CIE 15 with sRGB (IEC 61966-2-1) and D65, as scikit-image writes it."""
    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in rgb]
    matrix = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    f = []
    for row, white in zip(matrix, (0.95047, 1.0, 1.08883), strict=True):
        t = sum(m * c for m, c in zip(row, linear, strict=True)) / white
        f.append(np.cbrt(t) if t > 0.008856 else 7.787 * t + 16 / 116)
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


def test_the_conversion_is_the_published_one() -> None:
    x = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    x[0] *= 0.05
    found = rgb_to_lab(x)
    for b in range(3):
        for i in range(4):
            for j in range(5):
                np.testing.assert_allclose(found[b, :, i, j], published(x[b, :, i, j].tolist()), atol=2e-3)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rgb_to_lab(x), found)


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_known_colours(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    found = rgb_to_lab(torch.tensor(rgb, dtype=torch.float32).view(1, 3, 1, 1)).flatten()
    np.testing.assert_allclose(found, lab, atol=0.02)


def test_one_half_sees_lightness_and_the_other_colours() -> None:
    torch.manual_seed(0)
    encoder = build_encoder(LAB, 3, 16, torch.rand(3), torch.rand(3)).eval()
    whole = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.rand(3), torch.rand(3))
    assert encoder.dim == 2 * whole.dim
    seen: list[torch.Tensor] = []
    for network in (encoder.backbone.lightness, encoder.backbone.colour):
        network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grey = torch.rand(4, 1, 16, 16).expand(-1, 3, -1, -1)
    h_l, h_ab = encoder(grey).chunk(2, 1)
    assert (h_l[0] - h_l[1]).abs().max() > 1e-3
    torch.testing.assert_close(h_ab[0], h_ab[1], rtol=1e-3, atol=1e-4)
    seen.clear()
    encoder(torch.rand(4, 3, 16, 16))
    assert [s.shape[1] for s in seen] == [1, 2]
    assert all(float(s.abs().max()) <= 1.001 and float(s.std()) > 0.05 for s in seen)


def test_back_from_lab() -> None:
    x = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    x[0] *= 0.05
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(x)), x, atol=1e-4, rtol=0)


def test_a_stream_of_lightness_sees_no_colours() -> None:
    encoder = build_encoder(Choice("resnet10t", {"width": 4, "streams": "lightness"}), 3, 16, torch.rand(3), torch.rand(3))
    x = rgb_to_lab(torch.rand(2, 3, 16, 16) * 0.5 + 0.25)
    grey = lab_to_rgb(x * torch.tensor([1, 0, 0]).view(3, 1, 1))
    torch.testing.assert_close(encoder.eval()(lab_to_rgb(x)), encoder(grey), atol=1e-4, rtol=1e-4)
    assert (encoder(grey) - encoder(grey.flip(3))).abs().max() > 1e-4


@pytest.mark.parametrize("streams", ["lab", "lightness"])
def test_stages_are_shown(streams: str) -> None:
    encoder = build_encoder(Choice("resnet10t", {"width": 4, "streams": streams}), 3, 16, torch.zeros(3), torch.ones(3))
    x = torch.rand(2, 3, 16, 16)
    h, maps = encoder.eval().local(x)
    torch.testing.assert_close(h, encoder(x))
    assert maps[-1].shape[:2] == h.shape
    assert stage_names(encoder, len(maps))[0] == "conv1"


def test_back_from_its_file(tmp_path: Path) -> None:
    encoder, run = build_encoder(LAB, 3, 16, torch.rand(3), torch.rand(3)), Run(tmp_path)
    run.start(compose({"method": "cmc", "encoder": {"name": "resnet10t", "width": 4}}), ABOUT)
    run.write_encoder(encoder)
    x = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(load(tmp_path)(x), encoder.eval()(x))


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"3 channels \(RGB\), and these have 1.*--encoder.streams none"):
        build_encoder(LAB, 1, 16, torch.zeros(1), torch.ones(1))
    with pytest.raises(UserError, match="streams is 'hsv'"):
        build_encoder(Choice("resnet10t", {"streams": "hsv"}), 3, 16, torch.zeros(3), torch.ones(3))


def test_a_recipe_asks_for_it_and_the_catalogue_says_so() -> None:
    assert compose({"method": "cmc"}).encoder.options == {"streams": "lab"}
    given = {"method": "cmc", "encoder": {"name": "resnet34", "width": 8}}
    assert compose(given).encoder == Choice("resnet34", {"streams": "lab", "width": 8})
    assert compose(given, {"encoder.streams": "none"}).encoder.options["streams"] == "none"
    assert "encoder.streams unless told otherwise: lab" in unlabeled("methods", "cmc").out
