"""Learns representations from data without labels, and proves what it learned.

Importing this does not import torch; the verbs do when they run.
"""

from unlabeled.api import embed, evaluate, load, pretrain, views
from unlabeled.errors import UserError

__all__ = ["UserError", "embed", "evaluate", "load", "pretrain", "views"]
__version__ = "0.1.0"
