"""The verb `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    from unlabeled.evaluating.evaluation import Evaluation
    from unlabeled.evaluating.transfer import Transfer


@takes_data
def evaluate(
    run: str | Path,
    /,
    *,
    data: Sequence[str] | Any = None,
    protocol: Sequence[str] = ("knn", "linear"),
    labels: Sequence[str] = ("100%",),
    draws: int | None = None,
    against: Sequence[str] = ("random", "raw"),
    seed: int = 0,
    accelerator: str = "auto",
    out: str | Path | None = None,
    keep: str | Path | None = None,
    **about: Unpack[About],
) -> Evaluation | Transfer:
    """Say how good an encoder is, beside an untrained one and raw features.

    With another `label` than the run's, what is held out stays what the run held out, and the file is called
    evaluation-LABEL.json.

    Args:
        run: folder of the run.
        data: labelled data, as for `pretrain` (default: what the run was trained on); several give one table of them all.
        protocol: on features knn, linear, retrieval, clusters, tsne, umap; on images finetune, linear-layers, invariance,
            health, attention; classifier, the run's own; on new classes verification, few-shot; transfer is linear and
            finetune:100%. Several may be given. Options follow a colon, and so does an amount of labels:
            few-shot:ways=10,shots=5, finetune:1%, finetune:10%,epochs=5.
        labels: how many labels the classifier sees: `1` is one image of each class, `1%` a hundredth of all; several may be
            given.
        draws: class-balanced draws of the labels, where not all are used (default: 10; 3 for fine-tuning).
        against: what else to measure: `raw` (pixels of images, log-mel statistics of recordings), `random` (the untrained
            encoder), the folder of another run; several may be given, or `none`.
        seed: of the draws.
        accelerator: auto, cpu, cuda, mps.
        keep: folder for the encoder that `--protocol finetune:10%` trains, with its classifier, as a run of its own
            (default: it is not kept).
        out: JSON file to write (default: evaluation.json in the run's folder).
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The scores; `str()` of it is the table.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.evaluating.evaluate import evaluate as evaluate_it

    return evaluate_it(
        run, data=data, protocol=protocol, labels=labels, draws=draws, against=against, seed=seed, accelerator=accelerator,
        out=out, kept=keep, about=about,
    )  # fmt: skip
