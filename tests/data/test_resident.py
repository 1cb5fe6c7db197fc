"""Images on the device are those of the source, fetched once each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import file

from unlabeled.data import Source, open_data
from unlabeled.data.resident import Resident, fits
from unlabeled.registry import Choice

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
def test_images_are_those_of_the_source_and_are_fetched_once(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_data(file(tmp_path / "x.npz"), kind=Choice("", {"size": 8})).train
    chosen = np.arange(0, 40, 2)
    resident = Resident(source, chosen, torch.device(device))
    asked: list[int] = []
    fetch = source.fetch
    monkeypatch.setattr(Source, "fetch", lambda self, index: asked.extend(index) or fetch(index))
    for index in ([3, 1, 3], [1, 19], [0, 3, 19]):
        found = resident.fetch(np.array(index))
        assert torch.equal(found["image"].cpu(), fetch(chosen[index])["image"])
        assert found["image"].device.type == device
    assert sorted(asked) == [0, 2, 6, 38]


def test_nothing_is_kept_twice_on_a_processor(tmp_path: Path) -> None:
    source = open_data(file(tmp_path / "x.npz"), kind=Choice("", {"size": 8})).train
    assert not fits(source, 1, torch.device("cpu"))
