"""The layer: checked, hooked, and its output and gradients in one pass."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_iscam._utils.captum_compat import (
    format_additional_forward_args,
    forward_layer_distributed_eval,
    forward_layer_eval,
    gather_distributed_tensors,
)
from captum_iscam._utils.further_arguments import copied
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
        # Captum sets the mode of gradients. `set_grad_enabled` does so before its block
        # begins, and Ctrl-C in between would leave it.
        with eager_passes, torch.set_grad_enabled(torch.is_grad_enabled()):
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
    several = isinstance(values, (tuple, list))
    each = values if several else (values,)
    tensors = [value for value in each if isinstance(value, Tensor)]
    if any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors)):
        raise ValueError(
            "layer must run outside of torch.vmap and torch.func, got one inside. Pass "
            "a forward_func that takes all examples at once."
        )
    # A number, alone or for each example, is no map: a further loss, for instance.
    kept = [isinstance(value, Tensor) and value.dim() > several for value in each]
    if kept and all(kept):
        return
    got = type(values).__name__
    if several:
        got += f" of {', '.join(map(_kind, values)) or 'nothing'}"
    rule = "be given tensors alone, by position" if of_input else _GIVES_TENSORS
    raise _no_tensors(rule, got)


def _kind(value: object) -> str:
    if isinstance(value, Tensor) and value.dim() < 2:
        return "a vector" if value.dim() else "a number"
    return type(value).__name__


def check_outputs(maps: list[Tensor]) -> list[Tensor]:
    """Returns what a layer gives, or raises where only a part of it is maps."""
    if len({value.dim() > 2 for value in maps}) > 1:
        shapes = ", ".join(str(tuple(value.shape)) for value in maps)
        raise _no_tensors("give maps alone", f"the shapes {shapes}")
    return maps


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


def numbers_after(
    transform: ReshapeTransform, rows: Tensor, axis: int
) -> Tensor | None:
    """Returns what becomes of the numbers of an example's values, if all stay whole.

    Args:
        transform (Callable): What makes maps of the layer's output.
        rows (Tensor): That output, with the examples on the first axis.
        axis (int): Where the layer has them.

    Returns:
        *Tensor* `(K * positions,)`: which value of its row each one of a map is. None
        where the transform computes anything, or mixes examples.
    """
    flat = rows.flatten(1)
    numbers = torch.arange(flat.numel(), device=rows.device).view(rows.shape)
    try:
        moved = reshaped(transform, numbers.movedim(0, axis)).flatten(1)
    except (RuntimeError, IndexError, TypeError, ValueError):  # it takes no integers
        return None
    if moved.dtype != torch.long or len(moved) != len(rows):
        return None
    # Each example's numbers begin where those of the one before it end.
    starts = flat.shape[1] * torch.arange(len(rows), device=moved.device)
    index = moved[0]
    same = (moved - starts.unsqueeze(1) == index).all()
    inside = (index >= 0).all() & (index < flat.shape[1]).all()
    once = len(index.unique()) == len(index)
    return index if once and bool(same & inside) else None


def check_linear(transform: ReshapeTransform | None, activations: Tensor) -> None:
    """Raises for a transform that would make something else of gradients.

    One that moves or averages values gives -0.5 times its maps for -0.5 times the
    values. NaN and infinity have errors of their own.
    """
    if transform is None:
        return
    values = activations.detach().nan_to_num(0, 0, 0)
    maps, half = (reshaped(transform, x).float() for x in (values, values * -0.5))
    if bool(((maps + 2 * half).abs() > 0.01 * maps.abs().amax()).any().item()):
        raise ValueError(
            "reshape_transform must be linear for a gradient method, which applies it "
            "to gradients too, got one that computes something else. Let the model "
            "pass what it computes through a torch.nn.Identity and explain that, or "
            "use a score method."
        )


def check_rows(activations: Tensor, count: int) -> None:
    """Raises unless a layer keeps the examples apart."""
    if len(activations) != count:
        raise ValueError(
            "layer must keep one row per example, got an output of shape "
            f"{tuple(activations.shape)} for {count} examples. Choose a layer that "
            "keeps them apart, or pass reshape_transform."
        )


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
def inference_named() -> Iterator[None]:
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
        with torch.enable_grad(), eager_passes, inference_named():
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
            raise self._without_gradients() from error
        each = iter(grads)
        return self._gathered(
            {key: tuple(next(each) for _ in of) for key, of in self._saved.items()}
        )

    def _without_gradients(self) -> ValueError:
        name, of = type(self._layer).__name__, "that the target does not depend on"
        repair = "Choose another layer"
        if len(self.values()) > 1:
            of = f"of whose {len(self.values())} outputs one is no part of the target"
            repair = "Let the model pass the one you mean through a torch.nn.Identity"
        return ValueError(
            f"layer must lead to the score by gradients, got a {name} {of}, or only "
            f"through code without gradients. {repair}, or choose a score method, "
            "which needs none."
        )

    def _gathered(
        self, of_devices: dict[torch.device, tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        if len(of_devices) == 1:  # without a copy
            return next(iter(of_devices.values()))
        return cast(
            tuple[Tensor, ...], gather_distributed_tensors(of_devices, self._device_ids)
        )
