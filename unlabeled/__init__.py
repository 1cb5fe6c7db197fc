"""Learns representations from data without labels, and proves what it learned.

Importing this does not import torch; the verbs do when they run.
"""

from unlabeled.api import (
    compare,
    contact_sheet,
    embed,
    evaluate,
    export,
    give,
    inspect,
    load,
    outliers,
    predict,
    pretrain,
    report,
    search,
    sweep,
    tune,
)
from unlabeled.errors import UserError

__all__ = [
    "UserError",
    "compare",
    "contact_sheet",
    "embed",
    "evaluate",
    "export",
    "give",
    "inspect",
    "load",
    "outliers",
    "predict",
    "pretrain",
    "report",
    "search",
    "sweep",
    "tune",
]
__version__ = "0.2.0.dev0"
