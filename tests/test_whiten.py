"""`--whiten`: what is judged and exported is whitened by the training images; what is trained is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, file, mistake, ok

import unlabeled
from unlabeled.data import open_data
from unlabeled.evaluating.subjects import subjects, whole
from unlabeled.probes.extract import features
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.training.setup import chosen_images


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training without and with it; 240 images for the 32 numbers that represent each."""
    path = tmp_path_factory.mktemp("whiten")
    data = file(path / "x.npz", n=300)
    ok("pretrain", data, *ONE, "--precision", "32", "--speed", "workers=1", "--out", path / "plain")
    ok("pretrain", data, *ONE, "--precision", "32", "--speed", "workers=1", "--whiten", "--out", path / "white")
    return path


def _trained(runs: Path) -> tuple[torch.Tensor, torch.Tensor]:
    source = open_data(runs / "x.npz", kind=Choice("", {"size": 8}), seed=0).train
    plain, white = (Run.open(runs / name).encoder() for name in ("plain", "white"))
    return features(plain, source, device="cpu"), features(white, source, device="cpu")


def test_the_training_images_have_the_identity_as_covariance(runs: Path) -> None:
    h, white = _trained(runs)
    assert white.mean(0).abs().max() < 1e-3
    covariance = torch.cov(white.T)
    alive = covariance.diagonal() > 0.5  # directions in which nothing varies stay 0
    assert alive.sum() > len(alive) // 2
    torch.testing.assert_close(covariance, torch.diag(alive.float()), atol=1e-2, rtol=0)
    assert (torch.cov(h.T) - torch.eye(h.shape[1])).abs().max() > 0.1


def test_it_is_an_affine_map_of_what_was_trained_which_stays_the_same(runs: Path) -> None:
    h, white = _trained(runs)
    encoder = Run.open(runs / "white").encoder()
    assert encoder.whitening is not None
    torch.testing.assert_close(encoder.whitening(h), white, atol=1e-4, rtol=1e-4)
    plain = Run.open(runs / "plain").encoder().state_dict()
    for name, value in encoder.plain().state_dict().items():
        assert torch.equal(value, plain[name])
    x = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(encoder.local(x)[0], encoder(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert encoder(x).dtype == torch.float32


def test_a_finished_run_says_so_and_its_heads_read_what_they_were_trained_on(runs: Path) -> None:
    assert "finished" in ok("pretrain", runs / "x.npz", *ONE, "--whiten", "--out", runs / "white", "--resume",
                            "--precision", "32", "--speed", "workers=1")  # fmt: skip
    run, source = Run.open(runs / "white"), open_data(runs / "x.npz", kind=Choice("", {"size": 8}), seed=0).train
    assert whole(run, run.encoder(), source).encoder.whitening is None


def test_protocols_that_ask_the_heads_or_train_further_take_it_as_it_was_trained(runs: Path) -> None:
    found = []
    for name in ("plain", "white"):
        asked = [
            word for protocol in ("health", "invariance", "finetune:epochs=1,steps=2") for word in ("--protocol", protocol)
        ]
        ok("evaluate", runs / name, "--data", runs / "x.npz", *asked, "--against", "none", "--accelerator", "cpu")
        scores = json.loads((runs / name / "evaluation.json").read_text())["scores"]
        found.append({score["protocol"]: score["metrics"] for score in scores})
    assert len(found[0]) == 3
    assert found[0] == found[1]


def test_the_untrained_rival_is_whitened_alike(runs: Path) -> None:
    run, source = Run.open(runs / "white"), open_data(runs / "x.npz", kind=Choice("", {"size": 8}), seed=0).train
    assert len(chosen_images(run.recipe, source)[0]) == len(source)
    untrained = subjects(run, ["random"], "cpu")[0](source)
    assert untrained.encoder is not None
    h = features(untrained.encoder, source, device="cpu")
    assert h.mean(0).abs().max() < 1e-3
    torch.testing.assert_close(h.var(0), torch.ones(h.shape[1]), atol=0.05, rtol=0)


def test_it_is_exported_where_it_can_be_expressed(runs: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), dtype=np.uint8)
    for form in ("onnx", "safetensors"):
        assert unlabeled.export(runs / "white", format=form, data=x).difference <= 1e-4
    for form in ("timm", "torchvision"):
        assert "--format safetensors or onnx" in mistake("export", runs / "white", "--format", form)
