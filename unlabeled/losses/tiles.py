"""The sum over all candidates in bounded memory: log Σ_j exp(scale · q_i·k_j), forward and backward through tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

BUDGET = 1 << 24
"""Similarities held at once. A larger matrix is never built: its tiles are computed, summed, and computed again backward."""

CACHED = 1 << 19
"""Similarities of a tile on a CPU, where it should stay in the cache (2 MiB in float32)."""


def log_sum_exp(q: Tensor, k: Tensor, scale: float | Tensor, leave_out: Sequence[Tensor] = ()) -> Tensor:
    """Computes log Σ_j exp(scale · q_i·k_j) for every row i.

    Args:
        q: (B, D).
        k: (M, D).
        scale: 1/τ; a tensor of one number may have a gradient.
        leave_out: (B,) integers each: column `leave_out[..][i]` is not in the sum of row i. Columns may repeat.

    Returns:
        (B,), differentiable in q, k and scale; -inf, with zero gradient, where nothing is left to sum. A second derivative
        (`create_graph=True`) does build the matrix.
    """
    if isinstance(scale, Tensor):
        q, scale = q * scale, 1.0
    if len(k) == 0:
        return (q @ k.T).sum(1) - float("inf")
    result: Tensor = _LogSumExp.apply(q, k, scale, tuple(leave_out))
    return result


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, scale: float, leave_out: tuple[Tensor, ...]) -> Tensor:
        ctx.scale, ctx.leave_out = scale, leave_out
        if len(q) * len(k) <= BUDGET:
            weights = _tile(q, k, scale, leave_out, slice(0, len(q)), slice(0, len(k)))  # (B, M)
            top = _finite(weights.amax(1))
            sums = weights.sub_(top[:, None]).exp_().sum(1)
            if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
                ctx.save_for_backward(q, k, weights.div_(sums.where(sums > 0, 1)[:, None]))
            return top + sums.log()
        result = q.new_empty(len(q))
        buffer = q.new_empty(_side(q)[0] * _side(q)[1])
        for rows, columns in _grid(q, k):
            b = rows.stop - rows.start
            top, total = q.new_full((b,), float("-inf")), q.new_zeros(b)
            for part in columns:
                tile = _tile(q, k, scale, leave_out, rows, part, buffer)
                higher = torch.maximum(top, tile.amax(1))
                total *= (top - _finite(higher)).exp_()
                total += tile.sub_(_finite(higher)[:, None]).exp_().sum(1)
                top = higher
            result[rows] = _finite(top) + total.log()
        ctx.save_for_backward(q, k, result)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        q, k, saved = ctx.saved_tensors
        slope = gradients[0][:, None] * ctx.scale  # (B, 1)
        if torch.is_grad_enabled():
            saved = _weights(q, k, ctx.scale, ctx.leave_out)
        if saved.ndim == 2:
            return (saved @ k) * slope, saved.T @ (q * slope), None, None
        sums, weighted = _finite(saved), q * slope
        to_q, to_k = torch.zeros_like(q), torch.zeros_like(k)
        buffer = q.new_empty(_side(q)[0] * _side(q)[1])
        for rows, columns in _grid(q, k):
            for part in columns:
                tile = _tile(q, k, ctx.scale, ctx.leave_out, rows, part, buffer)
                tile.sub_(sums[rows, None]).exp_()
                to_q[rows].addmm_(tile, k[part])
                to_k[part].addmm_(tile.T, weighted[rows])
        return to_q.mul_(slope), to_k, None, None


def _weights(q: Tensor, k: Tensor, scale: float, leave_out: tuple[Tensor, ...]) -> Tensor:
    """(B, M) softmax over what is not left out, as autograd can follow it; 0 where nothing is left."""
    tile = _tile(q, k, scale, leave_out, slice(0, len(q)), slice(0, len(k)))
    weights = (tile - _finite(tile.detach().amax(1))[:, None]).exp()
    return weights / weights.sum(1, keepdim=True).clamp(min=torch.finfo(q.dtype).tiny)


def _finite(x: Tensor) -> Tensor:
    """-inf - (-inf) is no number; where a row has nothing to sum, exp(-inf - 0) = 0 is what is meant."""
    return x.where(x > float("-inf"), 0)


def _side(q: Tensor) -> tuple[int, int]:
    size = min(BUDGET, CACHED) if q.device.type == "cpu" else BUDGET
    rows = max(1, int(size**0.5))
    return rows, max(1, size // rows)


def _grid(q: Tensor, k: Tensor) -> Iterator[tuple[slice, list[slice]]]:
    height, width = _side(q)
    columns = [slice(i, min(i + width, len(k))) for i in range(0, len(k), width)]
    for i in range(0, len(q), height):
        yield slice(i, min(i + height, len(q))), columns


def _tile(
    q: Tensor,
    k: Tensor,
    scale: float,
    leave_out: tuple[Tensor, ...],
    rows: slice,
    columns: slice,
    buffer: Tensor | None = None,
) -> Tensor:
    """Similarities of some rows to some columns, -inf where they are left out; written into the buffer if there is one."""
    height, width = rows.stop - rows.start, columns.stop - columns.start
    out = None if buffer is None else buffer[: height * width].view(height, width)
    tile = torch.mm(q[rows] * scale, k[columns].T, out=out)
    for column in leave_out:
        here = column[rows, None] - columns.start  # (b, 1)
        inside = (here >= 0) & (here < width)
        here = here.clamp(0, width - 1)
        values = tile.gather(1, here).masked_fill(inside, float("-inf"))
        tile = tile.scatter(1, here, values) if torch.is_grad_enabled() else tile.scatter_(1, here, values)
    return tile
