"""What is printed is what was said: brackets are no markup."""

from __future__ import annotations

import io
import os
import shutil
import sys
from pathlib import Path

import pytest
from command import ONE, file, folder, ok
from command import unlabeled as command

from unlabeled.console import EveryMinute, console
from unlabeled.probes.extract import features


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


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "16×16 ± 2 → naïve \\udcff"),
        ("ascii", "16x16 +- 2 -> na\\xefve \\udcff"),
        ("latin-1", "16×16 ± 2 -> naïve"),
    ],
)
def test_what_a_terminal_lacks_is_spelled(encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", out)
    console().print("16×16 ± 2 → naïve \udcff")
    out.flush()
    assert out.buffer.getvalue().decode(encoding).startswith(shown)  # type: ignore[attr-defined]


def test_a_terminal_of_ascii_sees_the_help_and_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (("pretrain", "--help"), ("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run")):
        out = io.TextIOWrapper(io.BytesIO(), "ascii")
        monkeypatch.setattr("contextlib.redirect_stdout", lambda _, out=out: _Into(out))
        assert command(*words).code == 0
        out.flush()
        assert out.buffer.getvalue()  # type: ignore[attr-defined]


class _Into:
    """Standard output, for as long as a command runs."""

    def __init__(self, out: io.TextIOWrapper) -> None:
        self.out = out

    def __enter__(self) -> None:
        self.before, sys.stdout = sys.stdout, self.out

    def __exit__(self, *error: object) -> None:
        sys.stdout = self.before


def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `| head -1` does."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as out:
        monkeypatch.setattr("contextlib.redirect_stdout", lambda _: _Into(out))
        assert command("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run").code == 0
    assert (tmp_path / "run" / "encoder.safetensors").is_file()


def test_a_closed_standard_output_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for out in (None, io.StringIO()):
        if out:
            out.close()
        monkeypatch.setattr(sys, "stdout", out)
        console().print("nobody hears it")


def test_how_far_it_is_is_said_every_minute_where_no_bar_shows_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("unlabeled.console.time.monotonic", lambda: now[0])
    minutes = EveryMinute()
    minutes.begin(10)  # those were done before
    for done, at in ((10, 200), (20, 110), (30, 170), (40, 180), (60, 270), (110, 400)):
        now[0] = at
        minutes(done, 110, lambda done=done: f"{done} of 110")
    assert capsys.readouterr().out.splitlines() == ["30 of 110, 0:04:40 left", "60 of 110, 0:02:50 left"]


@pytest.mark.parametrize(
    ("verb", "said"),
    [("embed", "features, 16 of 60, 0:00:0"), ("outliers", "features, "), ("inspect", "all: reading, ")],
)
def test_a_log_file_is_told_of_every_verb_that_takes_long(
    verb: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = folder(tmp_path / "d"), tmp_path / "x.csv"
    words: dict[str, tuple[object, ...]] = {
        "embed": ("embed", tmp_path / "run", data, "--out", out, "--batch-size", 16),
        "outliers": ("outliers", tmp_path / "run", data, "--out", out, "--n", 3),
        "inspect": ("inspect", data, "--out", tmp_path / "seen", "--minutes", 1),
    }
    if verb != "inspect":
        ok("pretrain", data, *ONE, "--out", tmp_path / "run")
    assert " left" not in ok(*words[verb]), "it took less than a minute"
    monkeypatch.setattr("unlabeled.console.SAID_EVERY", 0)
    shutil.rmtree(tmp_path / "run" / "features", ignore_errors=True)
    monkeypatch.setattr("unlabeled.inspecting.census._BYTES", 16 * 3 * 8 * 8)
    if verb == "outliers":
        monkeypatch.setitem(features.__kwdefaults__, "batch_size", 16)
    assert said in ok(*words[verb])
