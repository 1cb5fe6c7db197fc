"""Measures of an embedding that need no label: does it collapse?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.losses import info_nce, info_nce_bound

COMPLETE = 0.1
"""`std_ratio` below which all images are said to have the same embedding."""
ONE = 1.5
"""`effective_rank` up to which an embedding is said to have rank 1."""


def std_ratio(z: Tensor) -> float:
    """Returns the mean standard deviation per dimension of the unit-length rows of z (N, D), over 1 / sqrt(D).

    1 for directions spread evenly over the sphere, 0 for one direction: the measure of Chen & He 2021 (SimSiam), section
    4.1 and figure 2, divided by its value for an isotropic Gaussian.
    """
    return float(F.normalize(z.float(), dim=1).std(dim=0, unbiased=False).mean()) * math.sqrt(z.shape[1])


def effective_rank(z: Tensor) -> float:
    """Returns the exponential of the entropy of the singular values of z (N, D), normalised to sum 1: in [1, min(N, D)].

    Roy & Vetterli 2007, "The effective rank", section 2. The rows are centred first, as a direction that is common to all
    images tells nothing about any; RankMe (Garrido et al. 2023) does not centre. Singular values within rounding of the
    uncentred rows count as 0; if all do, every row is the same, and the rank is 1.
    """
    rows = z.float()
    centred = rows - rows.mean(dim=0)
    singular = torch.linalg.svdvals(centred)
    rounding = torch.finfo(torch.float32).eps * max(rows.shape) * rows.norm()
    share = singular[singular > rounding]
    if len(share) == 0:
        return 1.0
    share = share / share.sum()
    return float((-share * share.log()).sum().exp())


def rankme(z: Tensor) -> float:
    """Returns the exponential of the entropy of the singular values of z (N, D), not centred: in [1, min(N, D)].

    RankMe (Garrido et al. 2023), whose constant of 1e-7 against a logarithm of zero is here a share of zero that counts
    nothing. Rows that are all zero have rank 0.
    """
    singular = torch.linalg.svdvals(z.float())
    share = singular / singular.sum()
    return float(torch.special.entr(share).sum().exp()) if singular.any() else 0.0


def alignment(first: Tensor, second: Tensor, alpha: float = 2.0) -> float:
    """Returns the mean distance to the power `alpha` of the unit-length rows of two views (N, D) of the same images: in [0,
    2^alpha].

    Less is better aligned. Wang & Isola 2020, section 4.1, where alpha is 2.
    """
    return float(distances(first, second).pow(alpha).mean())


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Measures the distances between the rows of two views (N, D), at unit length: (N,) in [0, 2]."""
    apart = F.normalize(first.float(), dim=1) - F.normalize(second.float(), dim=1)
    length: Tensor = torch.linalg.vector_norm(apart, dim=1)
    return length


def uniformity(z: Tensor, t: float = 2.0) -> float:
    """Returns the log of the mean of exp(-t d²) over the pairs of different rows of z (N, D), d their distance at unit
    length: in [-4 t, 0].

    Less is more uniform, 0 is one direction for all. Wang & Isola 2020, section 4.1, where t is 2.
    """
    squared = torch.pdist(F.normalize(z.float(), dim=1)).square()
    return float(squared.mul(-t).exp().mean().log())


def view_variance(first: Tensor, second: Tensor) -> float:
    """Returns the mean squared distance of two views (N, D) of one image over that of views of two images, all at unit
    length.

    0: an image has one embedding, however it is viewed; 1: its views are as far from each other as from those of other
    images. It is one minus the intraclass correlation (Fisher 1925), and unlike `alignment` it does not take a narrow cone
    of directions for agreement. 1 if all rows are the same.
    """
    u, v, n = F.normalize(first.float(), dim=1), F.normalize(second.float(), dim=1), len(first)
    same = (u - v).square().sum(dim=1).mean()
    every = u.var(dim=0, unbiased=False).sum() + v.var(dim=0, unbiased=False).sum() + (u.mean(0) - v.mean(0)).square().sum()
    different = (n * every - same) / (n - 1)
    return float(same / different) if different > 1e-10 else 1.0


def mutual_information(first: Tensor, second: Tensor, temperature: float = 0.1) -> float:
    """Computes a lower bound on the mutual information of two views in nats, log N minus InfoNCE: at most log N.

    van den Oord et al. 2018, section 2.3; each view of (N, D) looks for its image's other view among all N, and the two
    losses are averaged. A bound for any temperature; below 0 it says nothing.
    """
    loss = (info_nce(first, second, temperature=temperature) + info_nce(second, first, temperature=temperature)) / 2
    return float(info_nce_bound(loss, len(first)))


def dead_share(z: Tensor) -> float:
    """Returns the share in [0, 1] of the columns of z (N, D) that say the same of every image: whose standard deviation is
    below a thousandth of the root mean square of all entries, or rounding."""
    deviation = z.float().std(dim=0, unbiased=False)
    return float((deviation <= 1e-3 * z.float().square().mean().sqrt()).float().mean())


def jackknife(figure: Callable[..., float], *rows: Tensor, groups: int = 10) -> float:
    """Returns half the width of the 95% confidence interval of a figure of N images: the delete-a-group jackknife (Shao and
    Tu 1995, "The Jackknife and Bootstrap"), with Student's t of `groups` - 1 degrees of freedom.

    Args:
        figure: a function of `rows` (N, D) each, rows of all belonging together.
        groups: parts of the images that are left out in turn.
    """
    from scipy.special import stdtrit  # a tenth of what a training takes to start

    groups = min(groups, len(rows[0]))
    place = torch.arange(len(rows[0])) % groups
    found = np.array([figure(*(x[place != group] for x in rows)) for group in range(groups)])
    error = math.sqrt((groups - 1) / groups * float(((found - found.mean()) ** 2).sum()))
    return float(stdtrit(groups - 1, 0.975)) * error


@dataclass(frozen=True, slots=True)
class Look:
    """What a collapse is judged by in one output, of images as they are: `std_ratio`, `effective_rank`, `view_variance` (NaN
    where no views were drawn), and min(N, D)."""

    spread: float
    rank: float
    view_variance: float
    dim: int


def look(z: Tensor, view_variance: float = math.nan) -> Look:
    """Looks at the rows of z (N, D); all NaN where a number of it is not finite."""
    if not z.isfinite().all():
        return Look(math.nan, math.nan, math.nan, min(z.shape))
    return Look(std_ratio(z), effective_rank(z), view_variance, min(z.shape))


@dataclass(frozen=True, slots=True)
class Collapse:
    """Its name, and what was seen, in words."""

    kind: Literal["complete collapse", "dimensional collapse"]
    seen: str


def collapse(name: str, own: Look, untrained: Look | None, least: float) -> Collapse | None:
    """Names the collapse of an output in plain words; None where there is none.

    1. *complete*: a spread below a tenth of an isotropic one, unless spread and rank are those of the untrained network, at
       least half of them: its biases may outweigh what they are added to. Below a thousandth it is one in any case.
    2. *dimensional*: a rank below `least`, as `fewest_dimensions` has it.

    Args:
        name: of the output, `h` or `z`.
        own: what is judged.
        untrained: the same of the network before it was trained; None where that is not known.
        least: rank below which the collapse is dimensional.
    """
    what = {"h": "representation h", "z": "embedding z"}.get(name, name)
    if not (math.isfinite(own.spread) and math.isfinite(own.rank)):
        return Collapse("complete collapse", f"the {what} holds numbers that are not finite")
    untouched = untrained is not None and own.rank >= untrained.rank / 2 and own.spread >= untrained.spread / 2
    before = "" if untrained is None else f", untrained {untrained.spread:.3f}"
    if own.spread < COMPLETE / 100 or (own.spread < COMPLETE and not untouched):
        return Collapse("complete collapse", f"all images get nearly the same {what} (spread {own.spread:.3f} of 1{before})")
    if own.rank < least:
        before = "" if untrained is None else f", untrained {untrained.rank:.1f}"
        uses = f"has rank {own.rank:.0f}" if own.rank < ONE else f"uses about {own.rank:.1f} dimensions"
        return Collapse("dimensional collapse", f"the {what} {uses} of {own.dim}{before}")
    return None


def fewest_dimensions(dim: int, classes: int = 0) -> float:
    """Returns the effective rank below which `dim` dimensions count as collapsed: √dim/3, but at least 6 and at most 8, and
    never more than a quarter of `dim`.

    Ten classes that fall on ten points use 9 dimensions, and that is no collapse; a method that was told K `classes` may do
    with 0.9 (K - 1).
    """
    least = float(min(dim / 4, np.clip(dim**0.5 / 3, 6, 8)))
    return min(least, 0.9 * (classes - 1)) if classes else least
