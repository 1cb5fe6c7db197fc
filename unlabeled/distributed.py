"""The only file that talks to torch.distributed: gather with gradient, rank, batch norm over all processes.

The gather rule: anchors are local, candidates are gathered with gradient, a loss is the mean over local anchors, and
gradients are averaged over the processes. Then W processes give the gradient of one process with the whole batch. Every
process holds equally many samples of a batch.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unlabeled.errors import UserError

_Module = TypeVar("_Module", bound=nn.Module)


def launched() -> tuple[int, int]:
    """Returns which of how many processes a launcher (torchrun, or the first process of this training) made this one: (rank,
    world); (0, 1) of one that was started by itself.

    Raises:
        UserError: they are on several machines.
    """
    if "LOCAL_RANK" not in os.environ:  # a world alone may be left over from something else
        return 0, 1
    every = int(os.environ.get("WORLD_SIZE", "1"))
    here = int(os.environ.get("LOCAL_WORLD_SIZE", every))
    if every != here:
        raise UserError(
            f"{every} processes on several machines, {here} on this one: a training runs on one machine; give --nnodes 1"
        )
    return int(os.environ["LOCAL_RANK"]), every


def world() -> int:
    """Returns the number of processes; 1 when not distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Tells which process this is, in [0, world)."""
    return dist.get_rank() if world() > 1 else 0


def gather(x: Tensor) -> Tensor:
    """Gathers (B, ...) of each process -> (W·B, ...) in the order of ranks, differentiable with respect to every process's
    part."""
    return _Gather.apply(x) if world() > 1 else x


def of_first(x: Tensor) -> Tensor:
    """Returns the first process's value, in all of them: what each computed for itself may differ in the last bits."""
    if world() > 1:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.broadcast(x, 0)
    return x


def average_gradients(module: nn.Module) -> None:
    """Averages each parameter's gradient over the processes; for steps that DistributedDataParallel does not see."""
    if world() == 1:
        return
    for parameter in module.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= world()


def any_process(flag: bool) -> bool:
    """Tells whether the flag is set in any process; all get the same answer."""
    if world() == 1:
        return flag
    flags: list[Any] = [None] * world()
    dist.all_gather_object(flags, flag)
    return any(flags)


def wait_for_all() -> None:
    """Returns once every process is here. The first to end would otherwise take the others with it."""
    if world() > 1:
        dist.barrier()


def share_statistics(module: _Module) -> _Module:
    """Replaces each batch norm by one whose batch is that of all processes; changes nothing with a single process."""
    if world() == 1:
        return module
    if next(module.parameters()).is_cuda:
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-any-return, no-untyped-call]
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.__class__ = type("SharedBatchNorm", (_SharedBatchNorm, type(child)), {})
    return module


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        parts = [torch.empty_like(x) for _ in range(world())]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(world())[rank()]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(ctx, gradient)


class _SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm whose mean and variance are those of all processes' samples, on any device."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        values = x.float()
        count = values.numel() // values.shape[1] * world()
        sums: Tensor = _Sum.apply(values.sum(axes))
        mean = sums / count
        centred = values - mean.view(shape)
        squares: Tensor = _Sum.apply(centred.square().sum(axes))
        variance = squares / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            momentum = 0.1 if self.momentum is None else self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1), momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)
