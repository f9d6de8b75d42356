"""The layer: checked, hooked, and its output and gradients in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from captum_iscam._utils.captum_compat import (
    format_additional_forward_args,
    forward_layer_distributed_eval,
    forward_layer_eval,
    gather_distributed_tensors,
)
from captum_iscam._utils.forward import alike, copied
from captum_iscam._utils.hooks import eager_passes, thread_local_layer
from captum_iscam._utils.validation import require_dense, require_floating
from captum_iscam._utils.warn import warn_user
from captum_iscam.layers import default_layer
from captum_iscam.reshape_transforms import ReshapeTransform

_GIVES_TENSORS = "give a tensor or a tuple of tensors"


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
    if isinstance(layer, nn.RNNBase) and not attribute_to_layer_input:
        raise _recurrent(layer)
    outputs: list[Any] = []
    hooked = eager(forward_func)
    device_ids = device_ids or getattr(hooked, "device_ids", None)
    check = partial(_check_tensors, attribute_to_layer_input)
    local_layer = thread_local_layer(layer, device_ids, check)

    def forward_and_keep(*args: Any) -> Any:
        outputs.append(hooked(*args))
        return outputs[-1]

    try:
        with eager_passes:
            evals = forward_layer_eval(
                forward_and_keep,
                # Copies, since a model may well prepare its input in place.
                tuple(x.clone() for x in inputs),
                local_layer,
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
        # Captum clones whatever the layer gives, which only a tensor can do. The check
        # is not there for DataParallel on several devices.
        if "'clone'" not in str(error):
            raise
        raise _no_tensors(_GIVES_TENSORS, error) from None
    calls = getattr(local_layer, "calls", 1)
    if calls > 1:
        warn_user(
            f"The layer, a {type(layer).__name__}, runs {calls} times in a pass, and "
            "its last call is explained. For another, let the model pass the output "
            "of each call through a torch.nn.Identity of its own, and explain that."
        )
    return evals, outputs[-1]


def _check_tensors(of_input: bool, values: Any) -> None:
    """Raises unless a layer is given, or gives, what can be kept."""
    each = values if isinstance(values, (tuple, list)) else (values,)
    if each and all(isinstance(value, Tensor) for value in each):
        return
    got = type(values).__name__
    if isinstance(values, (tuple, list)):
        got += f" of {', '.join(type(x).__name__ for x in values) or 'nothing'}"
    rule = "be given tensors alone, by position" if of_input else _GIVES_TENSORS
    raise _no_tensors(rule, got)


def _no_tensors(rule: str, got: object) -> TypeError:
    return TypeError(
        f"layer must {rule}, got {got}. Choose a layer inside of it, or let the model "
        "pass the tensor through a torch.nn.Identity and explain that."
    )


def _recurrent(layer: nn.RNNBase) -> TypeError:
    order = "0, 2, 1" if layer.batch_first else "1, 2, 0"
    return TypeError(
        f"layer must give maps alone, got a {type(layer).__name__}, which gives its "
        "last state as well. Let the model pass its output through a torch.nn.Identity "
        "and explain that, with reshape_transform=lambda maps: "
        f"maps.permute({order})."
    )


def reshaped(transform: ReshapeTransform | None, activations: Tensor) -> Tensor:
    """Returns what the transform makes of the layer's output, if there is one."""
    maps: Any = activations if transform is None else transform(activations)
    if not isinstance(maps, Tensor):
        raise TypeError(
            "reshape_transform must return a tensor (N, K, *spatial), got "
            f"{type(maps).__name__}. Return the maps alone."
        )
    if not maps.is_quantized:  # named with its transform by `require_floating_maps`
        require_dense("layer's output", maps)
    return maps


def check_rows(activations: Tensor, count: int) -> None:
    """Raises unless a layer keeps the examples apart."""
    if len(activations) != count:
        raise ValueError(
            "layer must keep one row per example, got an output of shape "
            f"{tuple(activations.shape)} for {count} examples. Choose a layer that "
            "keeps them apart, or pass reshape_transform."
        )


def warn_of_layout(
    activations: Tensor,
    inputs: tuple[Tensor, ...],
    layer: nn.Module | None,
    of_input: bool,
) -> None:
    """Warns of a layer whose axes are probably not `(N, K, *spatial)`.

    1. It has more positions than any input that it can be a map of.
    2. The last module inside that has a number of channels puts them on the last axis.
    3. Its positions have the proportions of no input as they are, and those of one if
       the channels are last, or the spatial axes reversed.

    Args:
        activations (Tensor): The layer's maps.
        inputs (tuple[Tensor, ...]): The inputs.
        layer (torch.nn.Module or None): The layer where its output is read as it is,
            None where a `reshape_transform` says how.
        of_input (bool): Whether the maps are the layer's input.
    """
    axes: list[tuple[int, int, int]] = []
    if activations.dim() < 3:  # channels alone, of which gradients can be taken
        return
    alikes = [x for x in inputs if x.dim() == activations.dim()]
    for x in alikes:
        sizes = zip(activations.shape[2:], x.shape[2:], strict=True)
        more = [(axis, a, b) for axis, (a, b) in enumerate(sizes, 2) if a > b]
        if not more:
            axes = []
            break
        axes += more
    if axes:
        axis, ours, theirs = axes[0]
        warn_user(
            f"The layer has {ours} positions along axis {axis}, where the input has "
            f"{theirs}. Both are read as (N, C, *spatial). For a model with another "
            "order use captum_iscam.reshape_transforms.channels_first(model, "
            '"NHWC"), for a layer with the channels last reshape_transform=swin.'
        )
        return
    shape = tuple(activations.shape)
    found = (
        alikes and layer is not None and _other_order(layer, shape, alikes, of_input)
    )
    if found:
        order, transform = found
        warn_user(
            f"The layer, a {type(layer).__name__}, has the shape {shape}, probably "
            f"{order}, and is read as (N, K, *spatial). Pass reshape_transform="
            f"{transform}, or torch.nn.Identity() if axis 1 holds the channels."
        )


def _other_order(
    layer: nn.Module, shape: tuple[int, ...], inputs: Sequence[Tensor], of_input: bool
) -> tuple[str, str] | None:
    """Returns the axes that a layer probably has, and the transform that suits them."""
    last = "(N, *spatial, K)", "captum_iscam.reshape_transforms.swin"
    leaf = next(layer.children(), None) is None
    width = _channels_of_last_axis(layer, of_input)
    if shape[-1] == width and (leaf or shape[1] != width):
        if len(shape) == 3 and getattr(layer, "batch_first", True) is False:
            return "(positions, N, K)", "lambda maps: maps.permute(1, 2, 0)"
        return last
    spatial = [tuple(x.shape[2:]) for x in inputs]
    if len(shape) == 3 or any(alike(shape[2:], size) for size in spatial):
        return None
    if any(alike(shape[1:-1], size) for size in spatial):
        return last
    if any(alike(shape[:1:-1], size) for size in spatial):
        axes = ", ".join(map(str, (0, 1, *range(len(shape) - 1, 1, -1))))
        return "with the spatial axes reversed", f"lambda maps: maps.permute({axes})"
    return None


def _channels_of_last_axis(layer: nn.Module, of_input: bool) -> int | None:
    """Returns how many channels the last module inside puts on the last axis.

    Of the layer's input, how many the first one takes from it. None where they are on
    axis 1, or no module inside has a number of them.
    """
    modules = [*layer.modules()]
    for module in modules if of_input else reversed(modules):
        if isinstance(module, (_ConvNd, _NormBase, nn.GroupNorm)):
            return None
        if type(module) is nn.LayerNorm:  # a subclass may well be one for images
            sizes = module.normalized_shape
            return sizes[0] if len(sizes) == 1 else None
        names = ("in_features", "input_size") if of_input else ("out_features",)
        for name in (*names, "embedding_dim"):
            if isinstance(width := getattr(module, name, None), int):
                return width
    return None


def require_floating_maps(activations: Tensor) -> None:
    """Raises for a layer of integers, or of numbers that stand for others."""
    transform = "Tensor.float"
    if activations.is_quantized:
        transform = "dequantize"
    elif activations.is_complex():
        transform = "abs"
    require_floating(
        "layer's output",
        activations,
        f"Pass reshape_transform=torch.{transform}"
        " to a score method, or choose another layer: gradients need floating point.",
    )


def one_position(
    activations: Tensor, model: Callable[..., Any], inputs: tuple[Tensor, ...]
) -> ValueError:
    """Returns the error for a layer of one position, which names another if it can."""
    name = ""
    if isinstance(model, nn.Module):
        # One more pass, whatever fails in it. A copy: models prepare inputs in place.
        with suppress(Exception):
            name = f', such as "{default_layer(model, inputs[0][:1].clone())[0]}"'
    return ValueError(
        "layer must have more than one position, got one position, the shape "
        f"{tuple(activations.shape)}, so its mask is constant. Choose an earlier "
        f"layer{name}, a larger input, or a gradient method."
    )


def layer_did_not_run(layer: nn.Module) -> ValueError:
    """Returns the error for a layer whose hook never ran."""
    return ValueError(
        f"layer must run in the forward pass, got a {type(layer).__name__} that did "
        "not. Pass a layer of the very model that forward_func calls; inside code "
        "compiled by torch.compile or torch.jit no hook runs, so pass the compiled "
        "model itself as forward_func, or the model as it was before; and it must run "
        "in the thread that calls attribute."
    )


@contextmanager
def _inference_named() -> Iterator[None]:
    """Says so where a model has parameters without gradients for good."""
    try:
        yield
    except RuntimeError as error:
        if "nference tensor" not in str(error):
            raise
        raise RuntimeError(
            "forward_func must have no tensors made in torch.inference_mode where "
            "gradients are needed, got a model with some. Build or load the model "
            "outside of it, or take copy.deepcopy(model), or a score method."
        ) from error


class LayerPass:
    """One forward pass, of which each target's gradients at the layer are asked.

    Args:
        score (Callable): Gives scores `(rows,)` or `(rows, T)`.
        layer (torch.nn.Module): The layer.
        inputs (tuple[Tensor, ...]): What the model is shown.
        device_ids (list[int] or None): The devices of a `DataParallel` model.
        attribute_to_layer_input (bool): Whether the layer's input is meant.
    """

    def __init__(
        self,
        score: Callable[..., Tensor],
        layer: nn.Module,
        inputs: tuple[Tensor, ...],
        device_ids: list[int] | None,
        attribute_to_layer_input: bool,
    ) -> None:
        self._layer = layer
        self._device_ids = device_ids
        with torch.enable_grad(), eager_passes, _inference_named():
            saved, scores = forward_layer_distributed_eval(
                score,
                inputs,
                thread_local_layer(layer, device_ids),
                attribute_to_layer_input=attribute_to_layer_input,
                # The model goes on with copies, which it may change in place.
                forward_hook_with_return=True,
                require_layer_grads=True,
            )
            self._columns = scores.reshape(len(scores), -1).unbind(1)
        self.scores = scores.detach()
        self.num_targets = len(self._columns)
        # A tuple of outputs for each device.
        (self._saved,) = saved.values()

    def values(self) -> tuple[Tensor, ...]:
        """Returns what the layer gave."""
        return self._gathered(self._saved)

    def grads(self, number: int) -> tuple[Tensor, ...]:
        """Returns the gradients of one target, of which the last frees the graph."""
        column = self._columns[number]
        outputs = list(self._saved.values())
        try:
            grads = torch.autograd.grad(
                column,
                [x for of_device in outputs for x in of_device],
                torch.ones_like(column),
                retain_graph=number + 1 < self.num_targets,
            )
        except RuntimeError as error:
            # Autograd's words for it, of which neither names the layer.
            if not re.search("used in the graph|does not require grad", str(error)):
                raise
            raise ValueError(
                "layer must lead to the score by gradients, got a "
                f"{type(self._layer).__name__} that the target does not depend on, or "
                "only through code without gradients. Choose another layer, or a score "
                "method, which needs none."
            ) from error
        each = iter(grads)
        return self._gathered(
            {key: tuple(next(each) for _ in of) for key, of in self._saved.items()}
        )

    def _gathered(
        self, of_devices: dict[torch.device, tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        if len(of_devices) == 1:  # without a copy
            return next(iter(of_devices.values()))
        return cast(
            tuple[Tensor, ...], gather_distributed_tensors(of_devices, self._device_ids)
        )
