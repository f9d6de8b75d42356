"""Numbers as callers write them: Python's, NumPy's, or a tensor that holds one."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any


def as_number(value: Any) -> float | None:
    """Returns a real number of whatever type, or None if it is none; truth is none."""
    value = _held(value)
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def as_integer(value: Any) -> int | None:
    """Returns an integer of whatever type, or None if it is none; truth is none."""
    value = _held(value)
    try:
        return None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None


def _held(value: Any) -> Any:
    """Returns what an array or tensor without dimensions holds."""
    return value.item() if getattr(value, "shape", None) == () else value
