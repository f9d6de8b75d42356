"""The layer: checked, hooked, and seen at work in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_iscam._utils.captum_compat import (
    format_additional_forward_args,
    forward_layer_eval,
)
from captum_iscam._utils.forward import copied
from captum_iscam._utils.hooks import eager_passes, thread_local_layer
from captum_iscam.reshape_transforms import ReshapeTransform


def check_layer(
    forward_func: Any, layer: Any, reshape_transform: ReshapeTransform | None
) -> ReshapeTransform | None:
    """Raises for what cannot be called or hooked; returns the checked transform."""
    if not callable(forward_func):
        raise TypeError(
            "forward_func must be a model or another callable, got "
            f"{type(forward_func).__name__}. Pass the model itself."
        )
    for module in layer if isinstance(layer, list) else [layer]:
        if not isinstance(module, nn.Module):
            raise TypeError(
                "layer must be a module of the model or a list of modules, got "
                f"{type(module).__name__}. Find them with model.named_modules()."
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise TypeError(
                "layer must be an ordinary module, got a scripted or traced one. "
                "TorchScript runs no hooks: use the model before torch.jit."
            )
    if isinstance(layer, list) and not layer:
        raise ValueError("layer must name at least one module, got []. Add one.")
    if reshape_transform is not None and not callable(reshape_transform):
        raise TypeError(
            "reshape_transform must be a callable or None, got "
            f"{type(reshape_transform).__name__}. It takes the layer's output."
        )
    return reshape_transform


def eager(forward_func: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the module that torch.compile wrapped: only there do hooks run."""
    return cast(Callable[..., Any], getattr(forward_func, "_orig_mod", forward_func))


def evaluate_layer(
    forward_func: Callable[..., Any],
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    additional_forward_args: object,
    device_ids: list[int] | None,
    attribute_to_layer_input: bool,
) -> tuple[tuple[Tensor, ...], Any]:
    """Returns what the layer gave for the inputs, and what the model did."""
    outputs: list[Any] = []
    hooked = eager(forward_func)
    device_ids = device_ids or getattr(hooked, "device_ids", None)

    def forward_and_keep(*args: Any) -> Any:
        outputs.append(hooked(*args))
        return outputs[-1]

    try:
        with eager_passes:
            evals = forward_layer_eval(
                forward_and_keep,
                # Copies, since a model may well prepare its input in place.
                tuple(x.clone() for x in inputs),
                thread_local_layer(layer, device_ids),
                additional_forward_args=copied(
                    format_additional_forward_args(additional_forward_args)
                ),
                device_ids=device_ids,
                attribute_to_layer_input=attribute_to_layer_input,
            )
    except AssertionError as error:
        if "did not obtain" in str(error):
            raise layer_did_not_run(layer) from None
        raise
    except AttributeError as error:
        # Captum clones whatever the layer gives, which only a tensor can do.
        if "'clone'" not in str(error):
            raise
        raise TypeError(
            f"layer must give a tensor or a tuple of tensors, got {error}. "
            "Choose a layer inside of it."
        ) from None
    return evals, outputs[-1]


def reshaped(transform: ReshapeTransform | None, activations: Tensor) -> Tensor:
    """Returns what the transform makes of the layer's output, if there is one."""
    if transform is None:
        return activations
    maps: Any = transform(activations)
    if not isinstance(maps, Tensor):
        raise TypeError(
            "reshape_transform must return a tensor (N, K, *spatial), got "
            f"{type(maps).__name__}. Return the maps alone."
        )
    return maps


def layer_did_not_run(layer: nn.Module) -> ValueError:
    """Returns the error for a layer whose hook never ran."""
    return ValueError(
        f"layer must run in the forward pass, got a {type(layer).__name__} that did "
        "not. Pass a layer of the very model that forward_func calls; inside code "
        "compiled by torch.compile or torch.jit no hook runs, so pass the compiled "
        "model itself as forward_func, or the model as it was before; and it must run "
        "in the thread that calls attribute."
    )
