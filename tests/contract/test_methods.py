"""What every registered method promises: the checks of `unlabeled.testing`. A method added as one file is tested here
without a line being written."""

from __future__ import annotations

import re

import pytest

from unlabeled import registry
from unlabeled.errors import UserError
from unlabeled.recipe import Recipe, compose
from unlabeled.testing import Rule, Trial
from unlabeled.testing.steps import resumed, watched

from .suite import BY_NAME, CASES, TRIALS, each

SOURCE = re.compile(r"§|eq\.|table|figure|appendix|algorithm|section|\b(19|20)\d\d\b")
OTHER_OPTIMIZERS = [name for name in registry.names("optim") if name != "adamw"]


@pytest.mark.parametrize(("rule", "trial"), CASES)
def test_the_contract(rule: Rule, trial: Trial) -> None:
    rule(trial)


@each(BY_NAME["simclr"], BY_NAME["moco"])
@pytest.mark.parametrize("optimizer", OTHER_OPTIMIZERS)
def test_a_run_is_resumed_with_every_optimiser(trial: Trial, optimizer: str) -> None:
    resumed(trial, watched(trial, optimizer), optimizer)


@each(*TRIALS)
def test_the_docstring_says_where_it_comes_from(trial: Trial) -> None:
    assert re.search(r"\b(19|20)\d\d\b", trial.entry.make.__doc__ or ""), "cite the paper, with its year"
    for option, value in trial.entry.options().items():
        assert SOURCE.search(value.help), f"{option}: no source"


def test_names_that_mean_the_same_are_tried_once() -> None:
    names = registry.names("methods")
    assert len(TRIALS) < len(names)
    assert BY_NAME.keys() < set(names)
    assert {trial.entry.make for trial in TRIALS} == {registry.get("methods", name).make for name in names}


def test_rules_are_tried_where_they_apply_and_nowhere_else() -> None:
    """The numbers are known: a rule that came to apply to none would pass unseen."""
    tried: dict[str, list[str]] = {}
    for case in CASES:
        rule, trial = case.values
        tried.setdefault(rule.name, []).append(trial.name)
    assert sorted(tried["forward writes nothing"]) == sorted(BY_NAME)
    assert {"moco", "moco-v1", "mochi", "pcl", "interclr"} <= set(tried["a queue is read before it is written"])
    assert not {"simclr", "npid", "random"} & set(tried["a queue is read before it is written"])
    assert {"moco", "byol", "dino", "pcl"} <= set(tried["a copy follows its network"])
    assert {"simclr", "moco", "mochi"} <= set(tried["a perfect match costs nothing"])
    assert {"simclr", "moco", "byol", "siamese", "triplet"} <= set(tried["both passes of pieces see the same"])
    assert "random" not in tried["it learns without collapse"]


def test_an_unknown_option_is_refused() -> None:
    with pytest.raises(UserError, match="has no option 'qqqq'"):
        compose({"method": "simclr", "method.qqqq": 1})


def test_an_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'simclr'"):
        compose({"method": "simcrl"})


def test_the_default_method_is_registered() -> None:
    assert Recipe().method.name in registry.names("methods")
