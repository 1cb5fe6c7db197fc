"""A ResNet of nine convolutions, for small images and short trainings."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from timm.models import register_model
from torch import Tensor, nn
from torch.nn import functional as F


class ResNet9(nn.Module):
    """Three stages, each a convolution, max-pooling to half the side, and two convolutions around which a shortcut leads.
    The first norm and ReLU of a stage come after its pooling, where they have a quarter of the work.

    After the networks with which fast trainings of CIFAR-10 were won (Page 2018, "How to Train Your ResNet"; Jordan 2024,
    "94% on CIFAR-10 in 3.29 Seconds on a Single GPU"): maps are halved early, by pooling, and no shortcut has a convolution
    of its own.

    Args:
        num_classes: 0, as all that `unlabeled` asks of timm.
        in_chans: C, channels of the images.
        width: channels of the first stage; the second has twice as many.
        features: D, channels of the third stage and length of the representation; 0: four times the width.
    """

    def __init__(self, num_classes: int = 0, in_chans: int = 3, width: int = 64, features: int = 0) -> None:
        super().__init__()
        if num_classes:
            raise ValueError("resnet9 has no classifier: give num_classes=0")
        channels = [in_chans, width, 2 * width, features or 4 * width]
        self.stages = nn.ModuleList(Stage(i, o) for i, o in pairwise(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, D)."""
        return self.forward_head(self.forward_intermediates(x)[0])

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns the last stage's maps, and those of all stages: (B, width, H/2, W/2) to (B, D, H/8, W/8)."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return x, maps

    def forward_head(self, last: Tensor) -> Tensor:
        """Takes the mean over places of the last maps: (B, D, H, W) to (B, D)."""
        return last.mean((2, 3))


class Stage(nn.Module):
    """(B, C, H, W) to (B, D, H/2, W/2)."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        conv, norm, relu = convolution(channels, dim)
        self.down = nn.Sequential(conv, Pool(), norm, relu)
        self.residual = nn.Sequential(*convolution(dim, dim), *convolution(dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Halves the map, then adds the residual."""
        x = self.down(x)
        return x + self.residual(x)  # type: ignore[no-any-return]


class Pool(nn.Module):
    """Takes the largest of each 2×2 places. A side of one place stays: the small views of small images have no more."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, D, H, W) to (B, D, H/2, W/2)."""
        return F.max_pool2d(x, [min(2, side) for side in x.shape[2:]])


def convolution(channels: int, dim: int) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Builds a convolution of 3×3, batch norm, ReLU."""
    return nn.Conv2d(channels, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim), nn.ReLU(inplace=True)


@register_model
def resnet9(pretrained: bool = False, **options: Any) -> ResNet9:
    """Makes its entry in timm's catalogue, so that it is an encoder like all others; there are no pretrained weights."""
    return ResNet9(**{name: value for name, value in options.items() if not name.startswith(("pretrained_", "cache_"))})
