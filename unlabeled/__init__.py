"""Learns representations from data without labels, and proves what it learned.

Importing this does not import torch; the verbs do when they run.
"""

import sys
from types import ModuleType
from typing import Any

from unlabeled.api import embed, evaluate, load, pretrain, views
from unlabeled.errors import UserError

__all__ = ["UserError", "embed", "evaluate", "load", "pretrain", "views"]
__version__ = "0.1.0"


class _Package(ModuleType):
    """Keeps the verbs: Python's import would put the submodule of the same name (`unlabeled.pretrain`) in a verb's place."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
