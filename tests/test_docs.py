"""What the documentation shows works: examples in docstrings and documents are run, commands are parsed."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
import yaml
from cyclopts import CycloptsError

from unlabeled.cli import app, dotted
from unlabeled.recipe import compose, packaged, read

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MODULES = sorted(
    ".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for p in (ROOT / "unlabeled").rglob("*.py")
    if ">>>" in p.read_text(encoding="utf-8")
)


def blocks(path: Path, *languages: str) -> list[str]:
    """Fenced code blocks of a document."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [
        body
        for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
        if language in languages
    ]


def commands(text: str) -> list[list[str]]:
    """The words of every `unlabeled ...` line, comments and continued lines understood; [OPTIONAL] parts left out."""
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    found = [shlex.split(re.sub(r"\[[^]]*\]", "", line), comments=True) for line in lines if "unlabeled " in line]
    starts = [(words, next((i for i, w in enumerate(words) if Path(w).name == "unlabeled"), None)) for words in found]
    return [words[at + 1 :] for words, at in starts if at is not None]


def parse(words: list[str]) -> None:
    plain, options = dotted(words)
    try:
        command, _, _ = app.parse_args(plain, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        pytest.fail(f"unlabeled {shlex.join(words)}: {error}")
    if options and plain[0] == "pretrain":
        method = {"method": plain[plain.index("--method") + 1]} if "--method" in plain else {}
        recipe = [read(plain[plain.index("--recipe") + 1])] if "--recipe" in plain else []
        compose(*recipe, method, options)
    assert command


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_python_in_documents(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    space: dict[str, object] = {}
    for block in blocks(path, "python"):
        exec(compile(block, path.name, "exec"), space)


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "Makefile"], ids=lambda p: p.name)
def test_commands_in_documents(path: Path) -> None:
    texts = [path.read_text()] if path.name == "Makefile" else blocks(path, "", "sh", "bash", "console", "shell")
    for words in (w for text in texts for w in commands(text)):
        parse(words)


@pytest.mark.parametrize("name", packaged())
def test_recipes(name: str) -> None:
    recipe = compose(read(name))
    assert compose(yaml.safe_load(recipe.to_yaml())) == recipe
    for words in commands(str(recipe.about.get("command", ""))):
        parse(words)
