"""One protocol for all rows of a table: features once, classifiers on them, and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from unlabeled.comparing import parabola
from unlabeled.console import console
from unlabeled.data import Data, Source, balanced_draw, open_data, told
from unlabeled.errors import UserError
from unlabeled.evaluating.answer import BALANCED, RAW
from unlabeled.evaluating.evaluate import labelled
from unlabeled.probes.base import check_classes
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.extract import features, precision_of, raw
from unlabeled.probes.finetune import Finetune
from unlabeled.probes.paired import Clusters
from unlabeled.probes.score import Score
from unlabeled.probes.subject import Subject
from unlabeled.recipe import Recipe
from unlabeled.registry import get
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric

FEW, DRAWS = 0.01, 5
"""Share of the labels of which there are few, and how many class-balanced draws of them kNN is judged by."""


KNN, LINEAR = get("probes", "knn").resolve({}), get("probes", "linear").resolve({"C": 1.0})
"""One regularisation for all rows: choosing it for each would take longer than some of them."""


class Judge:
    """Figures of an encoder: each a list of shares in [0, 1], one a draw of the labels.

    Args:
        data: with labels in both splits.
        few: whether to judge with few labels, too, by kNN and fine-tuning.
        seed: of the draws.
        accelerator: auto, cpu, cuda, mps.
    """

    def __init__(self, data: Data, *, few: bool, seed: int, accelerator: str) -> None:
        self.data, self.few, self.seed, self.accelerator = data, few, seed, accelerator

    @property
    def protocol(self) -> dict[str, Any]:
        """How it judges: rows judged otherwise do not belong into one table."""
        few = (
            {"few": FEW, "draws": DRAWS, "finetune": dict(get("probes", "finetune").resolve({}).options)} if self.few else {}
        )
        return {name: dict(choice.options) for name, choice in (("knn", KNN), ("linear", LINEAR))} | few

    def __call__(self, run: Run, tell: Callable[[str], None]) -> dict[str, Any]:
        """What the row says of it; `tell` is told what is being done."""
        tell("features of all samples")
        fabric = make_fabric(run.recipe, self.accelerator, 1)
        encoder = run.encoder().to(fabric.device)
        test = self.data.test
        assert test is not None
        splits = [
            *labelled(self.data.train, lambda source: features(encoder, source, device=fabric.device)),
            *labelled(test, lambda source: features(encoder, source, device=fabric.device)),
        ]
        tell("kNN and a linear classifier")
        scores = {
            "knn": evaluate_features(*splits, protocol=KNN, seed=self.seed, clusters=self.clusters()),
            "linear": evaluate_features(*splits, protocol=LINEAR, seed=self.seed, clusters=self.clusters()),
        }
        if self.few:
            scores["knn_few"] = evaluate_features(*splits, protocol=KNN, amount=FEW, draws=DRAWS, seed=self.seed)
        figures = {name: score.metrics["top1"] for name, score in scores.items()}
        if "top5" in scores["linear"].metrics:
            figures["linear_top5"] = scores["linear"].metrics["top5"]
        if self.few:
            tell("fine-tuning with 1% of the labels")
            chosen, y = _good(self.data.train)
            drawn = balanced_draw(y, FEW, self.seed)
            subject = Subject("run", encoder, device=fabric.device, precision=precision_of(fabric))
            tuned = Finetune().fit(subject, self.data.train, chosen[drawn], y[drawn], seed=self.seed)
            figures["finetuned_few"] = [tuned.score(test, *_good(test))["top1"].value]
        notes = dict.fromkeys(note for score in scores.values() for note in score.notes)
        intervals = {name: scores[name].intervals["top1"] for name in ("knn", "linear") if "top1" in scores[name].intervals}
        about = {
            "intervals": intervals,
            "tested": scores["knn"].tested,
            "largest": scores["knn"].guess["top1"],
            "constant": _constant(scores["knn"]),
            "notes": list(notes),
        }
        if parabola.asked(run.recipe.views.name):
            tell("what two views share")
            about |= parabola.information(run, test, self.accelerator)
        unlearned = {} if run.learned else {"raw": self.raw()}
        alike = {"clusters": scores["knn"].clusters} if scores["knn"].clusters else {}
        return {"figures": figures, "each": scores["knn"].each, **alike, **about, **unlearned}

    def clusters(self) -> Clusters | None:
        """Returns which test images that can be read are not independent of each other."""
        assert self.data.test is not None
        alike = self.data.clusters()
        return alike and Clusters(*alike).at(self.data.test.good())

    def raw(self) -> dict[str, Any]:
        """Measures by kNN what needs no encoder, such as pixels: what stands in the row of the untrained encoder."""
        assert self.data.test is not None
        score = evaluate_features(
            *labelled(self.data.train, raw), *labelled(self.data.test, raw), protocol=KNN, seed=self.seed,
            clusters=self.clusters(),
        )  # fmt: skip
        name = RAW[self.data.train.kind.raw]
        return {
            "name": name,
            "figures": {"knn": score.metrics["top1"]},
            "each": score.each,
            "tested": score.tested,
            "constant": _constant(score),
        }


def open_labelled(named: Any, recipe: Recipe, root: Any) -> tuple[Data, Data]:
    """Returns the data, of a kind whose options are all settled, as they are trained on, and as `evaluate` reads them: at
    the size at which encoders judge, where that is another.

    Raises:
        UserError: none given, not a path or name, without labels of two classes, or anything else wrong with it.
    """
    if named is None or (isinstance(named, str) and not named):
        raise UserError("no data given: give the path or the name of labelled data")
    data = open_data(named, kind=recipe.kind, root=root, seed=recipe.seed, roles=recipe.roles)
    train, test = data.train, data.test
    if data.undivided:
        raise UserError(f"{data.alone()}: give train=PATH,test=PATH")
    if test is None or test.labels is None or train.labels is None or len(train.classes) < 2:
        raise UserError(
            f"{train.name!r} has no labels of two classes or more to compare by: give labelled images, for example a folder "
            f"with one sub-folder a class{train.candidates}"
        )
    for source, where in ((train, "the training split"), (test, "the test split")):
        check_classes(_good(source)[1], f"{source.name!r}, {where}")
    for remark in data.remarks():
        console().print(remark, soft_wrap=True)
    how = partial(open_data, named, kind=train.kind.resolved(train.form), root=root, seed=recipe.seed, roles=recipe.roles)
    opened, judged = how(), how(judged=True)
    return opened, opened if judged.train.form.fields == opened.train.form.fields else judged


def identity(data: Data) -> dict[str, Any]:
    """Returns what makes the data the same: for the question that a folder of rows answers."""
    assert data.test is not None
    content = f"{data.train.fingerprint} {data.test.fingerprint}"
    return {"name": data.train.name, "fingerprint": content, "labels": told(data.train, data.test)}


def _good(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Positions and labels of the images that are labelled and can be read."""
    assert source.labels is not None
    chosen = np.flatnonzero((source.labels >= 0) & source.good())
    return chosen, source.labels[chosen]


def _constant(score: Score) -> bool:
    """Whether it names one class of uneven ones whatever the sample: its share of right ones then tells nothing."""
    return score.constant and BALANCED in score.metrics


def mean(values: Sequence[float]) -> float:
    """Returns the mean of a figure's draws."""
    return sum(values) / len(values)
