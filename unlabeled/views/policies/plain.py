"""The policy that changes nothing."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.registry import register
from unlabeled.views.view import View, draw_views


@register("none")
class Plain:
    """One view: the sample as it is; an image resized with antialiasing if its size differs. What evaluation uses."""

    sees: ClassVar[tuple[str, ...]] = ("image", "sound")

    def __init__(self, shape: DataShape) -> None:
        """shape: of the data."""
        self.kind = shape.kind
        self.parts = [View(shape.size).within(shape)] if shape.kind == "image" else []

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Samples -> one view, float32 as encoders take it; no targets."""
        if self.kind == "image":
            return draw_views(self.parts, fields["image"], generator), {}
        return [fields[self.kind].float() / 32768], {}
