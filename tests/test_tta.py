"""`--tta`: the representation that is judged is the mean over an image, its mirror image, and both made smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, file, mistake, ok
from torch.nn import functional as F

import unlabeled
from unlabeled.data import open_data
from unlabeled.encoders import Encoder, build_encoder
from unlabeled.evaluating.subjects import subjects, whole
from unlabeled.probes.saliency import saliency
from unlabeled.probes.subject import weights
from unlabeled.registry import Choice
from unlabeled.run import Run

EXACT = "--precision", "32", "--speed", "workers=1"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, judged by one look, and by four and whitened."""
    path = tmp_path_factory.mktemp("looks")
    data = file(path / "x.npz", n=300)
    ok("pretrain", data, *ONE, *EXACT, "--kind.eval-size", "16", "--out", path / "one")
    said = ok("pretrain", data, *ONE, *EXACT, "--kind.eval-size", "16", "--tta", "4", "--whiten", "--out", path / "four")
    assert "test-time augmentation 4, whitened" in said
    return path


def _encoder(tta: int, eval_size: int = 16) -> Encoder:
    torch.manual_seed(0)
    middle = torch.full((3,), 0.4)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 12, middle, middle / 2, eval_size)
    return encoder.with_tta(tta).eval()


def _images(n: int = 5, side: int = 16) -> torch.Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (n, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(drawn)


def test_it_is_the_mean_of_what_the_backbone_makes_of_each_look() -> None:
    x, one = _images(), _encoder(1)
    normal = (x.float() / 255 - one.front.mean) / one.front.std
    small = F.interpolate(normal, (12, 12), mode="bilinear", antialias=True, align_corners=False)
    views = [normal, normal.flip(3), small, small.flip(3)]
    for tta in (1, 2, 4):
        mean = sum(one.backbone(view) for view in views[:tta]) / tta
        torch.testing.assert_close(_encoder(tta)(x), mean)
        torch.testing.assert_close(_encoder(tta).local(x)[0], mean)


def test_an_image_and_its_mirror_image_are_the_same_to_it() -> None:
    x = _images()
    assert (_encoder(1)(x) - _encoder(1)(x.flip(3))).abs().max() > 1e-3
    for tta in (2, 4):
        torch.testing.assert_close(_encoder(tta)(x), _encoder(tta)(x.flip(3)))


def test_in_training_it_looks_once() -> None:
    x = _images(8, 12)
    torch.testing.assert_close(_encoder(4).train()(x), _encoder(1).train()(x))


def test_training_is_the_same_and_the_heads_see_what_they_were_trained_on(runs: Path) -> None:
    one, four = (Run.open(runs / name) for name in ("one", "four"))
    plain = four.encoder().plain().state_dict()
    for name, value in one.encoder().state_dict().items():
        assert torch.equal(value, plain[name])
    source = open_data(runs / "x.npz", kind=Choice("", {"size": 16}), seed=0).train
    kept = whole(four, four.encoder(), source).encoder
    assert (kept.front.tta, kept.whitening) == (1, None)


def test_the_file_tells_how_often_it_looks(runs: Path) -> None:
    encoder = Run.open(runs / "four").encoder()
    assert (encoder.front.tta, Run.open(runs / "one").encoder().front.tta) == (4, 1)
    x = _images()
    torch.testing.assert_close(encoder(x), encoder(x.flip(3)), atol=1e-4, rtol=1e-4)
    assert weights(_encoder(1)) != weights(_encoder(2))  # features are kept by this


def test_whitening_is_of_the_mean_and_the_untrained_rival_looks_alike(runs: Path) -> None:
    source = open_data(runs / "x.npz", kind=Choice("", {"size": 16}), seed=0).train
    x = source.seen(np.arange(len(source)))
    run = Run.open(runs / "four")
    for subject in subjects(run, ["random"], "cpu"):
        encoder = subject(source).encoder
        assert encoder is not None
        assert encoder.front.tta == 4
        with torch.no_grad():
            h = encoder(x)
        assert h.mean(0).abs().max() < 1e-2
        alive = h.var(0)[h.var(0) > 0.5]
        torch.testing.assert_close(alive, torch.ones_like(alive), atol=0.1, rtol=0)


def test_pictures_of_where_it_looks_are_of_one_look() -> None:
    x = _images()
    torch.testing.assert_close(saliency(_encoder(4), x).maps, saliency(_encoder(1), x).maps)


def test_it_is_exported_where_it_can_be_expressed(runs: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    more = "--encoder", "resnet10t", "--kind.eval-size", "16", "--tta", "4", "--out", tmp_path / "run"
    ok("pretrain", file(tmp_path / "y.npz"), *ONE, *EXACT, *more)
    for form in ("onnx", "safetensors"):
        assert unlabeled.export(tmp_path / "run", format=form, data=x).difference <= 1e-4
    for form in ("timm", "torchvision"):
        said = mistake("export", tmp_path / "run", "--format", form)
        assert "4 forms" in said
        assert "--format safetensors or onnx" in said


def test_what_cannot_be_is_refused_before_training(tmp_path: Path) -> None:
    data = file(tmp_path / "x.npz", n=300)
    assert "tta is 3" in mistake("pretrain", data, *ONE, "--tta", "3", "--out", tmp_path / "run")
    said = mistake(
        "pretrain", data, "--encoder", "convnext_atto", "--image-size", "32", "--tta", "4", "--out", tmp_path / "run"
    )
    assert "24 px" in said
    assert "--tta 2" in said
    assert not (tmp_path / "run").exists()
