"""How the steps are computed: precision, layout, compiled or not, fused or not, batches fetched ahead. Never what."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.compute import openmp
from unlabeled.compute.convolutions import by_products
from unlabeled.compute.norms import in_few_passes
from unlabeled.console import console
from unlabeled.errors import UserError

_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # of mallopt(3), in glibc's malloc.h

WORDS = ("bf16", "channels-last", "products", "norms", "compiled", "fused")


@dataclass(frozen=True, slots=True)
class Speed:
    """One way to compute.

    >>> str(Speed.parse("bf16 channels-last workers=2"))
    'bf16 channels-last workers=2'

    Attributes:
        bf16: matrix products in bfloat16, by autocast; else all in float32.
        channels_last: memory layout of the weights, and so of the activations.
        products: convolutions of one place and of small maps as matrix products; processors only, GPUs do as without.
        norms: batch norms with what follows them in few passes over memory, in channels-last layout; processors only, and
            not with `compiled`, which does likewise.
        compiled: the encoder through `torch.compile` while it trains.
        fused: PyTorch's fused kernels of SGD and AdamW; LARS has none.
        workers: batches that are fetched at a time, ahead of the step, >= 1.
    """

    bf16: bool = False
    channels_last: bool = False
    products: bool = False
    norms: bool = False
    compiled: bool = False
    fused: bool = False
    workers: int = 1

    def __str__(self) -> str:
        held = (self.bf16, self.channels_last, self.products, self.norms, self.compiled, self.fused)
        return " ".join([*(word for word, holds in zip(WORDS, held, strict=True) if holds), f"workers={self.workers}"])

    @classmethod
    def parse(cls, text: str) -> Speed:
        """Reads what `str` gives, in any order.

        Raises:
            UserError: another word, or a number of workers that cannot be.
        """
        words = text.replace(",", " ").split()
        numbers = [word.partition("=")[2] for word in words if word.startswith("workers=")]
        unknown = [word for word in words if word not in WORDS and not word.startswith("workers=")]
        if unknown or not all(number.isdecimal() and int(number) for number in numbers):
            raise UserError(
                f"speed is {text!r}, and must be auto, or words of {', '.join(WORDS)} and workers=N, such as "
                "'bf16 channels-last workers=1'"
            )
        bf16, channels_last, products, norms, compiled, fused = (word in words for word in WORDS)
        return cls(bf16, channels_last, products, norms, compiled, fused, int(numbers[-1]) if numbers else 1)

    @property
    def layout(self) -> torch.memory_format:
        """For `Module.to`."""
        return torch.channels_last if self.channels_last else torch.preserve_format

    def fuse(self, optimizer: Optimizer) -> Optimizer:
        """Returns the optimiser, told to use its fused kernels if it has some."""
        if self.fused and isinstance(optimizer, torch.optim.SGD | torch.optim.AdamW):
            for group in optimizer.param_groups:
                group.update(fused=True, foreach=False)
        return optimizer

    def prepare(self, encoder: nn.Module, followers: Sequence[nn.Module] = ()) -> None:
        """Changes in place how an encoder computes, names of its weights unchanged. A compiled one's first step takes long;
        it is left as it is where compiling cannot be had.

        Args:
            encoder: that learns.
            followers: encoders like it that do not.
        """
        device = next(encoder.parameters()).device.type
        if self.products and device == "cpu":
            by_products(encoder)
        if self.norms and device == "cpu" and not self.compiled:
            for network in (encoder, *followers):
                in_few_passes(network)
        if not self.compiled:
            return
        refused = refusal(device)
        if refused:
            console().print(f"the encoder is not compiled, as that cannot be had: {refused}", soft_wrap=True)
        else:
            encoder.compile()

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Opens a context in which a compiled network runs as written: for evaluation, whose batches are of other shapes."""
        if not self.compiled:
            yield
            return
        with torch.compiler.set_stance("force_eager"):
            yield


def usual(device: torch.device, precision: str = "auto") -> Speed:
    """Returns what is usually fastest on such a device, without a trial.

    Args:
        device: of the steps.
        precision: `auto`, `bf16` or `32`; auto is bf16 where the machine computes in it.
    """
    half = precision == "bf16" or (precision == "auto" and computes_in_bf16(device))
    amx = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    last = device.type in ("cpu", "cuda")
    return Speed(bf16=half, channels_last=last, products=half and amx, norms=device.type == "cpu" and openmp.available())


@cache
def refusal(device: str) -> str:
    """Tells why nothing can be compiled for a device of this type, in one line; "" if it can."""
    try:
        torch.compile(_small)(torch.zeros(8, device=device))
    except Exception as error:  # whatever a compiler that is missing or broken raises
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def _small(x: Tensor) -> Tensor:
    return x.sin() + 1


def keep_memory() -> None:
    """Lets this process keep the memory that it frees, for the next step: on a processor, getting the pages of its tensors
    anew from Linux takes up to a sixth of a step. Nothing without glibc; what is computed stays the same."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def computes_in_bf16(device: torch.device) -> bool:
    """Tells whether the machine has instructions for bfloat16; without, it would only pretend, and slowly."""
    if device.type == "cpu":
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
