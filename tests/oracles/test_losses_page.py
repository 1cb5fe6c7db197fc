"""docs/losses.md and its figure show every loss, and no method is left out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from unlabeled import losses, registry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
FIGURE = (ROOT / "docs" / "losses.svg").read_text(encoding="utf-8")
HELPERS = {"batch_triplet", "coding_rate", "concentration", "info_nce_bound", "mixed_negatives", "sinkhorn"}
SIMILARITIES = {"bilinear", "cosine", "dot", "euclidean", "manhattan", "separable"}


def test_every_name_is_on_the_page() -> None:
    for name in losses.__all__:
        assert f"`{name}" in PAGE


def test_every_loss_has_an_equation_a_source_and_a_curve() -> None:
    entries = dict(re.findall(r"^\*\*`(\w+)\(.*?\)`\*\* · (.*?)(?=^\*\*`|^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
    for name in set(losses.__all__) - HELPERS - SIMILARITIES:
        assert "$$" in entries[name]
        assert re.search(r"\d{4}|SimCLR", entries[name])
        assert f">{name}" in FIGURE


def test_the_page_says_which_method_uses_which_loss() -> None:
    for name, module in registry._files("methods").items():
        path = ROOT / (module.replace(".", "/") + ".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "unlabeled.losses":
                for loss in (alias.name for alias in node.names if alias.name in losses.__all__):
                    said = " ".join(p.replace("\n", " ") for p in PAGE.split("\n\n") if f"`{loss}(" in p and "**`" in p)
                    assert f"`{name}`" in said.partition("used by")[2]
