"""Calls of the caller's explanation function, where a metric needs new maps.

A function that has an attribute `takes_several_targets = True` promises that for a
target `(N, T)` it gives maps `(N, T, *spatial)`, those that `T` calls would give. The
attribute may also be that of the object whose bound method the function is, or of what
`functools.partial` holds. A metric that compares two targets then asks once for both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Target, in_integers
from captum_iscam.metrics._case import Inputs, one_target
from captum_iscam.metrics._maps import check_maps

ExplanationFunc = Callable[..., Any]


def explain(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target,
    additional_forward_args: object,
) -> Tensor:
    """Returns the maps `(N, 1, *spatial)` the function gives, checked and detached."""
    target = one_target(target)
    maps = _call(explanation_func, inputs, target, additional_forward_args)
    return _checked(maps)


def explain_both(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    targets: tuple[Target, Target],
    additional_forward_args: object,
) -> tuple[Tensor, Tensor]:
    """Returns the maps of two targets, by one call where the function takes both."""
    both = None
    if takes_several_targets(explanation_func):
        both = _in_columns(
            targets, len(inputs[0] if isinstance(inputs, tuple) else inputs)
        )
    if both is None:
        first, second = (
            explain(explanation_func, inputs, target, additional_forward_args)
            for target in targets
        )
        return first, second
    maps = _call(explanation_func, inputs, both, additional_forward_args)
    if not isinstance(maps, Tensor) or maps.dim() < 3 or maps.shape[1] != 2:
        got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
        raise ValueError(
            "explanation_func must give maps (N, 2, ...) for two targets of each "
            f"example, as its takes_several_targets promises, got {got}. Give a map "
            "for each target, or remove the attribute."
        )
    return _checked(maps[:, :1]), _checked(maps[:, 1:])


def takes_several_targets(explanation_func: ExplanationFunc) -> bool:
    """Returns whether the function promises to take targets `(N, T)`."""
    while isinstance(explanation_func, partial):
        explanation_func = explanation_func.func
    owner = getattr(explanation_func, "__self__", explanation_func)
    return getattr(owner, "takes_several_targets", False) is True


def _call(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target,
    additional_forward_args: object,
) -> Any:
    further: dict[str, object] = {}
    if additional_forward_args is not None:
        further["additional_forward_args"] = additional_forward_args
    return explanation_func(inputs, target=target, **further)


def _checked(maps: Any) -> Tensor:
    # A copy, since a model whose output is the map may return the same memory again.
    return check_maps(maps, "the maps of explanation_func").clone()


def _in_columns(targets: tuple[Target, Target], num_examples: int) -> Tensor | None:
    first, second = (_column(target, num_examples) for target in targets)
    if first is None or second is None:
        return None
    return torch.stack([first, second], 1)


def _column(target: Target, num_examples: int) -> Tensor | None:
    """Returns the class of each example, `(N,)`, or None for a target of another form.

    A negative class is another form: only a single one for all counts from the end.
    """
    target = in_integers(one_target(target))
    entries = target if isinstance(target, list) else [target]
    if any(entry is None or isinstance(entry, tuple) for entry in entries):
        return None
    column = torch.as_tensor(target, device="cpu")
    count = num_examples if isinstance(target, list) else column.numel()
    if column.dim() > 1 or column.numel() != count or count not in (1, num_examples):
        return None
    return None if (column < 0).any() else column.reshape(-1).expand(num_examples)
