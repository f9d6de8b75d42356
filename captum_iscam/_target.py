"""Which number of the output is explained: Captum's forms of a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from captum_iscam._numbers import as_integer

Target: TypeAlias = (
    int
    | tuple[int, ...]
    | Tensor
    | list[int]
    | list[tuple[int, ...]]
    | list[list[int]]
    | None
)


def in_integers(target: Target) -> Target:
    """Returns the target in Python's integers or in long ones, or raises.

    A nested list becomes a tensor `(N, T)`.
    """
    if isinstance(target, list) and any(isinstance(row, list) for row in target):
        target = _nested(target)
    if isinstance(target, Tensor):
        kind = target.dtype
        if kind.is_floating_point or kind.is_complex or kind == torch.bool:
            raise TypeError(
                f"target must hold integers, got {kind}. Convert it with target.long()."
            )
        return target.long()
    found = [tuple(map(as_integer, index)) for index in _indices(target)]
    entries = target if isinstance(target, list) else [target]
    mixed = len({isinstance(entry, tuple) for entry in entries}) > 1
    if mixed or any(position is None for index in found for position in index):
        raise TypeError(
            f"target must hold integers, got {target!r}. Pass an integer, a tuple "
            "of them, or a list or tensor with an entry per example."
        )
    plain = [
        index if isinstance(entry, tuple) else index[0]
        for index, entry in zip(found, entries, strict=False)
    ]
    return cast(Target, plain if isinstance(target, list) else (plain or [None])[0])


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
    ones, zeros = target == 1, target == 0
    if count > 2 and bool(((ones | zeros).all() & (ones.sum(1) == 1).all()).item()):
        raise ValueError(
            f"target must hold class indices, got one-hot rows of {count}. Pass "
            "target.argmax(1)."
        )
    return target.expand(num_examples, -1)


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


def check_range(target: Target, scored: Tensor) -> None:
    """Raises for an index that is not in the output; Captum checks the form."""
    # A tensor or list of integers is gathered, which knows no negative index.
    gathered = isinstance(target, (Tensor, list))
    dims = scored.dim() - 1
    for index in _indices(target):
        # Captum refuses a tuple that is too long, but not one in a list.
        if isinstance(target, list) and len(index) > dims:
            raise ValueError(
                f"target must have one index per dimension after the first, {dims}, "
                f"got {index}. The model's output has the shape {tuple(scored.shape)}."
            )
        for position, size in zip(index, scored.shape[1:], strict=False):
            low = 0 if gathered else -size
            if isinstance(position, int) and not low <= position < size:
                raise ValueError(
                    f"target must be an index from 0 to {size - 1}, got {position}. "
                    f"The model's output has the shape {tuple(scored.shape)}."
                )


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
