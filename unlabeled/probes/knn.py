"""The weighted nearest-neighbour classifier of Wu et al. 2018, section 3.4: the usual monitor. Nothing is trained."""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.probes.base import check_fit
from unlabeled.probes.classified import Classified, classified
from unlabeled.registry import register
from unlabeled.words import counted

GROUP = 16  # neighbouring columns whose maximum is looked at first


@register("knn")
class KNN:
    """Each of the k most similar training samples votes for its class with weight exp(cosine / temperature).

    "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", Wu et al. 2018, section 3.4. Float32
    throughout, on the device of the features given to `fit`. Of equally similar samples the earlier is the nearer; of
    classes with equal votes the smaller wins.

    With few samples, k is lowered to the mean number of samples a class: if nearly everything votes, features that are all
    alike give the class with the most samples. With one label a class the nearest alone decides.

    Args:
        k: neighbours that vote, at most; `min(k, max(1, n // classes))` of n training samples do.
        temperature: > 0; the smaller, the more the nearest alone decide.
    """

    def __init__(self, *, k: int = 200, temperature: float = 0.1) -> None:
        self.k = k
        self.temperature = temperature
        self.notes_: list[str] = []
        self.classified_: Classified

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Keeps h (N, D), normalised, and y (N,) int64. `reference` is not used: the cosine needs no statistics.

        Raises:
            UserError: an option out of range.
            ValueError: wrong shapes, no sample, or features that are not finite.
        """
        if self.k < 1 or self.temperature <= 0:
            raise UserError(f"knn: k must be at least 1 and temperature above 0, got {self.k} and {self.temperature}")
        check_fit(h, y)
        self.bank_ = F.normalize(h.float(), dim=1)
        self.classes_, self.class_index_ = torch.unique(y.to(h.device), return_inverse=True)
        self.k_ = min(self.k, max(1, len(h) // len(self.classes_)))
        few = (
            f"kNN: {counted(self.k_, 'neighbours', 'vote')} instead of {self.k}, for {counted(len(h), 'labels')} of "
            f"{counted(len(self.classes_), 'classes')}"
        )
        self.notes_ = [few] if self.k_ < self.k else []
        return self

    def predict(self, h: Tensor, *, query_tile: int = 1024, bank_tile: int = 16384) -> Tensor:
        """Returns the class of each of h (M, D): (M,) int64 on the device of `h`. Memory: query_tile × bank_tile floats."""
        votes = self.predict_proba(h, query_tile=query_tile, bank_tile=bank_tile)
        predicted: Tensor = self.classes_.to(h.device)[votes.argmax(dim=1)]
        return predicted

    def predict_proba(self, h: Tensor, *, query_tile: int = 1024, bank_tile: int = 16384) -> Tensor:
        """Returns the share of the votes (M, K) of each of `classes_` for h (M, D), on the device of `h`."""
        votes = [self._vote(*self.neighbours(tile, bank_tile=bank_tile)) for tile in torch.split(h, query_tile)]
        return torch.cat(votes).to(h.device)

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Returns `{"top1": share of correct classes}` on h (M, D) with labels y (M,)."""
        self.classified_ = classified(y, self.predict_proba(h), self.classes_)
        return {"top1": float(self.classified_.right.mean())}

    def neighbours(self, h: Tensor, *, bank_tile: int = 16384) -> tuple[Tensor, Tensor]:
        """Returns the k nearest training samples of each of h (M, D), the nearest first.

        Returns:
            cosine (M, k) float32 and position (M, k) int64 in what was given to `fit`, with the k that `fit` chose.
        """
        return nearest(h, self.bank_, self.k_, bank_tile=bank_tile)

    def _vote(self, cosine: Tensor, position: Tensor) -> Tensor:
        """Shares (M, K) from cosine and position (M, k). Weights relative to the nearest: the same shares, no overflow."""
        weight = ((cosine - cosine[:, :1]) / self.temperature).exp()
        votes = weight.new_zeros(len(weight), len(self.classes_))
        votes.scatter_add_(1, self.class_index_[position], weight)
        return votes / votes.sum(dim=1, keepdim=True)


def nearest(h: Tensor, bank: Tensor, k: int, *, bank_tile: int = 16384) -> tuple[Tensor, Tensor]:
    """Returns the k most similar of `bank` (N, D), rows of length 1, for each of h (M, D), the nearest first; the earlier of
    ties.

    On a processor by faiss (Johnson et al. 2019), exactly; elsewhere tile by tile.

    Returns:
        cosine (M, k) float32 and position (M, k) int64 in the bank, on its device.

    Raises:
        ValueError: k is not in [1, N].
    """
    if not 1 <= k <= len(bank):
        raise ValueError(f"k must be in [1, {len(bank)}], got {k}")
    queries = F.normalize(h.to(bank.device).float(), dim=1)
    search = _by_faiss if bank.device.type == "cpu" else _by_tiles
    return search(queries, bank, k, bank_tile)


def _by_faiss(queries: Tensor, bank: Tensor, k: int, bank_tile: int) -> tuple[Tensor, Tensor]:
    """By faiss, which does not say which of equally similar ones it takes: where that matters, the query is done again."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    more = min(k + 1, len(bank))
    found = faiss.knn(queries.numpy(), bank.contiguous().numpy(), more, metric=faiss.METRIC_INNER_PRODUCT)
    keys = _key(*map(torch.from_numpy, found)).sort(dim=1, descending=True).values
    cosine, position = _unkey(keys[:, :k])
    if more > k:
        tied = _unkey(keys[:, k])[0] == cosine[:, -1]
        if tied.any():
            cosine[tied], position[tied] = _by_tiles(queries[tied], bank, k, bank_tile)
    return cosine, position


def _by_tiles(queries: Tensor, bank: Tensor, k: int, bank_tile: int) -> tuple[Tensor, Tensor]:
    best = queries.new_empty(len(queries), 0, dtype=torch.int64)
    for start in range(0, len(bank), bank_tile):
        cosine = queries @ bank[start : start + bank_tile].T  # (M, tile)
        best = torch.cat([best, _largest(cosine, k, start)], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    return _unkey(best)


def _largest(cosine: Tensor, k: int, start: int) -> Tensor:
    """Keys of the k largest of each row of (M, N), or of all N if fewer; `start` is the position of column 0.

    The k largest lie in the k groups of columns with the largest maxima, so most columns are only ever compared once.
    """
    n = cosine.shape[1]
    if n <= 2 * k * GROUP:
        position = torch.arange(start, start + n, device=cosine.device)
        return _key(cosine, position).topk(min(k, n), dim=1).values
    grouped = F.pad(cosine, (0, -n % GROUP), value=-torch.inf).reshape(len(cosine), -1, GROUP)  # (M, N / GROUP, GROUP)
    maxima = grouped.amax(dim=2)
    _, group = _unkey(_key(maxima, torch.arange(maxima.shape[1], device=cosine.device)).topk(k, dim=1).values)
    candidates = grouped.gather(1, group[:, :, None].expand(-1, -1, GROUP))  # (M, k, GROUP)
    position = start + group[:, :, None] * GROUP + torch.arange(GROUP, device=cosine.device)
    return _key(candidates, position).flatten(1).topk(k, dim=1).values


def _key(value: Tensor, position: Tensor) -> Tensor:
    """One int64 that orders like (value, -position): the bits of the float32 above, the reversed position (< 2³¹) below.

    With it a top-k has no ties to break, so that its result depends neither on the tiles nor on the device.
    """
    bits = (value + 0.0).view(torch.int32)  # + 0.0: minus zero equals zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.long() << 32) | (0x7FFFFFFF - position)


def _unkey(key: Tensor) -> tuple[Tensor, Tensor]:
    """Value float32 and position int64 from `_key`."""
    ordered = (key >> 32).int()
    bits = ordered ^ ((ordered >> 31) & 0x7FFFFFFF)
    return bits.view(torch.float32), 0x7FFFFFFF - (key & 0x7FFFFFFF)
