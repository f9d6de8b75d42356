"""The only door to Captum's private modules.

Everything here exists with one signature in Captum 0.8 and 0.9.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from captum_iscam._utils.validation import flags_of, require_flags

try:
    from captum._utils.common import (
        _format_additional_forward_args as format_additional_forward_args,
    )
    from captum._utils.common import _format_output as format_output
    from captum._utils.common import _run_forward as run_forward
    from captum._utils.common import _select_targets as select_targets
    from captum._utils.gradient import (
        _forward_layer_distributed_eval as forward_layer_distributed_eval,
    )
    from captum._utils.gradient import (
        _forward_layer_eval as forward_layer_eval,
    )
    from captum._utils.gradient import (
        _gather_distributed_tensors as gather_distributed_tensors,
    )
    from captum.attr import (
        GradientAttribution,
        LayerAttribution,
        PerturbationAttribution,
    )
    from captum.attr._utils.approximation_methods import (
        SUPPORTED_METHODS,
        approximation_parameters,
    )
    from captum.log import log_usage as untyped_log_usage
except ImportError as error:  # pragma: no cover - needs a Captum that is too old
    raise ImportError(
        "captum_iscam needs captum 0.8 or later, and this one lacks a part of it "
        f"({error}). Upgrade it: python -m pip install --upgrade captum."
    ) from error

_F = TypeVar("_F", bound=Callable[..., Any])


def log_usage(function: _F) -> _F:
    """Wraps `attribute` as Captum does: `NoiseTunnel` asks for its `__wrapped__`.

    Before the method begins, arguments annotated as `bool` are checked to be that.
    """
    signature, flags = inspect.signature(function), flags_of(function)

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs).arguments
        require_flags(**{name: given[name] for name in flags if name in given})
        return function(*args, **kwargs)

    return cast(_F, untyped_log_usage()(checked))


__all__ = [
    "SUPPORTED_METHODS",
    "GradientAttribution",
    "LayerAttribution",
    "PerturbationAttribution",
    "approximation_parameters",
    "format_additional_forward_args",
    "format_output",
    "forward_layer_distributed_eval",
    "forward_layer_eval",
    "gather_distributed_tensors",
    "log_usage",
    "run_forward",
    "select_targets",
]
