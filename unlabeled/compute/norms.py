"""Batch norms of maps, with the sum and the ReLU behind them, in as few passes over memory as there can be on a processor.

PyTorch computes them one after the other. Here the forward pass reads a map for its moments, and once more to write the
result; the backward pass does likewise, and sees from the map itself where ReLU let nothing pass.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import torch
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from unlabeled.compute import norm_loops, openmp

WIDE = 512
"""Values of a row at least, if there are enough rows: long loops, whose sums still fit the first cache."""


def in_few_passes(network: nn.Module) -> None:
    """Lets the batch norms of a network compute so while it learns in channels-last layout: the same but for rounding.

    In sequences and timm's ResNets they do the ReLU behind them, which gives its place to an identity, and at a block's end
    the sum before it. Names of weights stay. Nothing changes where torch's threads cannot be asked for, nor in parts that
    have more than one place in the network.
    """
    if not openmp.available():
        return
    places = Counter(part for _, part in network.named_modules(remove_duplicate=False))
    for part in [part for part in places if places[part] == 1]:
        if type(part) is nn.Sequential:
            for norm, relu in pairwise(part._modules):
                _join(part, norm, relu, places)
        elif isinstance(part, ResNet):
            _join(part, "bn1", "act1", places)
        elif type(part) in BLOCKS and _plain(part, places):
            for i in _layers(part):
                _join(part, f"bn{i}", f"act{i}", places)
            part.__class__ = BLOCKS[type(part)]
        elif type(part) is nn.BatchNorm2d:
            part.__class__ = Norm


def _join(parent: nn.Module, norm: str, relu: str, places: Mapping[Any, int]) -> None:
    """Has a norm that has no other place do the ReLU behind it."""
    one, other = getattr(parent, norm, None), getattr(parent, relu, None)
    if type(one) in (nn.BatchNorm2d, Norm) and places[one] == 1 and type(other) is nn.ReLU:
        one.__class__ = NormRelu
        setattr(parent, relu, nn.Identity())


class Norm(nn.BatchNorm2d):
    """A batch norm that is given what is to be added to its result."""

    relu: ClassVar[bool] = False

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        """Maps (B, C, H, W) to such.

        Args:
            x: to be normalised.
            other: of the same shape; None: nothing is added.
        """
        if not (self.training and self.affine and _possible(x, other, self.weight, self.bias)):
            y = super().forward(x)
            y = y if other is None else y + other
            return F.relu(y) if self.relu else y
        y, stats = _Normalised.apply(x, other, self.weight, self.bias, self.eps, self.relu)
        if not self.track_running_stats:
            return y  # type: ignore[no-any-return]
        with torch.no_grad():
            count = x.numel() // x.shape[1]
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum  # type: ignore[arg-type]
            self.running_mean.lerp_(stats[0], share)  # type: ignore[union-attr]
            self.running_var.lerp_(stats[1] * (count / (count - 1)), share)  # type: ignore[union-attr]
        return y  # type: ignore[no-any-return]


class NormRelu(Norm):
    """Likewise, then ReLU."""

    relu = True


class _Basic(BasicBlock):
    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.bn2(self.conv2(self.bn1(self.conv1(x))), shortcut)  # type: ignore[no-any-return]


class _Bottleneck(Bottleneck):
    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        inner = self.bn2(self.conv2(self.bn1(self.conv1(x))))
        return self.bn3(self.conv3(inner), shortcut)  # type: ignore[no-any-return]


BLOCKS: dict[type, type] = {BasicBlock: _Basic, Bottleneck: _Bottleneck}
PAIR = nn.BatchNorm2d, nn.ReLU
IMAGES = 4
"""Dimensions of maps."""


def _layers(block: Any) -> list[int]:
    return [i for i in (1, 2, 3) if hasattr(block, f"conv{i}")]


def _plain(block: Any, places: Mapping[Any, int]) -> bool:
    """Whether a block has nothing but convolutions, and behind each a norm and ReLU that have no other place."""
    behind = [getattr(block, f"{name}{i}") for i in _layers(block) for name in ("bn", "act")]
    pairs = [type(part) for part in behind] == [*PAIR] * len(_layers(block)) and all(places[part] == 1 for part in behind)
    inner = [part for name, part in block.named_children() if name != "downsample"]
    kinds = nn.Conv2d, *PAIR, nn.Identity
    return pairs and block.drop_path is None and block.se is None and all(type(part) in kinds for part in inner)


def _possible(x: Tensor, other: Tensor | None, weight: Tensor, bias: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype not in norm_loops.KINDS or x.ndim != IMAGES or x.shape[1] != len(weight):
        return False
    last = all(maps.is_contiguous(memory_format=torch.channels_last) for maps in (x, other) if maps is not None)
    alike = other is None or (other.shape == x.shape and other.dtype == x.dtype)
    return last and alike and weight.dtype == bias.dtype == torch.float32 and x.numel() > x.shape[1]


class _Normalised(torch.autograd.Function):
    """y = γ (x - mean) / sqrt(var + ε) + β (+ other), then ReLU if asked for (Ioffe and Szegedy 2015, algorithm 1)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, other: Tensor | None, weight: Tensor, bias: Tensor, eps: float, relu: bool
    ) -> tuple[Tensor, Tensor]:
        run = _Run(x, weight, bias, weight.new_empty(2, len(weight)), _constants(eps, 0.0 if relu else -math.inf))
        y = torch.empty_like(x)
        run(norm_loops.moments)
        if other is None:
            run(norm_loops.normalised, y)
        else:
            run(norm_loops.normalised_and_added, other, y)
        ctx.save_for_backward(x, y if other is not None and relu else None, weight, bias, run.stats)
        ctx.eps, ctx.relu, ctx.added = eps, relu, other is not None
        ctx.mark_non_differentiable(run.stats)
        return y, run.stats

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        """∂β = Σ g, ∂γ = Σ g (x - mean) / σ, ∂x = γ / σ (g - ∂β / n - (x - mean) ∂γ / (n σ)), for the g that ReLU lets
        through."""
        x, y, weight, bias, stats = ctx.saved_tensors
        g = g.to(x.dtype).contiguous(memory_format=torch.channels_last)
        run = _Run(x, weight, bias, stats, _constants(ctx.eps, 0.0 if ctx.relu else -math.inf))
        if y is None:
            run(norm_loops.gradients, g)
        else:
            let = torch.empty_like(x)
            run(norm_loops.masked, g, y, let)
            run.constants, g = _constants(ctx.eps, -math.inf), let
        before, learned = torch.empty_like(x), torch.empty_like(stats)
        run(norm_loops.followed, g, before, learned)
        return before, g if ctx.added else None, learned[0], learned[1], None, None


class _Run:
    """Jobs of `loops` on one map: as rows of C channels, or of several times C so that narrow maps fill the processor's
    registers."""

    def __init__(self, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, constants: Tensor) -> None:
        self.x, self.stats, self.constants = x, stats, constants
        self.weight, self.bias = weight.contiguous(), bias.contiguous()
        self.channels = x.shape[1]
        self.rows, self.width = x.numel() // self.channels, self.channels
        while self.width < WIDE and self.rows % 2 == 0:
            self.rows, self.width = self.rows // 2, self.width * 2
        self.tables = weight.new_zeros(torch.get_num_threads(), norm_loops.TABLE, self.width)

    def __call__(self, job: Callable[[Any], None], *more: Tensor) -> None:
        common = self.x, self.tables, self.weight, self.bias, self.stats, self.constants
        norm_loops.run(job, self.x.dtype, (self.rows, self.width, self.channels, len(self.tables)), *common, *more)


@cache
def _constants(eps: float, floor: float) -> Tensor:
    return torch.tensor([eps, floor], dtype=torch.float32)
