"""Inputs and layers whose axes are probably not where they are read."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from captum_iscam._utils.forward import alike
from captum_iscam._utils.warn import warn_user


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
