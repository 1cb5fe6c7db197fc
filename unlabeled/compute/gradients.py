"""Gradients that the library behind PyTorch gets wrong on some processors: computed another way, and tried beside float64.

oneDNN 3.12, in PyTorch 2.14.1, writes beyond its memory in the gradient of the weights of strided convolutions of one place
whose input is in channels-last layout and has fewer channels than a vector (8 with AVX2, 16 with AVX-512): the gradient is
wrong, or the process hangs or ends (oneDNN's issue 6035). Narrow ResNets have such shortcuts.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from unlabeled.console import console
from unlabeled.errors import UserError

FEW = 16
"""Channels of a group: of the widest vector of processors, in float32."""
SIDE = 8  # places, of what a gradient is tried on; ours
WRONG = 1e-3  # of a gradient's length: float32 is off by 1e-6, the fault by 0.1 and more

CONVOLUTIONS = nn.Conv1d, nn.Conv2d, nn.Conv3d


def without_strides(network: nn.Module) -> None:
    """Lets strided convolutions of one place and few channels choose what they see first, and then take no stride: the same
    outputs and gradients. Their `stride` is 1 afterwards."""
    for conv in network.modules():
        if not isinstance(conv, CONVOLUTIONS) or conv.in_channels // conv.groups >= FEW:
            continue
        one_place = set(conv.kernel_size) == {1} and conv.padding in ("valid", (0,) * len(conv.kernel_size))
        if one_place and max(conv.stride) > 1:
            conv.register_forward_pre_hook(partial(_seen, strides=conv.stride))
            conv.stride = (1,) * len(conv.stride)


def _seen(conv: nn.Module, given: tuple[Tensor], strides: tuple[int, ...]) -> Tensor:
    seen: Any = (..., *(slice(None, None, stride) for stride in strides))
    return given[0][seen]


def check_gradients(network: nn.Module) -> None:
    """Checks the gradients of each kind of ungrouped convolution of few channels that a network on the processor has, in the
    layout of its weights; where one is wrong, oneDNN is left out from then on, and that is said.

    Raises:
        UserError: it is wrong without oneDNN too.
    """
    convs = [
        conv for conv in network.modules() if isinstance(conv, CONVOLUTIONS) and conv.groups == 1 and conv.in_channels < FEW
    ]
    kinds = {(conv.weight.shape, conv.stride, str(conv.padding), conv.dilation): conv for conv in convs}
    for conv in kinds.values():
        if conv.weight.device.type != "cpu" or conv.weight.dtype != torch.float32 or not wrong(conv):
            continue
        which = f"a wrong gradient on this processor, of a convolution whose weights are {tuple(conv.weight.shape)}"
        torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
        if wrong(conv):
            raise UserError(
                f"PyTorch {torch.__version__} gives {which}: nothing right would be learned; install another version of it, "
                "or train on another machine"
            )
        console().print(f"oneDNN gives {which}: it is left out, which is slower", soft_wrap=True)


def wrong(conv: Any) -> bool:
    """Tells whether a convolution's gradients differ from those in float64, on noise."""
    steps = zip(conv.kernel_size, conv.stride, conv.dilation, strict=True)
    sides = [max(SIDE, 2 * stride + dilation * (kernel - 1)) for kernel, stride, dilation in steps]
    x = torch.randn(4, conv.in_channels, *sides, generator=torch.Generator().manual_seed(0))
    if x.ndim == 4 and conv.weight.is_contiguous(memory_format=torch.channels_last):
        x = x.contiguous(memory_format=torch.channels_last)
    found, right = (_gradients(conv, x.to(kind), conv.weight.to(kind)) for kind in (torch.float32, torch.float64))
    return not all((a - b).norm() <= WRONG * b.norm() for a, b in zip(found, right, strict=True))


def _gradients(conv: Any, x: Tensor, weight: Tensor) -> list[Tensor]:
    """Of the input and of the weights, for a gradient of the output that differs from place to place."""
    x, weight = x.detach().requires_grad_(), weight.detach().requires_grad_()
    with torch.enable_grad():
        y = conv._conv_forward(x, weight, None)
        g = torch.linspace(-1, 1, y.numel(), dtype=x.dtype).as_strided(y.shape, y.stride())  # in y's layout
        total = (y * g).sum()  # of a number: else PyTorch imports its compiler, for seconds
    return [gradient.double() for gradient in torch.autograd.grad(total, (x, weight))]
