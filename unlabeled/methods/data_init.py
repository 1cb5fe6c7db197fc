"""Data-dependent initialisation: filters that are clusters of what they see, before anything is learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import of_first
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Extract, Method
from unlabeled.parts.clustering import kmeans, whitening
from unlabeled.registry import Count, Decay, register

PATCHES = 20_000
"""Patches that a layer's filters are clusters of, at most; ours."""


class Kept(nn.Module):
    """Raw samples (B, ...) -> (B, 1): keeps all that go through."""

    def __init__(self) -> None:
        super().__init__()
        self.samples = list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        """Returns zeros."""
        self.samples.append(x.clone())
        return torch.zeros(len(x), 1, device=x.device)


@register("data-init", recipe={"views": "none"})
class DataInit(Method):
    """Data-dependent Initializations of Convolutional Neural Networks (Krähenbühl et al. 2015), by k-means: the baseline of
    the tables of pretext tasks, beside `random`. Nothing is trained, so the loop takes no step.

    From the first convolution to the last, on some training images, drawn at random: the patches that it sees are whitened
    (PCA) and brought to length 1, and its filters are the centroids of as many clusters of them (§3.3), scaled so that each
    channel has deviation 1, with the bias that makes its mean β (§3.1, algorithm 1). Batch norms take their statistics from
    the same images. The scaling between layers (§3.2) only changes how fast each learns, and is left out. Convolutions of
    groups, and layers that see fewer patches than they have filters, keep their noise, scaled likewise.

    Args:
        images: from which (160: Krähenbühl et al. 2015, published code, ten batches of 16).
        bias: β (0.1: Krähenbühl et al. 2015, published code).
    """

    n_views = 1

    def __init__(self, encoder: Encoder, shape: DataShape, *, images: Count = 160, bias: Decay = 0.1) -> None:
        super().__init__(encoder.requires_grad_(False), shape)
        self.images, self.bias = images, bias
        if not any(isinstance(part, nn.Conv2d) for part in encoder.modules()):
            raise UserError(
                "data-init sets convolutions, and this encoder has none: give another --encoder, such as resnet18"
            )

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Returns zero: there is nothing to learn."""
        return Loss(batch.views[0].new_zeros(()))

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Sets the weights, once, in the order in which the layers see the images."""
        if at.epoch:
            return
        kept = Kept()
        extract(kept, torch.randperm(self.shape.n)[: self.images])  # the first may be of one class
        hooks = [
            part.register_forward_pre_hook(self._set if isinstance(part, nn.Conv2d) else _take_statistics)
            for part in self.encoder.modules()
            if isinstance(part, nn.Conv2d | nn.modules.batchnorm._BatchNorm)
        ]
        self.encoder.eval()
        try:
            self.encoder(torch.cat(kept.samples))
        finally:
            for hook in hooks:
                hook.remove()
            self.encoder.train()
        for tensor in [*self.encoder.parameters(), *self.encoder.buffers()]:
            tensor.copy_(of_first(tensor))

    def _set(self, conv: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        """Sets one convolution, of the maps (B, C, H, W) that it is about to see."""
        x = inputs[0].float()
        padding = conv.padding if isinstance(conv.padding, tuple) else tuple(k // 2 for k in conv.kernel_size)
        if conv.groups == 1:
            patches = F.unfold(x, conv.kernel_size, conv.dilation, padding, conv.stride).mT.flatten(0, 1)  # (P, C k²)
            chosen = patches[torch.randperm(len(patches))[:PATCHES].to(x.device)]
            if len(chosen) > conv.out_channels:
                conv.weight.copy_(filters(chosen, conv.out_channels).view_as(conv.weight))
        y = conv._conv_forward(x, conv.weight.float(), None).transpose(0, 1).flatten(1)  # (out, ...)
        deviation = y.std(1).clamp_min(1e-6)
        conv.weight.div_(deviation.view(-1, 1, 1, 1))
        if conv.bias is not None:
            conv.bias.copy_(self.bias - y.mean(1) / deviation)


def filters(patches: Tensor, count: int) -> Tensor:
    """Returns filters (count, D) for patches (P, D), P > count: the centroids of as many clusters of the whitened patches of
    length 1, as they are applied to patches that are not whitened (§3.3)."""
    centre, matrix = whitening(patches, count)  # (D,), (D, R)
    white = F.normalize((patches - centre) @ matrix, dim=1)
    centroids, _ = kmeans(white, count, int(torch.randint(1 << 31, ())))
    return centroids.to(matrix) @ matrix.T


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Gives a batch norm the mean and the variance of what it is about to see (B, C, ...), which it then normalises by."""
    x = inputs[0].float().transpose(0, 1).flatten(1)
    norm.get_buffer("running_mean").copy_(x.mean(1))
    norm.get_buffer("running_var").copy_(x.var(1))
