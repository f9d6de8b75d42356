"""Checks of single values, each with its error in the usual form.

A number may be Python's, NumPy's or a tensor without dimensions.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from numbers import Real
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

_T = TypeVar("_T")


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


def as_device(device: Any, repair: str) -> torch.device:
    """Returns a device that this computer has, or raises."""
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()
    # What torch raises for a missing device depends on the build.
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device must be one that this computer has, got {device!r} ({reason}). "
            f"{repair}"
        ) from error
    return found


def as_sequence(
    name: str, values: Any, convert: Callable[[Any], _T | None], rule: str, repair: str
) -> tuple[_T, ...]:
    """Returns the values of a sequence or array as a tuple, or raises.

    Args:
        name (str): The argument.
        values (object): What was given for it.
        convert (Callable): Takes a value, returns it converted, or None if it is wrong.
        rule (str): What the values must be, such as "integers".
        repair (str): How to mend it.
    """
    try:
        found = [None] if isinstance(values, str) else [convert(one) for one in values]
    except TypeError:  # it cannot be iterated over
        found = [None]
    if any(one is None for one in found):
        raise ValueError(
            f"{name} must be a sequence of {rule}, got {values!r}. {repair}"
        )
    return cast(tuple[_T, ...], tuple(found))


def require_flags(**flags: object) -> None:
    """Raises unless every value is Python's or NumPy's True or False.

    A string such as "no" is true, an array of one zero false: neither says what is
    meant.
    """
    for name, value in flags.items():
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(
                f"{name} must be True or False, got {value!r}. Pass one of the two."
            )


def flags_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of the parameters that are annotated as `bool`."""
    parameters = inspect.signature(function).parameters.values()
    return tuple(p.name for p in parameters if p.annotation in (bool, "bool"))


def check_generator(generator: object) -> None:
    """Raises unless it is a generator or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator or None, got {generator!r}. "
            "Make one with torch.Generator().manual_seed(0)."
        )


def require_choice(
    name: str, value: object, known: Iterable[str], repair: str = "Choose one."
) -> None:
    """Raises unless the value is one of the known words."""
    words = tuple(known)
    if not isinstance(value, str) or value not in words:
        listed = ", ".join(f'"{word}"' for word in words)
        raise ValueError(f"{name} must be one of {listed}, got {value!r}. {repair}")


def closest(wrong: Iterable[str], known: Iterable[str]) -> str:
    """Returns a question for the names that wrong ones are most like, or ""."""
    words = list(known)
    found = [get_close_matches(word, words, n=1, cutoff=0.7) for word in wrong]
    near = ", ".join(word for one in found for word in one)
    return f"Did you mean {near}? " if near else ""


def require_floating(name: str, tensor: Tensor, repair: str) -> None:
    """Raises unless the tensor is floating point."""
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {tensor.dtype}. {repair}")


def require_dense(name: str, tensor: Tensor) -> None:
    """Raises unless every value of the tensor is one number with a place of its own."""
    variable = name.rpartition(" ")[2]
    got, repair = str(tensor.layout), f"Convert it with {variable}.to_dense()."
    if tensor.is_nested:
        got = "a nested tensor"
        repair = "Pad it with torch.nested.to_padded_tensor, or pass one example alone."
    elif tensor.is_quantized:
        got, repair = str(tensor.dtype), f"Convert it with {variable}.dequantize()."
    elif tensor.layout == torch.strided:
        return
    raise TypeError(f"{name} must be a dense tensor, got {got}. {repair}")


def require_values(name: str, tensor: Tensor) -> None:
    """Raises unless the tensor is dense and its values can be read."""
    require_dense(name, tensor)
    if tensor.is_meta:
        raise TypeError(
            f"{name} must be a dense tensor, got one of the device meta. Pass one that "
            "has values."
        )


def require_finite(scores: Tensor, name_of: Callable[[int], str]) -> None:
    """Raises for the first row of scores that holds NaN or infinity.

    This waits for the device, so it belongs after the last pass.

    Args:
        scores (Tensor): What the model returned, `(rows,)` or `(rows, T)`.
        name_of (Callable): Takes the number of a row, names its pass in words.
    """
    bad = ~torch.isfinite(scores)
    if bool(bad.any().item()):
        place = tuple(bad.nonzero()[0].tolist())
        found = scores[place].item()
        # The score does not know the target, so it cannot say so itself.
        contrast = (
            " With targets.contrast, the reference must not be the target itself."
        )
        raise RuntimeError(
            f"forward_func must return finite scores, got {found} in "
            f"{name_of(place[0])}. Check the model, and use float32 or bfloat16 where "
            f"float16 overflows.{contrast * (found != found)}"
        )
