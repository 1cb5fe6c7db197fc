"""The rows of a table: each a run in a process of its own, one after the other; what is finished is kept."""

from __future__ import annotations

import json
import math
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from unlabeled import registry
from unlabeled.comparing.child import Child, ChildError
from unlabeled.comparing.forks import ForkServer
from unlabeled.comparing.given import packed
from unlabeled.comparing.history import History
from unlabeled.console import console
from unlabeled.data import Source
from unlabeled.errors import UserError
from unlabeled.files import cannot_write, lock, write_whole
from unlabeled.forms import Form, FormError, read_json
from unlabeled.parts.memory import Queue
from unlabeled.recipe import Recipe, compose, read
from unlabeled.run import Run
from unlabeled.training.setup import built, chosen_images
from unlabeled.words import counted

QUESTION, TABLE, FOLDER = "question.json", "table.json", "rows"
POINTS = 20
"""Looks at kNN accuracy in a run, at most; 10 at least, where there are so many epochs."""

ROW = {"name": str, "kind?": str, "asked": dict, "failed?": str, "recipe?": dict, "environment?": dict}
"""What stands in the file of a row, at least."""

Figures = Mapping[str, Any]
Tell = Callable[[str], None]
"""Shows what is being done, while it is."""


@dataclass(frozen=True)
class Row:
    """One run of the table.

    Attributes:
        name: what the table calls it.
        recipe: resolved; its number of epochs may be left to a trial.
        more: what the row says beside its figures.
        run: a finished run to judge in place of training one.
    """

    name: str
    recipe: Recipe
    more: Mapping[str, Any] = field(default_factory=dict)
    run: Path | None = None

    @property
    def slug(self) -> str:
        """The name as one of a file."""
        return re.sub(r"[^\w.=,%+-]+", "-", self.name)


class Board:
    """Fills a folder with rows: `NAME.json` once a row is finished, `rows/NAME` its run, `rows/NAME.log` what that said.

    Several processes may fill one folder. A row belongs to the one that holds its lock, or to the child that it left behind.
    """

    def __init__(
        self,
        out: Path,
        question: Mapping[str, Any],
        judge: Callable[[Run, Tell], Figures],
        publish: Callable[[list[dict[str, Any]]], None],
        *,
        minutes: float | None = None,
        root: str | Path | None = None,
        accelerator: str = "auto",
    ) -> None:
        self.out, self.question, self.judge, self.publish = out, dict(question), judge, publish
        self.minutes, self.root, self.accelerator = minutes, root, accelerator
        self.console = console()
        self._learns: dict[str, bool] = {}
        self._server = ForkServer() if sys.platform == "linux" else None

    def claim(self, rows: Sequence[Row], source: Source) -> None:
        """Makes the folder this question's; refuses, before anything is trained, what cannot be.

        Raises:
            UserError: two rows of one name, a row that cannot be built, or a folder that answers another question.
        """
        path = self.out / QUESTION
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{str(self.out)!r} is a file: give a folder as --out")
        if path.is_file():
            self._same(_read(path, dict))
        elif self.out.is_dir() and any(self.out.iterdir()):
            raise UserError(f"{str(self.out)!r} is a folder that holds other things: give a new folder as --out")
        slugs = [row.slug for row in rows]
        for row in rows:
            if slugs.count(row.slug) > 1 or row.slug + ".json" in (QUESTION, TABLE):
                raise UserError(f"two rows would be called {row.name!r}: leave one out, or rename its recipe file or folder")
            self._check(row)
            if row.run is None and not self._kept(row):
                self._learns[row.slug] = buildable(row, source)
        try:
            (self.out / FOLDER).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.out, error) from error
        _write(path, self.question)

    def fill(self, rows: Sequence[Row]) -> bool:
        """Trains and judges what is missing; returns whether it came to the end."""
        columns = (BarColumn(None), TextColumn("{task.fields[said]}", markup=False), TimeElapsedColumn())
        left, done = list(rows), 0
        try:
            with Progress(*columns, console=self.console, transient=True) as bar:
                task = bar.add_task("", total=len(rows), said="")
                while left:
                    for row in list(left):
                        with lock(self.out / FOLDER / f"{row.slug}.lock", wait=False) as handle:
                            if handle is None:
                                bar.update(task, said=f"{row.name}: another process trains it")
                                continue
                            left.remove(row)

                            def tell(share: float, said: str, row: Row = row, done: int = done) -> None:
                                text = f"row {done + 1} of {len(rows)}, {row.name}{said}"
                                bar.update(task, completed=done + share, said=text)

                            tell(0, "")
                            self._fill(row, handle, tell)
                            done += 1
                        self.rebuild()
                    if left:
                        time.sleep(0.5)
        except KeyboardInterrupt:
            self.rebuild()
            again = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
            how = again if again.startswith("unlabeled") else "repeat the call"
            self.console.print(f"stopped with {done} of {counted(len(rows), 'rows')} done; to go on: {how}", soft_wrap=True)
            return False
        finally:
            if self._server:
                self._server.close()
        return True

    def rebuild(self) -> None:
        """Writes the table of all rows there are, of whichever process."""
        with lock(self.out / FOLDER / "table.lock", wait=True):
            self.publish(self.finished())

    def finished(self) -> list[dict[str, Any]]:
        """Returns all rows that came to an end, by name."""
        paths = sorted(p for p in self.out.glob("*.json") if p.name not in (QUESTION, TABLE))
        return [_read(path, ROW) for path in paths]

    def asked(self, recipe: Recipe) -> dict[str, Any]:
        """Returns what of a recipe makes a row another one."""
        loose = {"about", "monitor_every", "data", "speed"} | ({"epochs"} if self.minutes else set())
        plain: dict[str, Any] = json.loads(json.dumps(recipe.to_dict()))
        return {k: v for k, v in plain.items() if k not in loose}

    def _same(self, before: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(self.question))
        before = _filled(before, now)
        for name in [*before, *now]:
            if before.get(name) != now.get(name):
                raise UserError(
                    f"{str(self.out)!r} holds a table with {name.replace('_', ' ')} = {_spell(before.get(name))}, and this "
                    f"asks for {_spell(now.get(name))}: give another --out, or ask the same"
                )

    def _check(self, row: Row) -> None:
        """Refuses a row whose name stands for something else here."""
        said = self.out / f"{row.slug}.json"
        begun = self.out / FOLDER / f"{row.slug}.yaml"
        if said.is_file():
            written = _read(said, ROW)
            if "failed" in written:
                return
            before = written["asked"]
        elif begun.is_file():
            before = self.asked(compose(read(begun)))
        else:
            return
        now = self.asked(row.recipe)
        before = _filled(before, now)
        other = next((name for name in now if now[name] != before.get(name)), None)
        if other:
            raise UserError(
                f"{str(self.out)!r} has a row {row.name!r} with {other} = {_spell(before.get(other))}, and this asks for "
                f"{_spell(now[other])}: give another --out, or ask the same"
            )

    def _kept(self, row: Row) -> bool:
        path = self.out / f"{row.slug}.json"
        return path.is_file() and "failed" not in _read(path, ROW)

    def _fill(self, row: Row, handle: int, tell: Callable[[float, str], None]) -> None:
        if self._kept(row):
            return
        path = self.out / f"{row.slug}.json"
        about = {"name": row.name, **row.more, "asked": self.asked(row.recipe)}
        asked = about["asked"]
        if path.is_file() and _filled(_read(path, ROW)["asked"], asked) != asked:
            self._forget(row)
        try:
            self._log(f"{row.name}: training" * (row.run is None))
            run = Run.open(row.run) if row.run else self._train(row, handle, tell)
            self._log(f"{row.name}: judging")
            figures = self.judge(run, lambda what: tell(1, f": {what}"))
            history = History(run)
            _write(path, about | history.json() | dict(figures) | {"environment": run.environment})
            self.console.print(f"{row.name}: done{history.said()}", soft_wrap=True)
        except (ChildError, UserError) as error:
            _write(path, about | {"failed": str(error)})
            self.console.print(f"{row.name}: failed: {error}", style="yellow", soft_wrap=True)

    def _log(self, said: str) -> None:
        """Prints it where no bar shows it."""
        if said and not self.console.is_terminal:
            self.console.print(said, soft_wrap=True)

    def _forget(self, row: Row) -> None:
        """Takes away what a row left that failed with another recipe."""
        place = self.out / FOLDER / row.slug
        shutil.rmtree(place, ignore_errors=True)
        for left in (Path(f"{place}.yaml"), self.out / f"{row.slug}.json"):
            left.unlink(missing_ok=True)

    def _train(self, row: Row, handle: int, tell: Callable[[float, str], None]) -> Run:
        place = self.out / FOLDER / row.slug
        child = Child(place.with_name(f"{row.slug}.log"), handle, self._server)
        recipe = self._begun(row, child, tell)
        run = Run(place)
        if run.finished:
            return run
        words = ["unlabeled", "pretrain", "--recipe", f"{place}.yaml", "--out", str(place), "--resume"]
        words += ["--accelerator", self.accelerator, *(["--root", str(self.root)] if self.root else [])]

        def look() -> None:
            last: dict[str, Any] = {}
            for line in run.history:
                last |= line
            said = f", loss {last['loss']:.3f}" if "loss" in last else ": starting"
            said += f", kNN {100 * last['knn']:.1f}%" if "knn" in last else ""
            tell(0.98 * last.get("epoch", 0) / max(1, recipe.epochs), said)

        self._run(child, recipe, words, look)
        if not run.finished:
            raise ChildError("it ended before its last step")
        return Run(place)

    def _run(self, child: Child, recipe: Recipe, words: Sequence[str], look: Callable[[], None]) -> None:
        """With what of the recipe was given in Python."""
        with tempfile.TemporaryDirectory() as folder:
            if parts := packed(recipe, "the row"):
                path = Path(folder) / "parts"
                path.write_bytes(parts)
                words = ["unlabeled.comparing.given", str(path), *words]
            child.run(words, look)

    def _begun(self, row: Row, child: Child, tell: Callable[[float, str], None]) -> Recipe:
        """The recipe that the row trains with, in `rows/NAME.yaml`: a trial says how many epochs fit the minutes."""
        path = self.out / FOLDER / f"{row.slug}.yaml"
        if path.is_file():
            return compose(read(path))
        recipe, about = row.recipe, {}
        if self.minutes and self._learns[row.slug]:
            tell(0, ": how long does a step take?")
            with_recipe, result = path.with_suffix(".trial.yaml"), path.with_suffix(".trial.json")
            _text(with_recipe, recipe.to_yaml())
            root = str(self.root or "")
            words = ["unlabeled.comparing.budget", str(with_recipe), str(result), root, self.accelerator, str(self.minutes)]
            self._run(child, recipe, words, lambda: None)
            about = json.loads(result.read_text(encoding="utf-8"))
            with_recipe.unlink()
            result.unlink()
            recipe = replace(recipe, epochs=about.pop("epochs"), speed=about["speed"])
        every = math.ceil(recipe.epochs / POINTS) or 1
        recipe = replace(recipe, monitor_every=every, about={"minutes": self.minutes, **about} if self.minutes else {})
        _text(path, recipe.to_yaml())
        return recipe


def budget_of(minutes: float | None, given: Collection[str]) -> dict[str, float]:
    """Returns the minutes that each row has, by that name; nothing where it has epochs.

    Raises:
        UserError: none, or epochs `given` too.
    """
    if minutes is None:
        return {}
    if "epochs" in given:
        raise UserError("--epochs and --minutes are two budgets: give one of them")
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes is {minutes}, and must be above 0")
    return {"minutes": minutes}


def buildable(row: Row, source: Source) -> bool:
    """Builds what the row trains, and throws it away; returns whether anything is trainable.

    Raises:
        UserError: options that do not go together, or a batch larger than the images.
    """
    recipe = row.recipe
    packed(recipe, row.name)
    n = len(chosen_images(recipe, source)[0])
    method = built(recipe, source, n)
    registry.build("views", recipe.views, method.shape)
    if recipe.batch_size > n:
        raise UserError(
            f"{row.name}: the batch size is {recipe.batch_size}, larger than the {counted(n, source.kind.nouns)} to "
            f"train on: give --batch-size {max(1, n - n % recipe.accumulate)} or less"
        )
    for part in method.modules():
        if isinstance(part, Queue):
            part.check(recipe.batch_size)
    return any(p.requires_grad for p in method.parameters())


def _filled(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What a table says that was begun before some fields of the recipe existed: these had the value that is now usual."""
    return {**before, **{k: v for k, v in Recipe().to_dict().items() if k in now and k not in before}}


def _read(path: Path, form: Form) -> Any:
    try:
        return read_json(path, form)
    except FormError as error:
        raise UserError(f"{str(path)!r} is damaged ({error}): remove it, and what it says is found anew") from error


def _spell(value: Any) -> str:
    return ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _text(path: Path, text: str) -> None:
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))


def _write(path: Path, value: Any) -> None:
    _text(path, json.dumps(value, indent=1) + "\n")
