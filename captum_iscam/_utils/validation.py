"""Numbers as callers write them: Python's, NumPy's, or a tensor that holds one."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any

import torch


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


def as_count(name: str, value: object, repair: str, rule: str = "") -> int:
    """Returns a whole number of at least 1, of whatever integer type, or raises."""
    number = as_integer(value)
    if number is None or number < 1:
        raise ValueError(
            f"{name} must be an integer of at least 1{rule}, got {value!r}. {repair}"
        )
    return number


def check_generator(generator: object) -> None:
    """Raises unless it is a generator or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None, got {generator!r}. "
            "Make one with torch.Generator().manual_seed(0)."
        )
