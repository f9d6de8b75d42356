"""The caller's arguments, checked once, and the pass that shows a layer at work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_iscam._captum import format_additional_forward_args, forward_layer_eval
from captum_iscam._scoring import Baselines

ReshapeTransform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Batch:
    """Inputs and baselines of `N` examples; each baseline fits its input."""

    inputs: tuple[Tensor, ...]
    baselines: tuple[Tensor, ...]

    @property
    def num_examples(self) -> int:
        """`N`."""
        return self.inputs[0].shape[0]

    @property
    def device(self) -> torch.device:
        """Where all inputs live."""
        return self.inputs[0].device


def check_inputs(
    inputs: Tensor | tuple[Tensor, ...],
    baselines: Baselines,
    forward_func: Callable[..., Any],
) -> Batch:
    """Returns inputs and baselines as tuples of tensors, or raises what is wrong."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                "inputs must be a tensor or a tuple of tensors, got "
                f"{type(tensor).__name__}. Convert it with torch.as_tensor."
            )
    sizes = {tuple(tensor.shape[:1]) for tensor in tensors}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise ValueError(
            "inputs must share a first dimension of at least one example, got shapes "
            f"{shapes}. Add it with unsqueeze(0)."
        )
    _check_device(tensors, forward_func)
    values = (
        (0,) * len(tensors)
        if baselines is None
        else baselines
        if isinstance(baselines, tuple)
        else (baselines,)
    )
    if len(values) != len(tensors):
        raise ValueError(
            f"baselines must hold one entry per input, got {len(values)} for "
            f"{len(tensors)} inputs. Pass a tuple in the order of the inputs."
        )
    pairs = zip(values, tensors, strict=True)
    return Batch(tensors, tuple(_check_baseline(value, like) for value, like in pairs))


def _check_device(
    tensors: tuple[Tensor, ...], forward_func: Callable[..., Any]
) -> None:
    devices = {tensor.device for tensor in tensors}
    if isinstance(forward_func, nn.Module) and not isinstance(
        forward_func, nn.DataParallel
    ):
        homes = {parameter.device for parameter in forward_func.parameters()}
        # A model spread over several devices moves its inputs itself.
        devices |= homes if len(homes) == 1 else set()
    if len(devices) > 1:
        names = sorted(str(device) for device in devices)
        raise ValueError(
            f"inputs must be on one device with the model, got {', '.join(names)}. "
            "Move them with inputs.to(device)."
        )


def _check_baseline(value: Tensor | float, like: Tensor) -> Tensor:
    if isinstance(value, (int, float)):
        return torch.full((1,) * like.dim(), value, dtype=like.dtype).to(like.device)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"baselines must be numbers or tensors, got {type(value).__name__}. "
            "Use 0 for the usual baseline."
        )
    if value.shape[1:] != like.shape[1:] or value.shape[:1] not in (
        like.shape[:1],
        (1,),
    ):
        raise ValueError(
            f"baselines must have the shape {tuple(like.shape)} or "
            f"{(1, *like.shape[1:])} of its input, got {tuple(value.shape)}. "
            "Pass a number to use one value everywhere."
        )
    if value.device != like.device:
        raise ValueError(
            f"baselines must be on the device of the inputs, {like.device}, got "
            f"{value.device}. Move it with baselines.to(inputs.device)."
        )
    return value.detach().to(like.dtype)


def check_layer(
    layer: Any, reshape_transform: ReshapeTransform | None
) -> ReshapeTransform | None:
    """Raises for a layer that cannot be hooked; returns the checked transform."""
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

    def forward_and_keep(*args: Any) -> Any:
        outputs.append(hooked(*args))
        return outputs[-1]

    try:
        evals = forward_layer_eval(
            forward_and_keep,
            inputs,
            layer,
            additional_forward_args=format_additional_forward_args(
                additional_forward_args
            ),
            device_ids=device_ids or getattr(hooked, "device_ids", None),
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


def layer_did_not_run(layer: nn.Module) -> ValueError:
    """Returns the error for a layer whose hook never ran."""
    return ValueError(
        f"layer must run in the forward pass, got a {type(layer).__name__} that did "
        "not. Pass a layer of the very model that forward_func calls; inside code "
        "compiled by torch.compile or torch.jit no hook runs, so pass the compiled "
        "model itself as forward_func, or the model as it was before."
    )
