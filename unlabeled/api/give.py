"""`unlabeled.give`."""

from __future__ import annotations

from typing import Any


def give(*, method: Any = None, encoder: Any = None, views: Any = None) -> None:
    """Lets runs find parts of your own that they were made with: a run keeps their names and none of their code.

    In the session that trained a run this was done already. In another, give them again before you open it.

    Args:
        method: a class that inherits from `unlabeled.methods.base.Method`, or from a method.
        encoder: a `torch.nn.Module`, or a class or function that makes one.
        views: a policy, a class of policies, or a function of one sample.

    Raises:
        UserError: something else, or a name that is taken.
    """
    from unlabeled.training.given import named

    named(method=method, encoder=encoder, views=views)
