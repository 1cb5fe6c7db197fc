"""Retrieval: each test image is a query, and the labelled training images are ranked by the cosine of their features."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.probes.base import Shown, check_fit, mean_and_interval
from unlabeled.probes.knn import nearest
from unlabeled.probes.ranking import rank
from unlabeled.registry import register
from unlabeled.words import counted

Array = np.ndarray[Any, Any]

CASES, SHOWN = 5, 10
"""Best and worst queries that are drawn, and the neighbours of each."""


@register("retrieval")
class Retrieval:
    """Ranks the gallery, the labelled training images, for each query, a test image; what is of its class is relevant.

    With R relevant images in a gallery of N (Manning, Raghavan and Schütze 2008, "Introduction to Information Retrieval",
    §8.3 and §8.4, without interpolation):

    - `mAP`: the mean over the queries of the average precision: the mean, over the R relevant images, of the share of
      relevant ones among all images that are at least as similar as this one. The whole gallery is ranked.
    - `precision@k`: relevant images among the k nearest, divided by k.
    - `recall@k`: the same, divided by R. It cannot exceed k / R. It is not the share of queries with a hit, which papers
      on metric learning call recall@k.

    Cosines are told apart in 65,536 steps from the query's greatest to its least, of 2⁻²⁰ or more. Equally similar images
    have no order: for the average precision each has the rank of the last of them, as in scikit-learn; precision and recall
    are expected over all their orders (McSherry and Najork 2008). So features that are all alike have the precision of
    chance, in whatever order the images come. Images without a label (-1) are neither ranked nor asked for, nor are queries
    of classes that the gallery lacks; a note says how many.

    Args:
        k: nearest images of precision and recall (10: those of the picture), at most the whole gallery.

    Attributes:
        intervals_: name of a figure -> half the width of its 95% confidence interval, 1.96 s/√M over the M queries, given
            this gallery; without an entry for a single query.
        precision_: (M,) average precision of each image given to `score`, NaN where it was not asked for.
    """

    def __init__(self, *, k: int = 10) -> None:
        self.k = k
        self.notes_: list[str] = []
        self.intervals_: dict[str, float] = {}

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Keeps h (N, D), brought to length 1, and y (N,) int64. `reference` is not used: the cosine needs no statistics.

        Raises:
            UserError: an option out of range.
            ValueError: wrong shapes, no labelled sample, or features that are not finite.
        """
        if self.k < 1:
            raise UserError(f"retrieval: k must be at least 1, got {self.k}")
        order = torch.argsort(y.cpu(), stable=True)
        self.kept_ = order[y.cpu()[order] >= 0].numpy()  # the gallery, in the order of its classes
        self.labels_ = y.cpu().numpy()[self.kept_]
        labelled = h[torch.from_numpy(self.kept_).to(h.device)]
        check_fit(labelled, torch.from_numpy(self.labels_))
        self.gallery_ = F.normalize(labelled.float(), dim=1)
        self.k_ = min(self.k, len(labelled))
        few = f"retrieval: the {self.k_} nearest instead of {self.k}, as the gallery has no more images"
        self.notes_ = [few] if self.k_ < self.k else []
        return self

    def predict(self, h: Tensor) -> Tensor:
        """Returns the class of the nearest gallery image of each of h (M, D): (M,) int64 on the device of `h`."""
        found = [nearest(tile, self.gallery_, 1)[1].squeeze(1) for tile in torch.split(h, 256)]
        return torch.from_numpy(self.labels_)[torch.cat(found).cpu()].to(h.device)

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Returns `mAP`, `precision@k` and `recall@k`, shares in [0, 1], of the queries h (M, D) with labels y (M,).

        Raises:
            UserError: no query has an image of its class in the gallery.
        """
        labels = y.cpu().numpy()
        classes, starts, counts = np.unique(self.labels_, return_index=True, return_counts=True)
        asked = np.flatnonzero(np.isin(labels, classes))
        self.scored_ = len(asked)
        lacking = int((labels >= 0).sum()) - len(asked)
        if not len(asked):
            raise UserError("retrieval: no test image is of a class that the training images have: give other --data")
        left_out = f"retrieval: left out: {counted(lacking, 'queries')} of classes without a training image"
        self.notes_ = [note for note in self.notes_ if note != left_out] + [left_out] * bool(lacking)
        queries = F.normalize(h.to(self.gallery_.device).float(), dim=1)
        chosen = queries[torch.from_numpy(asked).to(queries.device)]
        own = np.searchsorted(classes, labels[asked])
        precision, hits = rank(chosen, own, self.gallery_, np.append(starts, len(self.labels_)), self.k_)
        self.queries_, self.queried_, self.precision_ = h, labels, np.full(len(h), np.nan)
        self.precision_[asked] = precision
        each = {"mAP": precision, f"precision@{self.k_}": hits / self.k_, f"recall@{self.k_}": hits / counts[own]}
        self.each_ = precision
        found = {name: mean_and_interval(x) for name, x in each.items()}
        self.intervals_ = {name: figure.interval for name, figure in found.items() if figure.interval is not None}
        return {name: figure.value for name, figure in found.items()}

    def draw(self, folder: Path, name: str, train: Shown, test: Shown) -> list[Path]:
        """Writes `NAME.png` and `NAME.json`: the queries of best and of worst average precision, no two of one
        class while there are others, each with its 10 nearest training images.

        The JSON holds `classes`, and under `best` and `worst` lists of queries: `number` in the data as given, `position` in
        the test split, `label` (index into `classes`), `average_precision`, and `neighbours`, the nearest first, each with
        `number`, `position` in the training split, `label`, `similarity` (the cosine) and `right`.
        """
        from unlabeled.probes.row_picture import Row, Tile, draw_rows

        folder.mkdir(parents=True, exist_ok=True)
        cases = {"best": self._cases(1)}
        cases["worst"] = [i for i in self._cases(-1) if i not in cases["best"]]
        found = {kind: [self._case(i, train, test) for i in chosen] for kind, chosen in cases.items()}
        classes = list(test.source.classes)
        rows = []
        for kind, several in found.items():
            for case in several:
                query = test.source.pictures([case["position"]])[0]
                images = train.source.pictures([n["position"] for n in case["neighbours"]])
                lines = [
                    "query: " + classes[case["label"]],
                    f"AP {case['average_precision']:.3f}",
                    f"image {case['number']}",
                ]
                tiles = [
                    Tile(image, [classes[n["label"]], f"{n['similarity']:.3f}", f"image {n['number']}"], n["right"])
                    for image, n in zip(images, case["neighbours"], strict=True)
                ]
                rows.append(Row(Tile(query, lines), tiles, f"{kind} queries" if case is several[0] else ""))
        said = "query and nearest training images, with their cosine; ✓ solid frame: same class, ✕ dashed frame: another"
        picture = draw_rows(folder / f"{name}.png", rows, said)
        text = json.dumps({"classes": classes, **found}, indent=1) + "\n"
        return [picture, write_whole(folder / f"{name}.json", lambda p: p.write_text(text, encoding="utf-8"))]

    def _cases(self, sign: int) -> list[int]:
        """Queries of the largest (sign 1) or smallest (-1) average precision: the first of each class, the second ..."""
        order = np.argsort(-sign * self.precision_, kind="stable")[: np.isfinite(self.precision_).sum()]  # NaN comes last
        seen: Counter[int] = Counter()
        turns = []
        for i in order.tolist():
            turns.append(seen[label := int(self.queried_[i])])
            seen[label] += 1
        chosen = order[np.argsort(turns, kind="stable")][:CASES]
        return [int(i) for i in chosen]

    def _case(self, i: int, train: Shown, test: Shown) -> dict[str, Any]:
        """What the JSON says of query i."""
        cosine, position = nearest(self.queries_[i : i + 1], self.gallery_, min(SHOWN, len(self.gallery_)))
        label = int(test.y[i])
        neighbours = [
            {
                **_image(train, self.kept_[p]),
                "label": int(self.labels_[p]),
                "similarity": round(c, 6),
                "right": bool(self.labels_[p] == label),
            }
            for c, p in zip(cosine[0].tolist(), position[0].tolist(), strict=True)
        ]
        about = {**_image(test, i), "label": label, "average_precision": float(self.precision_[i])}
        return about | {"neighbours": neighbours}


def _image(shown: Shown, i: int) -> dict[str, int]:
    """What the i-th image shown is called, and its place in its split."""
    position = int(shown.indices[i])
    return {"number": int(shown.source.numbers[position]), "position": position}
