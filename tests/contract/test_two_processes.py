"""Two processes with half a batch each are one process with the whole: the gather rule of `unlabeled.distributed`."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from unlabeled.testing import Trial
from unlabeled.testing.processes import TWO, WORLD, compare, packed, start

from .processes import child, gathered, normalised
from .suite import TRIALS, each

pytestmark = pytest.mark.slow  # all of them: the pair of processes takes half a minute, whichever test comes first
Found = list[dict[str, Any]]
LEARNING = [trial for trial in TRIALS if TWO.applies(trial)]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """One pair of processes for all methods."""
    folder = tmp_path_factory.mktemp("processes")
    start(child, str(folder), packed(LEARNING))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@each(*LEARNING)
def test_two_processes_are_one(trial: Trial, found: Found) -> None:
    compare(trial, [each["trials"][trial.name] for each in found])


def test_shared_batch_norm_is_batch_norm_of_the_whole(found: Found) -> None:
    whole, halves = normalised(None), [f["norm"] for f in found]
    for k, expected in whole.items():
        if k.endswith((" y", " gradient")):
            torch.testing.assert_close(torch.cat([h[k] for h in halves]), expected, rtol=1e-5, atol=1e-5, msg=k)
        else:
            for h in halves:
                torch.testing.assert_close(h[k], expected, rtol=1e-5, atol=1e-6, msg=k)


def test_gather_is_differentiable_in_every_part(found: Found) -> None:
    whole = gathered(None)
    for f in found:
        assert torch.equal(f["gather"]["rows"], whole["rows"])
    parts = torch.cat([f["gather"]["gradient"] for f in found])
    torch.testing.assert_close(parts, whole["gradient"])
    x = whole["rows"]
    torch.testing.assert_close(whole["gradient"], 0.75 * 4 * x @ (x.T @ x))


def test_any_process_is_heard_by_all(found: Found) -> None:
    assert [f["any"] for f in found] == [[True, False]] * WORLD
