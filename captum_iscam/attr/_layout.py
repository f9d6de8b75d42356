"""Inputs and layers whose axes are probably not where they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log, prod
from operator import le

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from captum_iscam._utils.hooks import Taken
from captum_iscam._utils.scores import alike, channels_last
from captum_iscam._utils.warn import warn_user
from captum_iscam.attr._layer import numbers_after
from captum_iscam.reshape_transforms import ReshapeTransform

_SPATIAL = {1: "T", 2: "HW", 3: "THW"}


def warn_of_axes(
    taken: Taken,
    inputs: tuple[Tensor, ...],
    outputs: Iterable[tuple[Tensor, Tensor]],
    layer: nn.Module,
    transform: ReshapeTransform | None,
    of_input: bool,
) -> None:
    """Warns of inputs, or else of a layer, whose axes are probably others.

    Args:
        taken (Taken): What the first module of the model took.
        inputs (tuple[Tensor, ...]): The inputs.
        outputs (Iterable[tuple[Tensor, Tensor]]): What the layer gave, and its maps.
        layer (torch.nn.Module): The layer.
        transform (Callable, optional): What made maps of its output.
        of_input (bool): Whether the maps are the layer's input.
    """
    if warn_of_inputs(taken, inputs):
        return
    for output, maps in outputs:
        if transform is None:
            if not _warn_of_heads(maps, taken.tokens, layer):
                warn_of_layout(maps, inputs, layer, of_input)
        elif _not_transposed(output, maps, transform, layer, of_input):
            warn_user(
                "reshape_transform writes the channels of each token over the "
                f"positions of a map: it cuts the layer's output {tuple(output.shape)} "
                f"into {tuple(maps.shape)} without moving an axis. Pass "
                f"reshape_transforms.tokens({tuple(maps.shape[2:])}, extra), or "
                "move the channels to axis 1 first, as with transpose(1, 2)."
            )
        elif maps.shape != output.shape and channels_last(maps.shape, inputs):
            warn_user(
                f"reshape_transform returns maps of the shape {tuple(maps.shape)}, "
                "probably (N, *spatial, K), and they are read as (N, K, *spatial). Let "
                "it return them with movedim(-1, 1)."
            )
        else:
            warn_of_layout(maps, inputs, None, of_input)


def _not_transposed(
    output: Tensor,
    maps: Tensor,
    transform: ReshapeTransform,
    layer: nn.Module,
    of_input: bool,
) -> bool:
    """Returns whether a transform forgets that the layer has its channels last.

    Then the maps hold the values of a row in their order, though as many channels as
    they have are on the last axis. Where there are as many positions as channels, the
    layer must declare that it has its channels there.
    """
    channels, positions = maps.shape[1], maps.shape[2:].numel()
    strided = not output.is_nested and output.layout == torch.strided
    if not strided or output.dim() < 3 or maps.dim() < 3:
        return False
    if output.shape[-1] != channels or output.shape[1:] == maps.shape[1:]:
        return False
    if positions == channels and _declared(layer, of_input) != (channels, True):
        return False
    for axis in (a for a in (0, 1) if output.shape[a] == len(maps)):
        index = numbers_after(transform, output.movedim(axis, 0), axis)
        if index is not None:
            return bool((index.diff() == 1).all().item())
    return False


def warn_of_inputs(taken: Taken, inputs: Sequence[Tensor]) -> bool:
    """Warns of inputs whose channels the first module finds on another axis than 1.

    The model then moves the axes of its inputs itself. What that module takes tells
    which: it has the sizes of an input in another order, or of its frames. Returns
    whether it does.
    """
    found = []
    for x in (x for x in inputs if x.dim() > 2):
        sizes = tuple(x.shape)
        for axis in range(1, x.dim()):
            others = sizes[1:axis] + sizes[axis + 1 :]
            fitting = [others]
            if len(others) == 3 and others[0] > 1 and "2d" in taken.name:
                fitting.append(others[1:])  # a video, of which it takes the frames
            if sizes[axis] == taken.channels and taken.positions in fitting:
                found.append((axis, sizes))
                break
    if not found or min(found)[0] == 1:
        return False
    axis, shape = min(found)
    letters = _SPATIAL[len(shape) - 2]
    order = f"N{letters[: axis - 1]}C{letters[axis - 1 :]}"
    warn_user(
        f"The inputs have the shape {shape}, probably {order}: the model's first "
        f"{taken.name} takes its {taken.channels} channels from axis {axis}. They are "
        "read as (N, C, *spatial). Use captum_iscam.reshape_transforms.channels_first("
        f'model, "{order}") with inputs.movedim({axis}, 1).'
    )
    return True


def warn_of_layout(
    activations: Tensor,
    inputs: tuple[Tensor, ...],
    layer: nn.Module | None,
    of_input: bool,
) -> None:
    """Warns of a layer whose axes are probably not `(N, K, *spatial)`.

    1. It has more positions than any input that it can be a map of.
    2. The last module inside that has a number of channels puts them on the last axis,
       or on axis 1, where there are others, and as many are on the last one.
    3. Its positions have the proportions of no input as they are, and those of one if
       the channels are last, or the spatial axes reversed.
    4. A `reshape_transform` makes a grid that has the proportions of no input, where as
       many positions make one that has: 196 tokens are 14 x 14 or 7 x 28.

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
    same_rank = [x for x in inputs if x.dim() == activations.dim()]
    for x in same_rank:
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
    if layer is None:
        _warn_of_grid(shape, same_rank)
        return
    found = same_rank and _other_order(layer, shape, same_rank, of_input)
    if found:
        order, transform = found
        warn_user(
            f"The layer, a {type(layer).__name__}, has the shape {shape}, probably "
            f"{order}, and is read as (N, K, *spatial). Pass reshape_transform="
            f"{transform}, or torch.nn.Identity() if axis 1 holds the channels."
        )


def _warn_of_heads(
    activations: Tensor, tokens: set[tuple[int, int]], layer: nn.Module
) -> bool:
    """Warns of a layer inside of an attention, and returns whether it did.

    Heads, tokens, and keys or features look like channels and positions.
    """
    shape = tuple(activations.shape)
    leaf = next(layer.children(), None) is None and _declared(layer, False)[1]
    if not leaf or len(shape) != 4:
        return False
    # A norm of the features of each head may stand behind (N, tokens, heads, features).
    either = getattr(layer, "normalized_shape", None) == shape[-1:]
    sizes = shape[1:3] if either else shape[2:3]
    found = {(shape[0], size) for size in sizes} & tokens
    if not found:
        return False
    warn_user(
        f"The layer, a {type(layer).__name__}, has the shape {shape}, and the model "
        f"has {min(found)[1]} tokens: it is probably inside of an attention, which has "
        "heads, and is read as (N, K, *spatial). Explain a layer of tokens, such as "
        "captum_iscam.layers.default_layer finds, with a reshape_transform."
    )
    return True


def _warn_of_grid(shape: tuple[int, ...], inputs: Sequence[Tensor]) -> None:
    """Warns of positions in rows and columns that are probably other ones.

    Of videos these are the last two axes; the frames in a patch have no proportions.
    """
    grid, sizes = shape[-2:], [tuple(x.shape[-2:]) for x in inputs]
    if len(shape) < 4 or not sizes or any(alike(grid, size) for size in sizes):
        return
    count = prod(grid)
    others = [(n, count // n) for n in range(1, count + 1) if count % n == 0]
    fits = [(other, size) for size in sizes for other in others if alike(other, size)]
    if fits:
        other, size = min(fits, key=_distortion)
        warn_user(
            f"reshape_transform makes a grid of {grid} positions for inputs of {size}, "
            f"and as many make {other}, which has their proportions. Unless patches "
            f"are not square, pass reshape_transforms.tokens({other}, extra), or "
            "captum_iscam.layers.reshape_transform_for(model, layer, inputs)."
        )


def _distortion(fit: tuple[tuple[int, ...], tuple[int, ...]]) -> float:
    """Returns how far the cells of a grid are from squares."""
    (rows, columns), (height, width) = fit
    return abs(log(rows * width / (columns * height)))


def _other_order(
    layer: nn.Module, shape: tuple[int, ...], inputs: Sequence[Tensor], of_input: bool
) -> tuple[str, str] | None:
    """Returns the axes that a layer probably has, and the transform that suits them."""
    last = "(N, *spatial, K)", "captum_iscam.reshape_transforms.swin"
    leaf = next(layer.children(), None) is None
    spatial = [tuple(x.shape[2:]) for x in inputs]
    width, by_itself = _declared(layer, of_input)
    if not by_itself:
        # Blocks that concatenate give other channels than their last module, on axis 1.
        # Their positions would have to fit an input on the axes in front of the last.
        small = any(all(map(le, shape[1:-1], size)) for size in spatial)
        width, leaf = width * small, False
    if shape[-1] == width and (leaf or shape[1] != width):
        if len(shape) == 3 and getattr(layer, "batch_first", True) is False:
            return "(positions, N, K)", "lambda maps: maps.permute(1, 2, 0)"
        return last
    if len(shape) == 3 or any(alike(shape[2:], size) for size in spatial):
        return None
    if channels_last(shape, inputs):
        return last
    if any(alike(shape[:1:-1], size) for size in spatial):
        axes = ", ".join(map(str, (0, 1, *range(len(shape) - 1, 1, -1))))
        return "with the spatial axes reversed", f"lambda maps: maps.permute({axes})"
    return None


def _declared(layer: nn.Module, of_input: bool) -> tuple[int, bool]:
    """Returns the channels that the last module inside gives, and if on the last axis.

    Of the layer's input, those that the first one takes. 0 where no module inside has a
    number of them.
    """
    modules = [*layer.modules()]
    for module in modules if of_input else reversed(modules):
        if isinstance(module, _ConvNd):
            return (module.in_channels if of_input else module.out_channels), False
        if isinstance(module, _NormBase):
            return module.num_features, False
        if isinstance(module, nn.GroupNorm):
            return module.num_channels, False
        if type(module) is nn.LayerNorm:  # a subclass may well be one for images
            sizes = module.normalized_shape
            return (sizes[0] if len(sizes) == 1 else 0), True
        names = ("in_features", "input_size") if of_input else ("out_features",)
        for name in (*names, "embedding_dim"):
            if isinstance(width := getattr(module, name, None), int):
                return width, True
    return 0, True
