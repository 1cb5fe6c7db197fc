"""Methods of other people: a file that is given with `--plugin`, or a package with an entry point."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import ONE, file, mistake, ok

from unlabeled import registry
from unlabeled.comparing.board import Board, Row
from unlabeled.data import open_data
from unlabeled.encoders.files import save_encoder
from unlabeled.errors import UserError
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run, load
from unlabeled.testing import check_method
from unlabeled.training.setup import resolved

MINE = '''
"""Somebody's file."""

from typing import Annotated

from unlabeled.methods.simclr import SimCLR
from unlabeled.registry import Range, register
from unlabeled.views.policies.photographs import Distorted


@register("mine", recipe={"views": "dimmed", "optimizer": {"name": "adamw", "lr": 0.001}}, temperature=0.3)
class Mine(SimCLR):
    pass


@register("hers", recipe={"views": {"name": "simclr", "strength": 0.5}})
class Hers(Mine):
    """Another one, with an option more.

    Args:
        sharpness: of the loss.
    """

    def __init__(self, encoder, shape, *, sharpness: Annotated[float, Range(1, 5)] = 2.0, **options):
        super().__init__(encoder, shape, **options)
        self.sharpness = sharpness

    def compare(self, embedded, at):
        loss = super().compare(embedded, at)
        loss.total = loss.total * self.sharpness
        return loss


@register("dimmed", strength=0.2)
class Dimmed(Distorted):
    pass


@register("still", kind="views")
def still(shape, *, size: int = 0):
    """The picture as it is, twice.

    Args:
        size: of nothing.
    """
    return lambda fields, generator: ([fields["image"] / 255] * 2, {})
'''


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    before = set(sys.modules)
    monkeypatch.setenv(registry.PLUGINS, "")
    yield
    theirs = {name for name in set(sys.modules) - before if not name.startswith("unlabeled.")}
    for name in theirs:
        if name.startswith((registry._PLUGIN, "theirs_of_test")):
            del sys.modules[name]
    for key in [key for key, entry in registry._registered.items() if entry.make.__module__ in theirs]:
        del registry._registered[key]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mymethod.py"
    path.write_text(MINE)
    return path


def test_a_file_is_a_method_with_preset_recipe_options_and_documentation(mine: Path) -> None:
    said = ok("methods", "mine", "--plugin", mine)
    assert "mine: A Simple Framework for Contrastive Learning" in said  # inherited, as is every line of an option
    assert "--method.temperature 0.3 τ" in said
    assert "views unless told otherwise: dimmed" in said
    said = ok("methods", "hers", f"--plugin={mine}")
    assert "hers: Another one" in said
    assert "--method.sharpness 2.0 of the loss." in said
    assert "--method.temperature 0.5 τ" in said, "the options of the class that it inherits from"
    assert "mine" in ok("methods", "--plugin", mine)
    recipe = compose({"method": "mine"})
    assert (recipe.method.options["temperature"], recipe.views.name, recipe.optimizer.options["lr"]) == (
        0.3,
        "dimmed",
        0.001,
    )
    assert compose({"method": "hers", "method.sharpness": "3"}).method.options["sharpness"] == 3.0


def test_ranges_and_names_of_its_options_are_kept_to(mine: Path, tmp_path: Path) -> None:
    data = file(tmp_path / "x.npz")
    common = ("pretrain", data, *ONE, "--plugin", mine, "--method", "hers", "--out", tmp_path / "run")
    assert "sharpness is '7', and must be at least 1 and at most 5" in mistake(*common, "--method.sharpness", "7")
    assert "did you mean 'sharpness'" in mistake(*common, "--method.sharpnes", "2")
    assert not (tmp_path / "run").exists()


FRESH = """
import sys
from unlabeled.cli import main
for more in ([], ["--plugin", sys.argv[2]]):
    try:
        main(["evaluate", sys.argv[1], "--protocol", "knn", "--against", "none", *more])
    except SystemExit as end:
        print("exit code", end.code or 0)
"""
"""A process that knows no plug-in, and then one."""


def test_it_is_trained_and_its_run_asks_for_it(mine: Path, tmp_path: Path) -> None:
    data, run = file(tmp_path / "x.npz"), tmp_path / "run"
    ok("pretrain", data, *ONE, "--method", "hers", "--method.sharpness", 3, "--plugin", mine, "--out", run)
    ok("views", data, "--policy", "still", "--plugin", mine, "--out", tmp_path / "views.png")
    assert (tmp_path / "views.png").stat().st_size > 0
    assert Run.open(run).environment["plugins"] == ["mymethod.py"], "of a whole path the name"
    space = {**os.environ, registry.PLUGINS: ""}
    fresh = subprocess.run([sys.executable, "-c", FRESH, run, mine], env=space, capture_output=True, text=True, check=True)
    again = f"{str(run)!r} was made with --plugin mymethod.py: give it again"
    assert fresh.stderr.startswith(f"unlabeled: error: unknown method 'hers': {again}\n")
    without, shown = fresh.stdout.split("exit code 2\n")
    assert not without
    assert shown.endswith("exit code 0\n"), fresh.stderr
    assert "kNN" in shown or "knn" in shown


@pytest.mark.parametrize(("part", "said"), [("views", "unknown policy 'still'"), ("encoder", "unknown encoder 'theirs'")])
def test_a_run_asks_for_the_plugins_that_are_not_here(
    part: str, said: str, mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever they gave it; not for those that are here, and not where it had none."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "more.py").write_text("")
    ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--plugin", "own/more.py", "--out", "run")
    run = Run.open("run")
    assert run.environment["plugins"] == ["own/more.py"]
    if part == "views":
        text = (run.path / "recipe.yaml").read_text().replace("views:\n  name: simclr", "views:\n  name: still")
        (run.path / "recipe.yaml").write_text(text)
    else:
        encoder = load("run")
        save_encoder(run.path / "encoder.safetensors", encoder, Choice("theirs"))

    def asked() -> str:
        with pytest.raises(UserError) as error:
            Run.open("run").needs("views") if part == "views" else load("run")
        return str(error.value)

    assert asked().startswith(f"{said}; "), "the one that it was made with is here"
    kept = json.loads((run.path / "environment.json").read_text())
    kept["plugins"] = ["own/more.py", "a b.py", "c.py"]
    (run.path / "environment.json").write_text(json.dumps(kept))
    assert asked() == f"{said}: 'run' was made with --plugin 'a b.py' --plugin c.py: give them again"
    del kept["plugins"]
    (run.path / "environment.json").write_text(json.dumps(kept))
    assert asked().startswith(f"{said}; ")
    (run.path / "environment.json").unlink()
    assert asked().startswith(f"{said}; ")


def test_a_row_of_a_table_trains_in_a_process_that_knows_it(mine: Path, tmp_path: Path) -> None:
    ok("methods", "--plugin", mine)  # that processes of its own know it, too
    data = file(tmp_path / "x.npz")
    opened = open_data(str(data), kind=Choice("", {"size": 8}))
    layer = {"encoder": {"name": "resnet10t", "width": 4}, "batch_size": 16, "precision": "32", "epochs": 1}
    own = {"data": str(data), "kind.size": 8, "method": {"name": "hers", "sharpness": 3}}
    row = Row("hers", resolved(compose(layer, own), opened.train))
    board = Board(tmp_path / "out", {}, lambda run, tell: {"figures": {}}, lambda rows: None, accelerator="cpu")
    board.claim([row], opened.train)
    assert board.fill([row])
    assert "failed" not in json.loads((tmp_path / "out" / "hers.json").read_text())
    assert Run(tmp_path / "out" / "rows" / "hers").finished


def test_both_keep_the_contract(mine: Path) -> None:
    registry.load_plugin(mine)
    made = registry.get("methods", "hers").make
    assert "it learns without collapse" in check_method("mine")
    assert set(check_method(made, sharpness=2.5)) == set(check_method("mine"))


def test_two_files_of_one_name_are_two_plugins(tmp_path: Path) -> None:
    for folder, name in (("a", "first"), ("b", "second")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(
            MINE.replace("mine", name)
            .replace("hers", name + "-too")
            .replace('"dimmed"', f'"{name}"')
            .replace('"still"', f'"{name}-still"')
        )
    ok("methods", "--plugin", tmp_path / "a" / "own.py", "--plugin", tmp_path / "b" / "own.py")
    assert {"first", "second"} <= set(registry.names("methods"))
    assert os.environ[registry.PLUGINS].count("own.py") == 2
    before = registry.get("methods", "first").make
    registry.load_plugin(tmp_path / "a" / "own.py")
    assert registry.get("methods", "first").make is before, "a plug-in is imported once"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import unlabeled\ndef f(:\n", "line 2: SyntaxError: invalid syntax"),
        ("x = 1\ny = x / 0\n", "line 2: ZeroDivisionError: division by zero"),
        ("import nowhere_to_be_found\n", "line 1: ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise ValueError('two\\nlines')\n", "line 1: ValueError: two lines"),
        ("import sys\nsys.exit(3)\n", "line 2: SystemExit: 3"),
        (
            MINE.replace('"mine"', '"simclr"'),
            "line 11: method 'simclr' of broken.py: unlabeled.methods.simclr has that name: give",
        ),
        (
            MINE.replace("temperature=0.3", "temprature=0.3"),
            "line 11: method 'mine' is registered with temprature, and has no",
        ),
        (MINE.replace(', kind="views"', ""), "still: say what it is, as in @register(..., kind='views')"),
        ("\0", "line 1: SyntaxError: source code string cannot contain null bytes"),
    ],
)
def test_a_file_that_is_broken_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    found = mistake("methods", "--plugin", path)
    assert f"plug-in {str(path)!r}, line " in found
    assert said in found
    assert not {"mine", "hers"} & set(registry.names("methods")), "nothing stays of it"


@pytest.mark.parametrize("name", ["nothing.py", "folder", "notes.txt"])
def test_a_file_that_is_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("no Python")
    assert f"plug-in {str(tmp_path / name)!r} is no Python file that is there" in mistake(
        "methods", "--plugin", tmp_path / name
    )
    assert "plug-in '' is no Python file" in mistake("methods", "--plugin")


def test_names_of_two_plugins_that_are_the_same(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(MINE.replace('"hers"', '"his"').replace('"dimmed"', '"other"').replace('"still"', '"others"'))
    said = mistake("methods", "--plugin", mine, "--plugin", other)
    assert "method 'mine' of other.py: mymethod.py has that name: give another" in said


def test_a_plugin_of_the_environment_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(registry.PLUGINS, str(tmp_path / "gone.py"))
    assert "gone.py' is no Python file that is there" in mistake("methods")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with two entry points, of which one cannot be imported."""
    site = tmp_path / "site"
    about = site / "theirs-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    points = "theirs = theirs_of_test:Mine\nalone = theirs_of_test:Alone\nlost = theirs_of_test:Lost\n"
    (about / "entry_points.txt").write_text(f"[unlabeled.methods]\n{points}")
    alone = "\n\nclass Alone(SimCLR):\n    pass\n"
    (site / "theirs_of_test.py").write_text(MINE.replace('"mine"', '"theirs"') + alone)
    monkeypatch.syspath_prepend(site)
    registry._points.cache_clear()
    yield site
    registry._points.cache_clear()


def test_an_entry_point_is_found_and_imported_when_it_is_asked_for(package: Path, tmp_path: Path) -> None:
    assert {"theirs", "alone", "lost"} <= set(registry.names("methods"))
    assert "theirs_of_test" not in sys.modules
    assert registry.get("methods", "theirs").preset == {"temperature": 0.3}
    assert registry.get("methods", "alone").make.__name__ == "Alone", "also where nothing decorates it"
    ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--method", "theirs", "--out", tmp_path / "run")


def test_an_entry_point_that_fails_is_one_line(package: Path) -> None:
    said = mistake("methods", "lost")
    assert "method 'lost' of the package theirs cannot be imported (theirs_of_test:Lost): AttributeError" in said
    with pytest.raises(UserError, match="package theirs"):
        registry.get("methods", "lost")
