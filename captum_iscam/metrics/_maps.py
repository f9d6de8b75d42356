"""Maps in the metrics: checks, resizing, ranks, and similarity of two maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.interpolate import is_stretched, scale
from captum_iscam._utils.validation import as_integer, as_sequence, require_floating
from captum_iscam._utils.warn import warn_user

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
    require_floating(name, attributions, "Convert them with attributions.float().")
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


def is_finite(maps: Tensor) -> Tensor:
    """Returns which maps hold neither NaN nor infinity, `(N,)`."""
    return torch.isfinite(maps).flatten(1).all(1)


def as_size(size: Any) -> tuple[int, ...]:
    """Returns a spatial size, or raises."""
    repair = "Pass one for each spatial dimension, such as (H, W) for images."
    return as_sequence("size", size, as_integer, "integers", repair)


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Returns maps resized to `size` by linear interpolation (align_corners=False).

    A map of that size is returned unchanged, bit for bit. Pixels whose values are equal
    by the formula are equal: rounding must not decide which of two pixels ranks higher.

    1. Round the map to multiples of a tiny part of its largest absolute value, below
       the precision of float32 and, for images, 1e-10. They are held as integers.
    2. The weights of a linear interpolation are integers over twice the new length, so
       sums of products have no rounding error.
    3. Divide by all of this, and limit the result to the map's own range.

    This runs on the CPU, as not every device has double precision.
    """
    size = as_size(size)
    spatial = tuple(maps.shape[2:])
    if len(spatial) != len(size) or any(
        have > want for have, want in zip(spatial, size, strict=True)
    ):
        raise ValueError(
            f"attributions must be of the layer's size or of the input's size {size}, "
            f"got {spatial}. Pass the map as the method returned it; a map larger than "
            "the input has neither size."
        )
    if spatial == size:
        return maps
    _warn_of_turned(spatial, size)
    changed = [(dim, n) for dim, n in enumerate(size, 2) if n != maps.shape[dim]]
    values = _in_double(maps)
    factor = unit_factor(values)
    # A value below 8, times all weights, is below 2 ** 62.
    bits = 59 - sum((2 * length).bit_length() for _, length in changed)
    whole = (values * factor * 2.0**bits).round().long()
    for dim, length in changed:
        whole = _interpolate(whole, dim, length)
    total = 2.0**bits * math.prod(2 * length for _, length in changed)
    over = tuple(range(2, maps.dim()))
    low, high = values.amin(over, keepdim=True), values.amax(over, keepdim=True)
    resized = whole.double().div_(total).div_(factor).clamp_(low, high)
    return _as(resized, maps)


def _warn_of_turned(spatial: tuple[int, ...], size: tuple[int, ...]) -> None:
    """Warns of a map whose rows are probably the columns of the input."""
    if len(size) != 2 or not is_stretched(spatial, size):
        return
    if not is_stretched(spatial[::-1], size):
        warn_user(
            f"attributions of {spatial[0]} x {spatial[1]} are stretched over an input "
            f"of {size[0]} x {size[1]}, which they fit with rows and columns "
            "exchanged. If they are, pass attributions.transpose(2, 3).",
        )


def _interpolate(values: Tensor, dim: int, length: int) -> Tensor:
    """Returns integers interpolated along a dimension, times twice the new length.

    Pixel `i` of the result is at `((2 i + 1) n - length) / (2 length)` among the `n`
    values, or at the nearest of them where it is outside.
    """
    count = values.shape[dim]
    index = torch.arange(length, device=values.device)
    position = (2 * index + 1) * count - length
    position = position.clamp(0, 2 * length * (count - 1))
    left = position // (2 * length)
    shape = [-1 if d == dim else 1 for d in range(values.dim())]
    weight = (position % (2 * length)).view(shape)
    # To the right of the last value there is none, and the weight is 0.
    step = values.diff(dim=dim, append=values.narrow(dim, -1, 1))
    result = (2 * length * values).index_select(dim, left)
    return result.addcmul_(step.index_select(dim, left), weight)


def unit_factor(maps: Tensor) -> Tensor:
    """Returns the power of two that brings each map's largest absolute value to 4 to 8.

    Scaling by it has no rounding error, and then no range, sum or square of a map
    overflows, or underflows unless it is tiny compared with the rest of the map.
    """
    over = tuple(range(1, maps.dim()))
    largest = maps.abs().amax(over, keepdim=True)
    # The limit keeps the factor finite. An all-zero map stays zero.
    largest = largest.clamp_min(4 * torch.finfo(maps.dtype).tiny)
    return torch.exp2(2 - largest.log2().floor())


def min_max(maps: Tensor) -> Tensor:
    """Returns maps min-max scaled to [0, 1], whatever their range; constants are 0."""
    return scale(maps * unit_factor(maps))


def ranks(maps: Tensor) -> Tensor:
    """Returns the rank of each position, `(N, P)`: 0 for the highest value.

    Equal values are ranked in row order, that of `flatten`: top left first.
    """
    order = torch.argsort(maps.flatten(1), dim=1, descending=True, stable=True)
    positions = torch.arange(order.shape[1], device=maps.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, positions)


def mean_ranks(values: Tensor) -> Tensor:
    """Returns ranks from the lowest value up, in double precision on the CPU.

    `values` are `(rows, P)`, ranked within each row. Equal values share their mean
    rank.
    """
    values = values.cpu().contiguous()
    ordered = values.sort(1).values
    # Equal values occupy the ranks `first` to `after - 1`, counted from 0. Half the sum
    # of `first` and `after` is their mean rank plus 0.5; a correlation ignores the 0.5.
    first = torch.searchsorted(ordered, values)
    after = torch.searchsorted(ordered, values, right=True)
    return (first + after).double() / 2


def nan_if_invalid(values: Tensor, valid: Tensor) -> Tensor:
    """Returns the values with NaN for the examples whose map is not finite."""
    return torch.where(valid, values, torch.nan)


# The SSIM's Gaussian window: 2 * 5 + 1 = 11 positions along each dimension.
_SSIM_SIGMA, _SSIM_RADIUS = 1.5, 5


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Returns Pearson's correlation of each pair of maps, `(N,)`.

    It is 1 for two equal maps, and otherwise 0 where one of the two is constant.
    """
    a, b = (_in_double(maps.flatten(1)) for maps in (first, second))
    equal = (a == b).all(1)
    a, b = (_standardised(values) for values in (a, b))
    coefficient = (a * b).sum(1).clamp(-1, 1)
    return _as(torch.where(equal, 1, coefficient), first)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Returns Spearman's correlation of each pair of maps, `(N,)`.

    It is Pearson's correlation of the ranks; equal values share their mean rank.
    """
    ranked = (mean_ranks(maps.flatten(1)) for maps in (first, second))
    return _as(correlation(*ranked), first)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Returns the SSIM of each pair of maps in [0, 1], `(N,)`.

    Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, "Image Quality Assessment: From Error
    Visibility to Structural Similarity", IEEE TIP 2004: a Gaussian window of sigma 1.5
    over 11 positions along each dimension (fewer where the map is smaller), K1 = 0.01,
    K2 = 0.03, range 1, averaged over the positions where the window fits.
    """
    a, b = _in_double(first), _in_double(second)
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a = _blurred(a * a) - mean_a**2
    var_b = _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return _as((luminance * structure).flatten(1).mean(1), first)


def _in_double(maps: Tensor) -> Tensor:
    """Returns maps in double precision, on the CPU: not every device has it."""
    return maps.cpu().double()


def _as(values: Tensor, maps: Tensor) -> Tensor:
    """Returns values in the dtype of the maps, on their device."""
    return values.to(maps.dtype).to(maps.device)


def _standardised(values: Tensor) -> Tensor:
    """Returns values of mean 0 and length 1; a constant row becomes zero."""
    constant = values.amax(1, keepdim=True) == values.amin(1, keepdim=True)
    values = values * unit_factor(values)
    centred = values - values.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    unit = centred / torch.where(length > 0, length, 1)
    return torch.where(constant, 0, unit)


def _blurred(maps: Tensor) -> Tensor:
    """Returns the weighted mean in each window that lies inside the map."""
    for dim in range(2, maps.dim()):
        radius = min(_SSIM_RADIUS, (maps.shape[dim] - 1) // 2)
        offset = torch.arange(-radius, radius + 1, device=maps.device, dtype=maps.dtype)
        window = torch.exp(-0.5 * (offset / _SSIM_SIGMA) ** 2)
        lines = maps.movedim(dim, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        flat = F.conv1d(flat, (window / window.sum()).view(1, 1, -1))
        maps = flat.view(*lines.shape[:-1], -1).movedim(-1, dim)
    return maps
