"""What DESIGN asks of the tree: imports point down, no circles, a method named in its own file only, short files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from unlabeled import registry

PACKAGE = Path(registry.__file__).parent
FILES = {".".join(("unlabeled", *p.relative_to(PACKAGE).with_suffix("").parts)): p for p in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__"): path for name, path in FILES.items()}

ORDER = [
    ["__main__"],
    ["cli", "sklearn", "testing"],
    ["api"],
    ["reporting", "comparing"],
    ["evaluating", "exporting", "inspecting"],
    ["training"],
    ["run", "probes"],
    ["training.step", "training.accumulate", "training.batches"],
    ["methods"],
    ["encoders", "views", "data", "optim"],
    ["recipe", "parts", "compute"],
    ["losses"],
    ["own"],
    [
        "about",
        "registry",
        "batch",
        "distributed",
        "files",
        "forms",
        "kept",
        "plots",
        "console",
        "notebook",
        "errors",
        "words",
    ],
]
"""From the top."""

# fmt: off
VERBS = {
    "Adds", "Advises", "Allows", "Appends", "Applies", "Asks", "Average-pools", "Averages", "Blurs", "Brings", "Builds",
    "Calls", "Changes", "Checks", "Chooses", "Clusters", "Combines", "Compares", "Compiles", "Composes", "Computes",
    "Converts", "Copies", "Counts", "Crops", "Cuts", "Decodes", "Differentiates", "Digests", "Divides", "Does", "Draw",
    "Draws", "Drops", "Encodes", "Ends", "Enqueues", "Estimates", "Fills", "Find", "Finds", "Fits", "Follows", "Forgets",
    "Freezes", "Gathers", "Gives", "Halves", "Holds", "Imports", "Inverts", "Joins", "Keeps", "Lays", "Learns", "Lets",
    "List", "Lists", "Loads", "Logs", "Look", "Looks", "Makes", "Maps", "Measures", "Minimises", "Mirrors", "Moves",
    "Names", "Normalises", "Opens", "Passes", "Predicts", "Prepares", "Pretrain", "Pretrains", "Prints", "Puts",
    "Raises", "Ranks", "Reads", "Rebuilds", "Refuses", "Remembers", "Renders", "Replaces", "Resamples", "Resizes",
    "Returns", "Rises", "Rotates", "Runs", "Say", "Says", "Scales", "Separates", "Sets", "Show", "Slices", "Sorts",
    "Spells", "Spreads", "Stores", "Stretches", "Sums", "Takes", "Tells", "Times", "Train", "Trains", "Turns", "Undoes",
    "Works", "Write", "Writes", "Yields",
}
# fmt: on
"""With which docstrings of functions open; a verb that is missing is added."""

LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def level(module: str) -> int:
    """Of the module itself where it is named, else of its room."""
    _, room, *inner = module.split(".")
    return LEVEL.get(".".join([room, *inner]), LEVEL[room])


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


def test_imports_point_down() -> None:
    """The root's `__init__` alone, which hands on the verbs, has no place."""
    for module in MODULES.keys() - {"unlabeled"}:
        for other in imported(MODULES[module], lazily=True) - {"unlabeled"}:
            above, below = level(module), level(other)
            assert below >= above, f"{module} imports {other}, which stands above it"


def test_there_is_no_circle() -> None:
    graph = {module: imported(path, lazily=False) - {"unlabeled"} for module, path in MODULES.items()}
    assert len(list(TopologicalSorter(graph).static_order())) >= len(graph)


def test_a_method_is_named_in_its_own_file_only() -> None:
    """Exceptions: the default of the recipe, its description in `api`, the untrained encoder as a rival of `evaluate`, the
    two baselines of every table of `compare`, losses and policies of views named after the paper that they come from (any
    method may use them), and `rotation`, which is an invariance of data, too."""
    allowed = {
        ("simclr", "recipe.py"),
        ("simclr", "pretrain.py"),
        ("simclr", "views.py"),
        ("simclr", "image.py"),
        ("cpc", "sound.py"),
        ("cpc", "samples.py"),
        ("random", "answer.py"),
        ("random", "glance.py"),
        ("dim", "trial.py"),  # an option of many
        ("dim", "own.py"),  # an attribute of networks
        ("random", "subjects.py"),
        ("random", "evaluate.py"),
        ("dim", "trial.py"),  # the option
    }
    allowed |= {
        ("random", "remarks.py"),
        ("supervised", "compare.py"),
        ("supervised", "finetune.py"),
        ("supervised", "keep.py"),
        ("supervised", "multi_task.py"),  # whose views columns of labels have
        ("relative-patch", "multi_task.py"),  # the tasks of its paper
        ("colorization", "multi_task.py"),
        ("exemplar", "multi_task.py"),
    }
    own = {name: file.rpartition(".")[2] + ".py" for name, file in registry._files("methods").items()}
    assert set(registry.names("methods")) == own.keys()
    for path in MODULES.values():
        if path.parent.name in ("views", "policies", "losses"):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        entries = [e for n in nodes if isinstance(n, ast.Dict) for e in zip(n.keys, n.values, strict=True)]
        views = {id(v) for k, v in entries if isinstance(k, ast.Constant) and k.value == "views"}
        words = {n.value for n in nodes if isinstance(n, ast.Constant) and id(n) not in views and isinstance(n.value, str)}
        for name in set(registry.names("methods")) - {"rotation"}:
            if path.name != own[name] and (name, path.name) not in allowed:
                assert name not in words, f"{path.name} names the method {name!r}"


@pytest.mark.parametrize("folder", ["unlabeled", "tests", "benchmarks"])
def test_files_and_functions_are_short(folder: str) -> None:
    """At most 500 lines a file. At most 45 a function of the package, without signature and docstring; 100 where a test
    or a measurement tells one long story."""
    most = 45 if folder == "unlabeled" else 100
    for path in (PACKAGE.parent / folder).rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 500, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                first = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0]
                assert (node.end_lineno or 0) - first.lineno < most, f"{path}: {node.name} is too long"


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Name and docstring of functions and methods that others call; properties are named for what they are."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public(node.body, f"{node.name}.")
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            said, marks = ast.get_docstring(node), " ".join(map(ast.unparse, node.decorator_list))
            if said and "property" not in marks:
                yield prefix + node.name, said


def test_docstrings_of_functions_open_with_a_verb() -> None:
    """The promises of `unlabeled.testing` are sentences about a method."""
    for module, path in MODULES.items():
        if not module.startswith("unlabeled.testing"):
            for name, said in public(ast.parse(path.read_text(encoding="utf-8")).body):
                first = re.split(r"[\s,.:;(]", said)[0]
                assert first in VERBS, f"{module}.{name}: {first!r} is no verb of VERBS: {said.splitlines()[0]}"


def test_every_test_that_quick_leaves_out_is_there() -> None:
    tests = Path(__file__).parent
    for listed in (tests / "slow.txt").read_text(encoding="utf-8").split():
        file, _, function = listed.partition("::")
        tree = ast.parse((tests.parent / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, (
            f"`make slow`: {listed}"
        )


def test_the_list_of_departures_has_every_method() -> None:
    """By one of its names; the two baselines depart from nothing."""
    page = (PACKAGE.parent / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.partition("## Where methods depart from their papers")[2].partition("\n## ")[0]
    listed = set(re.findall(r"`([a-z0-9-]+)`", section))
    files: dict[str, set[str]] = {}
    for name, module in registry._files("methods").items():
        files.setdefault(module, set()).add(name)
    for module, known in files.items():
        assert known & {"random", "supervised"} or known & listed, f"{module} is not in the list"
