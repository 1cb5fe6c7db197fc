"""The gradient of a convolution's weights as one matrix product, which processors do faster than as a convolution where maps
are small and have many channels."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

PLACES, CHANNELS = 64, 64
"""Of the output at most, and of the input at least: beyond, a convolution was as fast (docs/performance.md)."""

Pair = tuple[int, int]


def by_products(network: nn.Module) -> None:
    """Lets the ungrouped, undilated convolutions of a network compute the gradients of their weights so, where it is faster.
    Outputs stay the same bits, gradients the same but for rounding."""
    for conv in network.modules():
        if type(conv) is nn.Conv2d and _plain(conv):
            how: Any = {"stride": conv.stride, "padding": conv.padding}
            conv._conv_forward = partial(_convolved, **how)  # type: ignore[method-assign]


def weight_gradient(x: Tensor, g: Tensor, kernel: Pair, stride: Pair, padding: Pair) -> Tensor:
    """dL/dW of y = W * x, as g^T X with the patches of x as rows of X.

    Args:
        x: (B, C, H, W), what the convolution took.
        g: (B, D, H', W'), dL/dy.
        kernel: (h, w), of W.
        stride: (down, right), in places.
        padding: (down, right), zeros on each side.

    Returns:
        (D, C, h, w).
    """
    (height, width), (down, right) = kernel, padding
    padded = nn.functional.pad(x.permute(0, 2, 3, 1), (0, 0, right, right, down, down)).contiguous()  # (B, H, W, C)
    b, h, w, c = padded.stride()
    places = (len(x), *g.shape[2:])
    patches = padded.as_strided(
        (*places, height, width, x.shape[1]), (b, stride[0] * h, stride[1] * w, h, w, c)
    )  # (B, H', W', h, w, C)
    rows = patches.reshape(-1, height * width * x.shape[1])
    product = g.permute(0, 2, 3, 1).reshape(-1, g.shape[1]).T @ rows  # (D, h w C)
    return product.view(-1, height, width, x.shape[1]).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Pair, padding: Pair) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (g,), (x, weight) = gradients, ctx.saved_tensors
        wanted = ctx.needs_input_grad[0], False, False
        before, *_ = torch.ops.aten.convolution_backward(
            g, x, weight, None, ctx.stride, ctx.padding, (1, 1), False, (0, 0), 1, wanted
        )
        return before, weight_gradient(x, g, weight.shape[2:], ctx.stride, ctx.padding), None, None


def _plain(conv: nn.Conv2d) -> bool:
    zeros = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return zeros and conv.bias is None and conv.groups == 1 and conv.dilation == (1, 1) and conv.in_channels >= CHANNELS


def _convolved(x: Tensor, weight: Tensor, bias: None, *, stride: Pair, padding: Pair) -> Tensor:
    places = 1
    for side, kernel, step, zeros in zip(x.shape[2:], weight.shape[2:], stride, padding, strict=True):
        places *= (side + 2 * zeros - kernel) // step + 1
    if places > PLACES or not (weight.requires_grad and torch.is_grad_enabled()):
        return torch.conv2d(x, weight, bias, stride, padding)
    if torch.is_autocast_enabled(x.device.type):
        kind = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(kind), weight.to(kind)
    return _Convolution.apply(x, weight, stride, padding)  # type: ignore[no-any-return]
