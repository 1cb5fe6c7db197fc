"""Every script of `examples/` runs as it stands, and does what it says."""

from __future__ import annotations

import math
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, out: Path) -> Any:
    """What the script's `main` returns."""
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](out)


def test_the_page_lists_every_script() -> None:
    listed = set(re.findall(r"^\| \[(\w+\.py)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}


def test_contrastive(tmp_path: Path) -> None:
    found = run("contrastive", tmp_path)
    assert found.keys() == {"untrained", "simclr", "moco"}
    assert found["simclr"] > found["untrained"] + 0.05
    assert found["moco"] > 0.2  # chance: 0.1


def test_negative_free(tmp_path: Path) -> None:
    found = run("negative_free", tmp_path / "run")
    assert found["vicreg"] > found["untrained"] + 0.05
    assert found["dead h"] == 0
    assert all(math.isfinite(value) for value in found.values())


def test_clustering(tmp_path: Path) -> None:
    found = run("clustering", tmp_path / "run")
    assert found["deepcluster"] > found["untrained"] + 0.1


def test_pretext(tmp_path: Path) -> None:
    """Over three seeds 87.5 ± 2.2%, and 30 ± 10 points above the untrained encoder, which is the same at each call."""
    found = run("pretext", tmp_path)
    assert found["rotation"] > 0.8  # chance: 1/8
    assert found["rotation"] > found["untrained"] + 0.2  # 0.41 here


def test_masked(tmp_path: Path) -> None:
    """Over three seeds 95.6 ± 0.7%, and 7.2 ± 1.9 points above the untrained encoder."""
    found = run("masked", tmp_path / "run")
    assert found["mae"] > 0.92
    assert found["mae"] > found["untrained"] + 0.01
    assert "What the method makes" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_sound(tmp_path: Path) -> None:
    """Over three seeds 98.9 ± 1.9%, and 14.5 ± 2.6 points above the untrained encoder; log-mel statistics tell little
    more than chance, 1/6, of an instrument that they do not know."""
    found = run("sound", tmp_path)
    assert found["cpc"] > 0.9
    assert found["cpc"] > found["untrained"] + 0.05
    assert found["log-mel"] < found["cpc"] - 0.5


def test_few_labels(tmp_path: Path) -> None:
    """Over three seeds 80.4 ± 1.0%, and 9.1 ± 2.0 points above a linear classifier on the untrained encoder."""
    found = run("few_labels", tmp_path)
    assert found["fixmatch"] > 0.75
    assert found["fixmatch"] > found["untrained"] + 0.03
    header, *rows = (tmp_path / "classes.csv").read_text(encoding="utf-8").splitlines()
    assert header == "path,class,probability"
    assert len(rows) == 1797


def test_metric(tmp_path: Path) -> None:
    found = run("metric", tmp_path / "run")
    assert found["verification auc"] > 0.65  # chance: 0.5
    assert found["few-shot accuracy"] > 0.5  # chance: 1/3


def test_judging(tmp_path: Path) -> None:
    assert run("judging", tmp_path / "run").startswith("Pretraining ")
    assert "<html" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_features(tmp_path: Path) -> None:
    assert run("features", tmp_path) > 0.8
    assert (tmp_path / "digits.parquet").is_file()


def test_export(tmp_path: Path) -> None:
    h = run("export", tmp_path / "run")
    assert h.shape == (4, 64)
    assert torch.isfinite(h).all()
    assert (tmp_path / "run" / "export" / "timm.safetensors").is_file()


def test_own_method() -> None:
    """In a process of its own, as the contract on two processes imports it."""
    done = subprocess.run([sys.executable, str(EXAMPLES / "own_method.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d\d rules are kept: .*two processes are one", done.stdout, re.MULTILINE)
    assert "kNN" in done.stdout
