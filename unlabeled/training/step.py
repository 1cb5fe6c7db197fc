"""THE step of training: the loop, the timed steps, fine-tuning and the contract suite take this one. It knows no method."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import nn

from unlabeled.batch import Batch, Loss, Progress, moved, seed_of
from unlabeled.compute.gradients import check_gradients
from unlabeled.distributed import average_gradients, rank, world
from unlabeled.methods.base import Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.parts.memory import Ema
from unlabeled.training import accumulate
from unlabeled.training.batches import Drawn, generator
from unlabeled.views.view import Views


class Step:
    """Draws views, differentiates, and writes state at its moments: optimiser, `observe`, `after_step`.

    Args:
        method: on the device where it computes.
        views: the policy, as a function of progress.
        optimizers: of the method's parts.
        seed: of everything random, which with the process and the step decides every draw.
        autocast: the precision.
        pieces: in which a batch goes through the encoder.
        ema: follows what is judged (`judged_parts`); None for nothing.
        decay: share of itself that it keeps at each step.
        module: what is called in place of the method, such as its DistributedDataParallel; None for the method itself.

    Raises:
        UserError: gradients of the method's networks are wrong on this machine, and nothing helps.
    """

    def __init__(
        self,
        method: Method,
        views: Callable[[Progress], Views],
        optimizers: Optimizers,
        *,
        seed: int = 0,
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        pieces: int = 1,
        ema: Ema | None = None,
        decay: float = 0.0,
        module: nn.Module | None = None,
    ) -> None:
        check_gradients(method)
        self.method, self.views, self.optimizers, self.seed = method, views, optimizers, seed
        self.autocast, self.pieces, self.ema, self.decay = autocast, pieces, ema, decay
        self.followed = judged_parts(method)
        self.module: nn.Module = method if module is None else module

    def __call__(self, drawn: Drawn, at: Progress, labels: np.ndarray, labelled: Drawn | None = None) -> Loss:
        """Takes one step.

        Args:
            drawn: the samples.
            at: progress.
            labels: (n,) of all training samples, -1 where there is none; shown of `labelled`, and to methods that need them.
            labelled: samples beside those.

        Returns:
            The loss, already differentiated.
        """
        self.method.train()
        torch.manual_seed(seed_of(self.seed, rank(), at.step, 1))
        self.optimizers.at(at)
        batch = self.batch(drawn, at, labels, self.method.needs_labels)
        if labelled is not None:
            batch.labelled = self.batch(labelled, at, labels, True, stream=3)
        self.optimizers.zero_grad()
        loss = self.backward(batch, at)
        with torch.no_grad():
            self.method.observe(loss, at)
            self.optimizers.step()
            self.method.after_step(at)
            if self.ema:
                self.ema.update(self.followed, self.decay)
        return loss

    def batch(self, drawn: Drawn, at: Progress, labels: np.ndarray, shown: bool, stream: int = 0) -> Batch:
        """Returns what the method sees of the samples, their labels if they are `shown`."""
        device = next(self.method.encoder.parameters()).device
        draws = generator(self.seed, rank(), at.step, stream)
        views, targets = self.views(at)(moved(drawn.fields, device), draws)
        if shown:
            told = torch.from_numpy(labels[drawn.index])
            targets = {**targets, "label": told.to(device, non_blocking=True)}
        return Batch(views, torch.from_numpy(drawn.index).to(device, non_blocking=True), targets)

    def backward(self, batch: Batch, at: Progress) -> Loss:
        """Adds the batch's gradient to `.grad`, averaged over the processes."""
        if self.pieces > 1:
            seeds = [seed_of(self.seed, rank(), at.step, 1, piece) for piece in range(self.pieces)]
            seeds.append(seed_of(self.seed, rank(), at.step, 1))  # as at once: the groups of keys are the same
            return accumulate.backward(self.method, batch, at, seeds, self.autocast, self.optimizers.backward)
        with self.autocast():
            loss: Loss = self.module(batch, at)
        self.optimizers.backward(loss)
        if self.module is self.method and world() > 1:
            average_gradients(self.method)
        return loss


def judged_parts(method: Method) -> nn.ModuleDict:
    """Returns what is judged after training: the encoder, and the classifier where there is one."""
    head = method.label_head
    return nn.ModuleDict({"encoder": method.encoder, **({} if head is None else {"classifier": head})})
