"""`--from`: weights of a run, of a file, of timm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from command import SMALL, folder, mistake, ok

from unlabeled.encoders import Encoder, build_encoder
from unlabeled.errors import UserError
from unlabeled.probes.subject import weights
from unlabeled.registry import Choice
from unlabeled.run import Run, load
from unlabeled.training.warm_start import begin_from

SMALLEST = Choice("resnet10t", {"width": 4})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made")
    folder(path / "data")
    words = ("--encoder", "resnet10t", "--epochs", "1")
    ok("pretrain", path / "data", *SMALL, *words, "--out", path / "run")
    return path


def fresh(choice: Choice = SMALLEST, channels: int = 3, size: int = 8) -> Encoder:
    torch.manual_seed(5)
    return build_encoder(choice, channels, size, torch.full((channels,), 0.4), torch.full((channels,), 0.3))


def test_a_run_begins_where_another_ended(made: Path, tmp_path: Path) -> None:
    words = ("--encoder", "resnet10t", "--from", made / "run")
    said = ok("pretrain", made / "data", *SMALL, *words, "--epochs", "1", "--optimizer.lr", "1e-9", "--out", tmp_path / "b")
    origin = Run.open(made / "run").encoder()
    assert f"warm start from {made / 'run'} ({weights(origin)})" in said
    run = Run.open(tmp_path / "b")
    assert run.environment["start"]["fingerprint"] == weights(origin)
    assert run.recipe.start == str(made / "run")
    for name, value in origin.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            torch.testing.assert_close(run.encoder().state_dict()[name], value, rtol=0, atol=1e-6)


def test_it_resumes_without_its_origin_and_the_untrained_rival_is_noise(made: Path, tmp_path: Path) -> None:
    words = ("--encoder", "resnet10t", "--from", tmp_path / "origin")
    (tmp_path / "origin").symlink_to(made / "run")
    ok("pretrain", made / "data", *SMALL, *words, "--epochs", "1", "--out", tmp_path / "b")
    (tmp_path / "origin").unlink()
    said = ok("pretrain", made / "data", *SMALL, *words, "--epochs", "1", "--out", tmp_path / "b", "--resume")
    assert "finished" in said
    ok("evaluate", tmp_path / "b", "--protocol", "knn", "--against", "random", "--accelerator", "cpu")
    assert "holds no run" in mistake("pretrain", made / "data", *SMALL, *words, "--out", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_files_of_ours_and_of_timm(made: Path, tmp_path: Path) -> None:
    ok("export", made / "run", "--format", "safetensors", "--out", tmp_path / "e.safetensors")
    whole = fresh()
    begin_from(whole, SMALLEST, str(tmp_path / "e.safetensors"))
    for name, value in load(made / "run").state_dict().items():
        assert torch.equal(whole.state_dict()[name], value)
    ok("export", made / "run", "--format", "timm", "--out", tmp_path / "t.safetensors")
    bare = fresh()
    begin_from(bare, SMALLEST, str(tmp_path / "t.safetensors"))
    for name, value in load(made / "run").backbone.state_dict().items():
        assert torch.equal(bare.backbone.state_dict()[name], value)
    assert float(bare.front.mean[0]) == pytest.approx(0.4), "a file of the network alone does not say how it normalised"


def test_a_classifier_in_the_file_is_left_out_and_the_first_convolution_is_fitted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("resnet10t", num_classes=7, channels=(4, 8, 16, 32), stem_type="deep", stem_width=2)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(UserError, match=r"conv1.weight is missing there; conv1.1.*is missing here"):
        begin_from(fresh(), Choice("resnet10t", {"width": 4}), str(tmp_path / "w.safetensors"))
    large = build_encoder(Choice("resnet10t", {"width": 64}), 1, 96, torch.zeros(1), torch.ones(1))
    same = timm.create_model("resnet10t", num_classes=7)
    safetensors.torch.save_file(same.state_dict(), tmp_path / "l.safetensors")
    origin = begin_from(large, Choice("resnet10t", {"width": 64}), str(tmp_path / "l.safetensors"))
    assert origin.fitted == ["its first convolution fitted from 3 to 1 channel"]
    first = next(n for n, p in large.backbone.state_dict().items() if p.ndim == 4)
    wanted = same.state_dict()[first].sum(1, keepdim=True)
    torch.testing.assert_close(large.backbone.state_dict()[first], wanted)


def test_a_stem_of_another_kernel_is_resampled(tmp_path: Path) -> None:
    """resnet18's is 7×7 on photographs, and 3×3 on small images; a constant kernel answers a constant picture as before, but
    for the border of the resize."""
    theirs = timm.create_model("resnet18", num_classes=0)
    with torch.no_grad():
        theirs.conv1.weight.copy_(torch.rand(64, 3, 1, 1).expand(64, 3, 7, 7))
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "w.safetensors")
    small = fresh(Choice("resnet18"), size=32)
    origin = begin_from(small, Choice("resnet18"), str(tmp_path / "w.safetensors"))
    assert origin.fitted == ["its first convolution resampled from 7×7 to 3×3"]
    sums = small.backbone.conv1.weight.sum((2, 3)), theirs.conv1.weight.sum((2, 3))
    torch.testing.assert_close(sums[0], sums[1], rtol=0.05, atol=0)


def test_timm_s_weights_come_by_its_own_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the hub's cache on disk, laid out as the hub's client lays it out, without a network."""
    name = "resnet10t"
    torch.manual_seed(3)
    theirs = timm.create_model(name, num_classes=1000)
    hub = str(theirs.pretrained_cfg["hf_hub_id"])
    place = tmp_path / "hub" / f"models--{hub.replace('/', '--')}"
    (place / "snapshots" / "abc").mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    safetensors.torch.save_file(theirs.state_dict(), place / "snapshots" / "abc" / "model.safetensors")
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(
        "timm.models._hub.download_cached_file", lambda *given, **more: pytest.fail("not from the hub's cache")
    )
    encoder = build_encoder(Choice(name), 3, 96, torch.zeros(3), torch.ones(3))
    origin = begin_from(encoder, Choice(name), "timm")
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[key])
    assert origin.note == encoder.notes[-1]
    assert encoder.front.mean.flatten().tolist() == pytest.approx(theirs.pretrained_cfg["mean"])


def test_what_timm_fits_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, create = [], timm.create_model

    def random(name: str, *, pretrained: bool = False, **more: Any) -> Any:
        made.append(pretrained)
        return create(name, **more)

    monkeypatch.setattr(timm, "create_model", random)  # weights as timm makes them, in place of those that it downloads
    grey = build_encoder(Choice("resnet10t"), 1, 96, torch.zeros(1), torch.ones(1))
    assert begin_from(grey, Choice("resnet10t"), "timm").fitted == ["its first convolution fitted from 3 to 1 channel"]
    vit = Choice("vit_tiny_patch16_224", {"depth": 1})
    small = build_encoder(vit, 3, 32, torch.zeros(3), torch.ones(3))
    assert begin_from(small, vit, "timm").fitted == [
        "its patches resampled from 16 to 4 px", "its positions, of images resampled from 224 to 32 px",
    ]  # fmt: skip
    assert True in made
    narrow = Choice("resnet18", {"width": 8})
    with pytest.raises(UserError, match=r"no weights of 'resnet18' of width 8: leave --encoder\.width out"):
        begin_from(fresh(narrow), narrow, "timm")


def test_what_cannot_be_had_is_said(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot be had"):
        begin_from(fresh(Choice("resnet10t"), size=96), Choice("resnet10t"), "timm")
    (tmp_path / "no.safetensors").write_bytes(json.dumps({"a": 1}).encode())
    with pytest.raises(UserError, match="no safetensors file, or a damaged one"):
        begin_from(fresh(), SMALLEST, str(tmp_path / "no.safetensors"))
    with pytest.raises(UserError, match=r"is not --encoder resnet10t --encoder.width 8"):
        begin_from(fresh(Choice("resnet10t", {"width": 8})), Choice("resnet10t", {"width": 8}), str(made / "run"))


def test_a_run_of_another_encoder_says_what_to_give(made: Path, tmp_path: Path) -> None:
    """Options that can be pasted; of a file that says nothing of it, no more than that."""
    wide = Choice("resnet10t", {"width": 8})
    theirs = "; the run's is --encoder resnet10t --encoder.width 4: give these options, or leave --from out"
    with pytest.raises(UserError) as error:
        begin_from(fresh(wide), wide, str(made / "run"))
    assert str(error.value).endswith(theirs)
    words = ("--encoder", "resnet10t", "--encoder.zero-init-last", "false", "--encoder.width", "8", "--from", made / "run")
    small = [word for word in SMALL if word not in ("--encoder.width", "4")]
    said = mistake("pretrain", made / "data", *small, *words, "--out", tmp_path / "b")
    assert "its network is not --encoder resnet10t --encoder.zero-init-last False --encoder.width 8: " in said
    assert said.strip().endswith(theirs)
    grey = fresh(channels=1)  # one channel there would be repeated, three be summed; two cannot be had
    begin_from(grey, SMALLEST, str(made / "run"))
    alike = fresh(channels=1)
    safetensors.torch.save_file(grey.backbone.state_dict(), tmp_path / "g.safetensors")
    with pytest.raises(UserError, match="; give the encoder that it was trained with, or leave --from out"):
        begin_from(fresh(wide), wide, str(tmp_path / "g.safetensors"))
    (tmp_path / "grey").mkdir()
    for name in ("recipe.yaml", "environment.json"):
        (tmp_path / "grey" / name).write_text((made / "run" / name).read_text())
    Run(tmp_path / "grey").write_encoder(alike)
    with pytest.raises(UserError, match="the run's has these options on samples of another size or other channels"):
        begin_from(fresh(), SMALLEST, str(tmp_path / "grey"))
