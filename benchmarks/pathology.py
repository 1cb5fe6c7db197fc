"""Which views suit tissue? MoCo v2 on patches of breast tissue, with crops and colours, with jigsaw views, and others.

    python benchmarks/pathology.py DATA [--epochs 40] [--out results/pathology]

DATA is a folder with breast-patches-96-train.parquet and -test.parquet: H&E patches of 96×96 with the label of their slide's
image, benign or malignant; the test patches are of slides that training never sees. Every row is MoCo v2 with a ResNet-18 of
width 16, one thread, the same passes, seed and settings but for the views, and is judged by a linear classifier and kNN on
frozen features; a row that is there is not trained again. Differences are paired over the test patches, with 95% intervals.
Beside the table: histograms of the grey levels of the first 100 patches of each class and their entropy, and a map (t-SNE)
of the test patches by the best row. The same for PatchCamelyon, by torchvision's reader: recipes `pcam/crops` and
`pcam/jigsaw`.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

import unlabeled
from unlabeled import plots
from unlabeled.files import write_whole
from unlabeled.probes.paired import paired, unpacked
from unlabeled.run import environment

Array = np.ndarray[Any, Any]

CLASSES = ("benign", "malignant")
FIRST = 100
COLOURS = {"views.grey": 0.0, "views.blur": 0.0}
PLAIN = {**COLOURS, "views.jitter": 0.0}
TURNS = {"views.flip": 0.5, "views.turn": 0.75}
ROWS: dict[str, dict[str, Any]] = {
    "untrained": {},
    "crops": {"views": "moco-v2", **PLAIN},
    "colours": {"views": "moco-v2", "views.scale": "1,1", **COLOURS},
    "crops and colours": {"views": "moco-v2", **COLOURS},
    "crops, colours, turns": {"views": "moco-v2", **COLOURS, **TURNS},
    "crops, colours, grey, blur": {"views": "moco-v2"},
    "jigsaw": {"views": "jigsaw", "views.jitter": 0.0, "views.photometric": 0.0, "views.grey": 0.0},
    "jigsaw and colours": {"views": "jigsaw", "views.photometric": 0.0, "views.grey": 0.0},
}
"""By what the views are made of; crops and jigsaw alone are those of the study on PatchCamelyon that this one follows."""


def read(path: Path) -> tuple[list[Array], Array]:
    """Reads pictures (96, 96, 3) uint8 and their labels."""
    table = pq.read_table(path)
    pictures = [np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGB")) for image in table["image"].to_pylist()]
    return pictures, table["label"].to_numpy()


def row(name: str, data: str, given: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges."""
    began, wanted = time.perf_counter(), dict(ROWS[name])
    views = wanted.pop("views", None)
    options = {"encoder.width": 16, **wanted}
    with tempfile.TemporaryDirectory() as folder:
        run = unlabeled.pretrain(
            data, method="moco-v2" if views else "random", encoder="resnet18", views=views, group="slide", image_size=96,
            invariances="mirror,flip,rotation,colour,intensity", epochs=given.epochs if views else 0, precision="32",
            speed="channels-last workers=1", monitor_every=0, keep="last", seed=given.seed, accelerator="cpu",
            out=Path(folder) / "run", options=options,
        )  # fmt: skip
        minutes = (time.perf_counter() - began) / 60
        unlabeled.evaluate(run.path, protocol=("linear:C=1", "knn"), against=(), accelerator="cpu")
        scores = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["scores"]
        found = unlabeled.embed(run.path, data, accelerator="cpu")
        assert isinstance(found, dict)
        xy = tsne(found["embedding"][found["split"] == "test"])
        recipe = {**run.recipe.to_dict(), "data": "breast-patches-96"}
    kept = ("protocol", "metrics", "intervals", "each")
    return {
        "name": name, "minutes": minutes, "recipe": recipe,
        "scores": {s["protocol"]: {k: s[k] for k in kept} for s in scores}, "map": xy.round(2).tolist(),
        "environment": {k: v for k, v in environment().items() if k != "command"},  # which has places of one machine
    }  # fmt: skip


def balanced(each: Array, labels: Array) -> Array:
    """Weighs what is right (M,) so that its mean is the mean recall of the classes."""
    shares = np.array([(labels == c).mean() for c in range(len(CLASSES))])
    return each / (len(CLASSES) * shares[labels])  # type: ignore[no-any-return]


def entropy(pictures: list[Array]) -> tuple[Array, float]:
    """Computes the histogram of the grey levels of all pixels (256,), and its entropy in bits."""
    levels = np.concatenate([np.asarray(Image.fromarray(picture).convert("L")).ravel() for picture in pictures])
    shares = np.bincount(levels, minlength=256) / len(levels)
    there = shares[shares > 0]
    return shares, float(-(there * np.log2(there)).sum())


def histograms(out: Path, pictures: list[Array], labels: Array) -> str:
    """Draws those of the first patches of each class, and says their entropy."""
    lines, said = {}, []
    for c, name in enumerate(CLASSES):
        first = [pictures[i] for i in np.flatnonzero(labels == c)[:FIRST]]
        shares, bits = entropy(first)
        lines[name] = [(level, 100 * share) for level, share in enumerate(shares)]
        said.append(f"{bits:.2f} bits for {name}")
    plots.draw(
        out / "histograms.svg", lines, x="grey level", y="pixels, %", title=f"the first {FIRST} patches of each class"
    )
    return f"The entropy of the grey levels of the first {FIRST} training patches of each class is {' and '.join(said)}."


def table(rows: list[dict[str, Any]], labels: Array) -> tuple[str, str]:
    """Returns Markdown with the rows' figures and their differences from the untrained encoder in balanced accuracy, then
    what it says in words; and the name of the best row."""

    def right(one: dict[str, Any]) -> Array:
        return np.stack([balanced(unpacked(each), labels) for each in one["scores"]["linear"]["each"]])

    lines = [
        "| views | linear, balanced | less untrained | linear, AUROC | linear | kNN | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    start, gaps, level = right(rows[0]), {}, {}
    for one in rows:
        level[one["name"]], metrics = 100 * float(right(one).mean()), {p: s["metrics"] for p, s in one["scores"].items()}
        gaps[one["name"]] = gap, width = tuple(100 * x for x in paired(right(one), start))
        cells = [f"{level[one['name']]:.1f}", f"{gap:+.1f} ± {width:.1f}" if one is not rows[0] else ""]
        cells += [f"{100 * metrics[p][m][0]:.1f}" for p, m in (("linear", "auroc"), ("linear", "top1"), ("knn", "top1"))]
        lines.append(f"| {one['name']} | {' | '.join(cells)} | {one['minutes']:.0f} |")
    best = max(level, key=lambda name: level[name])
    hurt = [name for name, (gap, width) in gaps.items() if gap < -width]
    helped = [name for name, (gap, width) in gaps.items() if gap > width]
    said = f"Best is {best}, with {level[best]:.1f}% balanced accuracy, {gaps[best][0]:+.1f} ± {gaps[best][1]:.1f} points "
    said += f"beside the untrained encoder. Clearly better than untrained: {', '.join(helped) or 'none'}. "
    said += f"Clearly worse, so that these views hurt: {', '.join(hurt) or 'none'}."
    return "\n".join([*lines, "", said]), best


def tsne(h: Array) -> Array:
    """Maps features (M, D) at unit length to the plane, (M, 2), by t-SNE (van der Maaten and Hinton 2008)."""
    from sklearn.manifold import TSNE

    xy: Array = TSNE(random_state=0).fit_transform(h / np.linalg.norm(h, axis=1, keepdims=True))
    return xy


def draw_map(path: Path, one: dict[str, Any], labels: Array) -> None:
    """Draws a row's map of the test patches."""
    from matplotlib.figure import Figure

    figure, xy = Figure((6, 6), layout="constrained"), np.array(one["map"])
    axes = figure.add_subplot()
    for c, kind in enumerate(CLASSES):
        axes.scatter(*xy[labels == c].T, s=8, color=plots.COLOURS[c], marker=plots.MARKERS[c], label=kind)
    axes.set(title=f"test patches by {one['name']}, t-SNE", xticks=[], yticks=[])
    axes.legend()
    write_whole(path, lambda p: figure.savefig(p, format="svg", metadata={"Date": None}))


def main() -> None:
    """Makes what is missing, then table and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/pathology"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    paths = {split: given.data / f"breast-patches-96-{split}.parquet" for split in ("train", "test")}
    pictures, labels = read(paths["train"])
    _, tested = read(paths["test"])
    data = ",".join(f"{split}={path}" for split, path in paths.items())
    rows = []
    for name in ROWS:
        path = given.out / f"{name.replace(', ', '-').replace(' ', '-')}.json"
        if not path.is_file():
            written(path, json.dumps(row(name, data, given)) + "\n")
        rows.append(json.loads(path.read_text(encoding="utf-8")))
    markdown, best = table(rows, tested)
    about, said = str(__doc__).rpartition("\n\n")[2], histograms(given.out, pictures, labels)
    written(given.out / "README.md", f"# Views for tissue\n\n{about}\n{markdown}\n\n{said}\n")
    draw_map(given.out / "tsne.svg", next(one for one in rows if one["name"] == best), tested)


def written(path: Path, text: str) -> None:
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
