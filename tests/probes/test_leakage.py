"""Labels of the test split decide nothing before `score`: whatever they are, each protocol is fitted alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import ONE, images, ok
from torch import nn

import unlabeled
from unlabeled.registry import get, names

OPTIONS = {
    "finetune": ":epochs=1,100%",
    "few-shot": ":ways=2,shots=1,queries=2",
    "tsne": ":images=20",
    "attention": ":images=2",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and two sets that differ in nothing but the test split's labels."""
    path = tmp_path_factory.mktemp("leak")
    x, y = images(72, classes=6)
    np.savez(path / "train.npz", x=x, y=y)
    ok("pretrain", path / "train.npz", *ONE, "--out", path / "run")
    tested, labels = images(36, classes=6, seed=5)
    np.savez(path / "right.npz", x=tested, y=labels)
    np.savez(path / "wrong.npz", x=tested, y=np.roll(labels, 1))
    return path


def digest(value: Any, seen: Any, depth: int = 0) -> None:
    """Feeds all that a fitted probe holds into a hash."""
    if isinstance(value, torch.Tensor):
        seen.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    elif isinstance(value, np.ndarray):
        seen.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, nn.Module):
        digest(value.state_dict(), seen, depth + 1)
    elif isinstance(value, Mapping):
        for key in value:
            seen.update(str(key).encode())
            digest(value[key], seen, depth + 1)
    elif isinstance(value, list | tuple):
        for one in value:
            digest(one, seen, depth + 1)
    elif isinstance(value, int | float | str | bool | None):
        seen.update(repr(value).encode())
    elif hasattr(value, "__dict__") and depth < 6 and not callable(value):
        digest(vars(value), seen, depth + 1)


@pytest.mark.parametrize("name", [name for name in names("probes") if name != "umap"])
def test_labels_of_the_test_split_reach_nothing_but_score(name: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = get("probes", name).make
    plain, states = kind.score, []

    def score(self: Any, *words: Any, **options: Any) -> Any:
        seen = hashlib.blake2b()
        digest({k: v for k, v in vars(self).items() if "time" not in k}, seen)
        states.append(seen.hexdigest())
        return plain(self, *words, **options)

    monkeypatch.setattr(kind, "score", score)
    found = []
    for labels in ("right", "wrong"):
        states.clear()
        data, out = f"train={made / 'train.npz'},test={made / f'{labels}.npz'}", made / f"{name}-{labels}.json"
        protocol = name + OPTIONS.get(name, "")
        unlabeled.evaluate(made / "run", data=data, protocol=protocol, against="none", draws=1, out=out, accelerator="cpu")
        found.append(list(states))
    assert found[0]
    assert found[0] == found[1]
