"""`--keep`: a fine-tuned encoder with its classifier, as a run of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data import Source
from unlabeled.errors import UserError
from unlabeled.evaluating.answer import spell
from unlabeled.probes.spelling import Asked
from unlabeled.probes.subject import weights
from unlabeled.registry import Choice
from unlabeled.run import Run, environment
from unlabeled.words import counted

KEPT = "finetune"
"""The protocol whose encoder can be kept."""


def check_keep(folder: Path | None, protocols: Sequence[Asked], amounts: Sequence[str], sets: int) -> None:
    """Checks whether there is one network to keep, and a place for it.

    Raises:
        UserError: none or several, or a folder that holds something.
    """
    if folder is None:
        return
    tuned = [item for item in protocols if item.choice.name == KEPT]
    count = sum(1 if item.labels else len(amounts) for item in tuned) * sets
    if count != 1:
        raise UserError(
            f"--keep {folder}: {counted(count, 'fine-tuned encoders')} of the run would be kept, and one can "
            "be: give --protocol finetune:10%, once, and one --data"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--keep {folder}: there is something already: give a new folder")


def keep(folder: Path, of: Run, called: str, item: Asked, text: str, probe: Any, train: Source, fitted: np.ndarray) -> None:
    """Writes the network that a draw of labels ended with.

    Args:
        folder: of the new run.
        of: what was fine-tuned.
        called: how the user calls it.
        item: the protocol.
        text: its amount of labels.
        probe: after its last draw.
        train: what it learned from.
        fitted: (N,) positions of the labelled samples.
    """
    options = item.choice.options
    recipe = replace(
        of.recipe, data=train.name, method=Choice("supervised", {"scaled": True}), start=called, labels=text,
        optimizer=Choice("adamw", {"lr": options["lr"], "weight_decay": options["weight_decay"]}),
        views=Choice(options["views"]), epochs=options["epochs"], batch_size=min(options["batch_size"], len(fitted)),
        lr_scaling="none", tta=1, ema=0.0, whiten=False, accumulate=1, seed=probe.seed_,
        keep="last", keep_every=0, patience=0,
        about={"fine-tuned": f"{called}, with {spell(text)} of the labels of {train.name}", "protocol": dict(options)},
    )  # fmt: skip
    about = {
        **environment(),
        "data": {**of.environment["data"], "name": train.name, "fingerprint": train.fingerprint, "whole": train.whole,
                 "train": len(fitted),
                 "classes": list(train.classes)},
        "start": {"named": called, "fingerprint": weights(of.encoder()), "fitted": []},
    }  # fmt: skip
    run = Run(folder)
    run.start(recipe, about)
    run.write_encoder(probe.model_.encoder)
    run.write_classifier(probe.model_.head, probe.model_.classes)
    taken = {"step": probe.steps_, "total": probe.steps_, "finished": True, "processes": 1}
    run.write_checkpoint({**taken, "method": probe.method_.state_dict(), "average": {}, "optimizers": {}})
