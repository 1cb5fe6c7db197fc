"""Peak memory of a batch of 4,096 in pieces of 256, beside that of 256 and of 4,096 at once.

    python benchmarks/accumulate.py [--out results/accumulate.json] [--size 24]

Each row trains two steps of SimCLR on noise, in a process of its own, which records its peak resident memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from unlabeled.run import environment

CASES = {"256": (256, 1), "4,096 in 16 pieces": (4096, 16), "4,096 at once": (4096, 1)}


def peak(batch: int, pieces: int, size: int, folder: Path) -> dict[str, float]:
    """Of a run of two steps, in MiB: at its end, and before its first step (libraries, data, network)."""
    data, found = folder / "noise.npz", {}
    if not data.exists():
        x = np.random.default_rng(0).integers(0, 256, (8192, size, size, 3), dtype=np.uint8)
        np.savez(data, train_x=x, test_x=x[:16])
    for epochs in (0, 1):
        out = folder / f"{batch}-{pieces}-{epochs}"
        words = [
            "pretrain",
            data,
            "--encoder.width",
            16,
            "--optimizer",
            "sgd",
            "--batch-size",
            batch,
            "--accumulate",
            pieces,
        ]
        words += ["--epochs", epochs, "--image-size", size, "--monitor-every", 0, "--out", out]
        if batch < 4096:
            words[1:2] = [_few(data, folder, 2 * batch)]
        subprocess.run([sys.executable, "-m", "unlabeled", *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        found[epochs] = next(line["peak_memory_mib"] for line in reversed(lines) if "peak_memory_mib" in line)
    return {"peak_mib": found[1], "without_training_mib": found[0], "training_mib": found[1] - found[0]}


def _few(data: Path, folder: Path, n: int) -> Path:
    path = folder / f"{n}.npz"
    with np.load(data) as arrays:
        np.savez(path, train_x=arrays["train_x"][:n], test_x=arrays["test_x"])
    return path


def main() -> None:
    """Measures all cases and writes them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results/accumulate.json"))
    parser.add_argument("--size", type=int, default=24, help="side of the images in pixels")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = {name: peak(*case, given.size, Path(folder)) for name, case in CASES.items()}
    for name, row in rows.items():
        print(f"{name:>20}: {row['training_mib']:8,.0f} MiB above the {row['without_training_mib']:,.0f} without training")
    about = {"encoder": "resnet18, width 16", "size": given.size, **environment()}
    given.out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
