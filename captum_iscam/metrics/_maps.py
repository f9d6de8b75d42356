"""Maps as the metrics see them: checked, brought to a size, scaled and ranked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.interpolate import upsample

Attributions = Tensor | tuple[Tensor, ...]


def check_maps(attributions: Attributions, name: str = "attributions") -> Tensor:
    """Returns maps `(N, 1, *spatial)` in single precision or better, detached."""
    if isinstance(attributions, tuple) and len(attributions) == 1:
        attributions = attributions[0]
    if not isinstance(attributions, Tensor):
        raise TypeError(
            f"{name} must be a tensor, got {type(attributions).__name__}. "
            "Pass the map of one layer."
        )
    if attributions.layout != torch.strided:
        raise TypeError(
            f"{name} must be a dense tensor, got the layout {attributions.layout}. "
            f"Convert it with {name}.to_dense()."
        )
    shape = tuple(attributions.shape)
    if not 3 <= len(shape) <= 5 or shape[1] != 1 or 0 in shape:
        raise ValueError(
            f"{name} must have the shape (N, 1, ...) with one to three spatial "
            f"dimensions, got {shape}. Pass maps[:, t:t+1] with target[:, t] where "
            "there are maps of several targets, maps.sum(1, keepdim=True) where they "
            "have the channels of the input, or maps.unsqueeze(1) where they have none."
        )
    if not attributions.is_floating_point():
        raise TypeError(
            f"{name} must be floating point, got {attributions.dtype}. "
            "Convert them with attributions.float()."
        )
    return at_least_single(attributions.detach())


def check_count(maps: Tensor, num_examples: int, device: torch.device) -> None:
    """Raises unless there is one map per example, on the device of the examples."""
    if maps.shape[0] != num_examples:
        raise ValueError(
            f"attributions must hold one map per example, got {maps.shape[0]} for "
            f"{num_examples} examples. Pass maps and examples of the same batch."
        )
    if maps.device != device:
        raise ValueError(
            f"attributions must be on the device of the examples, {device}, got "
            f"{maps.device}. Move them with attributions.to(device)."
        )


def finite(maps: Tensor) -> Tensor:
    """Returns which maps hold neither NaN nor infinity, `(N,)`."""
    return torch.isfinite(maps).flatten(1).all(1)


def fit(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Returns maps brought to `size` by linear interpolation (align_corners=False).

    A map of that size stays as it is, bit for bit, and a constant map stays constant:
    rounding in the interpolation must not give it an order.
    """
    size = tuple(size)
    spatial = tuple(maps.shape[2:])
    if len(spatial) != len(size) or any(
        have > want for have, want in zip(spatial, size, strict=True)
    ):
        raise ValueError(
            f"attributions must be of the layer's size or of the input's size {size}, "
            f"got {spatial}. Larger maps fit neither: pass the map as the method "
            "returned it."
        )
    if spatial == size:
        return maps
    brought = upsample(maps, size)
    over = tuple(range(2, maps.dim()))
    low, high = maps.amin(over, keepdim=True), maps.amax(over, keepdim=True)
    return torch.where(low == high, low, brought)


def ranks(maps: Tensor) -> Tensor:
    """Returns each place's rank, `(N, P)`: 0 for the highest value, ties in row order.

    Row order means the order of `flatten`: the top left place of a tie comes first.
    """
    order = torch.argsort(maps.flatten(1), dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def only_finite(values: Tensor, valid: Tensor) -> Tensor:
    """Returns the values with NaN for the examples whose map is not finite."""
    return torch.where(valid, values, torch.nan)
