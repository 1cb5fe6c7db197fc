"""The methods that the suite tries: every registered one once, by whatever names it goes."""

from __future__ import annotations

from typing import Any

import pytest

from unlabeled import registry
from unlabeled.testing import RULES, Trial, trials

TRIALS = trials(registry.get("methods", name) for name in registry.names("methods"))
BY_NAME = {trial.name: trial for trial in TRIALS}
CASES = [
    pytest.param(rule, trial, id=f"{trial.name}-{rule.name}") for trial in TRIALS for rule in RULES if rule.applies(trial)
]


def each(*those: Trial) -> Any:
    """Parametrises over methods."""
    return pytest.mark.parametrize("trial", those, ids=lambda trial: trial.name)
