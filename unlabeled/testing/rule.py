"""What a rule of the contract is, and how one is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from unlabeled.testing.trial import Trial

Check = Callable[[Trial], None]


class ContractError(AssertionError):
    """A method breaks a rule of the contract; the message says which, where, and what to do."""


@dataclass(frozen=True)
class Rule:
    """One promise of every method to which it applies.

    Attributes:
        name: of the function that checks it.
        promise: in one sentence.
        remedy: what to do where it is broken.
        applies: to which methods.
        check: raises a `ContractError` that says what was seen.
    """

    name: str
    promise: str
    remedy: str
    applies: Callable[[Trial], bool]
    check: Check

    def __call__(self, trial: Trial) -> None:
        """Checks it.

        Raises:
            ContractError: broken, or the method fails on the way.
        """
        try:
            self.check(trial)
        except Exception as error:  # whatever somebody's method raises
            seen = str(error) if isinstance(error, ContractError) else f"{type(error).__name__}: {error}"
            raise ContractError(
                f"{trial.name} breaks the rule {self.name!r} ({self.promise}): {seen}. {self.remedy}"
            ) from error


def rule(remedy: str, applies: Callable[[Trial], bool] = lambda trial: True) -> Callable[[Check], Rule]:
    """Makes a check a rule, with its name and the first paragraph of its docstring."""

    def decorate(check: Check) -> Rule:
        promise = " ".join((check.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
        return Rule(check.__name__.replace("_", " "), promise[:1].lower() + promise[1:], remedy, applies, check)

    return decorate


def require(held: object, seen: str) -> None:
    """Asserts, also where Python is told to leave assertions out.

    Raises:
        ContractError: it does not hold.
    """
    if not held:
        raise ContractError(seen)


def near(a: float, b: float, rel: float = 0.0, abs: float = 0.0) -> bool:
    """Whether a is b, up to a share of b or a difference; no NaN is near anything."""
    difference = a - b if a > b else b - a
    return difference <= max(rel * (b if b > 0 else -b), abs)


def listed(names: object) -> str:
    """Some names, not all of many."""
    known = sorted(names)  # type: ignore[call-overload]
    return ", ".join(known[:5]) + (f" and {len(known) - 5} more" if len(known) > 5 else "")
