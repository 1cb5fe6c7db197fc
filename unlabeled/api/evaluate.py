"""The verb `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.evaluating.evaluation import Evaluation
    from unlabeled.evaluating.transfer import Transfer


def evaluate(
    run: str | Path,
    /,
    *,
    data: Sequence[str] | Any = None,
    label: str | None = None,
    group: str | None = None,
    columns: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    protocol: Sequence[str] = ("knn", "linear"),
    labels: Sequence[str] = ("100%",),
    draws: int | None = None,
    against: Sequence[str] = ("random", "raw"),
    seed: int = 0,
    root: str | Path | None = None,
    accelerator: str = "auto",
    out: str | Path | None = None,
    keep: str | Path | None = None,
) -> Evaluation | Transfer:
    """Say how good an encoder is, beside an untrained one and raw features.

    Args:
        run: folder of the run.
        data: labelled data, as for `pretrain` (default: what the run was trained on); several give one table of them all.
        label: column of the classes to judge by (default: the run's). What is held out stays what the run held out, whatever
            its label; the file is then called evaluation-LABEL.json.
        group: column whose values are not divided between training and test images, of other data than the run's own
            (default: the run's, where the data have it).
        columns: pattern by which the names of files make columns, as for `pretrain` (default: the run's, where it fits).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
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
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        keep: folder for the encoder that `--protocol finetune:10%` trains, with its classifier, as a run of its own
            (default: it is not kept).
        out: JSON file to write (default: evaluation.json in the run's folder).

    Returns:
        The scores; `str()` of it is the table.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.evaluating.evaluate import evaluate as evaluate_it

    return evaluate_it(
        run, data=data, label=label, group=group, columns=columns, path=path, split=split, limit=limit,
        protocol=protocol, labels=labels, draws=draws, against=against, seed=seed, root=root, accelerator=accelerator,
        out=out, kept=keep,
    )  # fmt: skip
