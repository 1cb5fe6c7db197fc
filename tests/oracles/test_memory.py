"""EMA and queue against closed forms and loops."""

from __future__ import annotations

import copy
from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from unlabeled import registry
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.parts.memory import Ema, Queue, in_passes
from unlabeled.registry import Choice
from unlabeled.testing import Trial, trials


def test_ema_after_n_steps_is_the_geometric_sum() -> None:
    online = nn.Linear(2, 2).double()
    start = online.weight.detach().numpy().copy()
    follower, m = Ema(online), 0.9
    path = [np.random.default_rng(s).normal(size=(2, 2)) for s in range(6)]
    for weight in path:
        with torch.no_grad():
            online.weight.copy_(torch.from_numpy(weight))
        follower.update(online, m)
    n = len(path)
    expected = m**n * start + sum((1 - m) * m ** (n - 1 - i) * w for i, w in enumerate(path))
    np.testing.assert_allclose(follower.module.weight.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(("momentum", "moves"), [(1.0, 0.0), (0.0, 1.0), (0.75, 0.25)])
def test_ema_moves_statistics_like_weights_and_copies_counts(momentum: float, moves: float) -> None:
    online = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    follower = Ema(online)
    before = {k: v.clone() for k, v in follower.module.state_dict().items()}
    online(torch.randn(8, 3) + 5)
    with torch.no_grad():
        online[0].weight.add_(1)
    follower.update(online, momentum)
    after, goal = follower.module.state_dict(), online.state_dict()
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        assert not torch.equal(goal[name], before[name])
        torch.testing.assert_close(after[name], before[name] + moves * (goal[name] - before[name]))
    assert int(after["1.num_batches_tracked"]) == 1


def test_ema_is_a_frozen_copy_without_graph() -> None:
    online = nn.Linear(3, 3)
    follower = Ema(online)
    assert not any(p.requires_grad for p in follower.parameters())
    assert not follower(torch.randn(2, 3, requires_grad=True)).requires_grad
    with torch.no_grad():
        online.weight.zero_()
    assert follower.module.weight.any()
    assert online.weight.requires_grad


@pytest.mark.parametrize("groups", [1, 3, 8, 50])
def test_in_groups_is_one_forward_pass_of_each_shuffled_group(groups: int) -> None:
    torch.manual_seed(0)
    network = [nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), BatchNormAct2d(4), nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3)]
    follower = Ema(nn.Sequential(*network).double())
    alone = copy.deepcopy(follower)
    x = torch.randn(19, 2, 4, 4).double() * torch.arange(1, 20).view(-1, 1, 1, 1)
    torch.manual_seed(1)
    found = follower.in_groups(x, groups)
    torch.manual_seed(1)
    order, expected = torch.randperm(19), torch.empty(19, 3).double()
    for group in np.array_split(order.numpy(), min(groups, 19 // 2)):  # two are the least that have a variance
        expected[group] = alone(x[group])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(follower.state_dict(), alone.state_dict())
    for passes in (2, 3, 40):  # the same, with no more than the groups of a pass at a time
        seen: list[int] = []
        hook = follower.module.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(len(output)))
        torch.manual_seed(1)
        with in_passes(follower, passes):
            torch.testing.assert_close(follower.in_groups(x, groups), expected)
        hook.remove()
        made = min(groups, 19 // 2)
        assert sum(seen) == 19
        assert len(seen) == min(passes, made)
        assert max(seen) <= -(-19 // made) * -(-made // passes)
    assert follower.passes == 1
    assert not any("forward" in vars(part) for part in follower.modules())
    if groups > 1:
        assert (found - follower(x)).abs().max() > 1e-3


@settings(max_examples=30, deadline=None)
@given(size=st.integers(1, 7), pushes=st.lists(st.integers(0, 7), max_size=8))
def test_queue_holds_the_last_keys_in_order(size: int, pushes: list[int]) -> None:
    queue = Queue(size, 3)
    expected = deque((row.clone() for row in queue.keys), maxlen=size)
    for turn, n in enumerate(pushes):
        keys = torch.randn(min(n, size), 3, generator=torch.Generator().manual_seed(turn))
        queue.push(keys)
        expected.extend(F.normalize(keys, dim=1))
    oldest_first = queue.keys.roll(-int(queue.end), 0)
    torch.testing.assert_close(oldest_first, torch.stack(list(expected)))
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(size))


def test_queue_refuses_more_than_it_holds() -> None:
    queue = Queue(4, 2)
    with pytest.raises(UserError, match=r"batch of 5 does not fit a queue of 4: .*less --batch-size"):
        queue.push(torch.randn(5, 2))


def test_queue_keeps_no_graph_and_takes_half_precision() -> None:
    queue = Queue(4, 2)
    queue.push(torch.randn(2, 2, requires_grad=True).bfloat16())
    assert not queue.keys.requires_grad
    assert queue.keys.dtype == torch.float32


def test_queue_is_saved_with_its_place() -> None:
    queue, other = Queue(4, 2), Queue(4, 2)
    queue.push(torch.randn(3, 2))
    other.load_state_dict(queue.state_dict())
    for q in (queue, other):
        q.push(torch.ones(2, 2))
    assert torch.equal(queue.keys, other.keys)


class Dropping(nn.Module):
    """Everything that drops something, as PyTorch has it: by its mode, and by an argument."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout2d(0.5), nn.ReLU())
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
        self.recurrent = nn.GRU(8, 8, 2, dropout=0.5, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.before(x).flatten(2).mT
        h, _ = self.recurrent(self.attention(h, h, h)[0])
        return nn.functional.dropout(h, 0.5, self.training)


def test_a_teacher_drops_nothing_and_its_norms_use_the_batch() -> None:
    torch.manual_seed(0)
    online = Dropping()
    follower = Ema(online)
    x = torch.randn(4, 3, 8, 8)
    for mode in (True, False, True):  # as a method's, which is judged between its epochs
        follower.train(mode)
        assert torch.equal(follower(x), follower(x))
        assert follower.module.before[1].training == mode
    assert online.training
    assert not torch.equal(online(x), online(x))
    before = follower.module.before[1].running_mean.clone()
    follower(x)
    assert not torch.equal(follower.module.before[1].running_mean, before)


EVERY = trials(registry.get("methods", name) for name in registry.names("methods"))
WITH_TEACHERS = [trial for trial in EVERY if trial.holds(Ema)]
DROPPING = {
    "resnet18": {"width": 8, "drop_path_rate": 0.5, "drop_rate": 0.5},
    "vit_tiny_patch16_224": {
        "depth": 2,
        "drop_path_rate": 0.5,
        "proj_drop_rate": 0.5,
        "attn_drop_rate": 0.5,
        "drop_rate": 0.5,
    },
}


@pytest.mark.parametrize(("trial", "network"), [
    pytest.param(trial, network, id=f"{trial.name}-{network}")
    for trial in WITH_TEACHERS for network in DROPPING if any(word in network for word in trial.networks)
])  # fmt: skip
def test_teachers_of_methods_are_told_the_same_at_each_look(trial: Trial, network: str) -> None:
    """Two passes of one batch through DINO's teacher had a cosine of 0.8 at a drop path rate of 0.3."""
    method = trial.make(network=Choice(network, DROPPING[network])).train()
    x = trial.batch(0).views[0]
    teachers = [part for part in method.modules() if isinstance(part, Ema)]
    encoder = next(part for teacher in teachers for part in teacher.modules() if isinstance(part, Encoder))
    with torch.no_grad():
        assert torch.equal(encoder(x), encoder(x))
        assert not torch.equal(method.encoder(x), method.encoder(x))
    norms = [part for teacher in teachers for part in teacher.modules() if isinstance(part, _BatchNorm)]
    assert all(norm.training for norm in norms)
    small = nn.functional.interpolate(x, scale_factor=0.5)  # which it would enlarge in evaluation mode
    with torch.no_grad():
        assert encoder.front(small).shape[-1] == small.shape[-1]
