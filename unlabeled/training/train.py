"""THE loop. It knows no method: it draws views, calls forward, and keeps the four moments at which state is written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled import registry
from unlabeled.batch import Batch
from unlabeled.compute.speed import Speed, usual
from unlabeled.data import Data
from unlabeled.distributed import any_process, rank, share_statistics, wait_for_all, world
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Comparison
from unlabeled.optim.optim import groups
from unlabeled.optim.schedules import scaled_lr, view_size, warmup_cosine
from unlabeled.parts.memory import Ema, Queue
from unlabeled.probes.extract import features, precision_of
from unlabeled.recipe import Recipe
from unlabeled.run import Run
from unlabeled.training import accumulate
from unlabeled.training.batches import Clock, batches, generator, seed_of
from unlabeled.training.checkpoints import restore, save
from unlabeled.training.interrupt import stoppable
from unlabeled.training.monitor import Monitor
from unlabeled.training.setup import built, chosen_images, finished_encoder, followers, make_fabric

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


def train(
    recipe: Recipe,
    data: Data,
    run: Run,
    about: Mapping[str, Any],
    *,
    accelerator: str = "auto",
    devices: int = 1,
    loggers: Sequence[Any] = (),
    watch: Callable[[int], bool] = lambda step: False,
    begin: int = 0,
) -> bool:
    """Trains the recipe's method on the data, from the run's last checkpoint if it has one.

    Args:
        recipe: resolved, with an image size.
        data: opened.
        run: where to; its folder is made once everything else has been built, so that a mistake leaves nothing behind.
        about: what the run keeps of its environment, unless it has a checkpoint.
        accelerator: Fabric's name of the hardware.
        devices: processes, one a device.
        loggers: of Fabric, beside the run's own metrics.
        watch: called before each step, and again after what the method does before an epoch; True ends the training
            there and then, without a checkpoint.
        begin: epoch with which a run without a checkpoint begins, as if those before it were over: for trials of what
            comes late.

    Returns:
        Whether the run is finished (it is not after Ctrl-C).

    Raises:
        UserError: a loss that is not finite, a batch larger than the data, hardware that is not there, and what method
            and views refuse.
    """
    fabric = make_fabric(recipe, accelerator, devices, loggers)
    fabric.launch()
    source = data.train
    torch.manual_seed(recipe.seed)
    chosen, labels = chosen_images(recipe, source)
    method = built(recipe, source, len(chosen))
    policy = cache(lambda size: registry.build("views", recipe.views, replace(method.shape, size=size)))
    first_size, last_size = recipe.first_size or method.shape.size, method.shape.size
    if recipe.batch_size > len(chosen):
        raise UserError(
            f"the batch size is {recipe.batch_size}, larger than the {len(chosen)} images to train on: "
            f"give --batch-size {max(1, len(chosen) // 2)} or less"
        )
    if recipe.batch_size % world():
        raise UserError(f"the batch size is {recipe.batch_size}, which {world()} devices cannot share: give a multiple")
    for part in method.modules():
        if isinstance(part, Queue):
            part.check(recipe.batch_size)
    accumulate.check(method, recipe.accumulate, recipe.batch_size // world())
    fabric.to_device(method)
    share_statistics(method)
    speed = usual(fabric.device, recipe.precision) if recipe.speed == "auto" else Speed.parse(recipe.speed)
    method.to(memory_format=speed.layout)
    trainable = any(p.requires_grad for p in method.parameters())
    clock = Clock(len(chosen) // recipe.batch_size, recipe.epochs if trainable else 0)
    lr = scaled_lr(float(recipe.optimizer.options["lr"]), recipe.batch_size, recipe.lr_scaling)
    warmup_epochs = min(10.0, recipe.epochs / 10) if recipe.warmup_epochs is None else recipe.warmup_epochs
    warmup = round(warmup_epochs * clock.per_epoch)
    for size in (first_size, last_size):
        drawn, _ = policy(size)(source.fetch(chosen[:2]).to(fabric.device), generator(recipe.seed, 0, 0))
    method.encoder.looking(recipe.looks)  # whether it can
    if method.n_views not in (None, len(drawn)):
        raise UserError(
            f"the policy {recipe.views.name!r} draws {len(drawn)} view{'s' * (len(drawn) > 1)} of each image, and "
            f"{recipe.method.name!r} compares {method.n_views}: give other --views"
        )
    monitor = Monitor(fabric, recipe, run, data, clock.total, clock.per_epoch)
    parameters = groups(method, method.constant_lr)
    optimizer = speed.fuse(registry.build("optim", recipe.optimizer, parameters)) if clock.total else None
    average = Ema(method.encoder) if recipe.average and optimizer else None
    judged: Encoder = average.module if average else method.encoder  # type: ignore[assignment]
    speed.prepare(method.encoder, followers(method, method.encoder))
    state = run.read_checkpoint()
    taken = restore(state, method, optimizer, average)
    start = taken or begin * clock.per_epoch
    if state is None and rank() == 0:
        run.start(recipe, about)
    stated = f"learning rate {lr:g} = {recipe.optimizer.options['lr']:g} for 256 images, {recipe.lr_scaling} scaling to "
    monitor.begin(method, taken, stated + f"{recipe.batch_size}; {warmup_epochs:g} epochs of warm-up, then cosine")
    if optimizer is None:
        judged = finished_encoder(judged, source, chosen, fabric, looks=recipe.looks, whiten=recipe.whiten)
        monitor.end(judged, clock.at(0))
        save(run, method, judged, None, None, 0, finished=True)
        return True
    step_module = fabric.strategy.setup_module(method) if world() > 1 else method

    saved, step = time.monotonic(), start

    def extract(module: nn.Module) -> Tensor:
        with speed.eager():
            return features(module, source, device=fabric.device, indices=chosen, precision=precision_of(fabric))

    coming_batches = batches(recipe, source, chosen, clock, start, method.sampling, speed.workers, fabric.device)
    with stoppable() as stop, coming_batches as coming, monitor:
        for step in range(start, clock.total):
            at = clock.at(step)
            if watch(step):
                return False
            if step % clock.per_epoch == 0:
                torch.manual_seed(seed_of(recipe.seed, at.epoch, 2))
                with torch.no_grad():
                    method.before_epoch(at, extract)
                watch(step)
            index, images = next(coming)
            method.train()
            torch.manual_seed(seed_of(recipe.seed, rank(), step, 1))
            for group in optimizer.param_groups:
                group["lr"] = lr if group["constant"] else warmup_cosine(at, lr, warmup)

            views = policy(view_size(at, first_size, last_size))
            drawn, targets = views(images.to(fabric.device, non_blocking=True), generator(recipe.seed, rank(), step))
            if method.needs_labels:
                targets = {**targets, "label": torch.from_numpy(labels[index]).to(fabric.device, non_blocking=True)}
            batch = Batch(drawn, torch.from_numpy(index).to(fabric.device, non_blocking=True), targets)
            optimizer.zero_grad(set_to_none=True)
            if recipe.accumulate > 1 and isinstance(method, Comparison):
                seeds = [seed_of(recipe.seed, rank(), step, 1, piece) for piece in range(recipe.accumulate + 1)]
                loss = accumulate.backward(method, batch, at, seeds, fabric.autocast)
            else:
                with fabric.autocast():
                    loss = step_module(batch, at)
                fabric.backward(loss.total)
            with torch.no_grad():
                method.observe(loss, at)
                optimizer.step()
                method.after_step(at)
                if average:
                    average.update(method.encoder, recipe.average)

            done = step + 1
            monitor.step(loss, at, optimizer.param_groups[0]["lr"])
            stopped = (world() == 1 or monitor.due(done)) and any_process(stop.is_set())
            if done % clock.per_epoch == 0:
                with speed.eager():
                    monitor.epoch(judged, at)
            if stopped or (time.monotonic() - saved > SAVE_EVERY and done < clock.total):
                monitor.check(method, done)
                save(run, method, judged, average, optimizer, done)
                saved = time.monotonic()
            if stopped:
                wait_for_all()
                monitor.interrupted(done)
                return False
    monitor.check(method, clock.total)
    with speed.eager():
        judged = finished_encoder(judged, source, chosen, fabric, looks=recipe.looks, whiten=recipe.whiten)
        monitor.end(judged, clock.at(clock.total - 1))
    save(run, method, judged, average, optimizer, clock.total, finished=True)
    wait_for_all()
    return True
