"""Parts of a method: each has its optimiser and schedule, and rivals learn from their own scalar alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from unlabeled.batch import Loss, Progress
from unlabeled.optim.optimizers import Optimizers
from unlabeled.registry import Choice

SGD = Choice("sgd", {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False})


def net(seed: int = 0) -> nn.ModuleDict:
    torch.manual_seed(seed)
    return nn.ModuleDict({"encoder": nn.Linear(3, 2), "critic": nn.Linear(2, 1)})


def made(module: nn.Module, parts: dict[str, dict[str, object]], **more: object) -> Optimizers:
    return Optimizers(module, SGD, parts, **{"scaling": "none", **more})  # type: ignore[arg-type]


def against(module: nn.ModuleDict, x: Tensor) -> Loss:
    """The encoder wants its codes to score high; the critic, which minimises the opposite, wants them low."""
    score = module["critic"](module["encoder"](x)).tanh().mean()
    return Loss(-score, rivals={"critic": score + 0.5 * module["critic"].weight.square().sum()})


def test_a_rival_gets_the_gradient_of_its_own_scalar_and_the_rest_that_of_the_total() -> None:
    module, x = net(), torch.randn(5, 3)
    optimizers = made(module, {"critic": {"lr": 0.5}})
    loss = against(module, x)
    of_total = torch.autograd.grad(loss.total, list(module["encoder"].parameters()), retain_graph=True)
    of_rival = torch.autograd.grad(loss.rivals["critic"], list(module["critic"].parameters()), retain_graph=True)
    optimizers.backward(loss)
    for parameter, expected in zip(module.parameters(), [*of_total, *of_rival], strict=True):
        torch.testing.assert_close(parameter.grad, expected)

    before = [p.detach().clone() for p in module.parameters()]
    optimizers.step()
    for parameter, old, gradient, lr in zip(
        module.parameters(), before, [*of_total, *of_rival], [0.1, 0.1, 0.5, 0.5], strict=True
    ):
        torch.testing.assert_close(parameter.detach(), old - lr * gradient)


def test_shares_of_a_batch_add_up_to_the_whole() -> None:
    whole, pieces, x = net(), net(), torch.randn(6, 3)
    made(whole, {"critic": {}}).backward(against(whole, x))
    optimizers = made(pieces, {"critic": {}})
    for part in (x[:2], x[2:]):
        optimizers.backward(against(pieces, part), len(part) / len(x))
    for a, b in zip(whole.parameters(), pieces.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_each_part_has_its_schedule_and_its_rule() -> None:
    module = net()
    optimizers = made(module, {"critic": {"name": "adamw", "lr": 0.01, "schedule": "constant"}}, warmup=2)
    assert isinstance(optimizers.held["critic"], torch.optim.AdamW)
    assert isinstance(optimizers.held[""], torch.optim.SGD)
    for step, expected in ((0, 0.05), (1, 0.1), (6, 0.1 * (1 + math.cos(math.pi / 2)) / 2)):
        optimizers.at(Progress(step, 10, 0))
        assert optimizers.lr == pytest.approx(expected)
        assert {group["lr"] for group in optimizers.held["critic"].param_groups} == {0.01}
    scaled = made(net(), {"critic": {"lr": 0.2}}, batch_size=512, scaling="linear")
    assert scaled.rates == {"": 0.2, "critic": 0.4}


def test_a_parts_name_is_a_whole_word() -> None:
    module = nn.ModuleDict({"critic": nn.Linear(2, 1), "critics": nn.Linear(2, 1)})
    optimizers = made(module, {"critic": {}})
    assert optimizers.parameters("critic") == list(module["critic"].parameters())
    assert {id(p) for p in optimizers.parameters("")} == {id(p) for p in module["critics"].parameters()}


def test_state_goes_back_to_the_part_that_it_came_from() -> None:
    rule = {"critic": {"name": "adamw", "lr": 0.01}}
    first, second, x = net(), net(), torch.randn(5, 3)
    one = made(first, rule)
    one.backward(against(first, x))
    one.step()
    two = made(second, rule)
    second.load_state_dict(first.state_dict())
    two.load_state_dict(copy.deepcopy(one.state_dict()))  # torch's own keeps what it is given
    for module, optimizers in ((first, one), (second, two)):
        optimizers.zero_grad()
        optimizers.backward(against(module, x))
        optimizers.step()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="critic"):
        made(net(), {}).load_state_dict(one.state_dict())


def test_vectors_have_their_factor_of_the_rate_at_every_step_and_after_a_resume() -> None:
    """LARS leaves vectors as they are, so their first step shows their rate."""
    choice = Choice("lars", {"lr": 0.4, "momentum": 0.0, "weight_decay": 0.0, "vector_factor": 0.024})
    module, usual = net(), net()
    optimizers = Optimizers(module, choice, {}, batch_size=512, warmup=2)
    plain = Optimizers(usual, Choice("lars", {**choice.options, "vector_factor": 1.0}), {}, batch_size=512, warmup=2)
    for step, share in ((0, 0.5), (1, 1.0), (6, (1 + math.cos(math.pi / 2)) / 2)):
        optimizers.at(Progress(step, 10, 0))
        plain.at(Progress(step, 10, 0))
        rates = [{group["vector"]: group["lr"] for group in each.held[""].param_groups} for each in (optimizers, plain)]
        assert rates[0] == pytest.approx({False: 0.8 * share, True: 0.8 * 0.024 * share})
        assert rates[1] == pytest.approx({False: 0.8 * share, True: 0.8 * share})
        assert optimizers.lr == pytest.approx(0.8 * share)
    before = [p.detach().clone() for p in module["encoder"].parameters()]
    for p in (*module.parameters(), *usual.parameters()):
        p.grad = torch.ones_like(p)
    optimizers.step()
    plain.step()
    (w, b), (w_plain, b_plain) = module["encoder"].parameters(), usual["encoder"].parameters()
    torch.testing.assert_close(w, w_plain)
    torch.testing.assert_close(before[1] - b, 0.024 * (before[1] - b_plain))
    again = Optimizers(net(), choice, {}, batch_size=512, warmup=2)
    again.load_state_dict(copy.deepcopy(optimizers.state_dict()))
    again.at(Progress(1, 10, 0))
    assert [group["lr"] for group in again.held[""].param_groups] == pytest.approx([0.8, 0.8 * 0.024])
