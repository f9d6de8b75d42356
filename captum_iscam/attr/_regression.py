"""Weights of channels that were not scored, from those with similar masks."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam.attr._engine import OfExample

OWN = 0.01  # of the variance is each channel's own, whatever its mask
ALIKE = 1e-9  # of the mean squared size: masks no further apart are the same


def foretell(
    channels: OfExample, known: Tensor, weights: Tensor
) -> tuple[Tensor, float]:
    r"""Returns all weights of an example's channels from some, by their masks.

    What a channel scores depends on its mask `M_k` alone, and smoothly. The weights are
    taken as a Gaussian process with the covariance

    .. math::
        \sigma^2 (M_j \cdot M_k)^2 \, e^{-\|M_j - M_k\|^2 / d},

    `d` being the mean squared distance of two masks, and a hundredth more for a channel
    with itself: a score grows like the square of a small mask, and similar masks score
    alike. `sigma` is the one under which the known weights are most likely (Rasmussen,
    Williams 2006, Gaussian Processes for Machine Learning, section 5.4.1).

    Args:
        channels (OfExample): The channels.
        known (Tensor): Which weights are known, `(P,)` of bool.
        weights (Tensor): `(P,)`; those that are not known are left aside.

    Returns:
        The weights, and the expected squared norm of the error of the map.
    """
    if known.all():
        return weights, 0.0
    if not weights[known].any():
        # Channels that do nothing at all say nothing of the others.
        return torch.where(known, weights, 0), torch.inf
    masks = channels.masks
    # Nothing of this outlives the call: it is as large as the layer, or as all pairs.
    sizes = masks.square().sum(1)
    distance = 2 * float(sizes.mean() - masks.mean(0).square().sum())
    if distance < ALIKE * float(sizes.mean()):
        distance = torch.inf  # all masks are the same but for roundings
    shown, hidden = masks[known], masks[~known]
    factor = torch.linalg.cholesky(_own(_alike(shown, shown, distance)))
    across = _alike(shown, hidden, distance)
    relative = (weights[known] / sizes[known]).unsqueeze(1)
    solved = torch.cholesky_solve(relative, factor)
    filled = weights.clone()
    filled[~known] = (across.T @ solved).squeeze(1) * sizes[~known]
    scale = (relative * solved).mean()
    explained = torch.linalg.solve_triangular(factor, across, upper=False)
    variance = _own(_alike(hidden, hidden, distance)) - explained.T @ explained
    maps = channels.maps[~known] * sizes[~known].unsqueeze(1)
    squared = scale * ((maps @ maps.T) * variance).sum()
    return filled, max(0.0, float(squared))


def _alike(some: Tensor, others: Tensor, distance: float) -> Tensor:
    """Returns the correlation of the weights over `||M_k||^2` of channels."""
    products = some @ others.T
    first, second = some.square().sum(1, keepdim=True), others.square().sum(1)
    apart = (first + second - 2 * products).clamp_(min=0).div_(-distance).exp_()
    return products.square_().div_(first * second).mul_(apart)


def _own(alike: Tensor) -> Tensor:
    """Returns the correlation with what is each channel's own added."""
    alike.diagonal().add_(OWN)
    return alike
