"""A run with everything that a report shows, made once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import ONE, images, ok
from PIL import Image

HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "c & d"]
"""Names of classes."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `a run` with data `x.npz` beside it: a trained encoder, and files as protocols write them."""
    path = tmp_path_factory.mktemp("made")
    x, y = images(90)
    (path / "data").mkdir()
    np.savez(path / "x.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    run = path / "a <b>run</b>"
    ok("pretrain", path / "x.npz", *ONE[:-1], 3, "--monitor-every", 1, "--out", run)
    ok("evaluate", run, "--protocol", "knn", "--labels", 2, "--draws", 3, "--against", "random")
    said = json.loads((run / "evaluation.json").read_text())
    said["answer"] = ["It is <em>better</em> than an untrained encoder."]
    (run / "evaluation.json").write_text(json.dumps(said))
    pictures = run / "pictures"
    pictures.mkdir(exist_ok=True)
    (pictures / "tsne.json").write_text(json.dumps(a_map(30, y[60:])))
    near = [{"number": i, "position": i, "label": int(y[i]), "similarity": 0.9 - 0.1 * i} for i in range(3)]
    query = {"number": 61, "position": 1, "label": int(y[61]), "average_precision": 0.75, "neighbours": near}
    (pictures / "retrieval.json").write_text(json.dumps({"best": [query], "worst": [query], "classes": HOSTILE}))
    Image.new("RGB", (20, 10), "red").save(pictures / "other <i>.png")
    return path


def a_map(n: int, y: np.ndarray) -> dict[str, object]:
    """The first n test images, which come after 60 to train on, on a spiral."""
    turn = np.arange(n) / 3
    x, height = turn * np.cos(turn), turn * np.sin(turn)
    names = {"index": list(range(n)), "number": list(range(60, 60 + n)), "classes": HOSTILE}
    return {**names, "x": x.tolist(), "y": height.tolist(), "label": y[:n].tolist()}


@pytest.fixture(scope="session")
def run(made: Path) -> Path:
    return made / "a <b>run</b>"


@pytest.fixture(scope="session")
def html(made: Path, run: Path) -> Path:
    """The page of that run."""
    ok("report", run)
    return run / "report.html"
