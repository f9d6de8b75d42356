"""Calls of the caller's explanation function, where a metric needs new maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_iscam._target import Target
from captum_iscam.metrics._case import Inputs
from captum_iscam.metrics._maps import check_maps

ExplanationFunc = Callable[..., Any]


def explain(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    target: Target,
    additional_forward_args: object,
) -> Tensor:
    """Returns the maps `(N, 1, *spatial)` the function gives, checked and detached."""
    further: dict[str, object] = {}
    if additional_forward_args is not None:
        further["additional_forward_args"] = additional_forward_args
    maps = explanation_func(inputs, target=target, **further)
    return check_maps(maps, "the maps of explanation_func")
