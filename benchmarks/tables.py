"""Makes the tables of results/README.md and of the front page from what the program wrote under results/.

    python benchmarks/tables.py

Each folder `results/DATA/RECIPE` holds files of a run: recipe.yaml, environment.json, metrics.jsonl, evaluation.json;
or a folder of such files for each seed.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
NOTES = {"cifar10": "CIFAR-10 **re-encoded as JPEG of quality 75**: a little lower than on the original"}
INTRODUCTION = """## Results

Top-1 accuracy in percent on the test split, as the program wrote it under `results/`; recipes are in
`unlabeled/recipes/`. kNN and linear classifiers (`linear:C=1`) see frozen features and all training labels, unless said
otherwise."""
DIGITS = """**digits** (`make demo`): a linear classifier; mean ± standard deviation over 10 draws of the labelled images;
tested on a held-out fifth."""
FEW = """**cifar10, with few labels**: FixMatch's classifier, and kNN on its features with the same labels. Two epochs are
892 steps, where the paper takes 2²⁰; `cifar10-rotation` is a run of that recipe."""
FEW_HEADER = [
    "| labels a class | from | epochs | minutes of training | classifier | kNN | kNN, untrained |",
    "|---|---|---|---|---|---|---|",
]
SOUNDS = """**spoken-digits**: Free Spoken Digit Dataset, raw sound at 8 kHz; beside log-mel statistics, mean and deviation
of 40 bands."""
SOUND_HEADER = [
    "| method | judged on | kNN | kNN, untrained | kNN, log-mel | linear | linear, untrained | linear, log-mel |",
    "|---|---|---|---|---|---|---|---|",
]
HEADER = [
    "| method | encoder | epochs | minutes of training | cores | kNN | kNN, untrained | linear | linear, untrained |",
    "|---|---|---|---|---|---|---|---|---|",
]
START, END = "<!-- results -->", "<!-- /results -->"


def minutes(run: Path, batch_size: int) -> float:
    """Time of the training steps alone, from the speeds that the run logged."""
    seconds, before = 0.0, 0
    for line in map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        if "images_per_s" in line:
            seconds += (line["step"] - before) * batch_size / line["images_per_s"]
            before = line["step"]
    return seconds / 60


def figure(scores: list[dict[str, Any]], subject: str, protocol: str, labels: str = "100%") -> str:
    """Mean ± standard deviation over draws and seeds, in percent."""
    asked = [s for s in scores if (s["subject"], s["protocol"], s["labels"]) == (subject, protocol, labels)]
    values = [100 * value for score in asked for value in score["metrics"]["top1"]]
    return (f"{fmean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")) if values else "–"


def rows(data: Path) -> list[str]:
    """One line for each run of a data set, or for those of one recipe that differ in their seed."""
    lines = []
    for folder in sorted(p for p in data.iterdir() if p.is_dir()):
        runs = [p.parent for p in sorted([*folder.glob("evaluation.json"), *folder.glob("*/evaluation.json")])]
        if not runs:
            continue
        recipe = read(runs[0])
        if recipe["method"]["name"] == "fixmatch":  # a classifier is what it makes: a table of its own
            continue
        hardware = json.loads((runs[0] / "environment.json").read_text(encoding="utf-8"))["hardware"]
        scores = [s for r in runs for s in json.loads((r / "evaluation.json").read_text(encoding="utf-8"))["scores"]]
        encoder = network(recipe["encoder"])
        encoder += f", {recipe['encoder']['features']} features" if "features" in recipe["encoder"] else ""
        tta = recipe.get("tta", recipe.get("looks", 1))  # as recipes of 0.1 called it
        encoder += f", test-time augmentation {tta}" if tta > 1 else ""
        encoder += ", whitened" if recipe.get("whiten") else ""
        method = recipe["method"]["name"]
        name = method if folder.name == method else f"{method} (`{folder.name}.yaml`)"
        spent = fmean(minutes(run, recipe["batch_size"]) for run in runs)
        cells = [name + (f", {len(runs)} seeds" if len(runs) > 1 else ""), encoder, str(recipe["epochs"]), f"{spent:.0f}"]
        cells.append(f"{hardware['cores']} × {hardware['processor']}")
        cells += [figure(scores, who, protocol) for protocol in ("knn", "linear") for who in ("run", "random")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def network(encoder: dict[str, Any]) -> str:
    """An encoder in words."""
    if "depth" in encoder:
        return f"{encoder['name']}, {encoder['depth']} blocks, patches of {encoder['patch_size']} px"
    return f"{encoder['name']}, width {encoder.get('width', 64)}"


def read(run: Path) -> dict[str, Any]:
    """Its recipe."""
    found: dict[str, Any] = yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))
    return found


def scored(path: Path) -> list[dict[str, Any]]:
    """The scores of an evaluation."""
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["scores"]
    return found


def classifiers(data: Path) -> list[str]:
    """FixMatch's: one line for each number of labels and each beginning."""
    lines = []
    runs = [p for p in data.iterdir() if (p / "evaluation.json").is_file() and read(p)["method"]["name"] == "fixmatch"]
    for run in sorted(runs, key=lambda p: (int(read(p)["labels"]), read(p)["start"])):
        recipe, scores = read(run), scored(run / "evaluation.json")
        begun = Path(recipe["start"]).name if recipe["start"] else "noise"
        cells = [recipe["labels"], begun, str(recipe["epochs"]), f"{minutes(run, recipe['batch_size']):.0f}"]
        cells.append(figure(scores, "run", "classifier", "no labels"))
        cells += [figure(scores, who, "knn", recipe["labels"]) for who in ("run", "random")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def sounds(data: Path) -> list[str]:
    """One line for each question that recordings are judged by."""
    lines = []
    for path in sorted(data.glob("*/evaluation*.json")):
        split = json.loads(path.read_text(encoding="utf-8"))["split"].replace(" (seed 0)", "").partition(" of ")[2]
        scores, recipe = scored(path), read(path.parent)
        cells = [f"{recipe['method']['name']}, {recipe['epochs']} epochs", split]
        cells += [figure(scores, who, protocol) for protocol in ("knn", "linear") for who in ("run", "random", "log-mel")]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def few_labels(run: Path) -> list[str]:
    """The table of `make demo`."""
    scores = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["scores"]
    amounts = list(dict.fromkeys(s["labels"] for s in scores))
    lines = ["| labels | images | raw pixels | untrained encoder | pretrained encoder |", "|---|---|---|---|---|"]
    for amount in amounts:
        images = next(s["labelled"][0] for s in scores if s["labels"] == amount)
        said = amount if "%" in amount else f"{amount} per class"
        cells = [figure(scores, who, "linear", amount) for who in ("pixels", "random", "run")]
        lines.append(f"| {said} | {images} | " + " | ".join(cells) + " |")
    return lines


def tables() -> str:
    """All of them, in Markdown."""
    text = [INTRODUCTION, ""]
    for data in sorted(p for p in (ROOT / "results").iterdir() if p.is_dir()):
        if data.name == "digits":
            text += [DIGITS, "", *few_labels(data / "simclr"), ""]
        elif data.name == "spoken-digits":
            text += [SOUNDS, "", *SOUND_HEADER, *sounds(data), ""]
        elif found := rows(data):
            text += [f"**{data.name}**" + (f": {NOTES[data.name]}." if data.name in NOTES else "."), "", *HEADER, *found, ""]
            if told := classifiers(data):
                text += [FEW, "", *FEW_HEADER, *told, ""]
    return "\n".join(text)


def main() -> None:
    """Writes results/README.md, and the part of README.md between the markers."""
    made = tables()
    (ROOT / "results" / "README.md").write_text(made.replace("## Results", "# Results", 1), encoding="utf-8")
    page = ROOT / "README.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{START}\n{made}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
