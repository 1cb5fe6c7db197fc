"""A batch embedded in pieces gives the gradient of the whole, in the memory of a piece."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from unlabeled.batch import Batch, Progress
from unlabeled.errors import UserError
from unlabeled.methods.base import Comparison, Method
from unlabeled.registry import Choice
from unlabeled.training import accumulate

from .kit import NAMES, RESNET, TOTAL, VIT, batch, differing, forward, make, snapshot
from .test_the_loop import bits, interrupt, pretrain

AT = Progress(5, TOTAL, 1)
SEEDS = [11, 12, 13, 14, 1000 + AT.step]
"""Of the pieces, and of the comparison: what it draws is what the whole batch draws in `forward`."""
PIECES = len(SEEDS) - 1
COMPARISONS = [name for name in NAMES if isinstance(make(name), Comparison)]
ADDING = [name for name in NAMES if make(name).adds_up]
"""Those whose pieces simply add."""
DROPPING = Choice(VIT.name, {**VIT.options, "proj_drop_rate": 0.3})

comparisons = pytest.mark.parametrize("name", COMPARISONS)


def gradients(method: Method) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return found


def in_pieces(method: Comparison, drawn: Batch, seeds: Sequence[int] = SEEDS) -> tuple[float, dict[str, Tensor]]:
    method.train()
    loss = accumulate.backward(method, drawn, AT, seeds)
    return float(loss.total.detach()), gradients(method)


def plainly_in_pieces(method: Comparison, drawn: Batch) -> tuple[float, dict[str, Tensor]]:
    """The same with one graph that holds all pieces: what gradient caching must give, batch norm and drop-out included."""
    method.train()
    parts = []
    for seed, part in zip(SEEDS, accumulate._split(drawn, PIECES), strict=False):
        torch.manual_seed(seed)
        parts.append({**method.embed(part), **method.constants(part)})
    torch.manual_seed(SEEDS[-1])
    loss = method.compare({name: torch.cat([p[name] for p in parts]) for name in parts[0]}, AT)
    loss.total.backward()  # type: ignore[no-untyped-call]
    return float(loss.total.detach()), gradients(method)


def close(a: dict[str, Tensor], b: dict[str, Tensor], rtol: float) -> None:
    """Each gradient relative to its norm; one that is nothing but rounding, relative to the largest."""
    assert a.keys() == b.keys()
    scale = max(float(v.norm()) for v in b.values())
    assert scale > 0
    for n in a:
        assert float((a[n] - b[n]).norm()) <= rtol * max(float(b[n].norm()), 1e-2 * scale), n


def test_the_contrastive_methods_are_among_them() -> None:
    assert {"simclr", "moco", "moco-v1", "byol", "siamese", "triplet"} <= set(COMPARISONS)


@comparisons
@pytest.mark.parametrize("size", [32, 30])
def test_without_batch_norm_the_gradient_is_that_of_the_whole_batch(name: str, size: int) -> None:
    method = make(name, VIT)
    assert isinstance(method, Comparison)
    drawn = batch(name, method, 0, size)
    whole = forward(method, drawn, AT)
    whole.total.backward()  # type: ignore[no-untyped-call]
    expected = gradients(method)
    total, found = in_pieces(method, drawn)
    assert total == pytest.approx(float(whole.total.detach()), rel=1e-5)
    close(found, expected, 1e-5)


@comparisons
@pytest.mark.parametrize("encoder", [RESNET, DROPPING], ids=["batch norm", "drop-out"])
def test_both_passes_see_the_same_network_and_statistics_are_written_once(name: str, encoder: Choice) -> None:
    plain, method = make(name, encoder), make(name, encoder)
    assert isinstance(plain, Comparison)
    assert isinstance(method, Comparison)
    drawn = batch(name, method, 0, 32)
    total, expected = plainly_in_pieces(plain, drawn)
    again, found = in_pieces(method, drawn)
    assert again == pytest.approx(total, rel=1e-5)
    close(found, expected, 1e-4)
    assert not differing(snapshot(plain), snapshot(method))
    assert differing(snapshot(make(name, encoder)), snapshot(method)) or encoder is DROPPING


@comparisons
def test_in_bfloat16_the_gradient_is_as_near_as_that_of_the_whole_batch(name: str) -> None:
    method, half = make(name, VIT), torch.autocast("cpu", torch.bfloat16)
    assert isinstance(method, Comparison)
    drawn = batch(name, method, 0, 32)
    _, expected = in_pieces(method, drawn)
    method.train()
    accumulate.backward(method, drawn, AT, SEEDS, lambda: torch.autocast("cpu", torch.bfloat16))
    in_parts = nearness(gradients(method), expected)
    with half:
        whole = forward(method, drawn, AT)
    whole.total.backward()  # type: ignore[no-untyped-call]
    assert in_parts > min(0.95, nearness(gradients(method), expected) - 0.02)


def nearness(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """The cosine of two gradients."""
    assert a.keys() == b.keys()
    left, right = (torch.cat([v.flatten() for v in g.values()]) for g in (a, b))
    return float(torch.nn.functional.cosine_similarity(left, right, dim=0))


@pytest.mark.parametrize("name", [name for name in ADDING if not make(name).labelled_beside(16)])
@pytest.mark.parametrize("size", [32, 30])
def test_the_pieces_of_a_mean_over_samples_add_up(name: str, size: int) -> None:
    method = make(name, VIT)
    drawn = batch(name, method, 0, size)
    whole = forward(method, drawn, AT)
    whole.total.backward()  # type: ignore[no-untyped-call]
    expected = gradients(method)
    method.train()
    loss = accumulate.backward(method, drawn, AT, SEEDS)
    torch.testing.assert_close(loss.total, whole.total.detach(), rtol=1e-5, atol=0)
    assert loss.terms.keys() == whole.terms.keys()
    for term, value in whole.terms.items():
        torch.testing.assert_close(loss.terms[term], value, rtol=1e-5, atol=1e-6)
    close(gradients(method), expected, 1e-5)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COMPARISONS + ADDING])
def test_other_methods_refuse(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--accumulate 2 is for methods that compare embeddings"):
        pretrain(tmp_path / "run", name, accumulate=2)
    assert not (tmp_path / "run").exists()


def test_pieces_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --accumulate 8 or less"):
        pretrain(tmp_path / "run", "simclr", accumulate=9)
    with pytest.raises(UserError, match="accumulate is 0, and must be at least 1"):
        pretrain(tmp_path / "run", "simclr", accumulate=0)


@pytest.mark.parametrize("name", ["moco", "triplet"])
def test_a_run_in_pieces_that_was_stopped_and_resumed_gives_the_same_bits(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pretrain(tmp_path / "whole", name, accumulate=4)
    said = " ".join(capsys.readouterr().out.split())
    assert "each batch in 4 pieces: the gradient is that of the whole batch; but the statistics of the encoder's" in said
    with monkeypatch.context() as patch:
        interrupt(5, patch)
        stopped = pretrain(tmp_path / "stopped", name, accumulate=4)
    assert not stopped.finished
    with pytest.raises(UserError, match="began with accumulate = 4, and cannot go on with 2"):
        pretrain(tmp_path / "stopped", name, accumulate=2, resume=True)
    resumed = pretrain(tmp_path / "stopped", name, accumulate=4, resume=True)
    assert resumed.finished
    assert bits(resumed.read_checkpoint()) == bits(whole.read_checkpoint())
    at_once = pretrain(tmp_path / "at once", name)
    assert bits(at_once.read_checkpoint()) != bits(whole.read_checkpoint())


PROGRAM = """
import sys
import torch

from unlabeled import accumulate
from unlabeled.batch import Batch, Progress
torch.set_num_threads(1)
from tests.contract.kit import make
from unlabeled.registry import Choice
method = make("simclr", Choice("resnet10t", {"width": 16})).train()
views = [torch.rand(1024, 3, 16, 16) for _ in range(2)]


def memory(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))


batch, at = Batch(views, torch.arange(1024)), Progress(0, 1, 0)
before = memory("VmRSS")
if sys.argv[1] == "1":
    method(batch, at).total.backward()
else:
    accumulate.backward(method, batch, at, range(int(sys.argv[1]) + 1))
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_the_memory_is_that_of_a_piece() -> None:
    def peak(pieces: int) -> int:
        root = Path(__file__).parents[2]
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(pieces)], cwd=root, capture_output=True, text=True, check=True
        )
        return int(done.stdout) // 1024

    whole, pieces = peak(1), peak(8)
    assert pieces < whole / 3, f"{pieces} MiB in 8 pieces, {whole} MiB at once, above what is there before the step"
