"""The verb export: the file's own lines, run where it lies, give the run's features; what cannot be said is refused."""

from __future__ import annotations

import copy
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import ABOUT, file, mistake, ok
from numpy.testing import assert_allclose
from torch import nn

import unlabeled
from unlabeled.encoders import Encoder, build_encoder
from unlabeled.errors import UserError
from unlabeled.exporting.export import _difference
from unlabeled.exporting.formats import FILE, Form, as_timm
from unlabeled.recipe import compose
from unlabeled.run import Run


def made(path: Path, name: str, size: int, eval_size: int, channels: int = 3, **options: Any) -> Run:
    """A run whose encoder has drawn weights and drawn statistics of its batch norms."""
    torch.manual_seed(0)
    recipe = compose({"encoder": {"name": name, **options}, "kind.size": size, "kind.eval_size": eval_size})
    mean, std = torch.rand(channels), 0.1 + torch.rand(channels)
    encoder = build_encoder(recipe.encoder, channels, size, mean, std, eval_size)
    for part in encoder.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 0.5, 2)
    run = Run(path)
    run.start(recipe, ABOUT)
    run.write_encoder(encoder)
    return run


CASES = [
    ("torchvision", "resnet18", 16, 24, {}),
    ("torchvision", "resnet18", 65, 70, {"channels": 1}),
    ("timm", "resnet18", 16, 24, {"width": 4}),
    ("timm", "test_vit", 16, 20, {"channels": 1}),
    ("safetensors", "resnet18", 16, 16, {"width": 4, "streams": "lab"}),
    ("onnx", "test_vit", 16, 20, {}),
]


@pytest.mark.parametrize(("name", "network", "size", "eval_size", "options"), CASES)
def test_the_lines_beside_the_file_give_the_features_of_the_run(
    name: str, network: str, size: int, eval_size: int, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made(tmp_path / "run", network, size, eval_size, **options)
    channels = options.get("channels", 3)
    exported = unlabeled.export(run.path, format=name, data=np.full((9, 8, 8, channels), 7, np.uint8))
    assert exported.difference <= 1e-4
    assert exported.images == "32 random images and 9 of the data"
    assert sorted(p.name for p in exported.path.parent.iterdir()) == [exported.path.name, exported.readme.name]
    text = exported.readme.read_text()
    assert str(tmp_path) not in text
    code = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[0]
    assert len(code.split("\n\n")[1].splitlines()) <= 7
    images = np.random.default_rng(1).integers(0, 256, (5, channels, eval_size + 7, eval_size), dtype=np.uint8)
    space: dict[str, Any] = {"images": images if name == "onnx" else torch.from_numpy(images)}
    monkeypatch.chdir(exported.path.parent)
    with torch.no_grad():
        exec(code, space)
        h = run.encoder()(torch.from_numpy(images)).numpy()
    assert_allclose(np.asarray(space["h"]), h, atol=1e-4, rtol=1e-4)
    assert h.std() > 0.01


def test_a_stem_that_differs_is_described(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "resnet18", 16, 16)
    said = ok("export", run.path, "--format", "torchvision", "--out", tmp_path / "mine.pth")
    assert "Not as in torchvision's resnet18: `conv1` is Conv2d(3, 64, kernel_size=(3, 3)" in said
    assert "`maxpool` is nothing" in said
    assert f"how to use it: {tmp_path / 'mine.pth.md'}" in said
    weights = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert weights.keys() == run.encoder().backbone.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "network", "options", "said"),
    [
        (
            "torchvision",
            "resnet18",
            {"width": 4},
            ["bn1.bias is (64,)", "and here (4,)", "--format timm or safetensors or onnx"],
        ),
        ("torchvision", "test_vit", {}, ["torchvision has no network 'test_vit'", "--format timm or safetensors or onnx"]),
        ("torchvision", "resnet18", {"width": 4, "streams": "lab"}, ["two networks", "--format safetensors or onnx"]),
        ("torchvision", "resnet9", {"width": 4}, ["torchvision has no network 'resnet9'", "--format safetensors or onnx"]),
        ("timm", "resnet9", {"width": 4}, ["timm has no network 'resnet9'", "--format safetensors or onnx"]),
        ("timm", "resnet18", {"width": 4, "streams": "lab"}, ["two networks", "--format safetensors or onnx"]),
        ("tim", "resnet18", {"width": 4}, ["did you mean 'timm'?", "known: torchvision, timm, safetensors, onnx"]),
    ],
)
def test_what_a_format_cannot_express_is_refused(
    name: str, network: str, options: Any, said: list[str], tmp_path: Path
) -> None:
    run = made(tmp_path / "run", network, 16, 16, **options)
    message = mistake("export", run.path, "--format", name)
    assert all(words in message for words in said), message
    assert not (run.path / "export").exists()


def test_places_that_cannot_be(tmp_path: Path) -> None:
    run = made(tmp_path / "run", "resnet18", 16, 16, width=2)
    before = (run.path / "encoder.safetensors").read_bytes()
    own = run.path / "encoder.safetensors"
    assert "a file of the run itself" in mistake("export", run.path, "--format", "timm", "--out", own)
    assert own.read_bytes() == before
    assert "no folder" in mistake("export", run.path, "--format", "timm", "--out", tmp_path / "no" / "x.safetensors")
    assert "holds no run" in mistake("export", tmp_path, "--format", "timm")
    odd = file(tmp_path / "odd.npz", channels=2)
    assert "odd.npz' has 2 channels, and the run was trained on images with 3" in mistake(
        "export", run.path, "--format", "timm", "--data", odd
    )
    named = "--format", "timm", "--data", file(tmp_path / "x.npz"), "--split", "side"
    assert "--split 'side', and there are no columns" in mistake("export", run.path, *named)
    assert not (run.path / "export").exists()


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = made(tmp_path / "run", "resnet18", 16, 16, width=2)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    message = mistake("export", run.path, "--format", "onnx")
    assert "onnxscript" in message
    assert "pip install 'unlabeled[onnx]'" in message


@pytest.mark.parametrize("change", [1e-3, float("nan")])
def test_other_features_are_found(change: float, tmp_path: Path) -> None:
    run = made(tmp_path / "run", "resnet18", 16, 16, width=2)
    right, wrong = run.encoder(), run.encoder()
    images = [torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)]

    def difference(encoder: Encoder) -> float:
        form = as_timm(encoder, run.recipe.encoder)
        form.write(tmp_path / "x")
        return _difference("timm", form, tmp_path / "x", right, images)

    assert difference(right) < 1e-5
    with torch.no_grad():
        wrong.backbone.layer4[1].bn2.bias += change
    with pytest.raises(UserError, match="more than 1e-04, from the run's: nothing was written"):
        difference(wrong)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_difference_is_measured_by_the_size_of_the_features(size: float, tmp_path: Path) -> None:
    """Features of a millionth passed with any others of a millionth."""
    recipe = compose({"encoder": "resnet9", "encoder.width": 4})
    encoder = build_encoder(recipe.encoder, 3, 16, torch.zeros(3), torch.ones(3)).eval()
    batches = [torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))]

    def sized(factor: float) -> Encoder:
        other = copy.deepcopy(encoder)
        other.whitening = nn.Linear(encoder.dim, encoder.dim, bias=False)
        nn.init.eye_(other.whitening.weight).mul_(factor)
        return other

    def apart(factor: float) -> float:
        path = tmp_path / "network.pt"
        torch.save(sized(size * factor), path)
        form = Form(lambda path: None, ["import torch"], [f"h = torch.load({FILE}, weights_only=False)(images)"])
        return _difference("x", form, path, sized(size), batches)

    with torch.no_grad():
        assert apart(1.0) < 1e-5
        assert apart(1.00005) == pytest.approx(5e-5, rel=0.2)
        with pytest.raises(UserError, match=r"gives features that differ by 5.0e-01, more than 1e-04"):
            apart(1.5)
