"""The features of a file are the same whichever way it reaches the encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import unlabeled
from unlabeled.comparing.judge import Judge, open_labelled
from unlabeled.data import open_data
from unlabeled.exporting.export import TOLERANCE
from unlabeled.recipe import compose
from unlabeled.registry import Choice

SIZES = ((300, 300), (700, 700), (300, 1200), (1200, 301), (40, 90), (32, 32))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of several sizes, fine in detail, as PNG and JPEG."""
    folder = tmp_path_factory.mktemp("reading") / "d"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, (height, width) in enumerate(SIZES):
        fine = rng.integers(0, 256, (height, width, 3))
        coarse = np.kron(rng.integers(0, 256, (height // 20 + 1, width // 20 + 1, 3)), np.ones((20, 20, 1)))
        picture = Image.fromarray(((fine + 2 * coarse[:height, :width]) / 3).astype(np.uint8))
        picture.save(folder / f"{number}.png")
        picture.save(folder / f"{number}.jpg", quality=95)
    return folder


def apart(found: np.ndarray, h: np.ndarray) -> float:
    """How far features are from others, as `export` measures it."""
    return float((np.abs(found - h) / np.maximum(np.abs(h), np.sqrt(np.mean(h**2)))).max())


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_embed_load_and_what_is_exported_agree_on_every_file(fit: str, photographs: Path, tmp_path: Path) -> None:
    run = unlabeled.pretrain(
        photographs, epochs=1, batch_size=4, out=tmp_path / "run", image_size=48,
        options={"encoder.width": 4, "kind.fit": fit},
    ).path  # fmt: skip
    table = unlabeled.embed(run, photographs)
    encoder = unlabeled.load(run)
    uses = {
        name: compile(
            unlabeled.export(run, format=name).readme.read_text().split("```python\n")[1].split("```")[0], name, "exec"
        )
        for name in ("timm", "onnx")
    }
    for path, h in zip(table["path"], table["embedding"], strict=True):
        with Image.open(path) as image:
            whole = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
        with torch.no_grad():
            assert apart(encoder(whole).numpy()[0], h) < TOLERANCE, path
            for name, code in uses.items():
                space = {"images": whole.numpy() if name == "onnx" else whole}
                with pytest.MonkeyPatch.context() as patch:
                    patch.chdir(run / "export")
                    exec(code, space)
                assert apart(np.asarray(space["h"])[0], h) < TOLERANCE, (name, path)


def test_a_file_has_the_same_features_whatever_lies_beside_it(photographs: Path, tmp_path: Path) -> None:
    kind = Choice("image", {"size": 48, "fit": "crop"})
    all_of_them = open_data(photographs, kind=kind, seed=None, judged=True).train
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "0.png").write_bytes((photographs / "0.png").read_bytes())
    alone = open_data(tmp_path / "one", kind=kind, seed=None, judged=True).train
    number = [Path(all_of_them.path(i)).name for i in range(len(all_of_them))].index("0.png")
    assert torch.equal(alone.seen([0]), all_of_them.seen([number]))


def test_what_is_judged_is_not_rounded_and_is_shown_in_bytes(photographs: Path) -> None:
    source = open_data(photographs, kind=Choice("image", {"size": 48}), seed=None, judged=True).train
    seen, shown = source.seen([0, 1]), source.fetch([0, 1])["image"]
    assert seen.dtype == torch.float32 and shown.dtype == torch.uint8
    assert 0 < (seen * 255 - shown).abs().max() <= 0.5


def test_small_squares_and_training_stay_as_they_were(photographs: Path) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    source = open_data(squares, kind=Choice("image", {"size": 24}), seed=None, judged=True).train
    assert torch.equal(source.seen([0])[0], torch.from_numpy(squares[0]).permute(2, 0, 1))
    assert open_data(photographs, kind=Choice("image", {"size": 48}), seed=None).train.seen([0]).shape[-1] == 55


def test_a_table_judges_on_what_evaluate_reads(tmp_path: Path) -> None:
    """Pictures that training would read at another size than that at which the encoder judges."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(24):
            place = tmp_path / "d" / split / "ab"[number % 2]
            place.mkdir(parents=True, exist_ok=True)
            fine = rng.integers(0, 256, (200 + number, 200, 3))
            Image.fromarray(fine.astype(np.uint8)).save(place / f"{number}.png")
    recipe = compose({"kind": {"name": "image", "size": 32}})
    trained, judged = open_labelled(str(tmp_path / "d"), recipe, None)
    assert trained.train.form.fields != judged.train.form.fields
    run = unlabeled.pretrain(
        tmp_path / "d", epochs=0, batch_size=4, out=tmp_path / "run", image_size=32, method="random", accelerator="cpu",
        options={"encoder.width": 4},
    )  # fmt: skip
    row = Judge(judged, few=False, seed=0, accelerator="cpu")(run, lambda said: None)
    unlabeled.evaluate(run.path, protocol="knn:100%", against="none", accelerator="cpu")
    (score,) = json.loads((run.path / "evaluation.json").read_text())["scores"]
    assert row["each"] == score["each"]
    assert row["figures"]["knn"] == score["metrics"]["top1"]
    trained, judged = open_labelled("digits", compose({}), None)
    assert trained is judged, "where both are alike, one is held"
