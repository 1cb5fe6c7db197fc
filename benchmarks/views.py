"""Images per second that become two SimCLR views, beside a per-image PIL/torchvision pipeline in the same run; and,
if they are there, beside what users of lightly and of kornia would write.

    python benchmarks/views.py [--out results/views.json] [--peers build/peers] [--case 32] [--rounds 7]

The PIL pipeline is what a data loader's worker does: `Image.fromarray`, RandomResizedCrop, flip, ColorJitter, grey, blur
where ours blurs, to a float tensor. It runs in one thread and in as many threads as ours has (PIL lets go of the
interpreter's lock while it works), and the better median counts. The pipelines alternate, so that a busy machine slows both;
on one that others use too, `--threads 1` compares without threads that wait for each other, and the images per second of
processor time, which are given as well, count only the time that the pipeline was given.

The peers are packages in a folder of their own (`make bench` fills it), asked for the same distribution of views:

Ours runs in a process of its own that keeps the memory it frees, as the program does (`compute.speed.keep_memory`).

- lightly: its `SimCLRTransform` on PIL images held in memory, in a `DataLoader` with `--workers` processes and the default
  collation; without blur where ours has none, and without the normalisation, which ours leaves to the encoder. Only whole
  turns of all workers count, from the first turn on, so that neither their start nor batches made ahead are measured.
- kornia: its batched augmentations on the same tensors as ours, twice, on as many threads.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from unlabeled import registry
from unlabeled.batch import DataShape
from unlabeled.compute.speed import keep_memory
from unlabeled.registry import Choice

CASES = {32: (32, 512), 96: (256, 64), 224: (256, 64)}  # size of a view: canonical size, batch
PEERS = "lightly", "kornia"
BLUR_FROM = 64

Rate = tuple[float, float]
"""Images per second, and per second of processor time."""


def pil_pipeline(size: int) -> Callable[[np.ndarray[Any, Any]], list[torch.Tensor]]:
    """SimCLR's augmentation as it is usually written (appendix A, s = 1), on one uint8 (H, W, 3) array."""
    steps: list[Any] = [
        v2.RandomResizedCrop(size, scale=(0.08, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8),
        v2.RandomGrayscale(0.2),
    ]
    if size >= BLUR_FROM:
        steps.append(v2.RandomApply([v2.GaussianBlur(2 * (size // 20) + 1, (0.1, 2.0))], p=0.5))
    once = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])

    def twice(array: np.ndarray[Any, Any]) -> list[torch.Tensor]:
        image = Image.fromarray(array)
        return [once(image), once(image)]

    return twice


class Repeated(Dataset[list[Tensor]]):
    """PIL images held in memory, over and over, through a transform."""

    def __init__(self, images: list[Image.Image], transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return 10**9

    def __getitem__(self, index: int) -> list[Tensor]:
        return self.transform(self.images[index % len(self.images)])


def lightly_loader(pixels: np.ndarray[Any, Any], size: int, batch: int, workers: int) -> DataLoader[list[Tensor]]:
    """Batches of two views as lightly's users load them; `pixels` uint8 (n, H, W, 3)."""
    from lightly.transforms import SimCLRTransform  # type: ignore[import-not-found, unused-ignore]

    transform = SimCLRTransform(input_size=size, gaussian_blur=0.5 if size >= BLUR_FROM else 0.0, normalize=None)
    return DataLoader(Repeated([Image.fromarray(p) for p in pixels], transform), batch_size=batch, num_workers=workers)


def kornia_pipeline(size: int) -> Callable[[Tensor], list[Tensor]]:
    """SimCLR's augmentation in kornia's words, on one uint8 (B, 3, H, W) batch."""
    from kornia import augmentation as kornia  # type: ignore[import-not-found, unused-ignore]

    steps = [
        kornia.RandomResizedCrop((size, size), scale=(0.08, 1.0)),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        kornia.RandomGrayscale(p=0.2),
    ]
    if size >= BLUR_FROM:
        width = 2 * (size // 20) + 1
        steps.append(kornia.RandomGaussianBlur((width, width), (0.1, 2.0), p=0.5))
    once = torch.nn.Sequential(*steps)

    @torch.no_grad()
    def twice(x: Tensor) -> list[Tensor]:
        x = x.float() / 255
        return [once(x), once(x)]

    return twice


def processor_seconds() -> float:
    """That this process and its workers, as long as they live, have used."""
    spent = time.process_time()
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def loading_rate(loader: DataLoader[list[Tensor]], seconds: float) -> Rate:
    """Of a loader with workers, over whole turns of them and at least `seconds`."""
    batches, turn = iter(loader), range(loader.num_workers)

    def take() -> int:
        return sum(len(next(batches)[0]) for _ in turn)

    take()
    start, used, done = time.perf_counter(), processor_seconds(), 0
    while time.perf_counter() - start < seconds or not done:
        done += take()
    return done / (time.perf_counter() - start), done / (processor_seconds() - used)


def rate(work: Callable[[], object], images: int, seconds: float) -> Rate:
    """Of work in this process on so many images, over at least `seconds`."""
    start, used, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - start < seconds or not done:
        work()
        done += images
    return done / (time.perf_counter() - start), done / (time.process_time() - used)


def pictures(size: int) -> np.ndarray[Any, Any]:
    """Of one case: uint8 (batch, H, W, 3)."""
    canonical, batch = CASES[size]
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
    side = (canonical, canonical)
    return np.stack([np.asarray(Image.fromarray(p).resize(side, Image.Resampling.BICUBIC)) for p in pixels])


def batched(pipeline: Callable[[Tensor], object], x: Tensor, seconds: float) -> Callable[[], Rate]:
    """Measures a pipeline on one batch, after a first time."""

    def work() -> None:
        pipeline(x)
        if x.device.type == "cuda":
            torch.cuda.synchronize()

    work()
    return lambda: rate(work, len(x), seconds)


def serve_ours(asked: Connection, size: int, device: str, threads: int, seconds: float) -> None:
    """Measures ours as often as it is asked to, in this process."""
    torch.set_num_threads(threads)
    keep_memory()
    x = torch.from_numpy(pictures(size)).permute(0, 3, 1, 2).contiguous().to(device)
    policy = registry.build("views", Choice("simclr"), DataShape(len(x), 3, size))
    generator = torch.Generator().manual_seed(0)
    measured = batched(lambda x: policy({"image": x}, generator), x, seconds)
    while asked.recv():
        asked.send(measured())


def measure(size: int, given: argparse.Namespace) -> dict[str, Any]:
    """All pipelines at one size, alternating."""
    canonical, batch = CASES[size]
    pixels = pictures(size)
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(given.device)
    twice, cores = pil_pipeline(size), torch.get_num_threads()
    few = list(pixels[: 64 if size == 32 else 8])
    spawning = multiprocessing.get_context("spawn")
    ask, answer = spawning.Pipe()
    server = spawning.Process(target=serve_ours, args=(answer, size, given.device, cores, given.seconds), daemon=True)
    server.start()

    def ours() -> Rate:
        ask.send(True)
        measured: Rate = ask.recv()
        return measured

    def single(work: Callable[[], object]) -> Callable[[], Rate]:
        def measured() -> Rate:
            torch.set_num_threads(1)
            try:
                return rate(work, len(few), given.seconds)
            finally:
                torch.set_num_threads(cores)

        return measured

    with ThreadPoolExecutor(cores) as pool:
        pipelines = {
            "ours": ours,
            "pil": single(lambda: [twice(image) for image in few]),
            "pil, threads": single(lambda: list(pool.map(twice, few))),
        }
        if given.peers:
            loader, augment = lightly_loader(pixels, size, batch, given.workers), kornia_pipeline(size)
            pipelines["lightly"] = lambda: loading_rate(loader, given.seconds)
            pipelines["kornia"] = batched(augment, x, given.seconds)
        rates: dict[str, list[Rate]] = {name: [] for name in pipelines}
        for _ in range(given.rounds):
            for name, pipeline in pipelines.items():
                rates[name].append(pipeline())
    ask.send(False)
    server.join()
    result: dict[str, Any] = {"view": size, "canonical": canonical, "batch": batch}
    for which, clock in enumerate(("images_per_second", "images_per_processor_second")):
        values = {name: [both[which] for both in pairs] for name, pairs in rates.items()}
        medians = {name: statistics.median(v) for name, v in values.items()}
        result[clock] = {name: {"median": medians[name], "best": max(v), "all": v} for name, v in values.items()}
        result[f"ratio_of_{clock}"] = medians["ours"] / max(medians["pil"], medians["pil, threads"])
        if given.peers:
            result[f"ratio_of_{clock}_to_peers"] = {name: medians["ours"] / medians[name] for name in PEERS}
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
    parser.add_argument("--peers", type=Path, help="folder that holds lightly and kornia")
    parser.add_argument("--workers", type=int, default=2, help="processes of lightly's loader")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    machine: dict[str, Any] = {
        "processor": platform.processor() or platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if given.device == "cuda" else "cpu",
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__, "torchvision": torchvision.__version__,
    }  # fmt: skip
    if given.peers:
        sys.path.append(str(given.peers))
        machine |= {"workers": given.workers, "peers": {name: metadata.version(name) for name in PEERS}}
    print(f"two SimCLR views of each source image: median (best) of {given.rounds}; threads {given.threads}, {given.device}")
    results = []
    for size in given.case or CASES:
        result = measure(size, given)
        results.append(result)
        for clock in ("images_per_second", "images_per_processor_second"):
            cells = [f"{n} {r['median']:,.0f} ({r['best']:,.0f})" for n, r in result[clock].items()]
            line = f"{'; '.join(cells)}; ratio to pil {result[f'ratio_of_{clock}']:.1f}"
            line += "".join(f", to {n} {r:.1f}" for n, r in result.get(f"ratio_of_{clock}_to_peers", {}).items())
            print(f"{result['canonical']} -> {size}, {clock.replace('_', ' ')}: {line}", flush=True)
    if given.out:
        given.out.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
