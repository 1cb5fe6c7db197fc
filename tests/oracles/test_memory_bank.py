"""The memory bank against loops: what it holds, what it draws, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import unlabeled
from unlabeled.errors import UserError
from unlabeled.parts.memory import Bank


def test_a_write_moves_each_vector_and_keeps_its_length() -> None:
    bank, index, new = Bank(6, 3), torch.tensor([4, 0, 4, 2]), 5 * torch.randn(4, 3)
    expected = bank.vectors.double().numpy().copy()
    for i in (0, 2, 4):
        given = [new[j].double().numpy() for j in range(4) if int(index[j]) == i]
        mean = np.mean([v / np.sqrt((v**2).sum()) for v in given], 0)
        mixed = 0.3 * expected[i] + 0.7 * mean
        expected[i] = mixed / np.sqrt((mixed**2).sum())
    bank.write(index, new, 0.3)
    np.testing.assert_allclose(bank.vectors.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_momentum_0_copies_1_stays_and_what_cancels_stays() -> None:
    bank, index, new = Bank(5, 4), torch.tensor([1, 3]), torch.randn(2, 4)
    before = bank.vectors.clone()
    bank.write(index, new, 1.0)
    torch.testing.assert_close(bank.vectors, before)
    bank.write(index, -before[index], 0.5)
    torch.testing.assert_close(bank.vectors, before)
    bank.write(index, new, 0.0)
    torch.testing.assert_close(bank.vectors[index], F.normalize(new, dim=1))
    assert torch.equal(bank.vectors[[0, 2, 4]], before[[0, 2, 4]])


def test_filled_it_holds_unit_vectors_in_single_precision_without_graph() -> None:
    bank, vectors = Bank(5, 4), torch.randn(5, 4, requires_grad=True)
    torch.testing.assert_close(bank.vectors.norm(dim=1), torch.ones(5))
    bank.fill(vectors.bfloat16())
    torch.testing.assert_close(bank.vectors, F.normalize(vectors.detach().bfloat16().float(), dim=1))
    with torch.autocast("cpu", torch.bfloat16):
        bank.write(torch.arange(5), vectors, 0.5)
    assert bank.vectors.dtype == torch.float32
    assert not bank.vectors.requires_grad
    rough, exact = (F.normalize(v.detach().float(), dim=1) for v in (vectors.bfloat16(), vectors))
    torch.testing.assert_close(bank.vectors, F.normalize(rough + exact, dim=1), rtol=1e-5, atol=1e-5)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(bank: Bank, drawn: torch.Tensor) -> list[int]:
    return [int((bank.vectors == v).all(1).nonzero()) for v in drawn]


def test_a_draw_is_uniform_without_replacement_and_avoids_the_batch() -> None:
    bank, avoiding = Bank(12, 3), torch.tensor([3, 7, 0])
    counts = np.zeros(12)
    for seed in range(600):
        drawn = rows(bank, bank.draw(4, avoiding, generator(seed)))
        assert len(set(drawn)) == 4
        counts[drawn] += 1
    assert not counts[[0, 3, 7]].any()
    others = np.delete(counts, [0, 3, 7])
    assert abs(others - 600 * 4 / 9).max() < 5 * np.sqrt(600 * 4 / 9)


def test_it_draws_all_the_others_where_more_are_asked_for_and_the_generator_decides() -> None:
    bank, avoiding = Bank(9, 3), torch.tensor([1, 2])
    assert sorted(rows(bank, bank.draw(100, avoiding, generator(5)))) == [0, 3, 4, 5, 6, 7, 8]
    first, same = bank.draw(4, avoiding, generator(5)), generator(5)
    assert torch.equal(bank.draw(4, avoiding, same), first)
    assert not torch.equal(bank.draw(4, avoiding, same), first)


def test_what_does_not_fit_is_refused_in_one_sentence() -> None:
    bank = Bank(4, 3)
    with pytest.raises(UserError, match=r"batch of 4 leaves none of the 4 .*--batch-size"):
        bank.draw(2, torch.arange(4), generator(0))
    with pytest.raises(UserError, match=r"sample 4 is not among the 4 .*the data has changed.*--out"):
        bank.write(torch.tensor([1, 4]), torch.randn(2, 3), 0.5)
    with pytest.raises(UserError, match=r"has the shape \(4, 3\).*this one \(5, 3\).*--out"):
        Bank(5, 3).load_state_dict(bank.state_dict())
    torch.nn.Sequential(Bank(4, 3)).load_state_dict(torch.nn.Sequential(bank).state_dict())


def test_a_run_is_not_resumed_with_other_data(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    given = {"encoder.width": 4, "method.dim": 8}

    def pretrain(data: np.ndarray, resume: bool = False) -> None:
        unlabeled.pretrain(
            data, method="nmb", out=tmp_path / "run", encoder="resnet10t", epochs=1, batch_size=8, image_size=8,
            accelerator="cpu", options=given, resume=resume,
        )  # fmt: skip

    pretrain(images)
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    torch.save({**state, "finished": False}, tmp_path / "run" / "checkpoint.pt")
    with pytest.raises(UserError, match=r"the data .* has changed since .*--out") as error:
        pretrain(images[:30], resume=True)
    assert "\n" not in str(error.value)
