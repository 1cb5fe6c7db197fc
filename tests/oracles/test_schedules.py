"""Each schedule at its start, middle and end, and against its equation."""

from __future__ import annotations

import math

import pytest

from unlabeled import registry
from unlabeled.batch import Progress
from unlabeled.optim.schedules import cosine_momentum, scaled_lr, warmup_cosine
from unlabeled.recipe import compose


@pytest.mark.parametrize(
    ("scaling", "batch", "expected"),
    [("linear", 256, 0.3), ("linear", 1024, 1.2), ("linear", 64, 0.075), ("sqrt", 1024, 0.6), ("none", 1024, 0.3)],
)
def test_scaled_lr(scaling: str, batch: int, expected: float) -> None:
    assert scaled_lr(0.3, batch, scaling) == pytest.approx(expected)  # type: ignore[arg-type]


def test_simclrs_rate_is_the_root_of_its_paper_and_no_other_method_has_it() -> None:
    """Chen et al. 2020, appendix B.1: 0.075 √B, with LARS. Another optimiser, and other methods, have the linear rule."""
    for name in ("simclr", "debiased", "hard-negatives"):
        recipe = compose({"method": name})
        assert (recipe.optimizer.name, recipe.lr_scaling) == ("lars", "sqrt")
        for batch in (64, 256, 2048, 4096):
            rate = scaled_lr(recipe.optimizer.options["lr"], batch, recipe.lr_scaling)
            assert rate == pytest.approx(0.075 * math.sqrt(batch))
    assert compose({"method": "simclr", "optimizer": "sgd"}).lr_scaling == "linear"
    assert compose({"method": "simclr", "optimizer": "lars", "optimizer.trust": 0.02}).lr_scaling == "sqrt"
    assert compose({"method": "simclr", "lr_scaling": "none"}).lr_scaling == "none"
    assert compose({"method": "simclr", "optimizer": "sgd", "lr_scaling": "sqrt"}).lr_scaling == "sqrt"
    rules = {name: compose({"method": name}).lr_scaling for name in registry.names("methods")}
    assert {name for name, rule in rules.items() if rule == "sqrt"} == {"simclr", "debiased", "hard-negatives"}
    assert {name for name, rule in rules.items() if rule == "none"} == {"cpc", "cpc-v1", "cpc-v2", "fixmatch"}


def test_warmup_is_linear_then_half_a_cosine() -> None:
    rates = [warmup_cosine(Progress(s, 110, 0), 2.0, 10) for s in range(110)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[4] == pytest.approx(1.0)
    assert rates[9] == rates[10] == pytest.approx(2.0)
    assert rates[60] == pytest.approx(1.0)
    assert 0 < rates[-1] < 0.001
    for s in range(10, 110):
        assert rates[s] == pytest.approx(0.5 * 2.0 * (1 + math.cos(math.pi * (s - 10) / 100)))


def test_warmup_cosine_at_its_edges() -> None:
    assert warmup_cosine(Progress(0, 10, 0), 1.0, 0) == 1.0
    assert warmup_cosine(Progress(9, 10, 0), 1.0, 10) == 1.0
    assert warmup_cosine(Progress(5, 10, 0), 1.0, 0, end=0.5) == pytest.approx(0.75)
    assert warmup_cosine(Progress(0, 1, 0), 1.0, 1) == 1.0


def test_byols_momentum_rises_to_one() -> None:
    total = 1000
    for k in (0, 1, 250, 500, 999):
        expected = 1 - (1 - 0.996) * (math.cos(math.pi * k / total) + 1) / 2
        assert cosine_momentum(Progress(k, total, 0)) == pytest.approx(expected, rel=1e-12)
    assert cosine_momentum(Progress(0, total, 0)) == pytest.approx(0.996)
    assert cosine_momentum(Progress(500, total, 0)) == pytest.approx(0.998)
    assert 1 - 1e-7 < cosine_momentum(Progress(999, total, 0)) < 1
    assert cosine_momentum(Progress(0, 10, 0), 0.99) == pytest.approx(0.99)


def test_the_clock_is_a_fraction_below_one() -> None:
    assert Progress(0, 8, 0).fraction == 0
    assert Progress(6, 8, 1).fraction == 0.75
