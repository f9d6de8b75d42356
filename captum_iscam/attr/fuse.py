"""One map out of the maps of several layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.interpolate import upsample
from captum_iscam._utils.validation import (
    as_integer,
    as_sequence,
    require_choice,
    require_dense,
    require_flags,
    require_floating,
)
from captum_iscam.attr._base import warn_of_zero_maps

_RULES = ("mean", "max", "product")


def fuse(
    attributions: Sequence[Tensor],
    how: str = "mean",
    *,
    size: Sequence[int] | None = None,
    scaled: bool = True,
) -> Tensor:
    r"""Returns the maps of several layers combined at one size.

    .. math::
        F = \frac{1}{m} \sum_i U_i, \quad \max_i U_i \quad\text{or}\quad \prod_i U_i,
        \qquad U_i = \frac{\mathrm{Up}(L_i)}{\max |\mathrm{Up}(L_i)|}

    `Up` is linear interpolation (`align_corners=False`). Maps have the units of their
    layer, so without the scaling the layer with the largest activations would dominate.
    Zero stays zero, and a map that is zero everywhere stays so. A single map is only
    upsampled and scaled.

    Args:
        attributions (Sequence[Tensor]): One map per layer, `(N, 1, *spatial)` each, as
            `attribute` returns them for a list of layers.
        how (str, optional): How the maps are combined: "mean", "max" or "product". The
            mean keeps what supports the target in any layer, the product what does so
            in all layers. Default: "mean"
        size (Sequence[int], optional): Spatial size of the result, a number for each
            spatial dimension. Default: None, that is the largest size among the maps in
            each direction
        scaled (bool, optional): Divide each map of each example by its largest
            magnitude first. Default: True

    Returns:
        *Tensor* `(N, 1, *size)`, from -1 to 1 if `scaled`, else in the maps' own units;
        higher supports the target more.

    Raises:
        TypeError: If `attributions` is no sequence of dense floating point tensors.
        ValueError: If the maps do not fit together, `how` is unknown, or a product is
            asked of maps with negative values.

    Examples::

        >>> import torch
        >>> fuse([torch.rand(2, 1, 7, 7), torch.rand(2, 1, 14, 14)]).shape
        torch.Size([2, 1, 14, 14])
    """
    require_flags(scaled=scaled)
    maps = _check(attributions, how, size)
    sides = tuple(
        size or (max(each) for each in zip(*(m.shape[2:] for m in maps), strict=True))
    )
    resized = [upsample(at_least_single(m), sides) for m in maps]
    if scaled:
        resized = [_scaled(m) for m in resized]
    stacked = torch.stack(resized)
    if how == "product":
        return warn_of_zero_maps(
            stacked.prod(0),
            'no position is above 0 in the maps of all layers. how="mean" keeps what '
            "any of them shows.",
        )
    return stacked.amax(0) if how == "max" else stacked.mean(0)


def _scaled(maps: Tensor) -> Tensor:
    largest = maps.abs().amax(tuple(range(1, maps.dim())), keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)


def _check(
    attributions: Sequence[Tensor], how: str, size: Sequence[int] | None
) -> list[Tensor]:
    if isinstance(attributions, Tensor) or not all(
        isinstance(m, Tensor) for m in attributions
    ):
        raise TypeError(
            "attributions must be a list of tensors, one per layer, got "
            f"{type(attributions).__name__}. Explain a list of layers to get one."
        )
    maps = list(attributions)
    for one in maps:
        require_dense("attributions", one)
        require_floating("attributions", one, "Convert it with .float().")
    shapes = [tuple(m.shape) for m in maps]
    if (
        len({(shape[:2], len(shape)) for shape in shapes}) != 1
        or shapes[0][1:2] != (1,)
        or len(shapes[0]) not in (3, 4, 5)
    ):
        raise ValueError(
            "attributions must be maps (N, 1, *spatial) of the same examples, with one "
            f"to three spatial dimensions, got shapes {shapes}. Explain the layers "
            "with the same inputs."
        )
    require_choice("how", how, _RULES)
    if size is not None:
        rank, repair = maps[0].dim() - 2, "Take inputs.shape[2:]."
        sides = as_sequence("size", size, as_integer, "integers", repair)
        if len(sides) != rank or min(sides) < 1:
            raise ValueError(
                f"size must have {rank} integers of at least 1, one for each spatial "
                f"dimension, got {sides}. {repair}"
            )
    if how == "product" and any(bool((m < 0).any().item()) for m in maps):
        raise ValueError(
            'attributions must be at least 0 for how="product", got negative values, '
            "two of which would count as positive. Use relu_attributions=True."
        )
    return maps
