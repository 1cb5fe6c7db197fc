"""Convolutions as matrix products, which processors do faster: those of one place, and of small maps with many channels.

Where a map has no more places than the kernel, the convolution is one product with a matrix that leads from all places to
all places. With a kernel of one place it is a product with the rows that are seen. Up to `PATCHES` places of output it is a
product with the patches of the input; up to `PLACES`, with more channels, the gradient of its weights still is, and the
whole convolution if it skips places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PATCHES, PLACES = 16, 64
"""Places of the output at most."""
CHANNELS, MANY = 64, 128
"""Channels of the input at least, for up to `PATCHES` and for up to `PLACES`: with fewer, convolutions were as fast."""

Pair = Sequence[int]
Way = type[torch.autograd.Function]


def by_products(network: nn.Module) -> None:
    """Lets the plain convolutions of a network (ungrouped, undilated, without bias) compute so while they learn, where it is
    faster: the same but for rounding."""
    for conv in network.modules():
        if type(conv) is nn.Conv2d and _plain(conv):
            how: Any = {"stride": conv.stride, "padding": conv.padding}
            conv._conv_forward = partial(convolved, **how)  # type: ignore[method-assign]


def convolved(x: Tensor, weight: Tensor, bias: None = None, *, stride: Pair, padding: Pair) -> Tensor:
    """Computes what `torch.conv2d` gives, with its gradients.

    Args:
        x: (B, C, H, W).
        weight: (D, C, h, w).
        bias: there is none.
        stride: (down, right), in places.
        padding: (down, right), zeros on each side.

    Returns:
        (B, D, H', W').
    """
    learns = weight.requires_grad and torch.is_grad_enabled() and len(x) > 0
    way = _way(x, weight, stride, padding) if learns else None
    if way is None:
        return torch.conv2d(x, weight, bias, stride, padding)
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(kind), weight.to(kind)
    return way.apply(x, weight, stride, padding)  # type: ignore[no-any-return]


def _way(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Way | None:
    """The fastest; None for the convolution itself."""
    channels, kernel, strided = x.shape[1], weight.shape[2:], max(stride) > 1
    if kernel == (1, 1) and not any(padding):
        return _Points if strided or channels >= CHANNELS else None
    if channels < CHANNELS:
        return None
    if x.shape[2:].numel() <= kernel.numel():
        return _Whole
    down, right = _places(x, weight, stride, padding)
    if down * right <= PATCHES:
        return _Patches
    if down * right <= PLACES and channels >= MANY:
        return _Patches if strided else _Weights
    return None


class _Whole(torch.autograd.Function):
    """Maps as rows (B, HW C), times a matrix (HW C, H'W' D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        places = _places(x, weight, stride, padding)
        matrix = weight.new_zeros(*x.shape[2:], x.shape[1], *places, len(weight))  # (H, W, C, H', W', D)
        ctx.links = list(_links(x.shape[2:], places, weight.shape[2:], stride, padding))
        for (i, j), (k, n), (a, b) in ctx.links:
            matrix[i, j, :, k, n] = weight[:, :, a, b].T
        ctx.save_for_backward(x, weight, matrix)
        return _maps(_rows(x, len(x)) @ matrix.flatten(3).flatten(0, 2), len(x), places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, matrix), g = ctx.saved_tensors, _rows(gradients[0], len(gradients[0]))
        before = _maps(g @ matrix.flatten(3).flatten(0, 2).T, len(x), x.shape[2:])
        linked = (_rows(x, len(x)).T @ g).view_as(matrix)
        learned = weight.new_zeros(weight.shape, dtype=torch.promote_types(weight.dtype, torch.float32))
        for (i, j), (k, n), (a, b) in ctx.links:
            learned[:, :, a, b] += linked[i, j, :, k, n].T
        return before, learned.to(weight.dtype), None, None


class _Patches(torch.autograd.Function):
    """Patches as rows (B H'W', hw C), times the weights (hw C, D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        rows = patches(x, weight.shape[2:], stride, padding)
        ctx.save_for_backward(x, weight, rows)
        ctx.stride, ctx.padding = stride, padding
        places = _places(x, weight, stride, padding)
        return _maps(rows @ weight.permute(2, 3, 1, 0).flatten(0, 2), len(x), places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight, rows) = gradients, ctx.saved_tensors
        if ctx.stride == (1, 1):
            kernel = weight.shape[2:]
            around = kernel[0] - 1 - ctx.padding[0], kernel[1] - 1 - ctx.padding[1]
            turned = weight.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)  # (hw D, C)
            before = _maps(patches(g, kernel, (1, 1), around) @ turned, len(x), x.shape[2:])
        else:
            before = _input_gradient(g, x, weight, ctx.stride, ctx.padding)
        return before, _weight_gradient(rows, g, weight), None, None


class _Points(torch.autograd.Function):
    """A kernel of one place: the rows (B H'W', C) that it sees, times the weights (C, D)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        seen = x[:, :, :: stride[0], :: stride[1]]
        rows = _rows(seen, seen[:, 0].numel())
        ctx.save_for_backward(weight, rows)
        ctx.stride, ctx.shape = stride, x.shape
        return _maps(rows @ weight.flatten(1).T, len(x), seen.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (weight, rows) = gradients, ctx.saved_tensors
        before = _maps(_rows(g, len(rows)) @ weight.flatten(1), len(g), g.shape[2:])
        if max(ctx.stride) > 1:
            seen = before
            before = seen.new_zeros(ctx.shape).contiguous(memory_format=torch.channels_last)
            before[:, :, :: ctx.stride[0], :: ctx.stride[1]] = seen
        return before, _weight_gradient(rows, g, weight), None, None


class _Weights(torch.autograd.Function):
    """A convolution, but for the gradient of its weights, which is a product with the patches."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(x, weight, None, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight) = gradients, ctx.saved_tensors
        before = _input_gradient(g, x, weight, ctx.stride, ctx.padding) if ctx.needs_input_grad[0] else None
        rows = patches(x, weight.shape[2:], ctx.stride, ctx.padding)
        return before, _weight_gradient(rows, g, weight), None, None


def patches(x: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """Returns what each output of a convolution sees: (B, C, H, W) to (B H'W', hw C), channels last."""
    down, right = padding
    padded = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, right, right, down, down)).contiguous()  # (B, H, W, C)
    b, h, w, c = padded.stride()
    places = [(side - k) // step + 1 for side, k, step in zip(padded.shape[1:3], kernel, stride, strict=True)]
    seen = padded.as_strided((len(x), *places, *kernel, x.shape[1]), (b, stride[0] * h, stride[1] * w, h, w, c))
    return seen.reshape(-1, kernel[0] * kernel[1] * x.shape[1])


def _weight_gradient(rows: Tensor, g: Tensor, weight: Tensor) -> Tensor:
    """From the patches (B H'W', hw C) and g (B, D, H', W')."""
    learned = _rows(g, len(rows)).T @ rows  # (D, hw C)
    return learned.view(len(weight), *weight.shape[2:], weight.shape[1]).permute(0, 3, 1, 2)


def _input_gradient(g: Tensor, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
    wanted = True, False, False
    found = torch.ops.aten.convolution_backward(g, x, weight, None, stride, padding, (1, 1), False, (0, 0), 1, wanted)
    return found[0]  # type: ignore[no-any-return]


def _rows(maps: Tensor, count: int) -> Tensor:
    """(B, C, H, W) as (count, ·), channels last."""
    return maps.permute(0, 2, 3, 1).reshape(count, -1)


def _maps(rows: Tensor, count: int, places: Pair) -> Tensor:
    """Back again: as (count, D, H', W')."""
    return rows.view(count, *places, -1).permute(0, 3, 1, 2)


def _places(x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Pair:
    """(H', W')."""
    (height, width), (h, w) = x.shape[2:], weight.shape[2:]
    return (height + 2 * padding[0] - h) // stride[0] + 1, (width + 2 * padding[1] - w) // stride[1] + 1


def _links(before: Pair, after: Pair, kernel: Pair, stride: Pair, padding: Pair) -> Iterator[tuple[Pair, Pair, Pair]]:
    """Each place of the input with each of the output that sees it, and the place of the kernel through which it does."""
    for (k, n), (a, b) in product(product(*map(range, after)), product(*map(range, kernel))):
        i, j = k * stride[0] - padding[0] + a, n * stride[1] - padding[1] + b
        if 0 <= i < before[0] and 0 <= j < before[1]:
            yield (i, j), (k, n), (a, b)


def _plain(conv: nn.Conv2d) -> bool:
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return zeros and conv.bias is None and conv.groups == 1 and conv.dilation == (1, 1)
