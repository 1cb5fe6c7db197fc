"""What DESIGN asks of the tree: imports point down, no circles, a method's name only in its own file, short files."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from unlabeled import registry

PACKAGE = Path(registry.__file__).parent
FILES = {".".join(("unlabeled", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}

ORDER = [
    ["__main__"],
    ["cli", "sklearn"],
    ["reporting"],
    ["verbs"],
    ["train", "tuning", "rehearsal", "run", "checkpoints", "monitor", "steps", "accumulate", "interrupt"],
    ["probes", "methods"],
    ["heads", "memory", "clustering", "losses", "views", "encoders", "data"],
    [
        "recipe",
        "speed",
        "products",
        "norms",
        "loops",
        "bits",
        "openmp",
        "registry",
        "batch",
        "schedules",
        "optim",
        "distributed",
        "files",
        "palette",
        "console",
        "errors",
    ],
]
"""From the top."""

SIGNATURES = {"unlabeled"} | {name for name in MODULES if name.startswith("unlabeled.api")}
"""They import what they run when it runs."""

LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def imported(path: Path, *, lazily: bool) -> set[str]:
    """Modules of the package that a file imports: when it is imported itself, or also inside its functions."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    inside = {n for f in nodes if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    typing = {n for i in nodes if isinstance(i, ast.If) and "TYPE_CHECKING" in ast.dump(i.test) for n in ast.walk(i)}
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node not in typing and (lazily or node not in inside):
            names = {f"{node.module}.{a.name}" for a in node.names} & MODULES.keys() or {str(node.module)}
            found |= {name for name in names if name.partition(".")[0] == "unlabeled"}
    return found


def test_every_module_has_its_place() -> None:
    rooms = {name.split(".")[1] for name in MODULES if "." in name}
    assert rooms - {name.partition(".")[2] for name in SIGNATURES} - {"__main__"} <= LEVEL.keys()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - SIGNATURES))
def test_imports_point_down(module: str) -> None:
    room = module.split(".")[1]
    for other in imported(MODULES[module], lazily=True) - SIGNATURES:
        assert LEVEL[other.split(".")[1]] >= LEVEL[room], f"{module} imports {other}, which stands above it"


def test_there_is_no_circle() -> None:
    graph = {module: imported(path, lazily=False) - {"unlabeled"} for module, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_a_method_is_named_in_its_own_file_only() -> None:
    """Exceptions: the default of the recipe, its description in `api`, the untrained encoder as a rival of `evaluate`, the
    two baselines of every table of `compare`, and losses and policies of views named after the paper that they come from:
    any method may use them."""
    allowed = {
        ("simclr", "recipe.py"),
        ("simclr", "api.py"),
        ("random", "answer.py"),
        ("random", "subjects.py"),
        ("random", "api.py"),
    }
    allowed |= {("random", "remarks.py"), ("supervised", "compare.py")}
    own = {name: file.rpartition(".")[2] + ".py" for name, file in registry._files("methods").items()}
    assert set(registry.names("methods")) == own.keys()
    for path in MODULES.values():
        if path.parent.name in ("views", "losses"):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        entries = [e for n in nodes if isinstance(n, ast.Dict) for e in zip(n.keys, n.values, strict=True)]
        views = {id(v) for k, v in entries if isinstance(k, ast.Constant) and k.value == "views"}
        words = {n.value for n in nodes if isinstance(n, ast.Constant) and id(n) not in views and isinstance(n.value, str)}
        for name in registry.names("methods"):
            if path.name != own[name] and (name, path.name) not in allowed:
                assert name not in words, f"{path.name} names the method {name!r}"


@pytest.mark.parametrize("folder", ["unlabeled", "tests", "benchmarks"])
def test_files_are_short(folder: str) -> None:
    long = {p.name: n for p in (PACKAGE.parent / folder).rglob("*.py") if (n := len(p.read_text().splitlines())) > 300}
    assert not long
