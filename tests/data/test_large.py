"""Sets that are not kept: decoded anew every epoch, one step ahead, in memory that does not grow."""

from __future__ import annotations

import io
import statistics
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unlabeled.data import Source, open_data, store
from unlabeled.data.kinds.pixels import open_image, to_pixels
from unlabeled.recipe import compose
from unlabeled.training.batches import Clock, batches

from .pictures import encoded, noise, write

RESIDENT = Path("/proc/self/statm")


@pytest.fixture
def uncached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """96 photographs of 200x160 in JPEG files, fetched as 3x160x160."""
    monkeypatch.setattr(store, "MAX_CACHE_BYTES", 10)
    monkeypatch.setattr("unlabeled.data.opening._CHECK_SECONDS", (0.0, 0.0))
    for i in range(96):
        write(tmp_path / "d" / f"{i}.jpg", noise(i, (160, 200)))
    return open_data(tmp_path / "d", seed=None).train


@pytest.mark.skipif(not RESIDENT.exists(), reason="asks Linux for the resident memory")
def test_memory_does_not_grow_over_epochs(uncached: Source) -> None:
    """Four epochs of images that stayed would be 28 MiB, of files 9 MiB."""
    clock, resident = Clock(per_epoch=6, epochs=6), []
    with batches(compose({"batch_size": 16}), uncached, np.arange(96), clock, 0) as coming:
        for step, (drawn, _) in enumerate(coming):
            assert drawn.fields["image"].shape == (16, 3, 160, 160)
            if (step + 1) % clock.per_epoch == 0:
                resident.append(int(RESIDENT.read_text().split()[1]) * 4096 / 2**20)
    assert len(resident) == 6
    assert resident[5] - resident[1] < 5, resident


def test_the_next_batch_is_fetched_while_a_step_is_under_way(uncached: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched, begun, fetch = [], threading.Event(), uncached.fetch

    def noting(indices: np.ndarray) -> torch.Tensor:
        fetched.append(len(indices))
        if len(fetched) == 2:
            begun.set()
        return fetch(indices)

    monkeypatch.setattr(uncached, "fetch", noting)
    with batches(compose({"batch_size": 16}), uncached, np.arange(96), Clock(6, 1), 0) as coming:
        next(coming)
        assert begun.wait(30)  # nobody has asked for the second
        time.sleep(0.05)
        assert len(fetched) == 2  # nor is a third fetched before it is taken
        assert len(list(coming)) == 5


@pytest.mark.parametrize(("height", "width", "size"), [(750, 1000, 128), (375, 500, 256), (32, 32, 32)])
def test_a_jpeg_becomes_pixels_faster_than_through_pillow(height: int, width: int, size: int) -> None:
    """Three times as fast or more on a machine of its own (`benchmarks/large.py`); here by processor time, with a margin."""
    data = encoded(np.asarray(Image.fromarray(noise(0, (8, 8))).resize((width, height))), "JPEG")

    def pillow() -> np.ndarray:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        scale = size / min(image.size)
        image = image.resize((round(scale * width), round(scale * height)), Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        return np.asarray(image.crop((left, top, left + size, top + size)))

    taken: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(9):
        for ours in taken:
            start = time.thread_time()
            for _ in range(5):
                to_pixels(open_image(data), 3, size) if ours else pillow()
            taken[ours].append(time.thread_time() - start)
    assert statistics.median(taken[False]) > 1.5 * statistics.median(taken[True])
