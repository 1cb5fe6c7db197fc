"""What a run's metrics say of its speed, its memory and its course."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from unlabeled.run import Run
from unlabeled.words import counted


class History:
    """Time is that of training alone, without the looks between epochs: steps over the speeds that the run logged.

    Attributes:
        images_per_s: median over the logged speeds but the first, which has the warming up in it; None without a step.
        minutes: of training.
        epochs: that were trained.
        kept: of which epoch the encoder is; None of a run of an older version.
        curve: (minutes, epoch, kNN accuracy within the training split), one a look.
        alarm: what was wrong when the run was last looked at; "" for nothing.
    """

    def __init__(self, run: Run) -> None:
        self.recipe, lines = run.recipe, run.history
        logged = [line for line in lines if "images_per_s" in line]
        speeds = [line["images_per_s"] for line in logged]
        self.images_per_s = median(speeds[1:] or speeds) if speeds else None
        steps = np.array([0, *(line["step"] for line in logged)], dtype=float)
        minutes = np.zeros(len(steps))
        if speeds:
            minutes[1:] = np.cumsum(np.diff(steps) * self.recipe.batch_size / np.array(speeds)) / 60
        self.minutes = float(minutes[-1])
        looks = [line for line in lines if "knn" in line]
        self.curve = [(float(np.interp(x["step"], steps, minutes)), x["epoch"], x["knn"]) for x in looks]
        self.peak_memory_mib = next((x["peak_memory_mib"] for x in reversed(lines) if "peak_memory_mib" in x), None)
        self.epochs = lines[-1]["epoch"] if speeds else 0
        self.kept = run.kept
        self.alarm = run.alarm

    def json(self) -> dict[str, Any]:
        """Returns what a row says of it."""
        speed = self.images_per_s
        return {
            "epochs": self.epochs,
            "kept_epoch": self.kept.epoch if self.kept else self.epochs,
            "minutes": self.minutes,
            "images_per_s": speed,
            "seconds_per_epoch": 60 * self.minutes / self.epochs if self.epochs else None,
            "peak_memory_mib": self.peak_memory_mib,
            "curve": self.curve,
            **({"alarm": self.alarm} if self.alarm else {}),
            "recipe": self.recipe.to_dict(),
        }

    def said(self) -> str:
        """Returns the end of it in words."""
        knn = f", kNN {100 * self.curve[-1][2]:.1f}% within the training split" if self.curve else ""
        looks = self.kept.looks if self.kept and self.kept.epoch != self.kept.trained else ""
        knn = f", {looks}: the best is kept" if looks else knn
        wrong = f"; {self.alarm}" if self.alarm else ""
        return (
            f" after {counted(self.epochs, 'epochs')} in {self.minutes:.1f} min{knn}" if self.images_per_s else knn
        ) + wrong
