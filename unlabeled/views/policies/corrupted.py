"""A policy of a task of repair: an image, and the same with noise."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views.view import View, check_number, draw_views, one_thread

Noise = Literal["zeros", "gaussian", "salt-pepper"]


@register("corrupted")
class Corrupted:
    """The image with noise, and the image as it is (Vincent et al. 2008, §2.3; Vincent et al. 2010, §3.3).

    - `zeros`: a share of the values, drawn each by itself, is 0.
    - `gaussian`: noise of that deviation is added to each value; what then leaves [0, 1] is brought to its bounds.
    - `salt-pepper`: a share of the values is 0 or 1, by the toss of a coin.
    """

    def __init__(self, shape: DataShape, *, noise: Noise = "zeros", amount: float = 0.25) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            noise: what is done to values.
            amount: share of the values (0.25: among those of Vincent et al. 2008), or deviation of what is added, where an
                image's values lie in [0, 1] (likewise 0.25: ours).

        Raises:
            UserError: an amount outside (0, 1].
        """
        self.parts, self.noise = [View(shape.size).within(shape)], noise
        self.amount = check_number("amount", amount, 0.0, 1.0, "it is a share of the values, or a deviation")
        if not self.amount:
            raise UserError("an amount of 0 is no noise: give --views.amount 0.25, or --method ae, which has none")

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [with noise, as it is], (B, C, size, size) each, in [0, 1]; no targets."""
        (x,) = draw_views(self.parts, fields["image"], generator)
        with one_thread():
            if self.noise == "gaussian":
                added = torch.randn(x.shape, generator=generator)
                return [(x + self.amount * added.to(x.device)).clamp(0, 1), x], {}
            chosen = (torch.rand(x.shape, generator=generator) < self.amount).to(x.device)
            value: Tensor = torch.zeros(())
            if self.noise == "salt-pepper":
                value = (torch.rand(x.shape, generator=generator) < 0.5).float()
        return [torch.where(chosen, value.to(x.device), x), x], {}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns what is seen and what is asked for, as pictures."""
        return {"noised": views[0], "true": views[1]}
