"""What methods remember: buffers that are saved with the model and have one write method each."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.errors import UserError


class Ema(nn.Module):
    """A copy of a module that follows it: θ' <- m θ' + (1 - m) θ (MoCo, eq. 2; BYOL, eq. 1). It gets no gradient.

    It stays in the mode (training or evaluation) of its parent, so its batch norms use the statistics of the batch.
    Floating-point buffers (running statistics) follow like parameters, integer ones are copied.
    """

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(online).requires_grad_(False)

    def forward(self, *inputs: Any) -> Any:
        """The copy's output, without graph."""
        with torch.no_grad():
            return self.module(*inputs)

    @torch.no_grad()
    def update(self, online: nn.Module, momentum: float) -> None:
        """Moves towards `online`; `momentum` in [0, 1], 1 stays, 0 copies."""
        mine, theirs = self.module.state_dict(), online.state_dict()
        moving = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in moving], [theirs[n] for n in moving], 1 - momentum)
        for name in mine.keys() - moving:
            mine[name].copy_(theirs[name])


class Queue(nn.Module):
    """The last `size` unit keys, oldest replaced first (MoCo, §3.2). Starts as random directions.

    Args:
        size: keys kept.
        dim: of a key.
    """

    keys: Tensor  # (size, dim)
    end: Tensor  # () int64, where the next key goes

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("keys", F.normalize(torch.randn(size, dim), dim=1))
        self.register_buffer("end", torch.zeros((), dtype=torch.long))

    def check(self, n: int) -> None:
        """Whether `n` keys at once fit.

        Raises:
            UserError: more keys than the queue holds.
        """
        if n > len(self.keys):
            raise UserError(
                f"a batch of {n} does not fit a queue of {len(self.keys)}: give more --method.queue or less --batch-size"
            )

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Stores keys (B, dim), normalised here.

        Raises:
            UserError: more keys than the queue holds.
        """
        n, size = len(keys), len(self.keys)
        self.check(n)
        places = (self.end + torch.arange(n, device=keys.device)) % size
        self.keys.index_copy_(0, places, F.normalize(keys.to(self.keys.dtype), dim=1))
        self.end.add_(n).remainder_(size)
