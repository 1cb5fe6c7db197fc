"""What another library gives to an encoder, by the kind of the data, and the encoder as one graph from there to features."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from unlabeled.data.kinds.fit import fitted
from unlabeled.encoders import Encoder

RANDOM = 16
"""Samples to compare on, of each size."""
SHOWN = {
    "crop": "Of one that is not square the central square is taken first (`--fit crop`).",
    "pad": "One that is not square keeps its shape, and has black beside it (`--fit pad`).",
    "stretch": "One that is not square is squashed (`--fit stretch`).",
}
"""What is said of each fit."""


class Images(nn.Module):
    """An encoder of images without the questions that it asks of its input: those have no place in a graph.

    Attributes:
        noun: of the samples, and of the graph's input.
        largest: value of a raw sample; the graph takes them as shares of it.
        free: the dimensions of the input that are, and their names.
        inside: what comes before the network.
    """

    noun, largest, inside = "images", 255, "Resize and normalisation are inside"
    free: ClassVar = {0: "batch", 2: "height", 3: "width"}

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    @staticmethod
    def describe(encoder: Encoder) -> tuple[str, str]:
        """Returns shape and type of a raw batch, and what happens to it before the network."""
        side = encoder.front.eval_size
        before = (
            f"Images are brought to [0, 1], resized to {side}×{side} (bilinear, antialiased) and normalised, in this order."
        )
        before += f" {SHOWN[encoder.front.fit]}"
        return f"(B, {encoder.front.channels}, H, W) of uint8, of any H and W", before

    @staticmethod
    def random(encoder: Encoder) -> list[Tensor]:
        """Draws noise of the size that the encoder judges at, and images of another that are not square."""
        draw, channels, size = torch.Generator().manual_seed(0), encoder.front.channels, encoder.front.eval_size
        shapes = [(RANDOM, channels, size, size), (RANDOM, channels, 2 * size - 1, size + 3)]
        return [torch.randint(0, 256, shape, dtype=torch.uint8, generator=draw) for shape in shapes]

    def example(self) -> Tensor:
        """Draws what the graph takes."""
        side = self.encoder.front.eval_size
        return torch.rand(2, self.encoder.front.channels, side + 3, side + 5)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, C, H, W) in [0, 1] to (B, D)."""
        front = self.encoder.front
        x = (fitted(images, front.eval_size, front.fit) - front.mean) / front.std
        return self.encoder.represented(self.encoder.backbone(x), x)


class Recordings(nn.Module):
    """The same of sound. Recurrences become ONNX's own: PyTorch's would be written out step by step, for one length.

    Attributes: see `Images`.
    """

    noun, largest, inside = "recordings", 32768, "The scaling is inside"
    free: ClassVar = {0: "batch", 2: "samples"}

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        for name, part in list(encoder.backbone.named_modules()):
            if isinstance(part, nn.GRU):
                encoder.backbone.set_submodule(name, _GRU(part))

    @staticmethod
    def describe(encoder: Encoder) -> tuple[str, str]:
        """Returns shape and type of a raw batch, and what happens to it before the network."""
        shape = f"(B, 1, T) of int16, of any T, at {encoder.front.kind.options['rate']:,} samples a second"
        return shape, "Recordings are brought to [-1, 1] and scaled; zeros at the end are padding, and change nothing."

    @staticmethod
    def random(encoder: Encoder) -> list[Tensor]:
        """Draws noise as long as the longest recording, with zeros at the end of one and one of zeros, and shorter noise."""
        draw, size = torch.Generator().manual_seed(0), encoder.front.eval_size
        ends = (size, size // 2 + 3)
        whole, short = (torch.randint(-9999, 9999, (RANDOM, 1, end), dtype=torch.int16, generator=draw) for end in ends)
        whole[0, :, size // 2 :] = whole[1] = 0
        return [whole, short]

    def example(self) -> Tensor:
        """Draws what the graph takes."""
        return torch.rand(2, 1, self.encoder.front.eval_size) - 0.5

    def forward(self, recordings: Tensor) -> Tensor:
        """Maps (B, 1, T) in [-1, 1] to (B, D)."""
        x = recordings / self.encoder.front.scale
        return self.encoder.represented(self.encoder.backbone(x), x)


class _GRU(nn.Module):
    """ONNX's operator GRU with the weights of PyTorch's: one layer, forwards; its gates are in another order."""

    w: Tensor
    r: Tensor
    b: Tensor

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        if gru.num_layers != 1 or gru.bidirectional or not gru.batch_first or not gru.bias:
            raise NotImplementedError(f"no graph is written for {gru}")

        def gates(weights: Any) -> Tensor:
            reset, update, new = weights.detach().chunk(3)
            return torch.cat([update, reset, new])[None]

        self.hidden = gru.hidden_size
        self.register_buffer("w", gates(gru.weight_ih_l0))
        self.register_buffer("r", gates(gru.weight_hh_l0))
        self.register_buffer("b", torch.cat([gates(gru.bias_ih_l0), gates(gru.bias_hh_l0)], 1))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        steps = x.transpose(0, 1)  # (L, B, C)
        made = torch.onnx.ops.symbolic(
            "GRU", (steps, self.w, self.r, self.b), {"hidden_size": self.hidden, "linear_before_reset": 1},
            dtype=x.dtype, shape=(x.shape[1], 1, x.shape[0], self.hidden),
        )  # fmt: skip
        return made[:, 0].transpose(0, 1), None  # (B, L, hidden); no one asks for the last state


def graph_of(encoder: Encoder) -> type[Images | Recordings]:
    """Returns the class for the kind of data that it takes."""
    graphs: dict[str, type[Images | Recordings]] = {"image": Images, "sound": Recordings}
    return graphs[encoder.front.kind.name]
