"""Features that are kept: for the next call only where nothing can have changed unnoticed, else within one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import images
from torch import Tensor
from torch.utils.data import Dataset

from unlabeled.data import open_data
from unlabeled.data.formats import arrays
from unlabeled.encoders import build_encoder
from unlabeled.probes import subject as module
from unlabeled.probes.extract import features
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice


class Listed(Dataset[Any]):
    """Images and labels, as torchvision's data sets give them."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.targets = x, y.tolist()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> Any:
        return self.x[i], self.targets[i]


def judged(cache: Path) -> Subject:
    torch.manual_seed(0)
    middle = torch.full((3,), 0.5)
    return Subject("run", build_encoder(Choice("resnet10t", {"width": 4}), 3, 8, middle, middle).eval(), cache=cache)


def both(subject: Subject, data: Any) -> tuple[Tensor, Tensor]:
    """Features as the subject gives them, and those of the images."""
    source = open_data(data, kind=Choice("", {"size": 8}), seed=None).train
    return subject.features(source), features(subject.encoder, source, device="cpu")


@pytest.mark.parametrize("kind", ["data set", "large array"])
def test_an_image_that_was_not_looked_at_may_have_changed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "large array":
        monkeypatch.setattr(arrays, "_HASHED_BYTES", 10 * 8 * 8 * 3)
    x, y = images(60)
    other = x.copy()
    other[[1, 2, 5]] = 255 - other[[1, 2, 5]]
    prints = set()
    for pixels in (x, other):
        data = Listed(pixels, y) if kind == "data set" else (pixels, y)
        prints.add(open_data(data, kind=Choice("", {"size": 8}), seed=None).train.fingerprint)
        given, right = both(judged(tmp_path), data)
        torch.testing.assert_close(given, right)
    assert len(prints) == 1, "else nothing was tested"


def test_within_one_subject_they_are_extracted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    real = module.features
    monkeypatch.setattr(module, "features", lambda *a, **k: called.append(1) or real(*a, **k))
    source = open_data(Listed(*images(60)), kind=Choice("", {"size": 8}), seed=None).train
    subject = judged(tmp_path)
    first, second = subject.features(source), subject.features(source, np.arange(5))
    assert (len(called), list(tmp_path.iterdir())) == (1, [])
    torch.testing.assert_close(first[:5], second)


def test_a_small_array_is_kept_for_the_next_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    real = module.features
    monkeypatch.setattr(module, "features", lambda *a, **k: called.append(1) or real(*a, **k))
    for _ in range(2):
        judged(tmp_path).features(open_data(images(60), kind=Choice("", {"size": 8}), seed=None).train)
    assert len(called) == 1
