"""Draws docs/front.svg, the picture of the front page: what pretraining does to handwritten digits, in a map and in figures.

    make demo
    python docs/draw_front.py runs/demo

The digits are scikit-learn's; the maps are t-SNE of the held-out fifth, as `evaluate --protocol tsne` makes it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.markers import MarkerStyle

from unlabeled.data import open_data
from unlabeled.plots import COLOURS
from unlabeled.probes.extract import features, raw
from unlabeled.probes.tsne import TSNE
from unlabeled.run import Run
from unlabeled.training.setup import initial_encoder

TARGET = Path(__file__).parent / "front.svg"
NAMES = {"pixels": "raw pixels", "random": "untrained encoder", "run": "pretrained, no labels"}
TEN = (*COLOURS, "#882255", "#999933", "#888888")
"""A colour for each digit, which is also drawn as itself."""


def map_of(axes: Axes, h: torch.Tensor, y: np.ndarray, title: str) -> None:
    """Draws test images in the plane, each as the digit that it shows."""
    xy = TSNE().predict(h).numpy()
    for digit in range(10):
        x = xy[y == digit]
        axes.scatter(x[:, 0], x[:, 1], s=30, linewidths=0.2, color=TEN[digit], marker=MarkerStyle(f"${digit}$"))
    axes.set(xticks=[], yticks=[], title=title)


def curve(axes: Axes, scores: list[dict[str, Any]]) -> None:
    """Draws the accuracy of a linear classifier against how many images are labelled, with the spread over draws."""
    for i, (subject, name) in enumerate(NAMES.items()):
        mine = [s for s in scores if s["subject"] == subject]
        labelled = [s["labelled"][0] for s in mine]
        values = [[100 * v for v in s["metrics"]["top1"]] for s in mine]
        spread = [stdev(v) if len(v) > 1 else 0.0 for v in values]
        axes.errorbar(labelled, [fmean(v) for v in values], spread, label=name, marker="so^"[i], color=COLOURS[i], capsize=3)
    axes.set_xscale("log")
    axes.set(xlabel="labelled images", ylabel="linear classifier, % right", title="and what few labels then do")
    axes.set_xticks(sorted({s["labelled"][0] for s in scores}), labels=sorted({s["labelled"][0] for s in scores}))
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize="small")


def main(folder: Path) -> None:
    """Draws three maps and the curve."""
    run = Run(folder)
    recipe = run.recipe
    data = open_data(recipe.data, kind=recipe.kind, seed=recipe.seed)
    y = np.asarray(data.test.labels)
    scores = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["scores"]
    untrained = initial_encoder(recipe, data.train).eval()
    seen = {
        "pixels": raw(data.test),
        "random": features(untrained, data.test, device="cpu"),
        "run": features(run.encoder(), data.test, device="cpu"),
    }
    with mpl.rc_context({"svg.hashsalt": "unlabeled", "svg.fonttype": "path"}):
        figure = Figure((16, 4.2), layout="constrained")
        axes = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.25])
        for place, (subject, h) in zip(axes, seen.items(), strict=False):
            map_of(place, h, y, NAMES[subject])
        curve(axes[3], scores)
        figure.savefig(TARGET, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
