"""SwAV: swapped prediction with Sinkhorn codes in loops, the queue, frozen prototypes, views of several sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.swav import SwAV
from unlabeled.recipe import compose, read
from unlabeled.registry import Choice

B, K, DIM, QUEUE = 6, 5, 4, 8
FIRST, LATER = Progress(0, 40, 0), Progress(21, 40, 2)


def method(**options: object) -> SwAV:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    given = {"prototypes": K, "dim": DIM, "hidden": 16, "queue": QUEUE, "queue_from": 2, **options}
    return SwAV(encoder, DataShape(100, 3, 16, 3), **given)  # type: ignore[arg-type]


def embedded(made: SwAV, *names: str) -> dict[str, Tensor]:
    return {name: torch.randn(B, made.encoder.dim) for name in names}


def views(*sizes: int) -> Batch:
    return Batch([torch.rand(B, 3, size, size) for size in sizes], torch.arange(B))


def sinkhorn(scores: np.ndarray, epsilon: float) -> np.ndarray:
    """Rows and columns of exp(s/ε) scaled in turn, three times (algorithm of appendix A)."""
    q = np.exp(scores / epsilon)
    q /= q.sum()
    for _ in range(3):
        for k in range(q.shape[1]):
            q[:, k] /= q[:, k].sum() * q.shape[1]
        for b in range(q.shape[0]):
            q[b] /= q[b].sum() * q.shape[0]
    return q * q.shape[0]


@pytest.mark.parametrize("names", [("large 0", "large 1"), ("large 0", "large 1", "small 2"), ("large 0", "small 1")])
@pytest.mark.parametrize("at", [FIRST, LATER], ids=["batch alone", "with queue"])
@pytest.mark.parametrize("queue", [0, QUEUE])
def test_the_objective_in_loops(names: tuple[str, ...], at: Progress, queue: int) -> None:
    made = method(queue=queue, temperature=0.2, epsilon=0.1)
    h = embedded(made, *names)
    with torch.no_grad():
        z = F.normalize(made.projector(torch.cat(list(h.values()))), dim=1).double().numpy()
    c = made.prototypes.weight.detach().double().numpy()
    each = [z[v * B : (v + 1) * B] for v in range(len(names))]
    coded = [v for v, name in enumerate(names) if name.startswith("large")]
    total, pairs = 0.0, 0
    for w in coded:
        rows = each[w]
        if queue and at is LATER:
            rows = np.concatenate([rows, made.queues[w].get_buffer("keys").double().numpy()])
        q = sinkhorn(rows @ c.T, 0.1)[:B]
        for v in range(len(names)):
            if v == w:
                continue
            pairs += 1
            for b in range(B):
                scores = [each[v][b] @ c[k] / 0.2 for k in range(K)]
                log_sum = np.log(sum(np.exp(s) for s in scores))
                total -= sum(q[b, k] * (scores[k] - log_sum) for k in range(K)) / B
    found = made.compare(h, at).total
    assert float(found.detach()) == pytest.approx(total / pairs, rel=1e-4)


def test_the_queue_changes_the_codes_only_from_its_epoch_on() -> None:
    made = method(queue_from=2)
    h = embedded(made, "large 0", "large 1")
    before = [float(made.compare(h, Progress(0, 40, epoch)).total.detach()) for epoch in (1, 2)]
    for queue in made.queues:
        queue.push(torch.randn(QUEUE, DIM))  # type: ignore[operator]
    after = [float(made.compare(h, Progress(0, 40, epoch)).total.detach()) for epoch in (1, 2)]
    assert before[0] == after[0]
    assert before[1] != after[1]


def test_a_queue_takes_no_part_before_it_is_full() -> None:
    """Of 100 images an epoch takes 16 batches of 6, and 250 embeddings are there after three. What a queue starts with is
    noise, of which nothing is left by then."""
    made = method(queue=250, queue_from=0)
    noise = made.queues[0].get_buffer("keys").clone()
    h = embedded(made, "large 0", "large 1")
    alone = method(queue=0)
    for epoch in range(4):
        at = Progress(16 * epoch, 64, epoch)
        same = float(made.compare(h, at).total.detach()) == float(alone.compare(h, at).total.detach())
        assert same == (epoch < 3)
        left = (made.queues[0].get_buffer("keys")[:, None] == noise).all(2).any()
        assert bool(left) == (epoch < 3)
        for step in range(16):
            made.observe(made.compare(embedded(made, "large 0", "large 1"), at), Progress(16 * epoch + step, 64, epoch))
    assert made.full_cost_from(100) == 3
    assert method(queue=250, queue_from=15).full_cost_from(100) == 15
    assert method(queue=0).full_cost_from(100) == 0


def test_the_defaults_are_the_published_codes_for_batches_of_256() -> None:
    recipe = compose({"method": "swav"})
    assert (recipe.batch_size, recipe.warmup_epochs) == (256, 0)
    given = {"queue": 3840, "queue_from": 15, "epsilon": 0.05, "temperature": 0.1, "frozen_epochs": 1, "prototypes": 3000}
    assert given.items() <= recipe.method.options.items()
    assert {"lr": 0.6, "weight_decay": 1e-6, "momentum": 0.9, "trust": 1e-3}.items() <= recipe.optimizer.options.items()
    assert compose({"method": "swav", "optimizer.lr": 0.3}).warmup_epochs == 0
    assert compose({"method": "swav", "optimizer": "sgd"}).warmup_epochs is None
    assert compose(read("cifar10/swav")).warmup_epochs is None, "as it was when the recipe was tried"


def test_each_coded_view_has_its_own_queue() -> None:
    made = method()
    loss = made.compare(embedded(made, "large 0", "large 1", "small 2"), LATER)
    made.observe(loss, LATER)
    held = [queue.get_buffer("keys")[:B] for queue in made.queues]
    for i in range(2):
        torch.testing.assert_close(held[i], loss.memory[f"view {i}"])
    assert not torch.equal(*held)
    assert torch.equal(loss.memory["z"], loss.memory["view 0"])


def test_prototypes_have_length_one_and_are_frozen_in_the_first_epoch() -> None:
    made = method(frozen_epochs=1)
    ones = torch.ones(K)
    torch.testing.assert_close(made.prototypes.weight.norm(dim=1), ones)
    start = made.prototypes.weight.detach().clone()
    step = torch.optim.SGD(made.parameters(), lr=0.5, momentum=0.9, weight_decay=0.1)
    h = embedded(made, "large 0", "large 1")
    moved = []
    for at in (Progress(0, 4, 0), Progress(1, 4, 0), Progress(2, 4, 1)):
        step.zero_grad()
        made.compare(h, at).total.backward()  # type: ignore[no-untyped-call]
        assert made.prototypes.weight.grad is not None, "DistributedDataParallel would wait for it"
        assert bool(made.prototypes.weight.grad.any()) == (at.epoch >= 1)
        step.step()
        made.after_step(at)
        torch.testing.assert_close(made.prototypes.weight.norm(dim=1).detach(), ones)
        moved.append(float((made.prototypes.weight.detach() - start).abs().max()))
    assert max(moved[:2]) < 1e-6 < 1e-3 < moved[2]


@pytest.mark.parametrize(
    ("sizes", "calls", "coded"), [((16, 16), 1, 2), ((16, 16, 8, 8, 8), 2, 2), ((16, 8, 4), 3, 1), ((16, 16, 16), 1, 2)]
)
def test_views_of_one_size_are_one_batch(sizes: tuple[int, ...], calls: int, coded: int) -> None:
    made = method()
    seen: list[int] = []
    made.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    loss: Loss = made(views(*sizes), LATER)
    assert len(seen) == calls
    assert sum(seen) == B * len(sizes)
    assert sum(name.startswith("view") for name in loss.memory) == coded
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert made.prototypes.weight.grad is not None


def test_the_largest_views_get_the_codes_wherever_they_stand() -> None:
    made = method()
    made.eval()  # so that a view's embedding does not depend on who else is in the batch
    of = views(8, 16, 8, 16)
    loss: Loss = made(of, LATER)
    with torch.no_grad():
        made.encoder.front.eval_size = 16
        expected = F.normalize(made.projector(made.encoder(of.views[1])), dim=1)
    torch.testing.assert_close(loss.memory["view 0"], expected, rtol=1e-4, atol=1e-5)


def test_equal_scores_cost_log_k() -> None:
    made = method(queue=0)
    with torch.no_grad():
        made.prototypes.weight.copy_(made.prototypes.weight[:1].expand(K, DIM))
    assert float(made.compare(embedded(made, "large 0", "large 1"), LATER).total.detach()) == pytest.approx(np.log(K))


def test_refusals() -> None:
    with pytest.raises(UserError, match=r"2 prototypes cannot tell 3 classes apart: give --method\.prototypes 3"):
        method(prototypes=2)
    with pytest.raises(UserError, match=r"one view .*--views multi-crop"):
        method()(views(16), LATER)
    made = method(queue=B - 1)
    with pytest.raises(UserError, match=f"batch of {B} does not fit a queue of {B - 1}"):
        made.observe(made.compare(embedded(made, "large 0", "large 1"), LATER), LATER)
    assert isinstance(made.queues, nn.ModuleList)
    assert not method(queue=0).queues
