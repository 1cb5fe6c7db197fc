"""The section of what a method makes: there for methods that make pictures, and no other."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, images, ok
from PIL import Image
from tags import Tags

from unlabeled.batch import Batch, Progress
from unlabeled.evaluating.subjects import whole
from unlabeled.reporting.collect import Opener, Told
from unlabeled.run import Run

SMALL = ["--encoder.embed-dim", 8, "--encoder.depth", 1, "--encoder.num-heads", 2, "--method.width", 8, "--method.depth", 1]
SMALL += ["--method.heads", 2, "--views.masked", 0.5, "--optimizer.lr", 0.1, *ONE[2:], "--kind.eval-size", 12]
TITLE = "What the method makes"


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masked")
    x, y = images(90)
    np.savez(path / "x.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    ok("pretrain", path / "x.npz", "--method", "mae", *SMALL, "--out", path / "run")
    return path / "run"


def sections(run: Path) -> str:
    ok("report", run)
    return (run / "report.html").read_text(encoding="utf-8")


def test_a_method_that_makes_pictures_has_a_section_of_them(masked: Path) -> None:
    page = sections(masked)
    assert TITLE in page
    assert 'href="#r0-makes"' in page
    assert "is not drawn" not in page
    (shown,) = [m for m in Tags(page).all("img") if str(m["alt"]).startswith("mae on")]
    head, _, content = str(shown["src"]).partition(",")
    assert head.startswith("data:image/")
    with Image.open(io.BytesIO(base64.b64decode(content))) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    run = Run.open(masked)
    told = Told("run", run, "r0", Opener(None, {}))
    source = told.data.open(run, run.recipe.data).train
    first = source.fetch(np.random.default_rng(run.recipe.seed).permutation(len(source))[:1])["image"]
    assert first.shape[2:] == (8, 8)
    assert pixels.shape[0] > 8 * 90, "eight rows"
    grey = (np.abs(pixels - 128) <= 1).all(2).mean()
    assert grey > 0.05, "the hidden patches of the second of three columns"


def test_the_weights_are_those_of_the_run(masked: Path) -> None:
    """What is drawn changes with the decoder, which only the checkpoint holds."""
    run = Run.open(masked)
    source = Told("run", run, "r0", Opener(None, {})).data.open(run, run.recipe.data).train
    order = torch.rand(2, 64, generator=torch.Generator().manual_seed(0)).argsort(1)
    batch = Batch([torch.rand(2, 3, 8, 8)], torch.arange(2), {"keep": order[:, :32], "hidden": order[:, 32:]})
    drawn = []
    for trained in (True, False):
        method = whole(run, run.encoder(), source, trained=trained)
        method.encoder.front.train()
        with torch.no_grad():
            drawn.append(method.pictures(batch, Progress(1, 1, 0))["reconstructed"])
    assert not torch.allclose(*drawn, atol=1e-3)


def test_without_its_checkpoint_the_page_says_what_is_missing(masked: Path, tmp_path: Path) -> None:
    shutil.copytree(masked, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    page = sections(tmp_path / "run")
    assert TITLE not in page.replace("What the method makes is not drawn", "")
    assert "What the method makes is not drawn: " in page
    assert "has no checkpoint" in page


def test_other_methods_have_no_such_section(html: Path) -> None:
    page = html.read_text(encoding="utf-8")
    assert TITLE not in page
