"""The caller's inputs and baselines, checked once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.captum_compat import run_forward
from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.further_arguments import OF_SHAPES
from captum_iscam._utils.hooks import Taken, eager_passes, record_first_taken
from captum_iscam._utils.training import keeping_buffers, models_of
from captum_iscam._utils.user_code import user_code
from captum_iscam._utils.validation import as_number, require_dense

_OF_ROWS = re.compile("(layer must keep|forward_func must return) one row per example")
# Of Python, and of TorchScript.
_TOO_MANY = re.compile(r"takes .*positional arguments? but|at most \d+ argument")


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
                f"{type(tensor).__name__}. {_repair(tensor)}"
            )
        require_dense("inputs", tensor)
    sizes = {tuple(tensor.shape[:1]) for tensor in tensors}
    if len(sizes) != 1 or sizes & {(), (0,)}:
        shapes = [tuple(tensor.shape) for tensor in tensors]
        raise ValueError(
            "inputs must share a first dimension of at least one example, got shapes "
            f"{shapes}. Add it with unsqueeze(0)."
        )
    for tensor in tensors:
        if not tensor.numel():
            raise ValueError(
                "inputs must have at least one value, got the shape "
                f"{tuple(tensor.shape)}. No side of an image may be 0."
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


def _repair(inputs: object) -> str:
    if isinstance(inputs, Mapping):
        return (
            "Pass a tuple of its tensors, and a function that puts them in their "
            "places, such as lambda image: model({'image': image})."
        )
    if isinstance(inputs, list) and any(isinstance(x, Tensor) for x in inputs):
        return "Pass the tensor itself, or tuple(inputs) for several inputs."
    return "Convert it with torch.as_tensor."


def require_positions(inputs: tuple[Tensor, ...]) -> None:
    """Raises unless there is an input `(N, C, *spatial)`, which can be masked."""
    if all(x.dim() < 3 for x in inputs):
        raise ValueError(
            "inputs must have positions to be masked, (N, C, *spatial), got the shape "
            f"{', '.join(str(tuple(x.shape)) for x in inputs)}. Add the axis for "
            "examples with inputs.unsqueeze(0), or that for channels with "
            "inputs.unsqueeze(1); for a model without channels pass the function "
            "lambda x: model(x.squeeze(1))."
        )


@contextmanager
def batch_axis_named(
    forward_func: Callable[..., Any],
    inputs: tuple[Tensor, ...],
    additional_forward_args: tuple[Any, ...] | None,
) -> Iterator[Taken]:
    """Says so where a first pass fails since the inputs have no axis for examples.

    The model knows: it is shown the inputs with that axis, after a failure alone, and
    after none that speaks of anything but shapes. Says too where the inputs have
    another type than the model's parameters, and where the model takes no further
    arguments, as after the order of Integrated Gradients. Yields what the first module
    took.
    """
    try:
        with record_first_taken(models_of(forward_func)) as taken:
            yield taken
    except Exception as error:
        text = str(error)
        if additional_forward_args and _TOO_MANY.search(text):
            kinds = (type(value).__name__ for value in additional_forward_args)
            raise TypeError(
                "additional_forward_args must be arguments that forward_func takes, "
                f"got {', '.join(kinds)} ({text}). The order is inputs, target, "
                "additional_forward_args: pass a target and baselines by name, "
                "target=..., baselines=..."
            ) from error
        if re.search("type|Double|Half|BFloat16", text):
            _check_types(inputs, forward_func, error)
        # Of the package's own errors two may come from it.
        own = " must " in text and ", got " in text and not _OF_ROWS.match(text)
        if own or not OF_SHAPES.search(text) or re.search("memory|target", text):
            raise
        with torch.no_grad(), suppress(Exception):
            output = run_forward(
                forward_func,
                tuple(x.unsqueeze(0) for x in inputs),
                additional_forward_args=additional_forward_args,
            )
            if isinstance(output, Tensor) and output.shape[:1] == (1,):
                shapes = ", ".join(str(tuple(x.shape)) for x in inputs)
                error = ValueError(
                    "inputs must have a first dimension for the examples, got the "
                    f"shape {shapes}. Add it with inputs.unsqueeze(0)."
                )
        raise error from None


def run_once(model: nn.Module, inputs: Tensor) -> Any:
    """Returns what a model gives in a pass that leaves no traces, where hooks run."""
    # Compiled code runs no hooks.
    runs: nn.Module = getattr(model, "_orig_mod", model)
    with (
        torch.no_grad(),
        eager_passes,
        batch_axis_named(runs, (inputs,), None),
        user_code(),
    ):
        # A copy, since a model may write to its input.
        return keeping_buffers(runs, by_flag=False)(inputs.clone())


def _check_types(
    inputs: tuple[Tensor, ...], forward_func: Callable[..., Any], error: Exception
) -> None:
    """Raises where the inputs have another type than all parameters of the model."""
    held = [p for model in models_of(forward_func) for p in model.parameters()]
    homes = {p.dtype for p in held if p.is_floating_point()}
    given = {x.dtype for x in inputs if x.is_floating_point()}
    given = given or {x.dtype for x in inputs}
    if len(homes) == 1 and given - homes:
        (home,), got = homes, ", ".join(sorted(map(str, given - homes)))
        raise ValueError(
            f"inputs must have the type of the model's parameters, {home}, got {got}. "
            f"Convert them with inputs.to({home})."
        ) from error


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
    number = None if isinstance(value, Tensor) else as_number(value)
    if value is None or number is not None:
        _check_range(number or 0.0, like.dtype, name)
        shape = (1,) * like.dim()
        return torch.full(shape, number or 0, dtype=like.dtype, device=like.device)
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} must be numbers or tensors, got {type(value).__name__}. "
            "Use 0 for the usual baseline, or for a colour "
            "torch.tensor(values).view(1, -1, 1, 1).expand(1, -1, H, W)."
        )
    require_dense(name, value)
    if value.is_complex() and not like.is_complex():
        raise TypeError(
            f"{name} must be real for inputs of {like.dtype}, got {value.dtype}. Pass "
            "the real part or the absolute value."
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
    converted = value.detach().to(like.dtype)
    if not bool(converted.isfinite().all().item()):
        raise ValueError(
            f"{name} must be finite and in the range of {like.dtype}, got a tensor "
            "with values that are not. Replace them, as torch.nan_to_num does."
        )
    return converted


def _check_range(number: float, kind: torch.dtype, name: str) -> None:
    """Raises unless a number is one of a type."""
    ends = torch.finfo if kind.is_floating_point or kind.is_complex else torch.iinfo
    # NaN is in no range; of bool nothing is known.
    if kind != torch.bool and not abs(number) <= ends(kind).max:
        raise ValueError(
            f"{name} must be finite and in the range of {kind}, got {number!r}. Use 0 "
            "for the usual baseline."
        )


def rows_of(tensor: Tensor, examples: Tensor) -> Tensor:
    """Returns a row per example, or the one row that all share."""
    return tensor if tensor.shape[0] == 1 else tensor[examples]
