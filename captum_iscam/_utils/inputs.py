"""The caller's inputs and baselines, checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.forward import Baselines


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
    forward_func: Callable[..., Any] | None = None,
) -> Batch:
    """Returns inputs and baselines as tuples of tensors, or raises what is wrong."""
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                "inputs must be a tensor or a tuple of tensors, got "
                f"{type(tensor).__name__}. Convert it with torch.as_tensor."
            )
        if tensor.layout != torch.strided:
            raise TypeError(
                f"inputs must be dense tensors, got the layout {tensor.layout}. "
                "Convert them with inputs.to_dense()."
            )
    sizes = {tuple(tensor.shape[:1]) for tensor in tensors}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise ValueError(
            "inputs must share a first dimension of at least one example, got shapes "
            f"{shapes}. Add it with unsqueeze(0)."
        )
    _check_device(tensors, forward_func)
    # One number serves all inputs, one tensor fits one input alone.
    number = not isinstance(baselines, (Tensor, tuple))
    given = baselines if isinstance(baselines, tuple) else (baselines,)
    values = given * len(tensors) if number else given
    if len(values) != len(tensors):
        raise ValueError(
            f"baselines must hold one entry per input, got {len(values)} for "
            f"{len(tensors)} inputs. Pass a tuple in the order of the inputs."
        )
    pairs = zip(values, tensors, strict=True)
    return Batch(tensors, tuple(check_baseline(value, like) for value, like in pairs))


def _check_device(
    tensors: tuple[Tensor, ...], forward_func: Callable[..., Any] | None
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


def check_baseline(
    value: Tensor | float | None, like: Tensor, name: str = "baselines"
) -> Tensor:
    """Returns a baseline that broadcasts to its input; None is 0."""
    if value is None or isinstance(value, (int, float)):
        shape = (1,) * like.dim()
        return torch.full(shape, value or 0, dtype=like.dtype, device=like.device)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be numbers or tensors, got {type(value).__name__}. "
            "Use 0 for the usual baseline."
        )
    fits = value.dim() == like.dim() and value.shape[1:] == like.shape[1:]
    if not fits or value.shape[0] not in (1, like.shape[0]):
        shapes = dict.fromkeys((tuple(like.shape), (1, *like.shape[1:])))
        raise ValueError(
            f"{name} must have the shape {' or '.join(map(str, shapes))} of its "
            f"input, got {tuple(value.shape)}. "
            "Pass a number to use one value everywhere."
        )
    if value.device != like.device:
        raise ValueError(
            f"{name} must be on the device of the inputs, {like.device}, got "
            f"{value.device}. Move it with {name}.to(inputs.device)."
        )
    return value.detach().to(like.dtype)


def rows_of(tensor: Tensor, examples: Tensor) -> Tensor:
    """Returns a row per example, or the one row that all share."""
    return tensor if tensor.shape[0] == 1 else tensor[examples]
