"""Captum's forms of a target, and several targets for each example."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from captum_iscam._utils.validation import as_integer, require_values

Target: TypeAlias = (
    int
    | tuple[int, ...]
    | Tensor
    | list[int]
    | list[tuple[int, ...]]
    | list[list[int]]
    | None
)

_AS_BASELINES = "If it is a baseline, pass it by name, baselines=..."


def in_integers(target: Target) -> Target:
    """Returns the target in Python's integers or in long ones, or raises.

    A nested list becomes a tensor `(N, T)`.
    """
    if isinstance(target, list) and any(isinstance(row, list) for row in target):
        target = _nested(target)
    if isinstance(target, Tensor):
        require_values("target", target)
        kind = target.dtype
        if kind.is_floating_point or kind.is_complex or kind == torch.bool:
            hot = ", or rows of 0 and 1 with target.argmax(1)" * (target.dim() == 2)
            raise TypeError(
                f"target must hold integers, got {kind}. Convert it with "
                f"target.long(){hot}. {_AS_BASELINES}"
            )
        return target.long()
    found = [tuple(map(as_integer, index)) for index in _indices(target)]
    entries = target if isinstance(target, list) else [target]
    mixed = len({isinstance(entry, tuple) for entry in entries}) > 1
    if mixed or any(position is None for index in found for position in index):
        raise TypeError(
            f"target must hold integers, got {_short(target)}. Pass an integer, a "
            "tuple of them, or a list or tensor with an entry per example. "
            f"{_AS_BASELINES}"
        )
    plain = [
        index if isinstance(entry, tuple) else index[0]
        for index, entry in zip(found, entries, strict=False)
    ]
    return cast(Target, plain if isinstance(target, list) else (plain or [None])[0])


def _short(target: object) -> str:
    text = repr(target)
    return text if len(text) < 200 else f"a {type(target).__name__} of other values"


def several_targets(target: Target, num_examples: int) -> Tensor | None:
    """Returns targets `(N, T)` where several are asked for, else None.

    One row stands for all examples.
    """
    if not isinstance(target, Tensor) or target.dim() != 2:
        return None
    rows, count = target.shape
    if rows not in (1, num_examples) or not count:
        raise ValueError(
            "target must have one row per example and at least one column, got the "
            f"shape {tuple(target.shape)} for {num_examples} examples. Give each "
            "example a row of as many classes, or pass one row for all."
        )
    _check_no_marks(target)
    return target.expand(num_examples, -1)


def _check_no_marks(target: Tensor) -> None:
    """Raises for rows that mark classes by 1, where each class has a column.

    Taken for indices, more than two columns of 0 and 1 would name a class twice.
    """
    count = target.shape[1]
    if count < 3 or not bool(((target == 0) | (target == 1)).all().item()):
        return
    if bool((target.sum(1) == 1).all().item()):
        raise ValueError(
            f"target must hold class indices, got one-hot rows of {count}. Pass "
            "target.argmax(1)."
        )
    raise ValueError(
        f"target must hold class indices, got multi-hot rows of {count}. Pass as many "
        "indices for each example, such as target.topk(2).indices where each row marks "
        "two."
    )


def _nested(target: Sequence[object]) -> Tensor:
    """Returns a nested list as a tensor `(N, T)`."""
    rows = [row if isinstance(row, list) else [] for row in target]
    found = [[as_integer(index) for index in row] for row in rows]
    if any(index is None for row in found for index in row):
        raise TypeError(
            f"target must hold integers, got {target!r}. Pass a list of class indices "
            "for each example."
        )
    if len({len(row) for row in found}) > 1 or not found[0]:
        raise ValueError(
            "target must have as many classes for each example, at least one, got "
            f"{target!r}. Pass one list of the same length per example."
        )
    return torch.tensor(found, dtype=torch.long, device="cpu")


def check_form(target: Target, num_examples: int) -> None:
    """Raises unless a list or tensor has an entry per example, as Captum does."""
    if isinstance(target, Tensor):
        shape, got = tuple(target.shape), f"the shape {tuple(target.shape)}"
    elif isinstance(target, list):
        shape, got = (len(target),), f"a list of length {len(target)}"
    else:
        return
    if shape != (num_examples,):
        found = target.tolist() if isinstance(target, Tensor) else target
        several = f"[{found}]" if len(shape) == 1 and shape[0] < 9 else "(N, T)"
        raise AssertionError(
            f"target must have one entry per example, {num_examples}, got {got}. Pass "
            f"an integer for one class in all examples, or {several} for several of "
            "each."
        )


def check_dims(target: Target, scored: Tensor) -> None:
    """Raises for indices that do not fit the dimensions of the output.

    It is an AssertionError where Captum raises one.
    """
    shape, dims = tuple(scored.shape), scored.dim() - 1
    indices = _indices(target)
    lengths = {len(index) for index in indices}
    tuples = isinstance(target, list) and isinstance(target[0], tuple)
    ints = isinstance(target, (Tensor, list)) and not tuples
    # Fewer indices do where they still pick one number, which is seen later.
    if max(lengths, default=0) <= dims and len(lengths) < 2 and not (ints and dims > 1):
        return
    got: object = "one for each example"
    if not ints:
        got = next(i for i in indices if len(i) > dims or len(lengths) > 1)
    repair = "Leave target out: there is one number per example."
    if dims:
        own = "a tuple of them" if dims > 1 else "an integer"
        repair = f"Pass {own}, or a list with one for each example."
    raise (ValueError if tuples else AssertionError)(
        f"target must have one index per dimension after the first, {dims}, got {got} "
        f"for an output of shape {shape}. {repair}"
    )


def check_range(target: Target, scored: Tensor) -> None:
    """Raises for an index that is not in the output."""
    # A tensor or list of integers is gathered, which knows no negative index.
    gathered = isinstance(target, (Tensor, list))
    for index in _indices(target):
        for position, size in zip(index, scored.shape[1:], strict=False):
            low = 0 if gathered else -size
            if isinstance(position, int) and not low <= position < size:
                raise ValueError(
                    f"target must be an index from 0 to {size - 1}, got {position}. "
                    f"The model's output has the shape {tuple(scored.shape)}."
                )


def as_table(target: Target, num_examples: int) -> Tensor | None:
    """Returns `(N, dims)` indices of a target that has some for each example."""
    if isinstance(target, list) and target:
        rows = [i if isinstance(i, tuple) else (i,) for i in target]
        alike = len({len(row) for row in rows}) == 1 and len(rows) == num_examples
        return torch.tensor(rows, dtype=torch.long, device="cpu") if alike else None
    if isinstance(target, Tensor) and target.shape == (num_examples,):
        return target.unsqueeze(1)
    return None


def _indices(target: Target) -> Sequence[tuple[int, ...]]:
    if target is None:
        return []
    if isinstance(target, Tensor):
        return [(int(value),) for value in target.reshape(-1).tolist()]
    values = cast(
        Sequence[int | tuple[int, ...]],
        target if isinstance(target, list) else [target],
    )
    return [value if isinstance(value, tuple) else (value,) for value in values]
