"""One training of some steps, by `unlabeled` or as lightly's users write it: what `benchmarks/training.py` measures.

    python benchmarks/training_sides.py '{"side": "lightly", ...}' FOLDER

FOLDER holds `images.parquet`. Prints one line of JSON last. Both sides train the same ResNet-18 with a 3×3 stem, heads and
queues of the same sizes, on the same batches' worth of JPEG images.
"""

from __future__ import annotations

import copy
import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.models.resnet import BasicBlock

from benchmarks.views import processor_seconds
from unlabeled.compute.speed import usual
from unlabeled.data import open_data
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.training import monitor
from unlabeled.training.setup import make_fabric
from unlabeled.training.speed_trial import settled
from unlabeled.training.train import train

SIZE, SMALL_CROP = 32, 14
WHOLE = 50_000
"""Images of CIFAR-10: the length of a run decides whether compiling is worth while."""
LAST = 10
"""Steps over which the loss at the end is averaged."""
LR, TEMPERATURE = 0.06, 0.5
SAME = {"optimizer": "sgd", "optimizer.lr": LR, "optimizer.weight_decay": 0.0, "optimizer.nesterov": False}
SAME |= {"method.temperature": TEMPERATURE, "lr_scaling": "none", "warmup_epochs": 0, "epochs": 1000, "monitor_every": 0}
"""What makes a loss of ours comparable: the learning rate hardly falls within the first of 1,000 epochs."""

Step = Callable[[list[Tensor]], Tensor]
"""The loss of a batch of views."""


class Watch:
    """Reads the clocks before the first measured step and after the last one, at which it says True."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.last = first, first + steps
        self.readings: dict[int, tuple[float, float]] = {}

    def __call__(self, step: int) -> bool:
        if step in (self.first, self.last):
            self.readings[step] = time.perf_counter(), processor_seconds()
        return step >= self.last

    def result(self, batch: int) -> dict[str, float]:
        """Of the measured steps."""
        begin, end = self.readings[self.first], self.readings[self.last]
        steps = self.last - self.first
        return {
            "images_per_second": batch * steps / (end[0] - begin[0]),
            "images_per_processor_second": batch * steps / (end[1] - begin[1]),
            "step_s": (end[0] - begin[0]) / steps,
        }


def ours(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """`training.train` with its defaults, or tuned as `pretrain` does; every step is logged where losses are compared."""
    layer = {"data": str(folder / "images.parquet"), "method": job["method"], "encoder.width": job["width"]}
    layer |= {"kind.size": SIZE, "batch_size": job["batch"], "precision": job["precision"], "seed": job["round"]}
    if job["kind"] == "losses":
        layer |= SAME
        monitor.LOG_EVERY = 1
    recipe, run = compose(layer), Run(folder / "run")
    data, watch = open_data(recipe.data, kind=Choice("", {"size": SIZE}), seed=None), Watch(job["warm_up"], job["steps"])
    if job["side"] == "unlabeled-tuned":
        whole, _ = settled(replace(recipe, epochs=recipe.epochs * WHOLE // len(data.train)), data.train, "cpu")
        recipe = replace(recipe, speed=whole.speed)
    train(recipe, data, run, {}, accelerator="cpu", watch=watch)
    losses = [line["loss"] for line in run.history if "loss" in line]
    return {
        **watch.result(job["batch"]),
        "precision": make_fabric(recipe, "cpu", 1)._precision.precision,
        "speed": str(usual(torch.device("cpu"), recipe.precision)) if recipe.speed == "auto" else recipe.speed,
        "loss": sum(losses[-LAST:]) / len(losses[-LAST:]) if job["kind"] == "losses" else None,
    }


class Pictures(Dataset[tuple[list[Tensor], int]]):
    """Encoded images, decoded when they are asked for, through a transform."""

    def __init__(self, path: Path, transform: Callable[[Image.Image], list[Tensor]]) -> None:
        self.encoded = [cell["bytes"] for cell in pq.read_table(path, columns=["image"]).column(0).to_pylist()]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, index: int) -> tuple[list[Tensor], int]:
        return self.transform(Image.open(io.BytesIO(self.encoded[index])).convert("RGB")), 0


def resnet18(width: int) -> nn.Sequential:
    """Torchvision's blocks behind one 3×3 convolution of stride 1, without max-pool."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    wide = width
    for stage in range(4):
        narrow, wide = wide, width * 2**stage
        shrink = nn.Sequential(nn.Conv2d(narrow, wide, 1, 2, bias=False), nn.BatchNorm2d(wide)) if stage else None
        layers += [BasicBlock(narrow, wide, 2 if stage else 1, shrink), BasicBlock(wide, wide)]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def lightly_transform(method: str) -> Callable[[Image.Image], list[Tensor]]:
    """Lightly's own for the method, at this size; not blurred, as its users do not for CIFAR and ours does not."""
    from lightly import transforms as t  # type: ignore[import-not-found, unused-ignore]

    plain = {"input_size": SIZE, "gaussian_blur": 0.0}
    make = {
        "simclr": lambda: t.SimCLRTransform(**plain),
        "moco": lambda: t.MoCoV2Transform(**plain),
        "byol": lambda: t.BYOLTransform(t.BYOLView1Transform(**plain), t.BYOLView2Transform(**plain)),
        "swav": lambda: t.SwaVTransform(crop_sizes=(SIZE, SMALL_CROP), gaussian_blur=0.0),
    }
    return make[method]()  # type: ignore[no-any-return]


def lightly_method(job: dict[str, Any]) -> tuple[nn.Module, Step]:
    """What is trained, of lightly's modules, and the loss that it makes of the views."""
    from lightly import loss as losses  # type: ignore[import-not-found, unused-ignore]
    from lightly.models import modules, utils  # type: ignore[import-not-found, unused-ignore]

    backbone, dim = resnet18(job["width"]), 8 * job["width"]

    def slow(model: nn.Module) -> nn.Module:
        copied = copy.deepcopy(model)
        utils.deactivate_requires_grad(copied)
        return copied

    def simclr() -> tuple[nn.Module, Step]:
        head = modules.SimCLRProjectionHead(dim, dim, 128)
        if job["kind"] == "losses":  # without the batch norm after the last layer, which ours lacks
            blocks = [(dim, dim, nn.BatchNorm1d(dim), nn.ReLU()), (dim, 128, None, None)]
            head = modules.heads.ProjectionHead(blocks)
        model, criterion = nn.Sequential(backbone, head), losses.NTXentLoss(temperature=TEMPERATURE)
        return model, lambda views: criterion(model(views[0]), model(views[1]))

    def moco() -> tuple[nn.Module, Step]:
        model = nn.Sequential(backbone, modules.MoCoProjectionHead(dim, dim, 128))
        target, criterion = slow(model), losses.NTXentLoss(memory_bank_size=(4096, 128))

        def loss(views: list[Tensor]) -> Tensor:
            utils.update_momentum(model, target, m=0.999)
            return criterion(model(views[0]), target(views[1]).detach())  # type: ignore[no-any-return]

        return model, loss

    def byol() -> tuple[nn.Module, Step]:
        model = nn.Sequential(backbone, modules.BYOLProjectionHead(dim, 4096, 256))
        predictor, target = modules.BYOLPredictionHead(256, 4096, 256), slow(model)
        criterion = losses.NegativeCosineSimilarity()

        def loss(views: list[Tensor]) -> Tensor:
            utils.update_momentum(model, target, m=0.996)
            p1, p2 = (predictor(model(view)) for view in views)
            z1, z2 = (target(view).detach() for view in views)
            return (criterion(p1, z2) + criterion(p2, z1)) / 2  # type: ignore[no-any-return]

        return nn.ModuleList([model, predictor]), loss

    def swav() -> tuple[nn.Module, Step]:
        model = nn.Sequential(backbone, modules.SwaVProjectionHead(dim, 2048, 128))
        prototypes, criterion = modules.SwaVPrototypes(128, 3000), losses.SwaVLoss()

        def loss(views: list[Tensor]) -> Tensor:
            prototypes.normalize()
            likenesses = [prototypes(F.normalize(model(view), dim=1)) for view in views]
            return criterion(likenesses[:2], likenesses[2:])  # type: ignore[no-any-return]

        return nn.ModuleList([model, prototypes]), loss

    return {"simclr": simclr, "moco": moco, "byol": byol, "swav": swav}[job["method"]]()


def lightly(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A plain loop over a `DataLoader`, as lightly's examples have it."""
    torch.manual_seed(job["round"])
    pictures = Pictures(folder / "images.parquet", lightly_transform(job["method"]))
    loader = DataLoader(pictures, job["batch"], shuffle=True, drop_last=True, num_workers=job["workers"])
    model, loss_of = lightly_method(job)
    usual = {} if job["kind"] == "losses" else {"weight_decay": 5e-4}
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, **usual)
    losses, watch = [], Watch(job["warm_up"], job["steps"])
    watch(0)
    for step, (views, _) in enumerate(loader, 1):
        with torch.autocast("cpu", torch.bfloat16, enabled=job["precision"] == "bf16"):
            loss = loss_of(views)
        losses.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if watch(step):
            break
    return {
        **watch.result(job["batch"]),
        "precision": "bf16-mixed" if job["precision"] == "bf16" else "32-true",
        "loss": float(torch.stack(losses[-LAST:]).mean()) if job["kind"] == "losses" else None,
    }


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    made = (lightly if asked["side"].startswith("lightly") else ours)(asked, Path(sys.argv[2]))
    print(json.dumps({name: value for name, value in made.items() if value is not None}))
