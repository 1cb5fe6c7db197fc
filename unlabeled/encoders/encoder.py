"""What is learned: a backbone with all that happens to an image before it, and to a representation after it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.errors import UserError
from unlabeled.parts.clustering import whitening

SMALLER = 0.75  # of the side; ours


class Encoder(nn.Module):
    """f: images (B, C, H, W), uint8 or float in [0, 1] -> representation h (B, dim). Normalises inside;
    in evaluation mode it also resizes (antialiased) to `eval_size`.

    Attributes:
        dim: length of h.
        size: side of the images it was trained on, in pixels.
        eval_size: side at which it judges images, in pixels.
        looks: how often it looks at an image that it judges; the representation is the mean. 1: once; 2: at its mirror image
            too; 4: at both in three quarters of the size too.
        notes: what was changed in the backbone, for the run to say.
        whitening: fixed, what the representation goes through last; None in training, and where it was not asked for.
    """

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)
    whitening: nn.Linear | None

    def __init__(
        self, backbone: nn.Module, dim: int, size: int, eval_size: int, mean: Tensor, std: Tensor, notes: list[str]
    ) -> None:
        super().__init__()
        self.backbone, self.dim, self.size, self.eval_size, self.notes = backbone, dim, size, eval_size, notes
        self.looks = 1
        self.whitening = None
        self.register_buffer("mean", mean.float().view(-1, 1, 1))
        self.register_buffer("std", std.float().clamp_min(1e-3).view(-1, 1, 1))
        for part in backbone.modules():
            if type(part) is nn.Conv2d and _halves(part):
                part.register_forward_pre_hook(_never_one_pixel)

    def forward(self, x: Tensor) -> Tensor:
        """Images to representations.

        Raises:
            UserError: not four dimensions, or another number of channels.
        """
        x = self._prepared(x)
        return self.represented(self.backbone(x), x)

    def stages(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Images to representations, and to what each stage of the backbone made on the way there, in one pass.

        Returns:
            h (B, dim), as `forward` gives it, and the maps (B, C, H, W) of the stages, first to last.

        Raises:
            UserError: as `forward`; or a backbone that does not give its stages.
        """
        backbone: Any = self.backbone
        if not hasattr(backbone, "forward_intermediates"):
            raise UserError("this encoder does not show its stages: give another --encoder, such as resnet18")
        x = self._prepared(x)
        last, maps = backbone.forward_intermediates(x)
        return self.represented(backbone.forward_head(last), x), maps

    def represented(self, h: Tensor, x: Tensor) -> Tensor:
        """What is judged: in evaluation mode the mean over the looks at each image; whitened in float32, if asked for.

        Args:
            h: (B, dim), what the backbone gives of x.
            x: (B, C, H, W), images of the size that is judged, normalised.
        """
        if self.looks > 1 and not self.training:
            others = [x.flip(3)]
            if self.looks == 4:
                small = resized(x, smaller(self.eval_size))
                others += [small, small.flip(3)]
            h = (h + sum(self.backbone(other) for other in others)) / self.looks
        if self.whitening is None:
            return h
        with torch.autocast(h.device.type, enabled=False):
            return self.whitening(h.float())  # type: ignore[no-any-return]

    def whitened(self, h: Tensor | None = None) -> Encoder:
        """A copy whose representation is PCA-whitened: centred, turned to its principal directions, each scaled to variance
        1. Trained representations vary most along few directions, which are then all that nearest neighbours see (Jégou and
        Chum 2012, "Negative evidences and co-occurences in image retrieval: the benefit of PCA and whitening").

        Args:
            h: (n, dim) representations of many images, as this encoder gives them; None: the weights come later.
        """
        copied = copy.deepcopy(self)
        layer = nn.Linear(self.dim, self.dim).requires_grad_(False).to(self.mean.device)
        if h is not None:
            centre, matrix = whitening(h, self.dim)
            layer.weight.copy_(matrix.T)
            layer.bias.copy_(-centre @ matrix)
        copied.whitening = layer
        return copied

    def looking(self, looks: int) -> Encoder:
        """A copy that looks 1, 2 or 4 times at an image that it judges, as descriptors are averaged over reflections and
        scales (Simonyan and Zisserman 2015, "Very Deep Convolutional Networks", appendix B).

        Raises:
            UserError: a network that does not take the smaller images.
        """
        copied = copy.deepcopy(self)
        copied.looks = looks
        if looks == 4:
            name, sizes = type(copied.backbone).__name__, {smaller(self.eval_size)}
            dimension(copied.backbone, name, len(self.mean), sizes, "give --looks 2, or another --eval-size or encoder")
        return copied

    def plain(self) -> Encoder:
        """A copy as it was trained: it looks once, and does not whiten."""
        copied = copy.deepcopy(self)
        copied.whitening, copied.looks = None, 1
        return copied

    def _prepared(self, x: Tensor) -> Tensor:
        if x.ndim != 4 or x.shape[1] != len(self.mean):
            raise UserError(
                f"this encoder takes images of shape (B, {len(self.mean)}, H, W), and got {tuple(x.shape)}: "
                "convert them, or train an encoder on such images"
            )
        x = x.float() / 255 if x.dtype == torch.uint8 else x.float()
        if not self.training and x.shape[-2:] != (self.eval_size, self.eval_size):
            x = resized(x, self.eval_size)
        return (x - self.mean) / self.std


def _halves(conv: nn.Conv2d) -> bool:
    """Whether it is strided, and its zeros stand evenly around the map."""
    kernel = conv.kernel_size
    return min(conv.stride) > 1 and all(k % 2 for k in kernel) and conv.padding == tuple(k // 2 for k in kernel)


def _never_one_pixel(conv: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A map of 1×1 with zeros around it: the same output, as a strided convolution pads it with zeros anyway. In bfloat16 on
    processors, the gradient of its weights is not written where only padding meets them (PyTorch 2.15 with its oneDNN)."""
    return tuple(F.pad(x, (0, 1, 0, 1)) if x.shape[-2:] == (1, 1) else x for x in inputs)


def dimension(
    backbone: nn.Module,
    name: str,
    channels: int,
    sizes: set[int],
    remedy: str = "give a larger --image-size, or another encoder",
) -> int:
    """Length of the representation, found with one blank image of each size that the network will see.

    Raises:
        UserError: the network does not take images of such a size.
    """
    training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    for size in sizes:
        try:
            with torch.no_grad():
                h = backbone(torch.zeros(1, channels, size, size, device=device))
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"encoder {name!r} does not take images of {size} px ({reason}): {remedy}") from error
    backbone.train(training)
    return int(h.shape[1])


def resized(x: Tensor, side: int) -> Tensor:
    """Images (B, C, H, W) as squares of that side: bilinear, antialiased."""
    return F.interpolate(x, (side, side), mode="bilinear", antialias=True, align_corners=False)


def smaller(side: int) -> int:
    """Side of an image in the smaller of two sizes, in pixels."""
    return round(SMALLER * side)
