"""Training throughput in source images per second, beside lightly on the same cores, with the same network and batch.

    python benchmarks/training.py --out results/training.json [--peers build/peers] [--cases simclr moco] [--rounds 5]
                                  [--steps 10] [--sides unlabeled lightly] [--losses]

SimCLR, MoCo, BYOL and SwAV train a ResNet-18 with a 3×3 stem on CIFAR-10's JPEG images (of `--data`, a Parquet file with an
image column; generated ones where it is missing), 32 pixels, 128 a batch; `simclr-16` has a network of a quarter of the
width, and four times as many steps. The sides:

- `unlabeled`: `training.train` with its defaults, of which bf16 on machines that compute in it is one; nothing is timed
  first or compiled;
- `lightly`: its transforms, modules and losses in a plain PyTorch loop, `--workers` loader processes, SGD, float32;
- `unlabeled-32` and `lightly-bf16`: the same with the other's precision;
- `unlabeled-tuned`, only if it is named in `--sides`: computed as `unlabeled pretrain` chooses after a few timed steps for
  100 epochs of CIFAR-10, which may be compiled; that is over when the warm-up is.

They take turns, each in a process of its own; `--warm-up` steps are taken before the clock is read. All measured steps are
of the first epoch. `unlabeled` decodes a JPEG once, before the first step or in its first epoch, and then reads its cache:
here, images are in it when the clock starts. lightly decodes each of them every epoch. Ratios are of the same round, and
their median counts.

`--losses` also trains SimCLR of width 16 for 100 steps in float32 on both sides, with the same temperature, projector, batch
and learning rate, and records the mean loss of steps 91 to 100; each round is another seed. `--cases` without names leaves
out the rest.

Each measurement is written when it is done. The same command goes on after an interruption; measurements are kept unless
hardware, versions or settings changed, or `--again` is given. The peer is a package in a folder that only its own processes
see (`make bench` fills it); without it only ours is measured.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from unlabeled.files import write_whole
from unlabeled.run import environment

ROOT = Path(__file__).resolve().parents[1]
CASES = {
    "simclr": ("simclr", 64, 1),
    "simclr-16": ("simclr", 16, 4),
    "moco": ("moco", 64, 1),
    "byol": ("byol", 64, 1),
    "swav": ("swav", 64, 1),
}
"""Method, width, and how many times `--steps` it takes."""
SIDES = {"unlabeled": "auto", "lightly": "32", "unlabeled-32": "32", "lightly-bf16": "bf16", "unlabeled-tuned": "auto"}
"""Precision of each."""
LOSS_STEPS = 100
AHEAD = 6
"""Batches beyond the measured ones, so that loaders work to the end."""


def write_images(path: Path, source: Path, count: int) -> str:
    """JPEG files of 32 pixels, the first of the source's; says what they are."""
    if source.is_file():
        cells = pq.read_table(source, columns=["image"]).column(0).slice(0, count).to_pylist()
        encoded, name = [cell["bytes"] for cell in cells], source.name
    else:
        coarse = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        encoded, name = [jpeg(pixels) for pixels in coarse], "generated"
    if len(encoded) < count:
        sys.exit(f"{source} holds {len(encoded)} images, and {count} are needed: give fewer --steps or a smaller --batch")
    column = pa.array(
        [{"bytes": data, "path": None} for data in encoded], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    pq.write_table(pa.table({"image": column}), path)
    return name


def jpeg(coarse: np.ndarray[Any, Any]) -> bytes:
    """A smooth picture of uint8 (8, 8, 3), in the quality of `--data`."""
    file = io.BytesIO()
    Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(file, "JPEG", quality=75)
    return file.getvalue()


def jobs(given: argparse.Namespace, sides: list[str]) -> Iterator[dict[str, Any]]:
    """Round by round, case by case, the sides in turn; then the losses, likewise."""
    shared = {"batch": given.batch, "workers": given.workers, "threads": given.threads}
    for turn in range(given.rounds):
        for case in given.cases:
            method, width, times = CASES[case]
            about = {"kind": "throughput", "case": case, "method": method, "width": width}
            for side in sides:
                counts = {"warm_up": given.warm_up, "steps": given.steps * times}
                yield {**about, "side": side, "precision": SIDES[side], "round": turn, **counts, **shared}
    for turn in range(given.rounds * given.losses):
        about = {"kind": "losses", "case": "simclr-16", "method": "simclr", "width": 16}
        for side in (side for side in sides if side in ("unlabeled", "lightly")):
            counts = {"warm_up": 0, "steps": given.loss_steps}
            yield {**about, "side": side, "precision": "32", "round": turn, **counts, **shared}


def measure(job: dict[str, Any], folder: Path, peers: Path) -> dict[str, Any]:
    """The job in a process of its own, which leaves nothing behind."""
    paths = [ROOT, *([peers.resolve()] if job["side"].startswith("lightly") else [])]
    with tempfile.TemporaryDirectory(dir=folder) as work:
        (Path(work) / "images.parquet").symlink_to(folder / "images.parquet")
        seen = {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": str(job["threads"]),
            "UNLABELED_CACHE": str(folder / "cache"),
        }
        words = [sys.executable, str(Path(__file__).with_name("training_sides.py")), json.dumps(job), work]
        done = subprocess.run(words, env=os.environ | seen, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{job} failed; what is done is kept\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds, the ratios of ours to lightly's within each, and the losses' means and deviations."""
    speeds: dict[tuple[str, int], dict[str, dict[int, dict[str, Any]]]] = {}
    losses: dict[str, list[float]] = {}
    for job, result in ((row["job"], row["result"]) for row in rows):
        if job["kind"] == "losses":
            losses.setdefault(job["side"], []).append(result["loss"])
        else:
            speeds.setdefault((job["case"], job["steps"]), {}).setdefault(job["side"], {})[job["round"]] = result
    throughput = []
    for (case, steps), sides in speeds.items():
        entry: dict[str, Any] = {"case": case, "steps": steps, "sides": {}, "ratios": {}}
        for side, rounds in sides.items():
            clocks = ("images_per_second", "images_per_processor_second", "step_s")
            medians = {clock: statistics.median(r[clock] for r in rounds.values()) for clock in clocks}
            entry["sides"][side] = {**medians, "precision": next(iter(rounds.values()))["precision"], "rounds": len(rounds)}
        for mine, theirs in ((a, b) for a in sides for b in sides if a.startswith("unlabeled") and b.startswith("lightly")):
            entry["ratios"][f"{mine} / {theirs}"] = {
                clock: spread([sides[mine][i][clock] / sides[theirs][i][clock] for i in sides[mine] if i in sides[theirs]])
                for clock in ("images_per_second", "images_per_processor_second")
            }
        throughput.append(entry)
    return {"throughput": throughput, "losses": compared(losses)}


def compared(losses: dict[str, list[float]]) -> dict[str, Any]:
    """Mean and deviation of each side, and the difference of the means in its standard errors."""
    found: dict[str, Any] = {side: {"mean": statistics.mean(v), "all": v} for side, v in losses.items()}
    if len(losses) == 2 and all(len(v) > 1 for v in losses.values()):
        for side, values in losses.items():
            found[side]["deviation"] = statistics.stdev(values)
        error = math.sqrt(sum(statistics.variance(v) / len(v) for v in losses.values()))
        difference = found["unlabeled"]["mean"] - found["lightly"]["mean"]
        found["difference"] = {"mean": difference, "standard_error": error}
    return found


def spread(values: list[float]) -> dict[str, Any]:
    """Median and extremes; nothing of nothing."""
    return {"median": statistics.median(values), "least": min(values), "largest": max(values)} if values else {}


def show(found: dict[str, Any]) -> None:
    """The summary as lines."""
    for entry in found["throughput"]:
        speeds = "; ".join(f"{side} {r['images_per_second']:,.1f} ({r['precision']})" for side, r in entry["sides"].items())
        ratios = "; ".join(
            f"{name} {r['images_per_second']['median']:.2f}" for name, r in entry["ratios"].items() if any(r.values())
        )
        print(f"{entry['case']}, images/s: {speeds}; {ratios}")
    for side, r in found["losses"].items():
        of = r.get("deviation", r.get("standard_error"))
        print(f"loss of the last steps, {side}: {r['mean']:.4f}" + (f" ± {of:.4f}" if of is not None else ""))


def main() -> None:
    """Measures what the file lacks, writes it after each measurement, shows the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write, and to go on from")
    parser.add_argument("--peers", type=Path, default=Path("build/peers"), help="folder that holds lightly")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/cifar10-train.parquet")
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=[s for s in SIDES if s != "unlabeled-tuned"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2, help="of lightly's loader")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--losses", action="store_true", help="compare losses too")
    parser.add_argument("--loss-steps", type=int, default=LOSS_STEPS)
    parser.add_argument("--note", default="", help="what else the machine was doing")
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    about = {k: v for k, v in environment().items() if k != "command"}
    about["hardware"] |= {"threads": given.threads}
    about["settings"] = {name: getattr(given, name) for name in ("batch", "workers", "warm_up", "loss_steps")}
    about["peers"] = {
        d.metadata["Name"]: d.version
        for d in metadata.distributions(path=[str(given.peers)])
        if d.metadata["Name"] == "lightly"
    }
    sides = [side for side in given.sides if about["peers"] or not side.startswith("lightly")]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        longest = max((CASES[case][2] for case in given.cases), default=0)
        steps = max(given.warm_up + given.steps * longest, given.loss_steps * given.losses)
        about["images"] = write_images(folder / "images.parquet", given.data, given.batch * (steps + AHEAD))
        report: dict[str, Any] = {**about, "rows": []}
        if given.out.exists() and not given.again:
            old = json.loads(given.out.read_text(encoding="utf-8"))
            if all(old.get(name) == value for name, value in about.items()):
                report["rows"] = old["rows"]
            else:
                print("hardware, versions, settings or images changed: all is measured anew", file=sys.stderr)
        report |= {"note": given.note, "load_at_start": [round(x, 2) for x in os.getloadavg()]}
        known = [row["job"] for row in report["rows"]]
        for job in (job for job in jobs(given, sides) if job not in known):
            report["rows"].append({"job": job, "result": measure(job, folder, given.peers)})
            print(json.dumps(report["rows"][-1]), file=sys.stderr, flush=True)
            report["summary"] = summary(report["rows"])
            text = json.dumps(report, indent=1) + "\n"
            given.out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(given.out, lambda path, text=text: path.write_text(text, encoding="utf-8"))
    show(summary(report["rows"]))


if __name__ == "__main__":
    main()
