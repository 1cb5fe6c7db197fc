"""What is held out of data without a test split, and draws of labelled samples that are fair to every class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from unlabeled.errors import UserError
from unlabeled.words import counted

HELD_OUT = 0.2
BY_CONTENT, BALANCED = "content", "balanced"
"""How samples are held out: each by its own content and the seed, or another seed where that is named after the word; and,
in runs that have no word for it, evenly over the classes by their places among all samples."""

Array = np.ndarray[Any, Any]


def on_test_side(keys: Sequence[bytes | None], seed: int) -> Array:
    """Tells which samples are held out, (n,) bool: those for which a hash of key and seed is below a fifth of its range.

    A sample's side so depends on nothing else, neither on other samples nor on its name or class: samples that come to the
    data, or go, move no other to the other side, and copies are on one side. In return it is a fifth, and a fifth of each
    class, by chance alone: of n samples 0.2 n, give or take 0.4 √n.

    Args:
        keys: of the samples: digests of their content, or names of their groups; None stays in train.
        seed: of the split.
    """
    salt, bound = str(seed).encode(), round(HELD_OUT * 2**64)
    different = {key for key in keys if key is not None}
    held = {key: int.from_bytes(blake2b(key, digest_size=8, key=salt).digest(), "big") < bound for key in different}
    return np.array([key is not None and held[key] for key in keys], bool)


def seed_in(split: str, seed: int) -> int:
    """Returns the seed by which samples are held out: the one that is named after the word, or else the one that is given.

    >>> seed_in("content", 0), seed_in("content 5", 0)
    (0, 5)
    """
    return int(split.partition(" ")[2] or seed)


def separating_seed(keys: Sequence[bytes | None]) -> int | None:
    """Returns the first seed below 100 that holds out a tenth to three tenths, or else what is nearest to a fifth; None
    where each holds out all or nothing."""
    counts = Counter(keys)
    different, weights = list(counts), np.array(list(counts.values()))

    def share(seed: int) -> float:
        return float(weights[on_test_side(different, seed)].sum() / len(keys))

    usable = [(abs(held - HELD_OUT), seed) for seed in range(100) if 0 < (held := share(seed)) < 1]
    return next((seed for off, seed in usable if off <= HELD_OUT / 2), min(usable, default=(0.0, None))[1])


def hold_out_by(keys: Sequence[bytes | None], seed: int) -> tuple[Array, Array, int | None]:
    """Returns the sorted positions of train and of test, as `on_test_side` has them, and the seed that divides them: where
    the one that is given leaves all on one side, as it may with few groups, and always does with what was the training side
    before, it is `separating_seed`'s. None where no seed divides them, with all and none.
    """
    held, by = on_test_side(keys, seed), seed
    if held.all() or not held.any():
        other = separating_seed(keys)
        if other is None:
            return np.arange(len(keys)), np.arange(0), None
        held, by = on_test_side(keys, other), other
    return np.flatnonzero(~held), np.flatnonzero(held), by


def balanced_draw(labels: Array, amount: int | float, seed: int) -> Array:
    """Draws samples as evenly over the classes as their counts permit; which classes get one more is drawn, too.

    Args:
        labels: (n,) integers; negative means unlabelled and is never drawn.
        amount: an int is that many of each class; a float in (0, 1] is that fraction of all labelled samples, at least
            one per class.
        seed: same seed, same draw.

    Returns:
        Sorted positions in `labels`, int64.

    Raises:
        UserError: nothing is labelled, a class has fewer than `amount`, or `amount` is out of range.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    if not len(classes):
        raise UserError("no sample is labelled: a draw of labelled samples needs a data set with labels")
    if isinstance(amount, int | np.integer):
        if amount < 1:
            raise UserError(f"{counted(amount, 'labels')} per class is too few: give 1 or more, or a fraction such as 0.1")
        if counts.min() < amount:
            scarce = classes[counts.argmin()]
            raise UserError(
                f"{counted(amount, 'labels')} per class are more than class {scarce} has ({counts.min()}): ask for fewer"
            )
        quota = np.full(len(classes), int(amount))
    else:
        if not 0 < amount <= 1:
            raise UserError(f"label fraction {amount} is outside (0, 1]: give 0.1, say, or an int for labels per class")
        quota = _even_quota(counts, max(round(float(amount) * int(counts.sum())), len(classes)), rng)
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:q] for c, q in zip(classes, quota, strict=True)]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def even_draw(n: int, labels: Array | None, amount: int, seed: int) -> Array:
    """Draws some of n samples: of those without a label their share, of the others as evenly over the classes as their
    counts permit.

    Args:
        n: number of samples.
        labels: (n,), -1 where there is none; None without any.
        amount: how many are drawn; all if there are no more.
        seed: same seed, same draw.

    Returns:
        Sorted positions, int64.
    """
    rng = np.random.default_rng([seed, 7])
    labels = np.full(n, -1, np.int64) if labels is None else labels
    amount = min(n, amount)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    few = round(amount * int(counts.sum()) / n)
    quota = _even_quota(counts, few, rng) if len(classes) else counts
    pairs = [(-1, amount - few), *zip(classes.tolist(), quota.tolist(), strict=True)]
    drawn = [rng.permutation(np.flatnonzero(labels == c))[:q] for c, q in pairs]
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def held_out_classes(classes: int, count: int, seed: int) -> Array:
    """Tells which classes are kept out of training: (count,) labels, sorted.

    Args:
        classes: how many there are.
        count: how many are kept out; 0 is none.
        seed: same seed, same classes.

    Raises:
        UserError: only one, or fewer than two are left.
    """
    if count and not 2 <= count <= classes - 2:
        raise UserError(
            f"--hold-out-classes {count} of {classes}: hold out 2 or more and leave 2 or more to train on, "
            "in data with 4 classes or more"
        )
    return np.sort(np.random.default_rng([seed, 6]).permutation(classes)[:count])


def hold_out(
    n: int, labels: Array | None, seed: int, name: str, *, noun: str = "image", groups: Array | None = None
) -> tuple[Array, Array]:
    """Returns a fifth for testing, balanced over the classes; of no class more than half, and none of a class with one
    sample.

    Args:
        n: number of samples.
        labels: (n,) or None; without labels, and for unlabelled samples, see Returns.
        seed: same seed, same split.
        name: of the data, for messages.
        noun: one sample, for messages.
        groups: (n,) of which group each sample is, -1 for none; None where there are none. A group is held out as a whole or
            not at all, so that it may be more or less than a fifth, and of a class more than half, but never all.

    Returns:
        Sorted positions of train and of test. Without any label the fifth is random; with labels, unlabelled samples stay
        in train, but for those of a group that is held out; samples without a group stay there.

    Raises:
        UserError: too few samples or groups, fewer than two classes with two samples, or no group without which each class
            is left.
    """
    rng = np.random.default_rng([seed, 5])
    if groups is not None:
        test = _groups_held_out(np.zeros(n, np.int64) if labels is None else labels, groups, rng, name)
    elif labels is None:
        if n < 2:
            raise UserError(
                f"{name}: {n} {noun} is too few to hold out a test set: add {noun}s, or give train=PATH,test=PATH"
            )
        test = np.sort(rng.permutation(n)[: max(1, round(HELD_OUT * n))])
    else:
        pool = np.full(n, -1, np.int64)
        classes, counts = np.unique(labels[labels >= 0], return_counts=True)
        for c, count in zip(classes, counts, strict=True):
            pool[rng.permutation(np.flatnonzero(labels == c))[: count // 2]] = c
        if (counts >= 2).sum() < min(2, len(classes)):
            raise UserError(
                f"{name}: {counted(len(classes), 'classes')} of which {(counts < 2).sum()} have a single {noun}: no "
                f"test set can be held out; add {noun}s to each class, or give train=PATH,test=PATH"
            )
        wanted = HELD_OUT * int(counts.sum()) / int((pool >= 0).sum())
        test = balanced_draw(pool, min(1.0, wanted), seed)
    rest = np.ones(n, bool)
    rest[test] = False
    return np.flatnonzero(rest), test.astype(np.int64)


def _groups_held_out(labels: Array, groups: Array, rng: np.random.Generator, name: str) -> Array:
    """Sorted positions of the samples of some groups, drawn one after the other where that brings the counts of the classes
    nearer to those of an even fifth, by squared distance, and the sum not above it; then one more, if that brings them
    nearer still, or if none is held out yet.

    Raises:
        UserError: fewer than two groups, or none without which each class is left.
    """
    remedy = "give another --group, or train=PATH,test=PATH"
    if len(np.unique(groups[groups >= 0])) < 2:
        raise UserError(f"{name} has fewer than 2 different values, of which one could be held out: {remedy}")
    counted = (labels >= 0) & (groups >= 0)
    classes, which, every = np.unique(labels[labels >= 0], return_inverse=True, return_counts=True)
    place = np.zeros(len(labels), np.int64)
    place[labels >= 0] = which
    here = np.bincount(place[counted], minlength=len(classes))
    wanted = _even_quota(np.minimum(here, every // 2), round(HELD_OUT * int(here.sum())), rng)
    short = wanted.copy()  # of each class, negative once there is more than wanted
    left = every.copy()
    order = np.flatnonzero(counted)[np.argsort(groups[counted], kind="stable")]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    members = np.split(order, starts[1:]) if len(order) else []
    parts = [np.unique(place[rows], return_counts=True) for rows in members]

    def nearer(at: int) -> float:
        """By how much the squared distance falls with this group; minus infinity where a class would be gone."""
        c, k = parts[at]
        return float((k * (2 * short[c] - k)).sum()) if (k < left[c]).all() else -np.inf

    def hold(at: int) -> None:
        c, k = parts[at]
        short[c] -= k
        left[c] -= k
        held.append(at)

    held: list[int] = []
    drawn = rng.permutation(len(parts)).tolist()
    for at in drawn:
        if parts[at][1].sum() <= short.sum() and nearer(at) > 0:
            hold(at)
    last = max(set(drawn) - set(held), key=nearer, default=None)
    if last is not None and (nearer(last) > 0 or (not held and nearer(last) > -np.inf)):
        hold(last)
    if not held:
        raise UserError(
            f"{name}: each of its values has all samples of a class, which would be missing in training: {remedy}"
        )
    return np.flatnonzero(np.isin(groups, groups[[members[at][0] for at in held]]))


def _even_quota(counts: Array, total: int, rng: np.random.Generator) -> Array:
    """How many of each class, (k,): one level for all, full classes excepted, the remainder to drawn classes."""
    quota = np.zeros_like(counts)
    while (left := total - int(quota.sum())) > 0 and (open_ := np.flatnonzero(quota < counts)).size:
        if left < len(open_):
            quota[rng.permutation(open_)[:left]] += 1
        else:
            quota[open_] = np.minimum(quota[open_] + left // len(open_), counts[open_])
    return quota


def parse_amount(text: str) -> int | float:
    """Reads an amount of labels: `"1"` is one image of each class, `"5"` five; `"1%"` is 0.01 of the labels, `"100%"` is
    1.0.

    Raises:
        UserError: neither a whole number >= 1 nor a percentage in (0, 100].
    """
    if re.fullmatch(r"[0-9]+", text) and int(text) >= 1:
        return int(text)
    percent = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)%", text)
    if percent and 0 < float(percent[1]) <= 100:
        return float(percent[1]) / 100
    raise UserError(
        f"labels {text!r}: write a whole number of images per class (1, 5) or a percentage of the labels (1%, 100%)"
    )
