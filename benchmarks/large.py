"""Large sets: decoding beside a PIL loader, seconds to the first step of many files, and memory over epochs.

    python benchmarks/large.py [--out results.json] [--rounds 9] [--files 100000] [--lines 1000000]

Decoding is that of JPEG files made up with the spectrum of photographs, from the path to uint8 (3, S, S), in one thread.
The loader beside it is torchvision's: `default_loader`, `Resize` (bicubic), `CenterCrop`, `PILToTensor`. The two alternate,
so that a busy machine slows both, and medians of the time by the clock and of processor time are given.

Seconds to the first step are those of a process of its own (`benchmarks/first_step.py`). Files are hard links to a few of
32x32; lines repeat their paths.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import simplejpeg
import torch
import torchvision
from PIL import Image
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from unlabeled.data import open_data, store
from unlabeled.data.kinds.pixels import open_image, to_pixels
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.training.batches import Clock, batches

CASES = ((2000, 1500, 256, 8), (500, 375, 256, 32), (500, 375, 128, 32), (96, 96, 96, 64), (32, 32, 32, 128))
"""Width, height, side of what is fetched, files."""
DISTINCT = 16


def photograph(width: int, height: int, seed: int) -> Image.Image:
    """Three correlated planes whose amplitude falls with frequency to the power of 1.2, of 1.4 in a large one."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    waves = np.exp(2j * np.pi * rng.random((3, *frequency.shape))) / frequency ** (1.4 if width > 1000 else 1.2)
    planes = np.fft.irfft2(waves, (height, width))
    planes = 0.8 * planes[:1] + 0.35 * planes
    return Image.fromarray(np.clip(120 + 50 * planes / planes.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0))


def decoding(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Both decoders on the files of each case, alternating."""
    results = []
    for width, height, size, count in CASES:
        paths = [folder / f"{width}-{i}.jpg" for i in range(count)]
        for i, path in enumerate(paths):
            photograph(width, height, i).save(path, quality=90)
        resized = v2.Compose([v2.Resize(size, v2.InterpolationMode.BICUBIC), v2.CenterCrop(size), v2.PILToTensor()])
        batch = torch.empty(count, 3, size, size, dtype=torch.uint8)
        array = batch.numpy()

        def ours(i: int, path: Path, array: Any = array, size: int = size) -> None:
            array[i] = to_pixels(open_image(path), 3, size)

        def pil(i: int, path: Path, batch: Any = batch, resized: Any = resized) -> None:
            batch[i] = resized(default_loader(str(path)))

        seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "pil": []}
        for _ in range(rounds + 1):
            for name, one in (("ours", ours), ("pil", pil)):
                seconds[name].append(_timed(one, paths))
        result: dict[str, Any] = {"width": width, "height": height, "size": size, "files": count}
        result["bytes"] = statistics.mean(p.stat().st_size for p in paths)
        for which, clock in enumerate(("milliseconds", "processor_milliseconds")):
            values = {name: [1e3 * both[which] for both in pairs[1:]] for name, pairs in seconds.items()}
            medians = {name: statistics.median(v) for name, v in values.items()}
            result[clock] = {name: {"median": medians[name], "all": v} for name, v in values.items()}
            result[f"ratio_of_{clock}"] = medians["pil"] / medians["ours"]
        for clock in ("milliseconds", "processor_milliseconds"):
            cells = "; ".join(f"{name} {r['median']:.3f}" for name, r in result[clock].items())
            line = f"{cells}; ratio {result[f'ratio_of_{clock}']:.1f}"
            print(f"{width}x{height} -> {size}, {clock.replace('_', ' ')}: {line}", flush=True)
        results.append(result)
    return results


def _timed(one: Callable[[int, Path], None], paths: list[Path]) -> tuple[float, float]:
    """Seconds, and seconds of processor time, that a file takes."""
    start, used = time.perf_counter(), time.thread_time()
    for i, path in enumerate(paths):
        one(i, path)
    return (time.perf_counter() - start) / len(paths), (time.thread_time() - used) / len(paths)


def many(folder: Path, files: int, lines: int) -> dict[str, Path]:
    """A folder of `files` files in 100 classes, and a list of `lines` paths to them with labels."""
    paths = []
    for i in range(DISTINCT):
        photograph(32, 32, i).save(folder / f"{i}.jpg")
    for i in range(files):
        path = folder / "many" / f"{i % 100:02d}" / f"{i}.jpg"
        if i < 100:
            path.parent.mkdir(parents=True)
        path.hardlink_to(folder / f"{i % DISTINCT}.jpg")
        paths.append(f"{path}\t{i % 100}\n")
    listed = folder / "many.txt"
    with listed.open("w", encoding="utf-8") as file:
        file.writelines(paths[i % files] for i in range(lines))
    return {f"{files} files": folder / "many", f"{lines} lines": listed}


def resident(folder: Path, epochs: int) -> list[float]:
    """MiB of this process after each epoch over 512 photographs that are not kept, fetched as training does."""
    for i in range(512):
        (folder / "flat").mkdir(exist_ok=True)
        (folder / "flat" / f"{i}.jpg").hardlink_to(folder / f"500-{i % 32}.jpg")
    store.MAX_CACHE_BYTES = 0
    source = open_data(folder / "flat", kind=Choice("", {"size": 112}), seed=None).train
    clock, found = Clock(per_epoch=8, epochs=epochs), []
    with batches(compose({"batch_size": 64}), source, np.arange(512), clock, 0) as coming:
        for step, _ in enumerate(coming):
            if (step + 1) % clock.per_epoch == 0:
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                found.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
    return found


def main() -> None:
    """Measures, prints, writes JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--starts", type=int, default=3, help="processes whose median is taken")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    machine = {
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(), "python": platform.python_version(),
        "torch": torch.__version__, "torchvision": torchvision.__version__, "pillow": PIL.__version__,
        "simplejpeg": simplejpeg.__version__,
    }  # fmt: skip
    results: dict[str, Any] = {"machine": machine}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results["decoding"] = decoding(folder, given.rounds)
        results["resident"] = resident(folder, given.epochs)
        print("MiB after each epoch:", ", ".join(f"{r:.0f}" for r in results["resident"]), flush=True)
        results["start"] = {}
        for what, path in many(folder, given.files, given.lines).items():
            runs = []
            for i in range(given.starts):
                own = folder / f"{path.name}-{i}"
                command = [sys.executable, str(Path(__file__).with_name("first_step.py")), str(path), str(own / "run")]
                environment = {**os.environ, "UNLABELED_CACHE": str(own / "cache")}
                said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
                runs.append(json.loads(said.splitlines()[-1]))
            medians = {stage: statistics.median(r[stage] for r in runs) for stage in runs[0]}
            results["start"][what] = {"median": medians, "all": runs}
            print(f"{what}: seconds to " + ", ".join(f"{s} {v:.1f}" for s, v in medians.items()), flush=True)
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
