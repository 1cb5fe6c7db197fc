"""Batch norms of maps as loops over rows of channels, compiled for the processor by numba, for torch's own threads.

Values are float32 or bfloat16 in memory, and float32 in the loops. A map (B, C, H, W) in channels-last layout is rows of C
channels; several are taken as one row, so that narrow maps fill the processor's registers. What is no map is float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

from unlabeled.compute import openmp
from unlabeled.compute.numba_words import array, called, fitted, floats_at, halves_at, part, read, started

FLOATS, HALVES = types.int64, types.uint64
KINDS = {torch.float32: FLOATS, torch.bfloat16: HALVES}
"""A thread gets nothing but where its task is, so the type of the task's numbers says what its arrays are of."""

TABLE, _SUMS = 7, 5
"""Rows of a thread's table: scale, shift, mean, the means of the gradients of bias and scaled weight, and two sums."""

_THREAD, _THREADS, _ROWS, _WIDTH, _CHANNELS, _TEAM, _FIRST = range(7)
"""Places in a task: the addresses of OpenMP's functions that say which thread one is and of how many, rows, values of a row,
channels, tables; then the addresses of its arrays."""

_X, _TABLES, _WEIGHT, _BIAS, _STATS, _CONSTANTS, _MORE = range(7)
"""Arrays: the map that is normalised; tables (threads or more, TABLE, width), zeros at first; weight and bias (C,); mean and
variance (2, C); ε and the least that is let through (1, 2), which is 0 for ReLU; then each job's own."""


@part
def _number(task: Any, place: int) -> Any:
    return np.int64(task[place])


@part
def _asked(task: Any, place: int) -> Any:
    return np.int64(called(_number(task, place)))


@part
def _floats(task: Any, i: int, rows: int, width: int) -> Any:
    """The i-th array, (rows, width)."""
    return array(floats_at(_number(task, _FIRST + i)), (rows, width))


@part
def _columns(task: Any, i: int, rows: int) -> Any:
    return _floats(task, i, rows, _number(task, _CHANNELS))


@part
def _table(task: Any) -> Any:
    """This thread's."""
    thread = _asked(task, _THREAD)
    return _tables(task)[thread * TABLE : (thread + 1) * TABLE]


@part
def _tables(task: Any) -> Any:
    return _floats(task, _TABLES, _number(task, _TEAM) * TABLE, _number(task, _WIDTH))


def _values(task: Any, i: Any, rows: Any, width: Any) -> Any:
    """The i-th array (rows, width), of what maps consist of."""


@overload(_values)
def _values_of(task: Any, i: Any, rows: Any, width: Any) -> Any:
    at = halves_at if task.dtype == HALVES else floats_at

    def values(task: Any, i: Any, rows: Any, width: Any) -> Any:
        return array(at(_number(task, _FIRST + i)), (rows, width))

    return values


@part
def _rows(task: Any, i: int) -> Any:
    """This thread's rows of the i-th array, a map."""
    thread, threads, count = _asked(task, _THREAD), _asked(task, _THREADS), _number(task, _ROWS)
    rows = _values(task, i, count, _number(task, _WIDTH))
    return rows[count * thread // threads : count * (thread + 1) // threads]


@part
def _near(task: Any) -> Any:
    """x of the first image and place (C,): squares of what is near the mean lose no digits."""
    return _values(task, _X, 1, _number(task, _CHANNELS))[0]


@part
def _places(task: Any) -> Any:
    """B H W."""
    return _number(task, _ROWS) * (_number(task, _WIDTH) // _number(task, _CHANNELS))


@part
def _floor(task: Any) -> Any:
    return _floats(task, _CONSTANTS, 1, 2)[0, 1]


@part
def _summed(task: Any, which: int, channel: int) -> Any:
    """One of the two sums of a channel, of all threads and of all times that a row has it; as a mean."""
    tables, total = _tables(task), np.float32(0)
    for thread in range(_number(task, _TEAM)):
        for j in range(channel, _number(task, _WIDTH), _number(task, _CHANNELS)):
            total += tables[thread * TABLE + _SUMS + which, j]
    return total / np.float32(_places(task))


@part
def _spread(rows: Any, channels: int) -> None:
    """The first channels, again and again."""
    for row in rows:
        for j in range(channels, len(row)):
            row[j] = row[j - channels]


@part
def _find_stats(task: Any) -> None:
    """Mean and variance, from the sums: each thread writes the same."""
    near, stats = _near(task), _columns(task, _STATS, 2)
    for c in range(_number(task, _CHANNELS)):
        first, second = _summed(task, 0, c), _summed(task, 1, c)
        stats[0, c], stats[1, c] = read(near[c]) + first, max(second - first * first, np.float32(0))


@part
def _scales(task: Any) -> Any:
    """The table, with scale, shift and mean from mean and variance."""
    table, stats, channels = _table(task), _columns(task, _STATS, 2), _number(task, _CHANNELS)
    weight, bias, epsilon = _columns(task, _WEIGHT, 1)[0], _columns(task, _BIAS, 1)[0], _floats(task, _CONSTANTS, 1, 2)[0, 0]
    for c in range(channels):
        table[0, c] = weight[c] / np.sqrt(stats[1, c] + epsilon)
        table[1, c], table[2, c] = bias[c] - stats[0, c] * table[0, c], stats[0, c]
    _spread(table[:3], channels)
    return table


def moments(task: Any) -> None:
    """Sums of x and of its square, both less what x is near."""
    table, x, near, channels = _table(task), _rows(task, _X), _near(task), _number(task, _CHANNELS)
    for c in range(channels):
        table[0, c] = read(near[c])
    _spread(table[:1], channels)
    shift, total, squares = table[0], table[_SUMS], table[_SUMS + 1]
    for r in range(len(x)):
        row = x[r]
        for j in range(len(row)):
            v = read(row[j]) - shift[j]
            total[j] += v
            squares[j] += v * v


def normalised(task: Any) -> None:
    """Computes mean and variance from the sums, and y = max(scale x + shift, floor); arrays: y."""
    _find_stats(task)
    table, floor, x, y = _scales(task), _floor(task), _rows(task, _X), _rows(task, _MORE)
    scale, shift = table[0], table[1]
    for r in range(len(x)):
        row, result = x[r], y[r]
        for j in range(len(row)):
            v = read(row[j]) * scale[j] + shift[j]
            result[j] = fitted(floor if v < floor else v, result)


def normalised_and_added(task: Any) -> None:
    """Computes likewise y = max(scale x + shift + other, floor); arrays: other, y."""
    _find_stats(task)
    table, floor, x, other, y = _scales(task), _floor(task), _rows(task, _X), _rows(task, _MORE), _rows(task, _MORE + 1)
    scale, shift = table[0], table[1]
    for r in range(len(x)):
        row, more, result = x[r], other[r], y[r]
        for j in range(len(row)):
            v = read(row[j]) * scale[j] + shift[j] + read(more[j])
            result[j] = fitted(floor if v < floor else v, result)


def gradients(task: Any) -> None:
    """Sums of g where y > floor, and of its product with x - mean; arrays: g."""
    table, floor, x, g = _scales(task), _floor(task), _rows(task, _X), _rows(task, _MORE)
    scale, shift, mean, total, product = table[0], table[1], table[2], table[_SUMS], table[_SUMS + 1]
    for r in range(len(x)):
        row, slope = x[r], g[r]
        for j in range(len(row)):
            v, d = read(row[j]), read(slope[j])
            d = np.float32(0) if v * scale[j] + shift[j] <= floor else d
            total[j] += d
            product[j] += d * (v - mean[j])


def masked(task: Any) -> None:
    """Sums likewise, for y to which another map was added; that g is also kept; arrays: g, y, g where y > floor."""
    table, floor, x, g = _scales(task), _floor(task), _rows(task, _X), _rows(task, _MORE)
    y, let = _rows(task, _MORE + 1), _rows(task, _MORE + 2)
    mean, total, product = table[2], table[_SUMS], table[_SUMS + 1]
    for r in range(len(x)):
        row, slope, result, kept = x[r], g[r], y[r], let[r]
        for j in range(len(row)):
            d = read(slope[j])
            d = np.float32(0) if read(result[j]) <= floor else d
            kept[j] = fitted(d, kept)
            total[j] += d
            product[j] += d * (read(row[j]) - mean[j])


def followed(task: Any) -> None:
    """Computes the gradients of weight and bias, from the sums, and that of x; arrays: g, gradient of x, those of weight and
    bias (2, C)."""
    table, floor, x, g = _scales(task), _floor(task), _rows(task, _X), _rows(task, _MORE)
    before, learned, stats = _rows(task, _MORE + 1), _columns(task, _MORE + 2, 2), _columns(task, _STATS, 2)
    channels, epsilon = _number(task, _CHANNELS), _floats(task, _CONSTANTS, 1, 2)[0, 0]
    count = np.float32(_places(task))
    for k in range(channels):
        deviation = np.sqrt(stats[1, k] + epsilon)
        of_bias, of_weight = _summed(task, 0, k), _summed(task, 1, k) / deviation
        table[3, k], table[4, k] = of_bias, of_weight / deviation
        learned[0, k], learned[1, k] = of_weight * count, of_bias * count
    _spread(table[3:5], channels)
    scale, shift, mean, constant, slant = table[0], table[1], table[2], table[3], table[4]
    for r in range(len(x)):
        row, slope, result = x[r], g[r], before[r]
        for j in range(len(row)):
            v, d = read(row[j]), read(slope[j])
            d = np.float32(0) if v * scale[j] + shift[j] <= floor else d
            result[j] = fitted(scale[j] * (d - constant[j] - slant[j] * (v - mean[j])), result)


def run(job: Callable[[Any], None], kind: torch.dtype, sizes: tuple[int, int, int, int], *arrays: Tensor) -> None:
    """Runs a job on all of torch's threads.

    Args:
        job: one of those above.
        kind: of maps, float32 or bfloat16.
        sizes: rows of maps, which the threads share; values of a row, a multiple of the channels; channels; tables, as many
            as torch has threads.
        arrays: those that all jobs have, then the job's own.

    Raises:
        OSError: `openmp.available` says that it cannot run here.
    """
    given = [*openmp.asking(), *sizes, *(array.data_ptr() for array in arrays)]
    openmp.together(started(job, KINDS[kind]).address, given)
