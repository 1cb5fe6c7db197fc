"""What pretext tasks learn in equal time, beside the same network untrained and beside a data-dependent initialisation.

    python benchmarks/pretext.py DATA [--sets cifar10 ...] [--only jigsaw ...] [--minutes 8] [--out results/pretext]

DATA is a folder with cifar10 and tiny50-64 as `NAME-train.parquet` and `NAME-test.parquet`. Tasks on whole images are
learned on cifar10, those that cut patches on tiny50-64: each by its packaged recipe, a ResNet-18 of width 16 whose views and
stem suit the task, for so many minutes of one thread, as a trial of some steps foretells. A row that is there is not trained
again. Figures are top-1 accuracies on the test split in percent, of kNN and a linear classifier with all labels on the
representation, and of a linear classifier on each stage with 5,000 labels and 2,500 test images at most; so figures of
stages compare with each other. Differences of stages are those of independent figures, with 95% intervals.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import unlabeled
from unlabeled.comparing.budget import measure
from unlabeled.files import write_whole
from unlabeled.recipe import compose, read
from unlabeled.run import environment

SETS = {
    "cifar10": (
        "rotation", "exemplar", "colorization", "split-brain", "context-encoder", "super-resolution", "amdim",
        "local-aggregation",
    ),
    "tiny50-64": ("jigsaw", "relative-patch", "counting", "cpc-v1", "cpc-v2"),
}  # fmt: skip
FOLDERS = {"cifar10": "cifar10", "tiny50-64": "tiny50"}
BASELINE = "data-init"
LAYERS = "linear-layers:C=1,dimensions=2000,test_images=2500"
PROTOCOLS = ("knn", "linear:C=1", LAYERS)


def row(name: str, data: str, method: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains for the minutes, and judges beside the same network untrained."""
    of = SETS[name][0] if method == BASELINE else method
    recipe = compose(read(f"{FOLDERS[name]}/{of}"), {"data": data, "seed": given.seed})
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        if method == BASELINE:
            like = {"encoder": recipe.encoder.name, "image_size": int(recipe.kind.options["size"])}
            options = {f"encoder.{k}": v for k, v in recipe.encoder.options.items()}
            if recipe.kind.options.get("eval_size"):
                options["kind.eval_size"] = recipe.kind.options["eval_size"]
            began = time.perf_counter()
            run = unlabeled.pretrain(
                data, method=method, epochs=1, options=options, out=at / "run", accelerator="cpu",
                precision="32", seed=given.seed, **like,
            )  # fmt: skip
        else:
            (at / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
            measure(at / "recipe.yaml", at / "trial.json", None, "cpu", given.minutes)
            trial = json.loads((at / "trial.json").read_text(encoding="utf-8"))
            planned = replace(recipe, epochs=trial["epochs"], speed=trial["speed"], monitor_every=0, keep="last", about={})
            (at / "recipe.yaml").write_text(planned.to_yaml(), encoding="utf-8")
            began = time.perf_counter()
            run = unlabeled.pretrain(recipe=at / "recipe.yaml", out=at / "run", accelerator="cpu")
        minutes = (time.perf_counter() - began) / 60
        unlabeled.evaluate(run.path, protocol=PROTOCOLS, against=("random",), accelerator="cpu")
        scores = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["scores"]
        plain = {**run.recipe.to_dict(), "data": name}
    kept = ("subject", "protocol", "metrics", "intervals", "tested")
    return {
        "set": name, "method": method, "minutes": minutes, "recipe": plain,
        "scores": [{k: s[k] for k in kept} for s in scores],
        "environment": {k: v for k, v in environment().items() if k != "command"},  # which has places of one machine
    }  # fmt: skip


Stage = tuple[float, float]
"""Accuracy, and half the width of its 95% interval."""


def stages(one: dict[str, Any], subject: str) -> dict[str, Stage]:
    """Returns a linear classifier's figures on each stage, first to last."""
    found = _score(one, subject, "linear-layers")
    names = [name for name in found["metrics"] if name.endswith(" linear")]
    return {name.split()[0]: (found["metrics"][name][0], found["intervals"][name]) for name in reversed(names)}


def _score(one: dict[str, Any], subject: str, protocol: str) -> dict[str, Any]:
    return next(s for s in one["scores"] if s["subject"] == subject and s["protocol"].partition(":")[0] == protocol)


def table(rows: list[dict[str, Any]]) -> str:
    """Returns Markdown: a line for each row, then one for the stages of each and of the same network untrained."""
    heads = ("method", "kNN", "untrained", "linear (last)", "untrained", "linear (best stage)", "untrained (best stage)")
    heads += ("less untrained", "less data-init", "top-5", "minutes")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    start = next((max(stages(one, "run").values()) for one in rows if one["method"] == BASELINE), None)
    for one in rows:
        mine, theirs = stages(one, "run"), stages(one, "random")
        best, rival = (max(of, key=lambda stage: of[stage][0]) for of in (mine, theirs))
        cells = [
            f"{100 * _score(one, subject, protocol)['metrics']['top1'][0]:.1f}"
            for protocol in ("knn", "linear") for subject in ("run", "random")
        ]  # fmt: skip
        cells += [f"{100 * of[stage][0]:.1f} ({stage})" for of, stage in ((mine, best), (theirs, rival))]
        cells += [_less(mine[best], theirs[rival]), _less(mine[best], start) if one["method"] != BASELINE else ""]
        cells += [f"{100 * _score(one, 'run', 'linear')['metrics']['top5'][0]:.1f}", f"{one['minutes']:.1f}"]
        lines.append(f"| {one['method']} | {' | '.join(cells)} |")
    names = list(stages(rows[0], "run"))
    lines += ["", f"| linear classifier after | {' | '.join(names)} |", "|---" * (1 + len(names)) + "|"]
    for one in rows:
        for subject, word in (("run", ""), ("random", ", untrained")):
            shares = " | ".join(f"{100 * share:.1f}" for share, _ in stages(one, subject).values())
            lines.append(f"| {one['method']}{word} | {shares} |")
    return "\n".join(lines)


def _less(ours: Stage, theirs: Stage | None) -> str:
    return "" if theirs is None else f"{100 * (ours[0] - theirs[0]):+.1f} ± {100 * math.hypot(ours[1], theirs[1]):.1f}"


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))


def main() -> None:
    """Makes what is missing, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--only", nargs="*", default=None, help="some of the methods, by name; none only writes the tables")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/pretext"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.sets:
        data = ",".join(f"{split}={given.data / f'{name}-{split}.parquet'}" for split in ("train", "test"))
        methods = (BASELINE, *SETS[name])
        for method in methods if given.only is None else [m for m in methods if m in given.only]:
            path = given.out / name / f"{method}.json"
            if not path.is_file():
                written(path, json.dumps(row(name, data, method, given), indent=1) + "\n")
        paths = [given.out / name / f"{method}.json" for method in methods]
        rows = [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]
        about = str(__doc__).rpartition("\n\n")[2]
        if rows:
            written(given.out / name / "README.md", f"# Pretext tasks on {name}\n\n{about}\n{table(rows)}\n")


if __name__ == "__main__":
    main()
