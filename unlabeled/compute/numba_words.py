"""Words that numba lacks, for compiled code: memory at an address, functions at an address, and bfloat16.

numba keeps what it compiled of `loops.py` until that file changes: who changes this one saves that one anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic, overload

OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": {"nsz", "reassoc", "contract"}}

F = TypeVar("F", bound=Callable[..., Any])

array: Any = carray
"""At an address, of a shape."""

_pointer: Any = types.CPointer


def part(function: F) -> F:
    """Compiles functions that compiled ones call."""
    compiled: F = njit(**OPTIONS)(function)
    return compiled


@cache
def started(function: Callable[[Any], None], number: Any) -> Any:
    """Compiles a function of numbers in memory for C, with its `address`; kept, beside its file or in the user's cache, if
    either can be written.

    Args:
        function: gets a pointer to the numbers.
        number: their type.
    """
    signature = types.void(_pointer(number))
    try:
        return cfunc(signature, cache=True, **OPTIONS)(function)
    except (RuntimeError, OSError):  # numba's words for no place to keep it, and for a full one
        return cfunc(signature, **OPTIONS)(function)


def _cast(name: str, given: Any, made: Any, build: Callable[[Any, Any], Any]) -> Any:
    """A function of compiled code that LLVM has an instruction for, but numba no word."""

    def typed(context: Any, value: Any) -> Any:
        return made(given), lambda _, builder, signature, arguments: build(builder, arguments[0])

    typed.__name__ = name
    return intrinsic(typed)


float_of = _cast("float_of", types.uint32, types.float32, lambda b, x: b.bitcast(x, ir.FloatType()))
bits_of = _cast("bits_of", types.float32, types.uint32, lambda b, x: b.bitcast(x, ir.IntType(32)))
floats_at = _cast("floats_at", types.int64, _pointer(types.float32), lambda b, x: b.inttoptr(x, ir.FloatType().as_pointer()))
halves_at = _cast("halves_at", types.int64, _pointer(types.uint16), lambda b, x: b.inttoptr(x, ir.IntType(16).as_pointer()))
called = _cast(
    "called", types.int64, types.int32,
    lambda b, x: b.call(b.inttoptr(x, ir.FunctionType(ir.IntType(32), []).as_pointer()), []),
)  # fmt: skip


def read(value: Any) -> Any:
    """Reads a value as float32, which a bfloat16 is the first half of."""


@overload(read)
def _read_as(value: Any) -> Any:
    def halved(value: Any) -> Any:
        return float_of(np.uint32(value) << np.uint32(16))

    def whole(value: Any) -> Any:
        return value

    return halved if value == types.uint16 else whole


def fitted(value: Any, row: Any) -> Any:
    """Brings a value to the type of the row's; to bfloat16 rounded to the nearest, of two to the even one."""


@overload(fitted)
def _fitted_to(value: Any, row: Any) -> Any:
    def halved(value: Any, row: Any) -> Any:
        bits = bits_of(value)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    def whole(value: Any, row: Any) -> Any:
        return value

    return halved if row.dtype == types.uint16 else whole
