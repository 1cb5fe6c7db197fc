"""What a classifier said of test samples, and what tells how good that is where the share of right ones does not.

Where most samples are of one class, who always names that class is mostly right.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unlabeled.files import write_whole
from unlabeled.probes.base import Figure, Shown, binomial
from unlabeled.probes.heat_map import heat_map
from unlabeled.probes.roc import auc

Array = np.ndarray[Any, Any]

UNEVEN, POINTS = 0.5, 0.1
"""Of its even share, and of all samples, what the largest class has beyond its even share where it makes accuracy
misleading, whichever is less; ours. Of two classes 60% are too many, of ten 15%."""
Z = 1.96


@dataclass(frozen=True, eq=False)
class Classified:
    """Classes of M test samples, true and predicted.

    Attributes:
        truth: (M,) int64.
        predicted: (M,) int64.
        probability: (M, K), of each of `classes`.
        classes: (K,) int64, that the classifier knows, ascending.
    """

    truth: Array
    predicted: Array
    probability: Array
    classes: Array

    @property
    def right(self) -> Array:
        """Where both are the same: (M,) bool."""
        found: Array = self.truth == self.predicted
        return found

    @cached_property
    def counts(self) -> dict[int, int]:
        """How many samples there are of each class that there is any of."""
        return dict(zip(*(found.tolist() for found in np.unique(self.truth, return_counts=True)), strict=True))

    @property
    def uneven(self) -> bool:
        """Whether accuracy says little, as one class has much more than its share."""
        return uneven(list(self.counts.values()))

    def figures(self) -> dict[str, Figure]:
        """Returns `balanced`, the mean recall of the classes (Brodersen et al. 2010), where they are uneven, and of two
        classes `auroc`, the area under the ROC curve. 95% intervals: of `balanced` by those of the recalls (`binomial`), of
        the area by Hanley and McNeil (1982), equation 2."""
        found = {}
        if self.uneven:
            recall = self.recall()
            halves = [binomial(recall[c], n) for c, n in self.counts.items()]
            spread = math.sqrt(sum(half * half for half in halves)) / len(halves)
            found["balanced"] = Figure(float(np.mean(list(recall.values()))), spread)
        if len(self.classes) == 2 and set(self.counts) == set(self.classes.tolist()):
            second = self.truth == self.classes[1]
            area = auc(self.probability[second, 1], self.probability[~second, 1])
            found["auroc"] = Figure(area, _spread(area, int(second.sum()), int((~second).sum())))
        return found

    def each(self) -> dict[str, Array]:
        """Returns for each of `figures` what each sample adds to it: (M,), of which it is the mean, on such a scale that
        resampling the samples moves the mean as it moves the figure.

        That is how far the sample is from what its class has in the mean, over the share of the class: of `balanced` whether
        it is right; of `auroc` how far it stands above those of the other class, its structural component (DeLong et al.
        1988, equations 4 and 5). The class's mean is taken as if one sample more were right and one wrong (Agresti and Coull
        1998), as that of very few samples is not known.
        """
        found, n = {}, np.array([self.counts[c] for c in self.truth.tolist()])
        for name, figure in self.figures().items():
            values, times = self.right.astype(np.float64), 1
            if name == "auroc":
                second, of = self.truth == self.classes[1], self.probability[:, 1]
                values, times = np.where(second, _above(of, of[~second]), 1 - _above(of, of[second])), 2
            sums = {c: values[self.truth == c].sum() for c in self.counts}
            usual = (np.array([sums[c] for c in self.truth.tolist()]) + 1) / (n + 2)
            moved = times * (values - usual) * len(n) / (len(self.counts) * n)
            found[name] = moved - moved.mean() + figure.value
        return found

    @property
    def constant(self) -> bool:
        """Whether one class is named whatever the sample."""
        return len(np.unique(self.predicted)) == 1

    def guess(self) -> dict[str, float]:
        """Returns what each figure is of who always names the largest class: by the name of the figure, of all that there
        may be."""
        shares = sorted((n / len(self.truth) for n in self.counts.values()), reverse=True)
        return {"top1": shares[0], "top5": sum(shares[:5]), "balanced": 1 / len(shares), "auroc": 0.5}

    def recall(self) -> dict[int, float]:
        """Returns the share of each class that was found."""
        return {c: float(self.right[self.truth == c].mean()) for c in self.counts}

    def confusion(self, classes: int) -> Array:
        """Returns how many samples of each class (rows) were given each (columns): (classes, classes) int64."""
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts

    def draw(self, folder: Path, name: str, test: Shown) -> list[Path]:
        """Writes `NAME.png`, the confusion matrix with the recall of each class, `NAME.json` with the same numbers
        (`classes`, `confusion`), and `NAME.csv`, a row for each sample: path, truth, prediction and its probability.

        Raises:
            UserError: a file cannot be written.
        """
        names = list(test.source.classes)
        counts, recall = self.confusion(len(names)), self.recall()
        rows = [f"{name} {recall[c]:.0%}" if c in recall else name for c, name in enumerate(names)]
        folder.mkdir(parents=True, exist_ok=True)
        picture = heat_map(
            folder / f"{name}.png", counts, names, rows, x="predicted class", y="true class, and share of it that was found",
            title=f"{name}: confusion matrix", share="share of the true class",
        )  # fmt: skip
        text = json.dumps({"classes": names, "confusion": counts.tolist()}) + "\n"
        written = write_whole(folder / f"{name}.json", lambda p: p.write_text(text, encoding="utf-8"))
        return [picture, self._table(folder / f"{name}.csv", names, test), written]

    def _table(self, path: Path, names: Sequence[str], test: Shown) -> Path:
        places = np.searchsorted(self.classes, self.predicted)
        shares = self.probability[np.arange(len(places)), places]
        rows = [(test.source.path(i), names[t], names[p], f"{share:.6f}") for i, t, p, share in zip(
            test.indices.tolist(), self.truth.tolist(), self.predicted.tolist(), shares.tolist(), strict=True)]  # fmt: skip

        def write(path: Path) -> None:
            with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([("path", "truth", "prediction", "probability"), *rows])

        return write_whole(path, write)


def classified(truth: Tensor, probability: Tensor, classes: Tensor) -> Classified:
    """Returns what a classifier said that names the likeliest class, the first of equal ones.

    Args:
        truth: (M,) int64, on any device, as the others.
        probability: (M, K).
        classes: (K,) int64.
    """
    shares, known = probability.detach().float().cpu().numpy(), classes.cpu().numpy()
    return Classified(truth.cpu().numpy(), known[probability.argmax(dim=1).cpu().numpy()], shares, known)


def uneven(counts: Sequence[int]) -> bool:
    """Tells whether the largest of some classes has so much more than its even share that naming it is right too often.

    >>> uneven([55, 45]), uneven([69, 31])
    (False, True)
    """
    even = 1 / len(counts)
    return len(counts) > 1 and max(counts) / sum(counts) > even + min(POINTS, UNEVEN * even)


def _above(scores: Array, others: Array) -> Array:
    """Of (M,) scores the share of others that are below, equal ones counting half: (M,)."""
    ranked = np.sort(others)
    below, up_to = (np.searchsorted(ranked, scores, side) for side in ("left", "right"))
    found: Array = (below + up_to) / (2 * len(ranked))
    return found


def _spread(area: float, positive: int, negative: int) -> float:
    """Half the width of the 95% interval of an area. One of exactly 0 or 1 is taken for off by half a pair of a sample, as
    the equation would give it none."""
    edge = 0.5 / min(positive, negative)
    a = min(max(area, edge), 1 - edge)
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (positive - 1) * (q1 - a * a) + (negative - 1) * (q2 - a * a)) / (positive * negative)
    return Z * math.sqrt(variance)
