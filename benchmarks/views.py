"""Images per second that become two SimCLR views, beside a per-image PIL/torchvision pipeline in the same run.

    python benchmarks/views.py [--out results.json] [--case 32] [--rounds 7]

The PIL pipeline is what a data loader's worker does: `Image.fromarray`, RandomResizedCrop, flip, ColorJitter, grey, blur
where ours blurs, to a float tensor. It runs in one thread and in as many threads as ours has (PIL lets go of the
interpreter's lock while it works), and the better median counts. The pipelines alternate, so that a busy machine slows both;
on one that others use too, `--threads 1` compares without threads that wait for each other, and the images per second of
processor time, which are given as well, count only the time that the pipeline was given.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torchvision.transforms import v2

from unlabeled import registry
from unlabeled.batch import DataShape
from unlabeled.registry import Choice

CASES = {32: (32, 512), 96: (256, 64), 224: (256, 64)}  # size of a view: canonical size, batch


def pil_pipeline(size: int) -> Callable[[np.ndarray[Any, Any]], list[torch.Tensor]]:
    """SimCLR's augmentation as it is usually written (appendix A, s = 1), on one uint8 (H, W, 3) array."""
    steps: list[Any] = [
        v2.RandomResizedCrop(size, scale=(0.08, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
        v2.RandomGrayscale(0.2),
    ]
    if size >= 64:
        steps.append(v2.RandomApply([v2.GaussianBlur(2 * (size // 20) + 1, (0.1, 2.0))], p=0.5))
    once = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def twice(array: np.ndarray[Any, Any]) -> list[torch.Tensor]:
        image = Image.fromarray(array)
        return [once(image), once(image)]

    return twice


def rate(work: Callable[[], object], images: int, seconds: float) -> tuple[float, float]:
    """Images per second, and per second of processor time, over at least `seconds`."""
    start, used, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds or not done:
        work()
        done += images
    return done / (time.perf_counter() - start), done / (time.process_time() - used)


def measure(size: int, rounds: int, seconds: float, device: str) -> dict[str, Any]:
    """Both pipelines at one size, alternating."""
    canonical, batch = CASES[size]
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    side = (canonical, canonical)
    pixels = np.stack([np.asarray(Image.fromarray(p).resize(side, Image.Resampling.BICUBIC)) for p in pixels])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(device)
    policy = registry.build("views", Choice("simclr"), DataShape(batch, 3, size))
    generator = torch.Generator().manual_seed(0)
    twice, cores = pil_pipeline(size), torch.get_num_threads()
    few = list(pixels[: 64 if size == 32 else 8])

    def ours() -> None:
        policy(x, generator)
        if device == "cuda":
            torch.cuda.synchronize()

    rates: dict[str, list[tuple[float, float]]] = {"ours": [], "pil": [], "pil, threads": []}
    ours()
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(rounds):
            rates["ours"].append(rate(ours, batch, seconds))
            torch.set_num_threads(1)
            rates["pil"].append(rate(lambda: [twice(image) for image in few], len(few), seconds))
            rates["pil, threads"].append(rate(lambda: list(pool.map(twice, few)), len(few), seconds))
            torch.set_num_threads(cores)
    result: dict[str, Any] = {"view": size, "canonical": canonical, "batch": batch}
    for which, clock in enumerate(("images_per_second", "images_per_processor_second")):
        values = {name: [both[which] for both in pairs] for name, pairs in rates.items()}
        medians = {name: statistics.median(v) for name, v in values.items()}
        result[clock] = {name: {"median": medians[name], "best": max(v), "all": v} for name, v in values.items()}
        result[f"ratio_of_{clock}"] = medians["ours"] / max(medians["pil"], medians["pil, threads"])
    return result


def main() -> None:
    """Measures, prints a table, writes JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int, choices=CASES, action="append", help="size of a view; may be repeated")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one measurement")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    machine = {
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__, "torchvision": torchvision.__version__,
    }  # fmt: skip
    print(f"two SimCLR views of each source image: median (best) of {given.rounds}; threads {given.threads}, {given.device}")
    results = []
    for size in given.case or CASES:
        result = measure(size, given.rounds, given.seconds, given.device)
        results.append(result)
        for clock in ("images_per_second", "images_per_processor_second"):
            cells = [f"{n} {r['median']:,.0f} ({r['best']:,.0f})" for n, r in result[clock].items()]
            line = f"{'; '.join(cells)}; ratio {result[f'ratio_of_{clock}']:.1f}"
            print(f"{result['canonical']} -> {size}, {clock.replace('_', ' ')}: {line}", flush=True)
    if given.out:
        given.out.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
