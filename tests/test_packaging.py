"""What is handed out is whole: the wheel runs where nothing else of the project is, and the sdist's tests run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import unlabeled
from unlabeled.recipe import packaged

ROOT = Path(__file__).parents[1]
LEFT = shutil.ignore_patterns(".git", ".venv", "*.egg-info", "build", "dist", "runs", "rows", "__pycache__", ".*_cache")
QUICK = (
    "tests/test_recipe.py", "tests/test_docs.py::test_recipes", "tests/test_docs.py::test_commands_in_documents",
    "tests/oracles/test_schedules.py", "tests/oracles/test_losses_page.py",
)  # fmt: skip
BUILD = "from setuptools import build_meta as b; b.build_sdist('out'); b.build_wheel('out')"


def run(*words: str, cwd: Path, package: Path) -> str:
    """What a Python of its own prints, which finds the package in that folder."""
    space = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1", "NUMBA_OPT": "0"}  # loops are compiled anew
    done = subprocess.run([sys.executable, *words], cwd=cwd, env=space, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution and the wheel."""
    copy = tmp_path_factory.mktemp("built") / "copy"
    shutil.copytree(ROOT, copy, ignore=LEFT)
    run("-c", BUILD, cwd=copy, package=copy)
    names = sorted(p.name for p in (copy / "out").iterdir())
    source, wheel = (next(n for n in names if n.endswith(end)) for end in (".tar.gz", ".whl"))
    return copy / "out" / source, copy / "out" / wheel


def test_the_wheel_brings_recipes_and_types(built: tuple[Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        wheel.extractall(tmp_path / "site")
        names = set(wheel.namelist())
    assert f"unlabeled-{unlabeled.__version__}-" in built[1].name
    assert "unlabeled/py.typed" in names
    assert {f"unlabeled/recipes/{name}.yaml" for name in packaged()} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples"))]
    words = ("pretrain", "--recipe", "digits/simclr", "--epochs", "1", "--encoder.width", "4", "--accelerator", "cpu")
    words += ("--limit", "128", "--batch-size", "64", "--speed", "workers=1", "--out", "run")
    run("-m", "unlabeled", *words, cwd=tmp_path, package=tmp_path / "site")
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert (recipe["data"], recipe["method"]["temperature"], recipe["views"]["name"]) == ("digits", 0.5, "affine")
    place = run("-c", "import unlabeled; print(unlabeled.__file__)", cwd=tmp_path, package=tmp_path / "site")
    assert Path(place.strip()).parent == tmp_path / "site" / "unlabeled"


def test_the_tests_run_from_the_source_distribution(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[0]) as source:
        source.extractall(tmp_path, filter="data")
    (root,) = tmp_path.glob("unlabeled-*")
    said = run("-m", "pytest", "-p", "no:cacheprovider", *QUICK, cwd=root, package=root)
    assert int(re.findall(r"(\d+) passed", said)[0]) > 50


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="what is committed is known to git alone")
def test_the_source_distribution_holds_all_that_is_committed(built: tuple[Path, Path]) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    with tarfile.open(built[0]) as source:
        held = {name.partition("/")[2] for name in source.getnames()}
    assert {name for name in listed if (ROOT / name).is_file()} <= held
