"""The command line: fast, the same words as in Python, and every mistake one line, exit code 2, nothing left behind."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import ONE, file, folder, mistake, ok, unlabeled

from unlabeled import __version__, api, registry
from unlabeled.api.lists import ABOUT, WORDS
from unlabeled.cli import EXAMPLES, app, dotted
from unlabeled.cli import VERBS as VERBS_IN_ORDER
from unlabeled.recipe import locate, packaged

VERBS = ["inspect", "pretrain", "evaluate", "compare", "sweep", "embed", "views", "search", "outliers", "export", "report"]


def least_seconds(program: str) -> float:
    """Of a processor that Python takes for a program, the less of two."""
    seconds = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0, done.stderr
        assert not program.endswith("help") or "Usage: unlabeled" in done.stdout
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return min(seconds)


@pytest.fixture(scope="module")
def its_libraries() -> float:
    """What the help is made of; some 0.25 s where it takes 0.45."""
    return least_seconds("import cyclopts, rich.console")


@pytest.mark.parametrize("words", [[], *[[verb] for verb in VERBS], ["methods"], ["recipes"]], ids=" ".join)
def test_help_is_fast_and_imports_no_torch(words: list[str], its_libraries: float) -> None:
    program = (
        "import sys; from unlabeled.cli import main\n"
        f"try: main({[*words, '--help']!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'timm', 'numpy', 'PIL'} & sys.modules.keys(), 'heavy import' #help"
    )
    assert least_seconds(program) < 3 * its_libraries  # torch alone is some ten times as much


def test_importing_the_package_imports_no_torch() -> None:
    program = "import sys, unlabeled; unlabeled.pretrain; assert not {'torch', 'numpy'} & sys.modules.keys()"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize("verb", VERBS)
def test_the_command_line_has_the_words_of_python(verb: str) -> None:
    said = ok(verb, "--help")
    for name, parameter in inspect.signature(
        {"views": api.contact_sheet}.get(verb) or getattr(api, verb)
    ).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name != "options":
            assert f"--{name.strip('_').replace('_', '-')} " in said


def test_the_version() -> None:
    assert ok("--version") == ok("-V") == __version__


def test_the_help_follows_the_work_and_ends_with_examples() -> None:
    said = unlabeled("--help").out
    found = re.findall(r"^│ ([a-z]+) ", said, re.MULTILINE)
    assert found == [*VERBS_IN_ORDER, "list", "methods", "recipes"]
    assert "unlabeled pretrain photographs --epochs 100 --out runs/a" in said
    for verb in [*VERBS_IN_ORDER, "list", "methods", "recipes"]:
        assert EXAMPLES[verb], verb


@pytest.mark.parametrize("words", [words for each in EXAMPLES.values() for words in each])
def test_the_examples_of_the_help_can_be_typed(words: str) -> None:
    plain, _ = dotted(shlex.split(words))
    command, _, _ = app.parse_args(plain, exit_on_error=False, print_error=False)
    assert command


@pytest.mark.parametrize("verb", VERBS_IN_ORDER)
def test_the_help_speaks_of_what_is_typed_and_not_of_python(verb: str) -> None:
    said = ok(verb, "--help")
    assert not re.search(r"\b(STR|INT|FLOAT|LIST|ANY|BOOL)\b", said)
    assert not re.search(r"[Ii]n Python|torch\.|Callable", said)


@pytest.mark.parametrize(
    ("what", "named", "option"),
    [
        ("views", "simclr", "--views.strength"),
        ("optimizers", "adamw", "--optimizer.lr"),
        ("protocols", "knn", "temperature"),
        ("encoders", "cpc", "--encoder.width"),
        ("kinds", "image", "--kind.eval_size"),
        ("methods", "byol", "--method.momentum"),
        ("recipes", "digits/simclr", "method"),
    ],
)
def test_what_can_be_named_is_listed(what: str, named: str, option: str) -> None:
    assert named in ok("list", what)
    assert option in ok("list", what, named)


@pytest.mark.parametrize("what", ["methods", "views", "optim", "probes", "data", "kinds", "encoders"])
def test_each_name_is_described_by_a_whole_sentence_of_its_own(what: str) -> None:
    said = {name: registry.get(what, name).line for name in registry.names(what)}
    for name, line in said.items():
        assert line[-1] in ".?!", (name, line)
        assert not re.search(r"[\w,][.]$", line) or line.count("(") == line.count(")"), f"{name} is cut off: {line}"
        assert list(said.values()).count(line) == 1, f"{name} is said to be what another is: {line}"


def test_a_description_is_no_line_of_its_docstring() -> None:
    assert registry.get("methods", "data-init").line.endswith(
        "the baseline of the tables of pretext tasks, beside `random`."
    )
    assert registry.get("views", "neighbours").line.endswith('Representation Learning by Context Prediction", §3.1).')
    assert registry.get("probes", "invariance").line.endswith("an image is shown?")


def test_data_and_networks_are_listed_and_other_words_refused() -> None:
    assert ABOUT.keys() == WORDS.keys()
    for word in WORDS:
        assert f"{word} " in ok("list")
    assert "cifar10" in ok("list", "data")
    assert "vit_tiny_patch16_224" in ok("list", "encoders").split()
    assert "did you mean 'protocols'" in mistake("list", "protocol")
    assert "did you mean 'simclr'" in mistake("list", "views", "simcl")


def test_completion_is_written_for_the_shell(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unlabeled", "--install-completion", "--shell", "bash"],
        env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert any("pretrain" in p.read_text() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--epchs", "2"], "there is no option --epchs; did you mean '--epochs'?"),
        (["--method", "simlr"], "did you mean 'simclr'?"),
        (["--method.temprature", "1"], "did you mean 'temperature'?"),
        (["--method", "byol", "--method.temperature", "1"], "method 'byol' has no option 'temperature'"),
        (["--optimizer", "lrs"], "did you mean 'lars'?"),
        (["--optimizer.lrr", "1"], "did you mean 'lr'?"),
        (["--views", "simcl"], "did you mean 'simclr'?"),
        (["--views.strenght", "1"], "did you mean 'strength'?"),
        (["--views.scale", "0.5"], "must be 2 numbers with a comma between"),
        (["--encoder", "resnet81"], "did you mean 'resnet18'?"),
        (["--encoder.widht", "8"], "did you mean 'width'?"),
        (["--encoder.width", "abc"], "must be a whole number"),
        (["--encoder.width", "5"], "must be an even number"),
        (["--epochs.x", "1"], "'epochs' has no options"),
        (["--mthod.temperature", "1"], "did you mean 'method'?"),
        (["--method.temperature", "warm"], "must be a number"),
        (["--method.temperature", "["], "must be a number"),
        (["--method.temperature", "nan"], "must be a number"),
        (["--method.temperature"], "has no value"),
        (["--method.temperature", "--seed", "1"], "has no value"),
        (["--method.dim", "2.5"], "must be a whole number"),
        (["--lr-scaling", "lin"], "must be one of 'linear', 'sqrt', 'none'"),
        (["--precision", "16"], "must be auto, bf16 or 32"),
        (["--warmup-epochs", "-1"], "must be at least 0"),
        (["--image-size", "2"], "must be at least 4"),
        (["--batch-size", "49"], "larger than the 48 images to train on: give --batch-size 48 or less"),
        (["--accelerator", "abacus"], "--accelerator abacus"),
        (["--accelerator", "cpu", "--devices", "0"], "--devices 0 cannot be had here"),
        (["--logger", "wand"], "did you mean 'wandb'?"),
        (["--logger", "mlflow"], "pip install mlflow"),
        (["--recipe", "nowhere.yaml"], "cannot be read"),
        (["--recipe", sys.executable], "is not YAML"),
        (["--encoder", "convnext_atto", "--image-size", "16"], "does not take images of 16 px"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path: Path, options: list[str], said: str) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "run"
    assert said in mistake("pretrain", data, *options, "--out", out)
    assert sorted(p.name for p in tmp_path.iterdir()) in (["x.npz"], ["cache", "x.npz"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pretrian"], 'Did you mean "pretrain"?'),
        (["--method.temperature", "0.2"], "no option of this command"),
        (["methods", "--a.b", "1"], "no option of this command: see `unlabeled methods --help`"),
        (["evaluate", "r", "--protocl", "knn"], "there is no option --protocl; did you mean '--protocol'?"),
        (["pretrain", "d", "--rnage", "0,3"], "did you mean '--range'?"),
        (["pretrain", "d", "--title", "8"], "did you mean '--tiles'?"),
        (["pretrain", "d", "--pluggin", "f.py"], "did you mean '--plugin'?"),
        (["evaluate", "r", "--n", "3"], "there is no option --n; there are: --data, --protocol, --labels,"),
        (["outliers", "r", "-q"], "there is no option -q; there are: --n, --k, --out, --accelerator"),
        (["report", "r", "--zzz=4"], "there is no option --zzz; there are: "),
        (["list", "views", "--x"], "there is no option --x; there are: --help"),
        (["pretrain", "d", "--looks", "3"], "--looks is now --tta"),
        (["methods", "simclrr"], "did you mean 'simclr'?"),
        (["evaluate", "nowhere"], "'nowhere' holds no run"),
        (["embed", "nowhere", "digits", "--out", "z.npz"], "'nowhere' holds no run"),
        (["embed", "nowhere", "digits", "--out", "z.txt"], "ends in .parquet, .csv, .npz or .npy"),
        (["embed", "nowhere", "digits", "--out", "no/z.npz"], "no folder 'no'"),
        (["pretrain", "digits", "--recipe", "cifar10/simclrr"], "did you mean 'cifar10/simclr'?"),
        (["pretrain", "digits", "--recipe", "mine.yaml"], "neither a file nor a packaged one"),
        (["pretrain", "nowhere/at/all"], "nowhere/at/all"),
        (["pretrain", "fashion-mnits"], "did you mean 'fashion-mnist'?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_mistakes(words: list[str], said: str) -> None:
    assert said in mistake(*words)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    data = file(tmp_path / "x.npz")
    assert "is a file: give a folder" in mistake("pretrain", data, *ONE, "--out", data)
    assert "cannot be written" in mistake("pretrain", data, *ONE, "--out", data / "run")
    assert "cannot be written" in mistake("views", data, "--out", data / "views.png")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    assert "holds other things" in mistake("pretrain", data, *ONE, "--out", tmp_path / "other")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["letter.txt"]


def test_methods_shows_options_defaults_and_paper() -> None:
    for name in ("simclr", "moco-v1", "moco-v2", "byol", "random", "supervised"):
        assert name in ok("methods")
    said = ok("methods", "moco-v1")
    assert "He et al. 2020" in said
    assert "--method.temperature 0.1" in said
    assert "--method.projector linear" in said
    assert "--method.momentum 0.99" in ok("methods", "moco")
    assert "lars (lr 1.2" in ok("methods", "simclr")
    assert "lr_scaling unless told otherwise: sqrt" in ok("methods", "simclr")
    for name, paper in {"mochi": "Hard Negative Mixing", "debiased": "Debiased", "moco": "Momentum"}.items():
        assert f" {name} {paper} " in ok("methods")
        assert ok("methods", name).startswith(f"{name}: {paper} ")


def test_recipes_lists_the_packaged_ones_and_shows_one() -> None:
    listed = ok("recipes")
    for name in packaged():
        assert f" {name} " in listed
    assert ok("recipes", "cifar10/npid") == " ".join(locate("cifar10/npid").read_text().split())


def test_views_draws_a_sheet(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "views.png"
    ok("views", data, "--policy", "simclr", "--policy.strength", "0.3", "--images", "2", "--out", out)
    assert out.read_bytes().startswith(b"\x89PNG")
    assert "did you mean 'strength'?" in mistake("views", data, "--policy.strenght", "1")
    assert "--policy.NAME" in mistake("views", data, "--method.strength", "1")
    by_pretrain = tmp_path / "other.png"
    ok("views", data, "--policy", "simclr", "--views.strength", "0.3", "--images", "2", "--out", by_pretrain)
    assert by_pretrain.read_bytes() == out.read_bytes()


def test_views_need_nothing_that_is_held_out(tmp_path: Path) -> None:
    """Copies of one picture, or one patient, have no part that could be."""
    np.savez(tmp_path / "x.npz", x=np.full((6, 8, 8, 3), 90, np.uint8))
    ok("views", tmp_path / "x.npz", "--images", 2, "--out", tmp_path / "v.png")
    np.savez(tmp_path / "two.npz", x=np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8))
    folder(tmp_path / "d", 12)
    rows = ["path,patient", *(f"{p.relative_to(tmp_path)},one" for p in sorted((tmp_path / "d").rglob("*.png")))]
    (tmp_path / "one.csv").write_text("\n".join(rows) + "\n")
    said = ok("views", tmp_path / "one.csv", "--group", "patient", "--images", 2, "--out", tmp_path / "w.png")
    assert "held out" not in said
    for seed in range(4):
        ok("views", tmp_path / "two.npz", "--seed", seed, "--images", 2, "--out", tmp_path / "u.png")


def test_an_error_of_the_program_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(importlib.import_module("unlabeled.inspecting.views"), "draw", broken)
    with pytest.raises(ZeroDivisionError):
        unlabeled("views", "digits", "--out", tmp_path / "v.png")


def test_an_option_s_earlier_name_is_told_apart() -> None:
    assert "--looks is now --tta" in mistake("pretrain", "digits", "--looks", "2")
    assert "--average is now --ema" in mistake("pretrain", "digits", "--average=0.9")
