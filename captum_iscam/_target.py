"""Which number of the output is explained: Captum's forms of a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor

from captum_iscam._numbers import as_integer

Target: TypeAlias = (
    int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None
)


def in_integers(target: Target) -> Target:
    """Returns the target in Python's integers or in long ones, or raises."""
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
    values = target if isinstance(target, list) else [target]
    return [value if isinstance(value, tuple) else (value,) for value in values]
