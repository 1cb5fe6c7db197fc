"""Holds a method to what every method promises: `check_method(Mine)`. The project's own suite makes the same checks.

Needs nothing beyond what the package itself needs.
"""

from __future__ import annotations

from typing import Any

from unlabeled import registry
from unlabeled.methods.base import Method
from unlabeled.registry import Choice, Entry
from unlabeled.testing.contract import RULES
from unlabeled.testing.processes import TWO
from unlabeled.testing.rule import ContractError, Rule
from unlabeled.testing.trial import Trial, trials

__all__ = ["RULES", "ContractError", "Rule", "Trial", "check_method", "trials"]


def check_method(
    method: type[Method] | str,
    *,
    encoder: str | Choice | None = None,
    views: str | Choice | None = None,
    two_processes: bool = False,
    **options: Any,
) -> list[str]:
    """Holds a method to the contract, on synthetic samples of its kind of data, in some seconds on a processor.

    Args:
        method: a class, registered or not, or a registered name. A class with several names is checked under each.
        encoder: to try it on; None: small ones like the one that its recipe prescribes.
        views: policy; None: that of its recipe.
        two_processes: whether to start two processes too, which must compute what one does; takes some seconds more. The
            class must then be importable: from a module, a plug-in, or a script with `if __name__ == "__main__":`.
        options: of the method.

    Returns:
        Names of the rules that apply to it, all of which it keeps.

    Raises:
        ContractError: it breaks a rule; the message says which, what was seen, and what to do.
        UserError: an unknown name or option.
    """
    entries = [registry.get("methods", method)] if isinstance(method, str) else registry.entries_of(method)
    entries = entries or [Entry("methods", method.__name__ if isinstance(method, type) else method, method)]  # type: ignore[arg-type]
    network, policy = (Choice(each) if isinstance(each, str) else each for each in (encoder, views))
    kept: dict[str, None] = {}
    for trial in trials(entries, network=network, views=policy, given=trial_options(entries[0], options)):
        for rule in [*RULES, *([TWO] if two_processes else [])]:
            if rule.applies(trial):
                rule(trial)
                kept[rule.name] = None
    return list(kept)


def trial_options(entry: Entry, options: dict[str, Any]) -> dict[str, Any]:
    """The options that are given, in their types.

    Raises:
        UserError: an unknown one.
    """
    resolved = entry.resolve(options).options
    return {name: resolved[name] for name in options}
