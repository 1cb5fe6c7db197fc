"""Two processes with half a batch each are one process with the whole: the gather rule of `unlabeled.distributed`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, multiprocessing

from unlabeled.methods.base import Comparison

from .kit import NAMES, differing, learns, make
from .processes import ENCODERS, WORLD, child, gathered, normalised, run

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("processes")
    multiprocessing.spawn(child, (str(folder),), WORLD)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt") for rank in range(WORLD)]


def close(a: dict[str, Tensor], b: dict[str, Tensor], rtol: float) -> None:
    """Each tensor, relative to its norm."""
    assert a.keys() == b.keys()
    scale = max(float(v.float().norm()) for v in b.values())
    for k in a:
        error, size = float((a[k].float() - b[k].float()).norm()), float(b[k].float().norm())
        assert error <= rtol * max(size, 1e-3 * scale), f"{k}: off by {error:g} of {size:g}"


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", NAMES)
def test_losses_gradients_and_state_are_those_of_one_process(name: str, encoder: str, found: Found) -> None:
    if not learns(make(name)):
        return
    one, two = run(name, encoder, None), [f[f"{name}, {encoder}"] for f in found]
    mean = torch.tensor([t["losses"] for t in two]).mean(0)
    torch.testing.assert_close(mean, torch.tensor(one["losses"]), rtol=1e-3, atol=1e-4)
    assert two[0]["images"] != two[1]["images"], "both saw the same data"
    assert not differing(two[0]["gradients"], two[1]["gradients"])
    assert not differing(two[0]["state"], two[1]["state"])
    close(two[0]["gradients"], one["gradients"], 1e-2)
    close(two[0]["state"], one["state"], 5e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(make(name), Comparison)])
def test_in_pieces_too(name: str, found: Found) -> None:
    one, two = run(name, "layer norm", None), [f[f"{name} in pieces"] for f in found]
    mean = torch.tensor([t["losses"] for t in two]).mean(0)
    torch.testing.assert_close(mean, torch.tensor(one["losses"]), rtol=1e-3, atol=1e-4)
    assert not differing(two[0]["gradients"], two[1]["gradients"])
    assert not differing(two[0]["state"], two[1]["state"])
    close(two[0]["gradients"], one["gradients"], 1e-2)


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
