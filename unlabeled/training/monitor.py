"""Tells the person how a run is doing: first lines, progress bar, metrics, kNN, rank, collapse in plain words."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from unlabeled.batch import Loss, Progress
from unlabeled.console import EveryMinute, console
from unlabeled.data import Data, Source, held_out_classes
from unlabeled.data.kinds.kind import build
from unlabeled.distributed import any_process, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.kept import Kept
from unlabeled.methods.base import Method
from unlabeled.probes import health
from unlabeled.probes.extract import features, precision_of
from unlabeled.probes.knn import KNN
from unlabeled.recipe import Recipe
from unlabeled.run import ENCODER, LAST, Run, go_on
from unlabeled.training.remedy import fast, remedy
from unlabeled.training.watch import Alarm, Watch
from unlabeled.words import counted

BANK, QUERIES = 10_000, 2_000
"""Images that the kNN monitor compares at most: its time and memory do not grow with the data."""

LOG_EVERY = 50
"""Steps between two readings of the logged tensors, at most; each reading waits for the device."""


class Monitor:
    """Shows and records; changes nothing. The kNN accuracy is measured within the training split: queries that are no
    neighbours of anything in the bank but training samples, so that the test split stays unseen until `evaluate`."""

    def __init__(
        self, fabric: Fabric, recipe: Recipe, run: Run, data: Data, total: int, per_epoch: int, *, trial: bool = False
    ) -> None:
        self.fabric, self.recipe, self.run, self.data = fabric, recipe, run, data
        self.total, self.per_epoch, self.trial = total, per_epoch, trial
        self.every = max(1, min(LOG_EVERY, per_epoch))
        self.console = console(quiet=rank() > 0)
        self.looked: dict[str, float] = {}
        self.terms: dict[str, float] = {}
        self.watch: Watch | None = None
        self.alarm: Alarm | None = None
        self.clock, self.counted = time.monotonic(), 0
        self.minutes = EveryMinute(self.console)
        columns = (
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        self.bar = Bar(*columns, TextColumn("left"), TimeRemainingColumn(), console=self.console, transient=True)
        self.task = self.bar.add_task("", total=total, said="")

    def begin(self, method: Method, encoder: Encoder, start: int, schedule: str) -> None:
        """Prints the first lines: what runs, on what, with which learning rate; and looks at the encoder before it is
        trained."""
        recipe, source = self.recipe, self.data.train
        parameters = sum(p.numel() for p in method.encoder.parameters())

        say = self._say
        nouns, views = source.kind.nouns, build(recipe.kind).views()
        say(f"{recipe.method.name} on {source.name}: {counted(len(source), nouns)} of {source.kind.describe(source.form)}, "
            f"views of {views}" + f"; {self.data.held()}" * self.data.held_out)  # fmt: skip
        say(f"encoder {recipe.encoder.name}: {counted(parameters, 'parameters')}, {counted(method.encoder.dim, 'features')}"
            + "".join(f"; {note}" for note in method.encoder.notes))  # fmt: skip
        if recipe.hold_out_classes:
            held = held_out_classes(len(source.classes), recipe.hold_out_classes, recipe.seed)
            say(f"kept out of training: classes {', '.join(source.classes[c] for c in held)}")
        hardware = f"{self.fabric.world_size} × {self.fabric.device.type}, precision {self.fabric._precision.precision}"
        if self.total:
            say(f"{recipe.optimizer.name}, {schedule}")
            say(f"{counted(self.total, 'steps')} of {recipe.batch_size} in {counted(recipe.epochs, 'epochs')} on {hardware}")
            if recipe.accumulate > 1:
                say(f"each batch in {counted(recipe.accumulate, 'pieces')}: the gradient is that of the whole batch"
                    + _piecewise_statistics(method))  # fmt: skip
        else:
            say(f"no step to take on {hardware}")
        if start:
            say(f"resumed after step {start:,}")
        if rank() == 0:
            self.run.keep_history(start)
        if rank() == 0 and self.total and not self.trial:
            self._watch(method, encoder, start)
        self.bar.update(self.task, completed=start)
        self.clock, self.counted = time.monotonic(), start
        self.minutes.begin(start)

    def __enter__(self) -> Monitor:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()

    def step(self, loss: Loss, at: Progress, lr: float) -> None:
        """Logs a step; reads tensors on log steps only.

        Raises:
            UserError: the loss is not finite.
        """
        done = at.step + 1
        self.bar.update(self.task, completed=done)
        if not self.due(done):
            self._log(done)
            return
        value = float(loss.total.detach())
        if any_process(not math.isfinite(value)):
            raise self._diverged(f"the loss is {value}", done)
        self.terms = {name: float(term) for name, term in loss.terms.items()}
        speed = (done - self.counted) * self.recipe.batch_size / max(1e-9, time.monotonic() - self.clock)
        self.clock, self.counted = time.monotonic(), done
        line = {"step": done, "epoch": done / self.per_epoch, "loss": value, **self.terms, "lr": lr}
        line["images_per_s"] = speed
        if "z" in loss.memory:
            z = loss.memory["z"].float()
            line |= {"z_std": health.std_ratio(z), "z_rank": health.effective_rank(z)}
        self._record(line)
        self.looked["loss"], self.looked["speed"] = value, speed
        self._show()
        self._log(done)

    def _log(self, done: int) -> None:
        """Prints now and then how far it is where no bar shows it: into a file, say."""
        if self.trial or "loss" not in self.looked:
            return
        at = f"step {done:,} of {self.total:,}, epoch {done / self.per_epoch:.1f} of {self.recipe.epochs}"
        self.minutes(done, self.total, lambda: f"{at}: loss {self.looked['loss']:.3f}")

    def due(self, done: int) -> bool:
        """Tells whether tensors are read after so many steps."""
        return done % self.every == 0 or done in (1, self.total)

    def watches(self, done: int) -> bool:
        """Tells whether the encoder is looked at after so many steps, to see whether the run goes wrong."""
        return self.watch is not None and self.watch.due(done)

    def look(self, encoder: Encoder, loss: Loss, at: Progress) -> None:
        """Looks at h and z, and says what is wrong.

        Raises:
            UserError: h is not finite.
        """
        assert self.watch is not None
        done, began = at.step + 1, time.monotonic()
        h = self.watch.look(encoder)
        if not math.isfinite(h.rank):
            raise self._diverged("the representation holds numbers that are not finite", done)
        z = health.look(loss.memory["z"].float()) if "z" in loss.memory else None
        alarm = self.watch.judge(done, float(loss.total.detach()), h, z)
        self._seen({"step": done, "epoch": done / self.per_epoch}, h, alarm)
        self.clock += time.monotonic() - began

    def check(self, method: Method, done: int) -> None:
        """Checks the run before a checkpoint is written over the last good one.

        Raises:
            UserError: the parameters are not finite.
        """
        if not all(bool(p.isfinite().all()) for p in method.parameters()):
            raise self._diverged("the weights hold numbers that are not finite", done)

    def looks(self, epoch: int) -> bool:
        """Tells whether it measures after so many epochs: after every `monitor_every`, and after the last."""
        every = self.recipe.monitor_every
        return bool(every) and (epoch % every == 0 or epoch == self.recipe.epochs)

    def epoch(self, encoder: Encoder, at: Progress) -> Mapping[str, float]:
        """Measures after an epoch: kNN accuracy where there are labels, and rank of the representation.

        Returns:
            What was measured, as it is recorded; in the first process alone.
        """
        if rank() > 0:
            return {}
        began = time.monotonic()
        found = self._measure(encoder, at)
        line = {**self._when(at), **found, "monitor_s": time.monotonic() - began}
        self._record(line)
        self.looked |= {"knn": found["knn"]} if "knn" in found else {}
        terms = "".join(f", {name.replace('_', ' ')} {value:.2f}" for name, value in self.terms.items())
        self._say(f"epoch {line['epoch']}: {self._spelled(found, encoder.dim)}{terms}")
        self.clock += time.monotonic() - began
        self._show()
        return found

    def end(self, encoder: Encoder, at: Progress, kept: Kept) -> None:
        """Ends the run after its last step, or instead of one where nothing is trainable: says of which epoch the encoder is
        that it gives, and measures it if it is another than was looked at."""
        if rank() > 0:
            return
        line = {**self._when(at), "kept_epoch": kept.epoch, "peak_memory_mib": peak_memory(self.fabric.device)}
        tta, whitened = encoder.front.tta, encoder.whitening is not None
        if self.recipe.monitor_every and (tta > 1 or whitened or not self.total):
            found = self._measure(encoder, at)
            line |= {f"kept_{name}" if self.total else name: value for name, value in found.items()}
            how = f", test-time augmentation {tta}" * (tta > 1) + ", whitened" * whitened
            self._say(f"epoch {kept.epoch:g}{how}: {self._spelled(found, encoder.dim)}")
        self._record(line)
        if kept.looks:
            which = f": {ENCODER} is of epoch {kept.epoch:g}, {LAST} of the last" if kept.epoch != kept.trained else ""
            self._say(kept.looks + which)
        if self.alarm is not None:
            how = "; do not use its encoder as it is" * (kept.epoch == kept.trained)
            self._say(f"warning: so the run ended: {self.alarm.seen}{how}", style="yellow")
        if kept.early:
            self._say(f"{kept.early}; with --resume and another --patience, 0 for none, it goes on")

    def interrupted(self, step: int) -> None:
        """Says how to go on."""
        how = go_on([Path(sys.argv[0]).name, *sys.argv[1:]])
        self._say(f"stopped and saved after step {step:,} of {self.total:,}; to go on: {how}")

    def _measure(self, encoder: Encoder, at: Progress) -> dict[str, float]:
        """Rank of h, and kNN accuracy among the samples that are looked at, beside the share of the largest class."""
        source, device = self.data.train, self.fabric.device
        taken, queries = looked_at(self.recipe, source)
        h = features(encoder, source, device=device, indices=taken, precision=precision_of(self.fabric))
        if not h.isfinite().all():
            raise self._diverged("the representation holds numbers that are not finite", at.step + 1)
        h = h.to(device)
        found = {"h_rank": health.effective_rank(h[:1024])}
        if queries and source.labels is not None and len(np.unique(source.labels[taken])) > 1:
            y = torch.from_numpy(source.labels[taken]).to(device)
            probe = KNN().fit(h[queries:], y[queries:])
            found["knn"] = probe.score(h[:queries], y[:queries])["top1"]
            found |= {"largest": probe.classified_.guess()["top1"]} if probe.classified_.uneven else {}
        return found

    def _when(self, at: Progress) -> dict[str, float]:
        return {"step": at.step + 1, "epoch": at.epoch + 1} if self.total else {"step": 0, "epoch": 0}

    def _spelled(self, found: Mapping[str, float], dim: int) -> str:
        beside = f"; the largest class is {100 * found['largest']:.1f}%" if "largest" in found else ""
        knn = f"kNN {100 * found['knn']:.1f}% (within the training split{beside}), " if "knn" in found else ""
        return f"{knn}rank of h {found['h_rank']:.1f} of {dim}"

    def _say(self, line: str, style: str | None = None) -> None:
        self.console.print(line, style=style, soft_wrap=True)

    def _show(self) -> None:
        knn = f"kNN {100 * self.looked['knn']:.1f}%  " if "knn" in self.looked else ""
        if "loss" in self.looked:
            said = f"loss {self.looked['loss']:.3f}  {knn}{self.looked['speed']:,.0f} {self.data.train.kind.nouns}/s"
            self.bar.update(self.task, said=said)

    def _record(self, line: dict[str, Any]) -> None:
        if rank() == 0:
            self.run.log(line)
            figures = {k: v for k, v in line.items() if k != "step" and not isinstance(v, str)}
            self.fabric.log_dict(figures, step=line["step"])

    def _watch(self, method: Method, encoder: Encoder, start: int) -> None:
        """Begins to watch."""
        recipe, source = self.recipe, self.data.train
        learns_labels = method.needs_labels or method.label_head is not None
        self.watch = Watch(
            source, recipe.seed, self.total, len(source.classes) if learns_labels else 0, fast(recipe),
            self.fabric.device, precision_of(self.fabric), self.run.history,
        )  # fmt: skip
        if not start:
            self._seen({"step": 0, "epoch": 0}, *self.watch.begin(encoder))

    def _seen(self, line: dict[str, Any], h: health.Look, alarm: Alarm | None) -> None:
        """Records a look; says an alarm when it is new, and when it is over."""
        line |= {"h_std": h.spread, "h_dims": h.rank}
        if alarm is not None:
            why = remedy(self.recipe, str(self.run.path), alarm.kind, few=alarm.few)
            line |= {"alarm": alarm.seen, "remedy": why}
            if self.alarm is None or self.alarm.kind != alarm.kind:
                when = f"after step {line['step']:,}" if line["step"] else "before the first step"
                self._say(f"warning {when}: {alarm.seen}; {why}", style="yellow")
        elif self.alarm is not None:
            self._say(f"after step {line['step']:,} no longer so: {self.alarm.seen}")
        self.alarm = alarm
        self._record(line)

    def _diverged(self, what: str, step: int) -> UserError:
        why = remedy(self.recipe, str(self.run.path), "loss")
        self._record({"step": step, "epoch": step / self.per_epoch, "alarm": f"{what} at step {step:,}", "remedy": why})
        return UserError(
            f"{what} at step {step:,} of {self.total:,}: start a new run with another --out; what usually helps "
            f"is a smaller --optimizer.lr, a longer --warmup-epochs, or --precision 32; {why}"
        )


def looked_at(recipe: Recipe, source: Source) -> tuple[np.ndarray, int]:
    """Returns the positions of the training samples that the monitor looks at, and how many of them, the first, are queries
    for the others; 0 without labels. None is of a class that is held out.

    Args:
        recipe: of the seed and the classes held out.
        source: training samples.
    """
    labels = np.full(len(source), -1) if source.labels is None else source.labels
    held = held_out_classes(len(source.classes), recipe.hold_out_classes, recipe.seed)
    labelled = np.flatnonzero((labels >= 0) & ~np.isin(labels, held))
    there = labelled if len(labelled) > 1 else np.arange(len(source))
    mixed = np.random.default_rng(recipe.seed).permutation(there)
    queries = min(QUERIES, max(1, len(mixed) // 5))
    return mixed[: queries + BANK], queries if len(labelled) > 1 else 0


def peak_memory(device: torch.device) -> float:
    """Returns the MiB that this process has held at most: of the GPU's memory if it trains on one, else of the machine's.

    Of the machine's, Linux's VmHWM rather than `ru_maxrss`: the latter remembers what the parent held before it started
    this process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.is_file() else None
    if found:
        return int(found[1]) / 2**10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)


def _piecewise_statistics(method: Method) -> str:
    norms = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in method.encoder.modules())
    return "; but the statistics of the encoder's batch norms are each piece's" * norms
