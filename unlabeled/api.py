"""The verbs, in Python and on the command line the same: inspect, pretrain, evaluate, compare, sweep, embed, search,
export, report, tune, load, contact_sheet (`unlabeled views`).

Importing this is light: torch and the methods are imported when a verb runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled.api_export import export as export
from unlabeled.api_inspect import inspect as inspect
from unlabeled.api_report import report as report
from unlabeled.api_search import search as search
from unlabeled.api_tables import compare as compare
from unlabeled.api_tables import sweep as sweep
from unlabeled.api_tune import tune as tune

if TYPE_CHECKING:
    from unlabeled.encoders import Encoder
    from unlabeled.run import Run
    from unlabeled.verbs.evaluation import Evaluation
    from unlabeled.verbs.transfer import Transfer


def pretrain(
    data: Any = None,
    /,
    *,
    method: str | None = None,
    encoder: str | None = None,
    views: str | None = None,
    optimizer: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    labels: str | None = None,
    hold_out_classes: int | None = None,
    image_size: int | None = None,
    first_size: int | None = None,
    eval_size: int | None = None,
    average: float | None = None,
    looks: int | None = None,
    whiten: bool | None = None,
    warmup_epochs: float | None = None,
    lr_scaling: str | None = None,
    precision: str | None = None,
    speed: str | None = None,
    monitor_every: int | None = None,
    seed: int | None = None,
    out: str | Path = "runs/a",
    recipe: str | Path | None = None,
    resume: bool = False,
    root: str | Path | None = None,
    accelerator: str = "auto",
    devices: int = 1,
    logger: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
) -> Run:
    """Pretrain an encoder on images, without their labels.

    What is not given comes from the recipe, then from the method's paper, then from the defaults. Options of the method,
    the encoder, the views and the optimiser are written with a dot: `--method.temperature 0.2`, `--encoder.width 16`,
    `--views.strength 0.5`, `--optimizer.lr 0.1`; in Python, `options={"method.temperature": 0.2}`.

    Args:
        data: folder, zip, Parquet or .npz file, name of a known set, or `train=PATH,test=PATH`; in Python also arrays or
            a `torch.utils.data.Dataset` (default: the recipe's).
        method: what learns; `unlabeled methods` lists them (default: simclr).
        encoder: any backbone of timm, or `resnet9` (default: resnet18).
        views: policy that draws the views (default: the method's own).
        optimizer: sgd, adamw, muon or lars (default: the method's own).
        epochs: passes over the images (default: 100).
        batch_size: images per step, over all devices (default: 256).
        accumulate: pieces in which a batch goes through the encoder: the gradient of the whole batch in the memory of one
            (default: 1).
        labels: how many labels a method that uses some may see: `1%` of all, or `4` of each class (default: 100%).
        hold_out_classes: classes, drawn by the seed, that are kept out of training, for `evaluate --protocol verification`
            or `few-shot` to judge on (default: 0).
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        first_size: side of a view in the first epoch, which then grows to image_size (default: image_size).
        eval_size: side in pixels at which images are judged after training (default: image_size).
        average: share of itself that an average of the encoder's weights keeps at each step; it is then judged in place of
            the encoder (default: 0, no average).
        looks: how often an image is looked at when it is judged: 1; 2, at its mirror image too; 4, at both in three quarters
            of the size too (default: 1).
        whiten: whether the representation is whitened after training, by the training images (default: false).
        warmup_epochs: of linear warm-up (default: a tenth of the epochs, at most 10).
        lr_scaling: how the learning rate follows the batch size from 256 on: linear, sqrt or none (default: linear).
        precision: auto, bf16 or 32 (default: auto, bf16 where the machine computes in it).
        speed: `auto`, by which a few timed steps choose how to compute; or words such as `bf16 channels-last compiled fused
            workers=1` (default: auto; `unlabeled tune` shows what is fast here).
        monitor_every: epochs between two looks at kNN accuracy and rank; 0 for never (default: 5).
        seed: of everything random (default: 0).
        out: folder of the run.
        recipe: YAML file that says any of the above.
        resume: go on from the run's last checkpoint.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        devices: number of processes, one a device.
        logger: also log to wandb, mlflow or csv, where installed; TensorBoard files are always written.
        options: dotted options.

    Returns:
        The run; `run.encoder()` is the trained network.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.verbs.pretrain import pretrain as run_it

    given = {
        "method": method,
        "encoder": encoder,
        "views": views,
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "labels": labels,
        "hold_out_classes": hold_out_classes,
        "image_size": image_size,
        "first_size": first_size,
        "eval_size": eval_size,
        "average": average,
        "looks": looks,
        "whiten": whiten,
        "warmup_epochs": warmup_epochs,
        "lr_scaling": lr_scaling,
        "precision": precision,
        "speed": speed,
        "monitor_every": monitor_every,
        "seed": seed,
    }
    layer = {k: v for k, v in given.items() if v is not None} | dict(options or {})
    return run_it(data, layer, Path(out), recipe, resume, root, accelerator, devices, logger)


def evaluate(
    run: str | Path,
    /,
    *,
    data: Sequence[str] | Any = None,
    protocol: Sequence[str] = ("knn", "linear"),
    labels: Sequence[str] = ("100%",),
    draws: int | None = None,
    against: Sequence[str] = ("random", "pixels"),
    seed: int = 0,
    root: str | Path | None = None,
    accelerator: str = "auto",
    out: str | Path | None = None,
) -> Evaluation | Transfer:
    """Say how good an encoder is, beside an untrained one and raw pixels.

    Args:
        run: folder of the run.
        data: labelled data, as for `pretrain` (default: what the run was trained on); several give one table of them all.
        protocol: on features knn, linear, retrieval, clusters, tsne, umap; on images finetune, linear-layers, invariance,
            health, attention; on new classes verification, few-shot; transfer is linear and finetune:100%. Several may be
            given. Options follow a colon, and so does an amount of labels: few-shot:ways=10,shots=5, finetune:1%.
        labels: how many labels the classifier sees: `1` is one image of each class, `1%` a hundredth of all; several may be
            given.
        draws: class-balanced draws of the labels, where not all are used (default: 10; 3 for fine-tuning).
        against: what else to measure: `pixels` (raw), `random` (the untrained encoder), the folder of another run; several
            may be given, or `none`.
        seed: of the draws.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        out: JSON file to write (default: evaluation.json in the run's folder).

    Returns:
        The scores; `str()` of it is the table.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.verbs.evaluate import evaluate as evaluate_it

    return evaluate_it(
        run, data=data, protocol=protocol, labels=labels, draws=draws, against=against, seed=seed, root=root,
        accelerator=accelerator, out=out,
    )  # fmt: skip


def embed(
    run: str | Path,
    data: Any,
    /,
    *,
    out: str | Path,
    root: str | Path | None = None,
    accelerator: str = "auto",
    batch_size: int = 512,
) -> Path:
    """Write the features of images to a file.

    Args:
        run: folder of the run.
        data: images, as for `pretrain`; labels are copied where there are some.
        out: `.parquet` (columns index, path, split, label, embedding) or `.npz` (arrays of the same names).
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        batch_size: images at a time.

    Returns:
        The file.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.verbs.embed import embed as embed_it

    return embed_it(run, data, Path(out), root=root, accelerator=accelerator, batch_size=batch_size)


def load(run: str | Path, /) -> Encoder:
    """The trained encoder of a run, in evaluation mode: images (B, C, H, W), uint8 or float in [0, 1], to features (B, D).

    Args:
        run: folder of the run, or a file that `export --format safetensors` wrote.

    Raises:
        UserError: there is no finished encoder.
    """
    from unlabeled.run import load as load_it

    return load_it(run)


def contact_sheet(
    data: Any,
    /,
    *,
    policy: str = "simclr",
    out: str | Path = "views.png",
    image_size: int | None = None,
    images: int = 8,
    seed: int = 0,
    root: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Draw a contact sheet: what a method sees of the data.

    Options of the policy are written with a dot: `--policy.strength 0.5`; in Python, `options={"policy.strength": 0.5}`.

    Args:
        data: images, as for `pretrain`.
        policy: of the views.
        out: PNG file.
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        images: number of images.
        seed: of the draws.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        options: dotted options.

    Returns:
        The file.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.verbs.views import draw

    return draw(data, policy, dict(options or {}), Path(out), image_size, images, seed, root)
