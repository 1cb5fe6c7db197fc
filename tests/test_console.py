"""What is printed is what was said: brackets are no markup."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from command import ONE, file, ok
from command import unlabeled as command


def test_brackets_in_names_and_reasons_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)  # as where it is not installed
    ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run")
    data = file(tmp_path / "[bold]x.npz", n=60)
    some = command(
        "evaluate", tmp_path / "run", "--data", data, "--protocol", "umap", "--protocol", "knn", "--against", "none",
        "--out", tmp_path / "brackets.json",
    )  # fmt: skip
    said = "".join(some.out.split())
    assert "pipinstall'unlabeled[umap]'" in said
    assert "[bold]x" in said
