"""A run whose batches come in pieces, from outside. That pieces give the gradient of the whole is a rule of the contract."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from unlabeled import registry
from unlabeled.batch import Batch, Progress
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.testing import Trial
from unlabeled.testing.trial import AT
from unlabeled.training import accumulate

from .suite import BY_NAME, TRIALS, each
from .test_the_loop import bits, interrupt, pretrain


@each(*(trial for trial in TRIALS if not trial.in_pieces and trial.kind_name == "image"))
def test_other_methods_refuse(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--accumulate 2 is for methods that compare embeddings"):
        pretrain(tmp_path / "run", trial, accumulate=2)
    assert not (tmp_path / "run").exists()


def test_pieces_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --accumulate 8 or less"):
        pretrain(tmp_path / "run", BY_NAME["simclr"], accumulate=9)
    with pytest.raises(UserError, match="accumulate is 0, and must be at least 1"):
        pretrain(tmp_path / "run", BY_NAME["simclr"], accumulate=0)


@each(BY_NAME["moco"])
def test_a_run_in_pieces_that_was_stopped_and_resumed_gives_the_same_bits(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pretrain(tmp_path / "whole", trial, accumulate=4)
    said = " ".join(capsys.readouterr().out.split())
    assert "each batch in 4 pieces: the gradient is that of the whole batch; but the statistics of the encoder's" in said
    with monkeypatch.context() as patch:
        interrupt(5, patch)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tmp_path / "stopped", trial, accumulate=4)
    assert not Run(tmp_path / "stopped").finished
    with pytest.raises(UserError, match="began with accumulate = 4, and cannot go on with 2"):
        pretrain(tmp_path / "stopped", trial, accumulate=2, resume=True)
    resumed = pretrain(tmp_path / "stopped", trial, accumulate=4, resume=True)
    assert resumed.finished
    assert bits(resumed.read_checkpoint()) == bits(whole.read_checkpoint())
    at_once = pretrain(tmp_path / "at once", trial)
    assert bits(at_once.read_checkpoint()) != bits(whole.read_checkpoint())


@each(*(trial for trial in TRIALS if getattr(trial.entry.make, "groups_batch", False)))
def test_keys_are_normalised_in_the_groups_of_the_whole_batch(trial: Trial) -> None:
    """Keys depend on what else is in their group: those of 32 images in 4 pieces are those of the 32 at once, and so are the
    statistics that the key encoder's norms keep. In groups drawn from pieces of 8 they would be in groups of 2."""
    network = Choice("resnet10t", {"width": 8})  # with norms
    at_once, in_pieces = (trial.make(network=network, splits=4).train() for _ in range(2))
    drawn, step_seed = trial.batch(0, 32), 9
    torch.manual_seed(step_seed)
    whole = at_once(drawn, AT)
    parted = accumulate.backward(in_pieces, drawn, AT, [1, 2, 3, 4, step_seed])
    torch.testing.assert_close(parted.memory["keys"], whole.memory["keys"], rtol=1e-4, atol=1e-5)
    torch.manual_seed(step_seed + 1)
    others = trial.make(network=network, splits=4).train()(drawn, AT).memory["keys"]
    assert float((others - whole.memory["keys"]).abs().max()) > 1e-3, "other groups give other keys"
    statistics = [m.key_encoder.state_dict() for m in (in_pieces, at_once)]
    for name, value in statistics[0].items():
        torch.testing.assert_close(value, statistics[1][name], rtol=1e-4, atol=1e-5, msg=name)


@each(BY_NAME["moco"])
def test_a_step_in_pieces_draws_the_groups_of_the_step_at_once(trial: Trial) -> None:
    seen = []
    for pieces in (1, 4):
        method = trial.make(network=Choice("resnet10t", {"width": 8}), splits=4)
        step = trial.stepper(method, seed=3, pieces=pieces)
        seen.append(trial.take(step, 5, AT, 32).memory["keys"])
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-4, atol=1e-5)


class Kept:
    """Counts the bytes that autograd keeps for the way back, each storage once, and the most that it kept at a time. What a
    parameter or a view has stored is there anyway."""

    def __init__(self, there: Iterable[torch.Tensor]) -> None:
        self.there = {tensor.untyped_storage().data_ptr() for tensor in there}
        self.holders: Counter[int] = Counter()
        self.now = self.most = 0

    def pack(self, tensor: torch.Tensor) -> Holder:
        storage = tensor.untyped_storage()
        holder = Holder(tensor)
        if storage.data_ptr() not in self.there:
            self.change(storage.data_ptr(), storage.nbytes(), 1)
            weakref.finalize(holder, self.change, storage.data_ptr(), storage.nbytes(), -1)
        return holder

    def change(self, place: int, size: int, by: int) -> None:
        if self.holders[place] == 0:
            self.now += size
        self.holders[place] += by
        if self.holders[place] == 0:
            self.now -= size
        self.most = max(self.most, self.now)


@dataclass(eq=False, weakref_slot=True, slots=True)
class Holder:
    tensor: torch.Tensor


def most_kept(backward: Callable[[Method, Batch, Progress], object]) -> int:
    method = Trial(registry.get("methods", "simclr"), Choice("resnet10t", {"width": 16})).make().train()
    views = [torch.rand(160, 3, 16, 16) for _ in range(2)]
    kept = Kept([*method.parameters(), *method.buffers(), *views])
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda holder: holder.tensor):
        backward(method, Batch(views, torch.arange(160)), Progress(0, 1, 0))
    return kept.most


def test_the_memory_is_that_of_a_piece() -> None:
    """Counted, not read from the system, where other programs' memory and the allocator's habits come in."""
    pieces = most_kept(lambda method, batch, at: accumulate.backward(method, batch, at, range(9)))
    whole = most_kept(lambda method, batch, at: method(batch, at).total.backward())
    assert whole > 30 << 20, "the batch is too small to tell"
    assert pieces < whole / 6, f"{pieces >> 20} MiB in 8 pieces, {whole >> 20} MiB at once"
