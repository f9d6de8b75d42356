"""How alike two maps are: correlation of values, of ranks, and of structure."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_SIGMA, _REACH = 1.5, 5


def correlation(first: Tensor, second: Tensor) -> Tensor:
    """Returns Pearson's correlation of each pair of maps, `(N,)`.

    Equal maps have 1; otherwise a constant map correlates with nothing and has 0.
    """
    a, b = (_in_double(maps.flatten(1)) for maps in (first, second))
    same = (a == b).all(1)
    a, b = (_standardised(values) for values in (a, b))
    found = (a * b).sum(1).clamp(-1, 1)
    return _as(torch.where(same, 1, found), first)


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Returns Spearman's correlation of each pair of maps, `(N,)`.

    It is Pearson's correlation of the ranks; equal values share their mean rank.
    """
    return _as(correlation(_mean_ranks(first), _mean_ranks(second)), first)


def structural_similarity(first: Tensor, second: Tensor) -> Tensor:
    """Returns the SSIM of each pair of maps in [0, 1], `(N,)`.

    Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, "Image Quality Assessment: From Error
    Visibility to Structural Similarity", IEEE TIP 2004: a Gaussian window of sigma 1.5
    over 11 places along each dimension (fewer where the map is smaller), K1 = 0.01,
    K2 = 0.03, range 1, averaged over the places where the window fits.
    """
    a, b = _in_double(first), _in_double(second)
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a = _blurred(a * a) - mean_a**2
    var_b = _blurred(b * b) - mean_b**2
    both = _blurred(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * both + c2) / (var_a + var_b + c2)
    return _as((light * structure).flatten(1).mean(1), first)


def _in_double(maps: Tensor) -> Tensor:
    """Returns maps in double precision, on the CPU: not every device has it."""
    return maps.cpu().double()


def _as(values: Tensor, maps: Tensor) -> Tensor:
    """Returns values in the type of the maps, on their device."""
    return values.to(maps.dtype).to(maps.device)


def _standardised(values: Tensor) -> Tensor:
    """Returns values of mean 0 and length 1; a constant row becomes zero."""
    constant = values.amax(1, keepdim=True) == values.amin(1, keepdim=True)
    centred = values - values.mean(1, keepdim=True)
    length = centred.norm(dim=1, keepdim=True)
    unit = centred / torch.where(length > 0, length, 1)
    return torch.where(constant, 0, unit)


def _mean_ranks(maps: Tensor) -> Tensor:
    values = maps.cpu().flatten(1)
    ordered = values.sort(1).values
    first = torch.searchsorted(ordered, values.contiguous())
    last = torch.searchsorted(ordered, values.contiguous(), right=True)
    return (first + last).double() / 2


def _blurred(maps: Tensor) -> Tensor:
    """Returns the windows' weighted means, where the window fits."""
    for dim in range(2, maps.dim()):
        reach = min(_REACH, (maps.shape[dim] - 1) // 2)
        place = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
        window = torch.exp(-0.5 * (place / _SIGMA) ** 2)
        lines = maps.movedim(dim, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        flat = F.conv1d(flat, (window / window.sum()).view(1, 1, -1))
        maps = flat.view(*lines.shape[:-1], -1).movedim(-1, dim)
    return maps
