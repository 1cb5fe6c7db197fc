"""Every notebook of `examples/` runs from its first cell to its last, and shows what it says."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """They write where they run."""
    monkeypatch.chdir(tmp_path)
    yield


def executed(name: str) -> tuple[dict[str, Any], list[Any]]:
    """The names that a notebook leaves behind, and what its cells show: the value of a last line that is an expression."""
    space: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for cell in json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        assert not cell["outputs"], "kept without what it showed on somebody's machine"
        *body, last = ast.parse("".join(cell["source"])).body
        if isinstance(last, ast.Expr):
            exec(compile(ast.Module(body, []), name, "exec"), space)
            shown.append(eval(compile(ast.Expression(last.value), name, "eval"), space))
        else:
            exec(compile(ast.Module([*body, last], []), name, "exec"), space)
    return space, [value for value in shown if value is not None]


def is_picture(value: Any) -> bool:
    html = value._repr_html_() if hasattr(value, "_repr_html_") else ""
    return "data:image/png;base64," in html or value._repr_png_().startswith(b"\x89PNG")


def test_the_page_lists_every_notebook() -> None:
    listed = set(re.findall(r"^\| \[(\w+\.ipynb)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.name for path in EXAMPLES.glob("*.ipynb")}


def test_images() -> None:
    space, (sheet, result, arrays, found) = executed("images")
    assert is_picture(sheet)
    assert is_picture(found)
    assert "untrained encoder" in result._repr_html_()
    assert arrays[0] == (1797, 32)
    assert space["result"].score("run", "100%", "knn").mean() > 0.5  # chance: 0.1


def test_own_method() -> None:
    space, (sheet, result, encoder) = executed("own_method")
    assert is_picture(sheet)
    assert "runs/simclr" in str(result)
    assert encoder.dim == 64
    assert space["mine"].recipe.method.options["weight"] == 0.5


def test_sound() -> None:
    _, (result, found) = executed("sound")
    assert "log-mel" in str(result)
    assert is_picture(found)
    assert len(found.neighbours) == 4
