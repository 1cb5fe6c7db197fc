"""What every registered method promises. A method added as one file is tested here without a line being written."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from unlabeled import registry
from unlabeled.batch import Progress
from unlabeled.errors import UserError
from unlabeled.losses import info_nce, nt_xent
from unlabeled.methods.base import Comparison, Method
from unlabeled.parts.memory import Ema, Queue
from unlabeled.probes.extract import features
from unlabeled.recipe import Recipe, compose, read

from .kit import NAMES, TOTAL, batch, differing, forward, learns, make, optimizer, snapshot, source_of, train

every = pytest.mark.parametrize("name", NAMES)
AT = Progress(5, TOTAL, 1)
SOURCE = re.compile(r"§|eq\.|table|figure|appendix|algorithm|section|\b(19|20)\d\d\b")


def modules(method: Method, kind: type) -> dict[str, nn.Module]:
    return {n: m for n, m in method.named_modules() if isinstance(m, kind)}


@every
def test_gradients_reach_every_trainable_parameter_and_no_other(name: str) -> None:
    method = make(name)
    if not learns(method):
        return
    reached: set[str] = set()

    def look(_: object) -> None:
        for n, p in method.named_parameters():
            if p.grad is not None:
                assert p.requires_grad, f"{n} is frozen and got a gradient"
                if p.grad.any():
                    reached.add(n)

    train(name, method, optimizer(method), range(3), each=look)
    assert reached == {n for n, p in method.named_parameters() if p.requires_grad}


@every
def test_frozen_parameters_are_moved_by_nothing_but_after_step(name: str) -> None:
    method = make(name)
    frozen = {n: p for n, p in method.named_parameters() if not p.requires_grad}
    before = {n: p.clone() for n, p in frozen.items()}
    loss = forward(method, batch(name, method, 0), AT)
    if learns(method):
        step = optimizer(method)
        step.backward(loss)
        with torch.no_grad():
            method.observe(loss, AT)
            step.step()
    assert not differing(before, dict(frozen))


@every
def test_forward_writes_nothing_but_running_statistics(name: str) -> None:
    method = make(name)
    train(name, method, optimizer(method), range(2)) if learns(method) else None
    before = snapshot(method, statistics=False)
    loss = forward(method, batch(name, method, 2), AT)
    assert not differing(before, snapshot(method, statistics=False))
    if learns(method):
        loss.total.backward()  # type: ignore[no-untyped-call]
        assert not differing(before, snapshot(method, statistics=False))


@every
def test_what_forward_gives_back(name: str) -> None:
    method = make(name)
    loss = forward(method, batch(name, method, 0), AT)
    assert loss.total.shape == ()
    assert loss.total.dtype == torch.float32
    assert loss.total.isfinite()
    assert loss.total.requires_grad == learns(method)
    if isinstance(method, Comparison):
        assert loss.memory["z"].shape[:-1] == (16,), "a collapse would not be seen"
    assert not any(t.requires_grad for t in [*loss.terms.values(), *loss.memory.values()])
    assert all(t.shape == () for t in loss.terms.values())


@every
def test_the_same_step_gives_the_same_bits(name: str) -> None:
    totals = [forward(m := make(name), batch(name, m, 3), AT).total for _ in range(2)]
    assert torch.equal(*totals)


@every
@pytest.mark.parametrize("rule", registry.names("optim"))
def test_three_steps_saved_and_three_more_are_six(name: str, rule: str, tmp_path: Path) -> None:
    whole = make(name)
    if not learns(whole):
        return
    unbroken = train(name, whole, optimizer(whole, rule, lr=5e-3), range(6))

    first = make(name)
    step = optimizer(first, rule, lr=5e-3)
    early = train(name, first, step, range(3))
    torch.save({"method": first.state_dict(), "optimizer": step.state_dict()}, tmp_path / "a.pt")
    del first, step

    second = make(name, seed=7)
    step = optimizer(second, rule, lr=5e-3)
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    second.load_state_dict(state["method"])
    step.load_state_dict(state["optimizer"])
    late = train(name, second, step, range(3, 6))

    for a, b in zip(unbroken, early + late, strict=True):
        assert torch.equal(a.total, b.total)
    assert not differing(whole.state_dict(), second.state_dict())


@every
def test_bfloat16_is_near_float32(name: str) -> None:
    def run(half: bool) -> tuple[float, Tensor]:
        method = make(name)
        drawn = batch(name, method, 0, size=32)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = forward(method, drawn, AT)
        assert loss.total.dtype == torch.float32
        loss.total.backward()  # type: ignore[no-untyped-call]
        grads = [p.grad.flatten() for p in method.parameters() if p.grad is not None]
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            method.observe(loss, AT)
        return float(loss.total.detach()), torch.cat(grads)

    if not learns(make(name)):
        return
    (exact, gradient), (near, rough) = run(False), run(True)
    assert near == pytest.approx(exact, rel=0.03, abs=5e-3)  # a negative cosine may be near 0
    assert float(F.cosine_similarity(gradient, rough, dim=0)) > 0.9


@every
@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_odd_batches_work_or_say_what_to_do(name: str, size: int) -> None:
    method = make(name)
    try:
        if learns(method):
            losses = train(name, method, optimizer(method), range(3), size=size)
        else:
            losses = [forward(method, batch(name, method, 0, size), AT)]
    except UserError as error:
        assert size == 1, "only one image is too few"
        assert re.search("--[a-z-]+", str(error)), "the remedy is missing"
        return
    assert all(loss.total.isfinite() for loss in losses)
    assert all(t.isfinite().all() for t in method.state_dict().values())


@every
def test_a_queue_is_read_before_the_current_keys_are_in_it(name: str) -> None:
    method = make(name)
    queues = modules(method, Queue)
    seen: list[dict[str, Tensor]] = []

    def look(*_: object) -> None:
        seen.append({n: q.keys.clone() for n, q in queues.items()})  # type: ignore[union-attr, operator]

    method.register_forward_pre_hook(look)
    method.register_forward_hook(look)
    for step in range(6) if queues else ():
        (loss,) = train(name, method, optimizer(method), [step])
        for n, queue in queues.items():
            keys: Tensor = queue.keys  # type: ignore[assignment]
            given = [
                F.normalize(t.float(), dim=1) for t in loss.memory.values() if t.ndim == 2 and t.shape[1] == keys.shape[1]
            ]
            entered = [t for t in given if torch.cdist(t, keys).min(1).values.max() < 1e-3]
            assert entered, f"nothing of this step is in {n} after observe"
            for t in entered:
                for held in seen[-2:]:
                    assert not (t[:, None] == held[n]).all(2).any(), f"{n} holds the current keys when it is read"


@every
def test_a_perfect_match_costs_a_contrastive_method_nothing(name: str) -> None:
    """Both views the same, at a tiny temperature: log 2 or more is left if positive or anchor is a negative, too."""
    entry = registry.get("methods", name)
    used = {id(v) for v in vars(sys.modules[entry.make.__module__]).values()}
    if "temperature" not in entry.options() or not used & {id(info_nce), id(nt_xent)}:
        return
    method = make(name, temperature=1e-5, splits=1)
    if hasattr(method, "predictor"):
        method.predictor = nn.Identity()  # an untrained one does not say what the keys say
    drawn = batch(name, method, 0)
    if len({view.shape for view in drawn.views}) > 1 or len(drawn.views) < 2:
        return  # no two views can be the same; their own files test what is compared instead
    drawn.views = [drawn.views[0]] * len(drawn.views)
    assert float(forward(method, drawn, AT).total.detach()) < 0.1


@every
def test_a_momentum_copy_follows_its_network(name: str) -> None:
    method = make(name, momentum=0.5)
    copies = modules(method, Ema)
    if not copies:
        return
    train(name, method, optimizer(method, "sgd", lr=0.1), range(2))
    online = {n: p for n, p in method.named_parameters() if p.requires_grad}
    before = snapshot(method)
    with torch.no_grad():
        for p in online.values():
            p.add_(0.1)
        for n, b in method.encoder.named_buffers():
            if n.endswith("running_mean"):
                b.add_(0.1)
        method.after_step(AT)
    for n, copy in copies.items():
        for key, value in copy.state_dict().items():
            if value.is_floating_point() and not key.endswith((".mean", ".std", "running_var")):
                assert not torch.equal(value, before[f"{n}.{key}"]), f"{n}.{key} did not follow"


def cost(name: str, epoch: int) -> tuple[int, int]:
    """Images that a method asks to be embedded before that epoch, of a hundred, and operations of its first forward pass."""
    method = make(name, mix_from=3, queue_from=3, warm_up=0.03)
    asked: list[nn.Module] = []

    def extract(module: nn.Module) -> Tensor:
        asked.append(module)
        return features(module, source_of(method.encoder), device="cpu")

    at = Progress(100 * epoch, 10_000, epoch)
    with torch.no_grad():
        method.before_epoch(at, extract)
    with FlopCounterMode(display=False) as counted:
        forward(method, batch(name, method, 0), at)
    return len(asked), counted.get_total_flops()


@every
def test_what_costs_more_in_a_later_epoch_is_said(name: str) -> None:
    """`compare --minutes` plans by it."""
    method = make(name, mix_from=3, queue_from=3, warm_up=0.03)
    first = method.full_cost_from(100)
    assert (first == 3) if cost(name, 99) > cost(name, 1) else (first == 0)
    if first:
        assert cost(name, first - 1) == cost(name, 1)
        assert cost(name, first) == cost(name, 99)


@every
def test_the_docstring_says_where_it_comes_from(name: str) -> None:
    entry = registry.get("methods", name)
    assert re.search(r"\b(19|20)\d\d\b", entry.make.__doc__ or ""), "cite the paper, with its year"
    for option, value in entry.options().items():
        assert value.help, f"{option} is not in Args:"
        assert SOURCE.search(value.help), f"{option}: no source"


@every
def test_options_survive_yaml_and_back(name: str, tmp_path: Path) -> None:
    recipe = compose({"method": name})
    (tmp_path / "r.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert compose(read(tmp_path / "r.yaml")) == recipe
    assert set(recipe.method.options) == set(registry.get("methods", name).options())
    words = {f"method.{k}": str(v) for k, v in recipe.method.options.items()}
    assert compose({"method": name}, words) == recipe


@every
def test_an_unknown_option_names_the_nearest(name: str) -> None:
    for option in registry.get("methods", name).options():
        with pytest.raises(UserError, match=f"did you mean '{option}'"):
            compose({"method": name, f"method.{option}x": 1})
    with pytest.raises(UserError, match="has no option 'qqqq'"):
        compose({"method": name, "method.qqqq": 1})


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'simclr'"):
        compose({"method": "simcrl"})


def test_the_default_method_is_registered() -> None:
    assert Recipe().method.name in NAMES
