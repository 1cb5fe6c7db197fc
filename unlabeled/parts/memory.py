"""What methods remember: buffers that are saved with the model and have one write method each."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.distributed import of_first
from unlabeled.errors import UserError
from unlabeled.words import counted


class Ema(nn.Module):
    """A copy of a module that follows it: θ' <- m θ' + (1 - m) θ (MoCo, eq. 2; BYOL, eq. 1). It gets no gradient.

    Its batch norms stay in the mode (training or evaluation) of its parent, so that they use the statistics of the batch, as
    does what treats samples by it (`follows_mode`). All else is in evaluation mode: a teacher drops neither paths nor units,
    or its two looks at a sample would differ (the published code of DINO gives the student alone its drop path).
    Floating-point buffers (running statistics) follow like parameters, integer ones are copied.
    """

    passes = 1
    """In how many `in_groups` goes through a batch, of whole groups each; `in_passes` sets it."""

    def __init__(self, online: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(online).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of the copy's batch norms, and of what treats samples by it."""
        super().train(mode)
        for part in self.module.modules():
            kept = isinstance(part, nn.modules.batchnorm._BatchNorm) or getattr(part, "follows_mode", False)
            part.training = mode and kept
        return self

    def forward(self, *inputs: Any) -> Any:
        """Returns the copy's output, without graph."""
        with torch.no_grad():
            return self.module(*inputs)

    def in_groups(self, x: Tensor, groups: int) -> Tensor:
        """Returns the copy's output for x (B, ...), shuffled and taken in groups whose batch norms see nothing of each other
        (MoCo, 2020, §3.3, where a group is what one GPU has); no group has fewer than 2, as batch statistics need."""
        order = torch.randperm(len(x)).to(x.device)
        parts = order.tensor_split(max(1, min(groups, len(x) // 2)))
        ends = [round(len(parts) * i / self.passes) for i in range(self.passes + 1)]
        passes = [parts[start:end] for start, end in pairwise(ends) if end > start]
        return torch.cat([self._apart(x, some) for some in passes])[order.argsort()]

    def _apart(self, x: Tensor, parts: Sequence[Tensor]) -> Tensor:
        """The output for these samples of x, by group."""
        with _apart(self.module, [len(part) for part in parts]):
            return self(x[torch.cat(tuple(parts))])  # type: ignore[no-any-return]

    @torch.no_grad()
    def update(self, online: nn.Module, momentum: float) -> None:
        """Moves towards `online`; `momentum` in [0, 1], 1 stays, 0 copies."""
        mine, theirs = self.module.state_dict(), online.state_dict()
        moving = [name for name, value in mine.items() if value.is_floating_point()]
        torch._foreach_lerp_([mine[n] for n in moving], [theirs[n] for n in moving], 1 - momentum)
        for name in mine.keys() - moving:
            mine[name].copy_(theirs[name])


@contextmanager
def in_passes(module: nn.Module, count: int) -> Iterator[None]:
    """Lets `Ema.in_groups` take the memory of a part of a batch, and give the same."""
    copies = [part for part in module.modules() if isinstance(part, Ema)]
    try:
        for copied in copies:
            copied.passes = count
        yield
    finally:
        for copied in copies:
            copied.passes = 1


@contextmanager
def _apart(module: nn.Module, sizes: list[int]) -> Iterator[None]:
    """Has each batch norm take groups of a batch one after the other, as if they came so; the rest of a network, for which
    it makes no difference, sees them at once, which is faster."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]

    def forward(norm: nn.Module, *maps: Tensor) -> Tensor:
        parts = zip(*(torch.split(each, sizes) for each in maps), strict=True)
        return torch.cat([type(norm).forward(norm, *part) for part in parts])

    try:
        for norm in norms:
            norm.forward = partial(forward, norm)  # type: ignore[method-assign]
        yield
    finally:
        for norm in norms:
            del norm.forward


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
        """Checks whether `n` keys at once fit.

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


class Bank(nn.Module):
    """One unit vector for each of the n training samples, written when the sample is seen (Wu et al. 2018, "memory bank").
    Starts as random directions.

    Args:
        n: training samples; row i belongs to `Batch.index` i.
        dim: of a vector.
    """

    vectors: Tensor  # (n, dim)

    def __init__(self, n: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("vectors", F.normalize(torch.randn(n, dim), dim=1))

    def of(self, index: Tensor) -> Tensor:
        """Returns the vectors (B, dim) of these samples (B,).

        Raises:
            UserError: an index that the bank has no vector of; seen on the CPU only, as elsewhere one would have to wait.
        """
        n = len(self.vectors)
        if index.device.type == "cpu" and ((index < 0) | (index >= n)).any():
            raise UserError(
                f"sample {int(index.abs().max())} is not among the {n} of the memory bank: the data has changed; "
                "start a new run with another --out"
            )
        return self.vectors[index]

    @torch.no_grad()
    def fill(self, vectors: Tensor) -> None:
        """Writes all of them at once, (n, dim), normalised here."""
        self.vectors.copy_(F.normalize(vectors.to(self.vectors), dim=1))

    @torch.no_grad()
    def write(self, index: Tensor, vectors: Tensor, momentum: float) -> None:
        """Moves v <- m v + (1 - m) new for these samples (B,), both of length 1, and to length 1 again.

        The mean is written for a sample that occurs more than once; where all cancels, the old vector stays.
        """
        old = self.of(index)
        same = index[:, None] == index  # (B, B)
        with torch.autocast(old.device.type, enabled=False):
            new = same.to(old.dtype) @ F.normalize(vectors.to(old.dtype), dim=1) / same.sum(1, keepdim=True)
        mixed = momentum * old + (1 - momentum) * new
        mixed = torch.where(mixed.norm(dim=1, keepdim=True) > 1e-6, F.normalize(mixed, dim=1), old)
        place = torch.arange(len(index), device=index.device)
        first = torch.where(same, place, len(index)).amin(1)  # (B,), so that copies of one sample write the same bits
        self.vectors.index_copy_(0, index, mixed[first])

    def draw(self, count: int, avoiding: Tensor, generator: torch.Generator) -> Tensor:
        """Draws vectors of other samples uniformly, without replacement; one draw for a whole batch.

        Args:
            count: how many; where the bank has fewer besides `avoiding`, as many as it has.
            avoiding: (B,) indices of the batch, of all processes.
            generator: of the CPU, in the same state in all processes.

        Returns:
            (count, dim).

        Raises:
            UserError: the batch takes the whole bank.
        """
        n = len(self.vectors)
        if len(avoiding) >= n:
            raise UserError(
                f"a batch of {len(avoiding)} leaves none of the {counted(n, 'training samples')} as a negative: "
                "give a smaller --batch-size"
            )
        lots = torch.rand(n, generator=generator).to(self.vectors.device, non_blocking=True).index_fill_(0, avoiding, 2.0)
        return self.vectors[lots.topk(min(count, n - len(avoiding)), largest=False).indices]

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *others: Any) -> None:
        saved = state_dict.get(f"{prefix}vectors")
        if saved is not None and saved.shape != self.vectors.shape:
            raise UserError(
                f"the checkpoint's memory bank has the shape {tuple(saved.shape)}, samples by dimensions, and this one "
                f"{tuple(self.vectors.shape)}: resume with the data and options that the run began with, "
                "or start a new run with another --out"
            )
        super()._load_from_state_dict(state_dict, prefix, *others)


class Clustering(nn.Module):
    """A partition of the n training samples into k clusters, as k-means or a method's own rule wrote it last.

    Before the first time all samples are in one cluster, and centroids are random directions.

    Args:
        n: training samples; place i belongs to `Batch.index` i.
        k: clusters.
        dim: of a centroid.
    """

    labels: Tensor  # (n,) int64 in [0, k)
    centroids: Tensor  # (k, dim)
    concentration: Tensor  # (k,) > 0, how widely each cluster spreads: φ of PCL
    nmi: Tensor  # () agreement with the partition before

    def __init__(self, n: int, k: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("labels", torch.zeros(n, dtype=torch.long))
        self.register_buffer("centroids", F.normalize(torch.randn(k, dim), dim=1))
        self.register_buffer("concentration", torch.ones(k))
        self.register_buffer("nmi", torch.zeros(()))

    @torch.no_grad()
    def write(self, index: Tensor | None = None, **values: Tensor) -> None:
        """Replaces the buffers that are named, or only their rows `index` (B,), by the first process's values."""
        for name, value in values.items():
            held = self.get_buffer(name)
            new = of_first(value.to(held))
            if index is None:
                held.copy_(new)
            else:
                held.index_copy_(0, index, new)
