"""Pure functions of `Progress`: learning rate and momentum. No state, so a resumed run needs none."""

from __future__ import annotations

import math

from unlabeled.batch import Progress
from unlabeled.recipe import Scaling


def scaled_lr(lr: float, batch_size: int, scaling: Scaling) -> float:
    """Scales the learning rate for a batch, from the one stated for a batch of 256.

    `linear`: lr × B/256 (Goyal et al. 2017, §2.1). `sqrt`: lr × √(B/256) (SimCLR, appendix B.1, whose 0.075·√B is 1.2
    for 256; better for small batches under LARS). `none`: lr.
    """
    ratio = batch_size / 256
    return lr * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[scaling]


def warmup_cosine(at: Progress, base: float, warmup: int, end: float = 0.0) -> float:
    """Rises linearly from base/warmup to `base` over the first `warmup` steps, then a half cosine towards `end`.

    SGDR without restarts (Loshchilov and Hutter 2017, eq. 5) after the warm-up of Goyal et al. 2017 (§2.2). The last step
    of the run is one short of `end`.
    """
    if at.step < warmup:
        return base * (at.step + 1) / warmup
    fraction = (at.step - warmup) / max(1, at.total - warmup)
    return end + (base - end) * (1 + math.cos(math.pi * fraction)) / 2


def constant(at: Progress, base: float, warmup: int) -> float:
    """Returns `base` from the first step on (SimSiam's predictor: Chen and He 2021, §4.2)."""
    return base


def part_of_cosine(at: Progress, base: float, warmup: int) -> float:
    """Returns base · cos(7πt/16), t in [0, 1): from `base` to a fifth of it (FixMatch, Sohn et al. 2020, §2.4)."""
    return base * math.cos(7 * math.pi * at.fraction / 16)


SCHEDULES = {"cosine": warmup_cosine, "constant": constant, "part-of-cosine": part_of_cosine}
"""Of learning rates, by the name that a part of a method gives."""


def cosine_momentum(at: Progress, base: float = 0.996) -> float:
    """Returns the EMA's momentum that rises from `base` to 1: 1 - (1 - base)(cos(πt) + 1)/2, t in [0, 1) (BYOL, §3.3)."""
    return 1 - (1 - base) * (math.cos(math.pi * at.fraction) + 1) / 2
