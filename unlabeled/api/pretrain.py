"""The verb `pretrain`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import BesideLabel, of_recipe, takes_data

if TYPE_CHECKING:
    from torch import nn

    from unlabeled.methods.base import Method
    from unlabeled.run import Run


@takes_data
def pretrain(
    data: Any = None,
    /,
    *,
    method: str | type[Method] | None = None,
    encoder: str | nn.Module | Callable[..., nn.Module] | None = None,
    from_: str | Path | None = None,
    views: str | Callable[..., Any] | None = None,
    optimizer: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    label: Sequence[str] | None = None,
    labels: str | None = None,
    hold_out_classes: int | None = None,
    image_size: int | None = None,
    ema: float | None = None,
    tta: int | None = None,
    whiten: bool | None = None,
    warmup_epochs: float | None = None,
    lr_scaling: str | None = None,
    precision: str | None = None,
    speed: str | None = None,
    monitor_every: int | None = None,
    keep: str | None = None,
    keep_every: int | None = None,
    patience: int | None = None,
    seed: int | None = None,
    paper: bool | None = None,
    out: str | Path = "runs/a",
    recipe: str | Path | None = None,
    resume: bool = False,
    accelerator: str = "auto",
    devices: int | None = None,
    logger: Sequence[str] = (),
    **about: Unpack[BesideLabel],
) -> Run:
    """Pretrain an encoder on images or recordings, without their labels.

    What is not given comes from the recipe, then from what suits such data in batches of hundreds (`--paper` leaves it out),
    then from the method's paper, then from the defaults. Options of the method, the encoder, the views and the optimiser are
    written with a dot: `--method.temperature 0.2`, `--encoder.width 16`, `--views.strength 0.5`, `--optimizer.lr 0.1`; of
    the kind of data `--kind.eval-size 40` or, for recordings, `--kind.rate 16000 --kind.seconds 4`; in Python
    `options={"method.temperature": 0.2}`. Of images four need no dot: `--range 0,4095`, the values that become black and
    white; `--fit crop|pad|stretch`; `--pages first|all|channels` of a file; `--tiles 256`, of large pictures.

    Args:
        data: folder, zip, Parquet or .npz file (of recordings (n, samples) with `--kind sound --kind.rate 16000`), .csv or
            .txt that lists files, name of a known set, or `train=PATH,test=PATH`; in Python also arrays or a
            `torch.utils.data.Dataset` (default: the recipe's).
        method: what learns; `unlabeled methods` lists them (default: simclr). In Python also a class of your own.
        encoder: any backbone of timm, or `resnet9` (default: resnet18); of recordings, cpc. In Python also a
            `torch.nn.Module`, which begins with the weights it has, or a class of such, drawn by the seed.
        from_: weights to begin with: the folder of another run, a `.safetensors` file, or `timm` for those that timm has of
            this encoder (default: none, noise). On the command line, `--from`.
        views: policy that draws the views (default: the method's own). In Python also anything to call: a policy, or a
            function of one image such as torchvision's transforms.
        optimizer: sgd, adamw, muon or lars (default: the method's own).
        epochs: passes over the images (default: 100).
        batch_size: images per step, over all devices (default: 256; fewer where an epoch would have less than 8 steps).
        accumulate: pieces in which a batch goes through the encoder: the gradient of the whole batch in the memory of one
            (default: 1).
        label: column of the classes, of a .csv with a header, of a Parquet file or of `columns` (default: one that is called
            label, class or the like; or the folders). Several for --method multi-task, which learns them all; by the first
            the run is looked at.
        labels: how many labels a method that uses some may see: `1%` of all, or `4` of each class (default: 100%).
        hold_out_classes: classes, drawn by the seed, that are kept out of training, for `evaluate --protocol verification`
            or `few-shot` to judge on (default: 0).
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        ema: share of itself that an exponential moving average of the encoder's weights keeps at each step; it is then
            judged in place of the encoder (default: 0, none).
        tta: test-time augmentation, how many forms of an image are encoded when it is judged: 1; 2, its mirror image too; 4,
            both in three quarters of the size too (default: 1).
        whiten: whether the representation is whitened after training, by the training images (default: false).
        warmup_epochs: of linear warm-up (default: a tenth of the epochs, at most 10).
        lr_scaling: how the learning rate follows the batch size from 256 on: linear, sqrt or none (default: the paper's with
            its optimiser, else linear).
        precision: auto, bf16 or 32 (default: auto, bf16 where the machine computes in it).
        speed: `auto`, by which a few timed steps choose how to compute; or words such as `bf16 channels-last compiled fused
            workers=1` (default: auto; `unlabeled tune` shows what is fast here).
        monitor_every: epochs between two looks at kNN accuracy and rank; 0 for never (default: 5).
        keep: which epoch's encoder the run gives: best, that of the best look (by kNN, or without labels by rank), or last
            (default: best where a hundred images or more can be looked at by their labels, unless the method learns from
            labels itself; else last).
        keep_every: epochs between two encoders that are kept as well, in the folder's `epochs` (default: 0, none).
        patience: epochs without a better look after which the run ends early; may be changed when it is resumed (default: 0,
            never).
        seed: of everything random (default: 0).
        paper: whether what is not given is as in the method's paper, for large batches and long runs (default: false).
        out: folder of the run.
        recipe: YAML file that says any of the above, or the name of a packaged one: `unlabeled recipes` lists them.
        resume: go on from the run's last checkpoint; with more `epochs`, on to these, also from a finished run.
        accelerator: auto, cpu, cuda, mps.
        devices: number of processes, one a device (default: those of the launcher, such as torchrun; else 1).
        logger: also log to wandb, mlflow or csv, where installed; TensorBoard files are always written.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The run; `run.encoder()` is the trained network.

    Raises:
        UserError: anything that the user can put right.
        KeyboardInterrupt: Ctrl-C, SIGTERM or the end of the terminal came; the run is saved, and `resume` goes on.
    """
    from unlabeled.training.given import named
    from unlabeled.training.pretrain import pretrain as run_it
    from unlabeled.training.pretrain import reserved

    given = {
        **named(method=method, encoder=encoder, views=views),
        **({} if from_ is None else {"start": str(from_)}),
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "accumulate": accumulate,
        **_labels(label),
        "labels": labels,
        "hold_out_classes": hold_out_classes,
        "kind.size": image_size,
        "ema": ema,
        "tta": tta,
        "whiten": whiten,
        "warmup_epochs": warmup_epochs,
        "lr_scaling": lr_scaling,
        "precision": precision,
        "speed": speed,
        "monitor_every": monitor_every,
        "keep": keep,
        "keep_every": keep_every,
        "patience": patience,
        "seed": seed,
        "paper": paper,
    }
    layer = of_recipe(about, **given)
    with reserved(Path(out), devices) as processes:
        return run_it(data, layer, Path(out), recipe, resume, about.get("root"), accelerator, processes, logger)


def _labels(label: Sequence[str] | None) -> dict[str, Any]:
    """The fields of a recipe that say which columns are learned."""
    names = [label] if isinstance(label, str) else list(label or ())
    return {"label": names[0], **({"more_labels": names[1:]} if names[1:] else {})} if names else {}
