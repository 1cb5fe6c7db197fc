"""A run's folder: its recipe, what it ran on, its metrics, its checkpoint, its encoder. All writes are atomic."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from unlabeled import __version__, forms, own
from unlabeled.console import console
from unlabeled.data.kinds.kind import as_then
from unlabeled.data.opening import placed
from unlabeled.data.split import BALANCED, BY_CONTENT
from unlabeled.encoders import Encoder
from unlabeled.encoders.classifier import Classifier
from unlabeled.encoders.files import FIRST_KIND, damaged, read_encoder, read_tensors, save_encoder, save_tensors, saying
from unlabeled.errors import UnknownNameError, UserError
from unlabeled.files import cannot_write, write_whole
from unlabeled.forms import FormError, check, parsed, read_json
from unlabeled.kept import Kept
from unlabeled.parts.heads import LinearClassifier
from unlabeled.recipe import CHOICES, Recipe, compose, read
from unlabeled.registry import Choice, get, plugins

RECIPE, ENVIRONMENT, METRICS, CHECKPOINT, ENCODER, CLASSIFIER = (
    "recipe.yaml",
    "environment.json",
    "metrics.jsonl",
    "checkpoint.pt",
    "encoder.safetensors",
    "classifier.safetensors",
)
LAST, EPOCHS = "last.safetensors", "epochs"
"""The encoder of the last epoch, where the run gives another's; and the folder of those kept beside, `10.safetensors`."""
FILES = (
    RECIPE, ENVIRONMENT, METRICS, CHECKPOINT, ENCODER, CLASSIFIER, LAST, "skipped.csv", "evaluation.json", "transfer.json",
)  # fmt: skip
"""What may be half-written when a process is killed."""
LAYOUT = 2
"""Version of what stands in a run's folder, which `environment.json` says. 1: of runs that say none; their data is known by
another fingerprint, and another part of it was held out."""


@dataclass(frozen=True)
class Run:
    """What a folder that `pretrain` wrote holds.

    >>> Run.open("runs/nowhere")
    Traceback (most recent call last):
    unlabeled.errors.UserError: 'runs/nowhere' holds no run (no recipe.yaml): give the folder that `pretrain --out` wrote
    """

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Opens the run in a folder.

        Raises:
            UserError: there is none, or it is of a later version.
        """
        if not (Path(path) / RECIPE).is_file():
            raise UserError(f"{str(path)!r} holds no run (no {RECIPE}): give the folder that `pretrain --out` wrote")
        run = cls(Path(path))
        if (run.path / ENVIRONMENT).is_file() and run.layout > LAYOUT:
            raise UserError(
                f"{str(path)!r} was written by unlabeled {run._version}, which is later than this one ({__version__}), and "
                f"in another layout ({run.layout}, and this one reads up to {LAYOUT}): install that version"
            )
        return run

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe: every option with its value; parts that nobody has here by their names (see `needs`).

        Raises:
            UserError: it cannot be read, or is of a kind of data that a plug-in has which was not given.
        """
        found = read(self.path / RECIPE)
        with self._asking_for_plugins():
            recipe = compose(found, prescribe=False)
            kind = recipe.kind if recipe.kind.name else Choice(FIRST_KIND, recipe.kind.options)
            kind = as_then(kind)
        return replace(recipe, kind=kind)

    def needs(self, *parts: str) -> None:
        """Asks for parts of the recipe, such as method and views, before they are built: an encoder alone needs none.

        Raises:
            UserError: one is not known here; it says how to give it again.
        """
        with self._asking_for_plugins():
            for part in parts:
                get(str(CHOICES[part]), getattr(self.recipe, part).name)

    @cached_property
    def environment(self) -> dict[str, Any]:
        """Versions, hardware, the data's identity, the command.

        Raises:
            UserError: the file is missing or damaged.
        """
        path = self.path / ENVIRONMENT
        try:
            found: dict[str, Any] = read_json(path, forms.ENVIRONMENT)
        except FormError as error:
            raise damaged(path, error) from error
        return found

    @property
    def data(self) -> str:
        """What it was trained on, as it is named here: the recipe's words hold where the program ran then. "" for arrays."""
        return placed(self.recipe.data, self.environment.get("folder", ""))

    @property
    def layout(self) -> int:
        """The version of what stands in the folder."""
        return int(self.environment.get("layout", 1))

    @property
    def older(self) -> str:
        """Says what version of unlabeled wrote a run of an older layout; "" of one of today's."""
        return f"{str(self.path)!r} was written by unlabeled {self._version}" if self.layout < LAYOUT else ""

    @property
    def _version(self) -> str:
        return str(self.environment.get("versions", {}).get("unlabeled", "of a version that it does not say"))

    @property
    def split(self) -> str:
        """How test samples are held out where data have none: as they were when it was trained."""
        return str(self.environment["data"].get("split", BALANCED)) or BY_CONTENT

    @property
    def history(self) -> list[dict[str, Any]]:
        """The metrics so far, one mapping per logged step, oldest first; less a last line that was cut off.

        Raises:
            UserError: another line is damaged; it says which.
        """
        path, found = self.path / METRICS, []
        *lines, _cut = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        for number, line in enumerate(lines, 1):
            try:
                found.append(parsed(line.decode("utf-8"), forms.METRICS))
            except ValueError as error:
                raise UserError(
                    f"{str(path)!r}, line {number}, is damaged ({error}): take that line out, or start a new run with "
                    "another --out"
                ) from error
        return found

    def check(self) -> None:
        """Checks the files that are read sooner or later, before anything long is begun.

        Raises:
            UserError: one is damaged.
        """
        _ = self.recipe, self.environment, self.history

    @property
    def finished(self) -> bool:
        """Whether the last step was taken."""
        state = self._state(mmap=True)
        return state is not None and bool(state["finished"])

    @cached_property
    def unfinished(self) -> str:
        """Says how far a run came that was stopped, and how to go on; "" of one that came to its end, and of one without a
        checkpoint, which does not tell."""
        state = self._state(mmap=True)
        if state is None or state["finished"]:
            return ""
        step, total = int(state["step"]), int(state.get("total", 0))
        far = f"step {step:,}" + (f" of {total:,} ({step / total:.0%})" if total else "")
        how = go_on(self.environment.get("command", []))
        return f"the run {str(self.path)!r} is not finished: it was stopped at {far}; to go on: {how}"

    @cached_property
    def kept(self) -> Kept | None:
        """Of which epoch the encoder is; None of a run that has none, or of an older version.

        Raises:
            UserError: the file is damaged.
        """
        path = self.path / ENCODER
        if not path.is_file():
            return None
        try:
            with safetensors.safe_open(path, "pt") as file:
                plain = parsed((file.metadata() or {})["unlabeled"], {"kept?": (forms.KEPT, None)}).get("kept")
            return Kept.of(plain) if plain else None
        except (safetensors.SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
            raise damaged(path, error) from error

    @property
    def alarm(self) -> str:
        """Says what was wrong when the encoder that the run gives was looked at, or later, why, and what to type; "" where
        nothing was."""
        looks = [line for line in self.history if "alarm" in line or "h_std" in line]
        epoch = self.kept.epoch if self.kept else math.inf
        given = [line for line in looks if line["epoch"] <= epoch]
        last = next((line for line in (*given[-1:], *looks[-1:]) if "alarm" in line), None)
        if last is None:
            return ""
        where = f" (step {last['step']:,})" if last["step"] else ""
        after = f" after epoch {epoch:g}, whose encoder it gives" if last["epoch"] > epoch else ""
        return f"the run {str(self.path)!r} went wrong{after}: {last['alarm']}{where}; {last['remedy']}"

    @property
    def remarks(self) -> list[str]:
        """Says how far a run came that was stopped, of which epoch its encoder is where that is not the last, and what went
        wrong."""
        kept = self.kept.said if self.kept else ""
        return [said for said in (self.unfinished, kept and f"the run {str(self.path)!r}: {kept}", self.alarm) if said]

    @property
    def learned(self) -> bool:
        """Whether a step was taken: none is where nothing is trainable, or in no epoch. True where no metrics tell."""
        history = self.history
        return not history or history[-1]["step"] > 0

    @classmethod
    def judged(cls, path: str | Path) -> Run:
        """Opens a run for what it learned, and says so if it was stopped before its end, gives the encoder of another epoch
        than the last, or went wrong.

        Raises:
            UserError: as `open`, or a damaged file.
        """
        run = cls.open(path)
        for said in run.remarks:
            console().print(said, soft_wrap=True)
        return run

    def lines(self) -> list[str]:
        """Returns what a terminal shows of it."""
        said = f"written: {self.path}"
        further = "" if self.environment.get("data", {}).get("classes", True) else " --protocol health"  # asks for no labels
        return [f"{said}; next: unlabeled evaluate {shlex.quote(str(self.path))}{further}"]

    def encoder(self) -> Encoder:
        """Returns the trained encoder, on the CPU, in evaluation mode.

        Raises:
            UserError: the run has not written one yet, or the file is damaged.
        """
        path = self.path / ENCODER
        if not path.is_file():
            raise UserError(f"{str(self.path)!r} has no {ENCODER} yet: finish it with `unlabeled pretrain ... --resume`")
        with self._asking_for_plugins():
            return read_encoder(path)

    def classifier(self) -> Classifier:
        """Returns the encoder with the classifier that was trained on it, on the CPU, in evaluation mode: samples to logits.

        Raises:
            UserError: its method learns no labels, it has not written one yet, or a file is damaged.
        """
        path = self.path / CLASSIFIER
        if not path.is_file():
            raise UserError(
                f"{str(self.path)!r} has no {CLASSIFIER}: method {self.recipe.method.name!r} learns no labels, or did not "
                "finish; give a run of supervised or fixmatch, or one that `evaluate --protocol finetune:10% --keep` wrote"
            )
        try:
            tensors, made = read_tensors(path)
            check(made, forms.CLASSIFIER)
            head = LinearClassifier(made["encoded"], len(made["classes"]), scaled=made["scaled"])
            head.load_state_dict(tensors)
        except (safetensors.SafetensorError, OSError, LookupError, TypeError, ValueError, RuntimeError) as error:
            raise damaged(path, error) from error
        encoder = self.encoder()
        encoder.whitening = None  # the head was trained on what is not whitened
        return Classifier(encoder, head, made["classes"]).eval()

    @contextmanager
    def _asking_for_plugins(self) -> Iterator[None]:
        """Where a name is unknown, says which plug-ins the run was made with that are not here."""
        try:
            yield
        except UnknownNameError as error:
            path = self.path / ENVIRONMENT
            held = self.environment.get("plugins", []) if path.is_file() else []
            here = {Path(file).name for file in plugins()}
            if not (lacking := [file for file in held if Path(file).name not in here]):
                asked = [str(part.get("name")) for part in read(self.path / RECIPE).values() if isinstance(part, dict)]
                if path.is_file() and (again := own.lacking(self.environment.get("given", {}), asked)):
                    raise UserError(f"{str(self.path)!r} was made with {again}") from error
                raise
            words = " ".join(f"--plugin {shlex.quote(file)}" for file in lacking)
            again = "it" if len(lacking) == 1 else "them"
            raise UserError(
                f"{str(error).partition(';')[0]}: {str(self.path)!r} was made with {words}: give {again} again"
            ) from error

    def write_classifier(self, head: LinearClassifier, classes: Sequence[str]) -> None:
        """Writes what was trained on the encoder, with the names of the classes."""
        made = {"encoded": head.encoded, "scaled": head.scaled, "classes": list(classes)}
        tensors = {k: v.detach().cpu().contiguous() for k, v in head.state_dict().items()}
        write_whole(self.path / CLASSIFIER, lambda p: save_tensors(p, tensors, made))

    def write_encoder(self, encoder: Encoder, kept: Kept | None = None, name: str = ENCODER) -> None:
        """Writes the weights with what is needed to build the network again.

        Args:
            encoder: on any device.
            kept: of which epoch it is; None of one that is no epoch's.
            name: of the file in the folder.

        Raises:
            UserError: it cannot be written.
        """
        path = self.path / name
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(path.parent, error) from error
        write_whole(path, lambda p: save_encoder(p, encoder, self.recipe.encoder, kept))

    def write_checkpoint(self, state: Mapping[str, Any]) -> None:
        """Writes everything that a resumed run needs."""
        write_whole(self.path / CHECKPOINT, saying(lambda p: torch.save(dict(state), p)))

    def read_checkpoint(self) -> dict[str, Any] | None:
        """Reads the last checkpoint, on the CPU; None if there is none.

        Raises:
            UserError: the file is damaged.
        """
        return self._state()

    def _state(self, *, mmap: bool = False) -> dict[str, Any] | None:
        """`mmap`: numbers at once, tensors when they are looked at."""
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        try:
            if not mmap:
                _check_archive(path)
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
            check(state, forms.CHECKPOINT)
        except Exception as error:
            raise damaged(path, error) from error
        return state

    def write_text(self, name: str, text: str) -> Path:
        """Writes a small file of the run; names of files in it that are no UTF-8 keep their bytes."""
        return write_whole(self.path / name, lambda p: p.write_text(text, encoding="utf-8", errors="surrogateescape"))

    def start(self, recipe: Recipe, environment: Mapping[str, Any]) -> None:
        """Writes what the run is, before its first step.

        Raises:
            UserError: the folder cannot be made or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self.write_text(RECIPE, recipe.to_yaml())
        self.write_text(ENVIRONMENT, json.dumps({"layout": LAYOUT, **environment}, indent=1) + "\n")

    def prolong(self, recipe: Recipe, state: Mapping[str, Any], command: Sequence[str]) -> None:
        """Gives the run another number of epochs. Its checkpoint goes first: wherever this is cut off, the run can go on."""
        self.write_checkpoint(state)
        self.write_text(RECIPE, recipe.to_yaml())
        self.write_text(ENVIRONMENT, json.dumps({**self.environment, "command": list(command)}, indent=1) + "\n")

    def keep_history(self, step: int) -> None:
        """Drops metrics of steps after `step`: those that a resumed run will take again."""
        kept = [json.dumps(line) + "\n" for line in self.history if line["step"] <= step]
        self.write_text(METRICS, "".join(kept))

    def log(self, metrics: Mapping[str, Any]) -> None:
        """Appends one line to the metrics."""
        path = self.path / METRICS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(metrics) + "\n")
        except OSError as error:
            raise cannot_write(path, error) from error


def go_on(words: Sequence[str]) -> str:
    """Tells how a training that was begun with such a command is gone on with.

    >>> go_on(["unlabeled", "pretrain", "digits", "--out", "runs/a"])
    'unlabeled pretrain digits --out runs/a --resume'
    """
    if [*words][:2] != ["unlabeled", "pretrain"]:
        return "repeat the call with resume=True"
    return shlex.join(words if "--resume" in words else [*words, "--resume"])


def load(path: str | Path) -> Encoder:
    """Loads the encoder of a run: raw samples (B, ...), such as images (B, C, H, W), uint8 or float in [0, 1], to features
    (B, D).

    Args:
        path: the run's folder, or a file that `save_encoder` wrote.

    Raises:
        UserError: no run there, it has no encoder yet, or the file is damaged.
    """
    return read_encoder(Path(path)) if Path(path).is_file() else Run.open(path).encoder()


def environment() -> dict[str, Any]:
    """Returns versions, hardware and command of this process, and its plug-ins if it has some, for a run to keep."""
    program = Path(sys.argv[0]).name
    versions = {"python": platform.python_version(), "unlabeled": __version__}
    for name in ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "numba", "scikit-learn"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "command": ["unlabeled" if program == "__main__.py" else program, *sys.argv[1:]],
        **({"plugins": found} if (found := plugins()) else {}),
        **({"given": given} if (given := own.given()) else {}),
        "versions": versions,
        "hardware": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        },
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _check_archive(path: Path) -> None:
    """Compares the sums that PyTorch writes into its archive, and does not look at when it reads one.

    Raises:
        ValueError: a part of it is not what was written.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise ValueError(f"{damaged} is not what was written")
