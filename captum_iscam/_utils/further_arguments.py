"""Further arguments of a model: what they must be, and those of each pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_iscam._utils.batching import is_out_of_memory

OF_SHAPES = re.compile(
    r"row per example|shape|size|\bdim|expected|indices|index out of range|to unpack",
    re.IGNORECASE,
)
"""What torch, Python and einops say of tensors of a wrong shape."""


def check_arrays(values: Any, count: int) -> None:
    """Raises for arrays with a row for each of several examples.

    Tensors follow their example, and nothing else does: from the first pass of other
    rows on the model would take those of other examples.
    """
    if isinstance(values, np.ndarray) and count > 1 and values.shape[:1] == (count,):
        raise TypeError(
            "additional_forward_args must hold tensors for rows of examples, got an "
            f"array of shape {values.shape} for {count} examples. Convert it with "
            "torch.as_tensor; if its rows are of no examples, pass the function "
            "lambda x: model(x, value) as forward_func."
        )
    sparse = isinstance(values, torch.Tensor) and values.layout != torch.strided
    if sparse and values.shape[:1] == (count,):
        raise TypeError(
            "additional_forward_args must hold dense tensors for rows of examples, got "
            f"one of {values.layout} with {count} rows for {count} examples. Convert "
            "it with to_dense(); if its rows are of no examples, pass the function "
            "lambda x: model(x, value) as forward_func."
        )
    if isinstance(values, Mapping):
        values = values.values()
    if isinstance(values, Iterable) and not isinstance(
        values, (str, bytes, np.ndarray, torch.Tensor, Iterator)
    ):
        for value in values:
            check_arrays(value, count)


@contextmanager
def named(additional: object, rows: int, count: int) -> Iterator[None]:
    """Says so where a pass of other rows than the examples fails by its shapes.

    The pass of the examples themselves did not, so what does not fit is probably a
    further argument: one that was given a row for each row, or one that was not.
    """
    try:
        yield
    except (RuntimeError, ValueError, IndexError) as error:
        text = str(error)
        own = " must " in text and ", got " in text
        known = own or is_out_of_memory(error) or not OF_SHAPES.search(text)
        if known or not additional or rows == count:
            raise
        raise ValueError(
            "additional_forward_args must fit passes of any number of rows, got some "
            f"that do not fit {rows} for {count} examples ({text.splitlines()[0]}). "
            "A tensor whose first dimension is the number of examples follows them; "
            "for one that must not, or for rows in anything but tensors, pass the "
            "function lambda x: model(x, value) as forward_func."
        ) from error


def copied(value: Any) -> Any:
    """Returns an argument of the model with copies of its tensors.

    A model may write to them, which must change neither the caller's nor what the next
    pass gets.
    """
    return _mapped(torch.Tensor.clone, value)


def of_examples(value: Any, examples: Tensor, count: int) -> Any:
    """Returns an argument of the model for rows made from these of `count` examples.

    Tensors whose first dimension is `count` follow their example, also those inside
    lists, tuples and dicts; others are copied.
    """

    def select(tensor: Tensor) -> Tensor:
        follows = tensor.shape[:1] == (count,)
        return tensor[examples.to(tensor.device)] if follows else tensor.clone()

    return _mapped(select, value)


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Returns a tensor, or what holds some, with all of them replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # a named tuple
        return type(value)(*(_mapped(function, one) for one in value))
    if type(value) in (list, tuple):
        return type(value)(_mapped(function, one) for one in value)
    if isinstance(value, MutableMapping):
        same = copy(value)
        for key, one in value.items():
            same[key] = _mapped(function, one)
        return same
    return value
