"""Weights of channels that were not scored, from those with similar masks."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam.attr._engine import OfExample

OWN = 0.01  # of the variance is each channel's own, whatever its mask
SAME = 1e-9  # of the mean squared size: masks no further apart are the same
BLOCK = 64  # channels whose covariance with all others is held at a time


class MaskRegression:
    r"""Foretells weights of an example's channels from others, by their masks.

    What a channel scores depends on its mask alone, and smoothly. The weights are taken
    as a Gaussian process on the masks `m_k` at the layer's size with the covariance

    .. math::
        \sigma^2 \Big[ (m_j \cdot m_k)^2 \, e^{-\|m_j - m_k\|^2 / d}
            + \tfrac{1}{100} \|m_k\|^4 \, [j = k] \Big],

    `d` being the mean squared distance of two masks. The square was found to fit best.
    `sigma` is the one under which the known weights are most likely (Rasmussen,
    Williams 2006, Gaussian Processes for Machine Learning, section 5.4.1), and no less
    than what the whole input scores would make it, whose mask is one everywhere:
    channels that do next to nothing do not tell that others do nothing.

    Args:
        channels (OfExample): The channels.
    """

    def __init__(self, channels: OfExample) -> None:
        self._channels = channels
        # The variance does not depend on the weights, so it is found once for those
        # that are known. Nothing else is kept: it would be as large as the layer.
        self._known = torch.empty(0, dtype=torch.bool)
        self._variance = 0.0

    def fill(self, known: Tensor, weights: Tensor) -> tuple[Tensor, float]:
        """Returns all weights, and the expected squared norm of the error of the map.

        Args:
            known (Tensor): Which weights are known, `(P,)` of bool.
            weights (Tensor): `(P,)`; those that are not known are left aside.
        """
        if known.all():
            return weights, 0.0
        if not weights[known].any():
            # Channels that do nothing at all say nothing of the others.
            return torch.where(known, weights, 0), torch.inf
        fit = _Fit(self._channels.masks, known)
        relative = fit.relative(weights[known].unsqueeze(1))
        solved = fit.solve(relative)
        filled = weights.clone()
        filled[~known] = fit.foretell(solved).squeeze(1)
        floor = (self._channels.rise / fit.places) ** 2 / len(relative)
        scale = max(float((relative * solved).mean()), floor)
        if not torch.equal(self._known, known):
            maps = self._channels.maps[~known]
            self._variance = fit.variance(maps.mul_(fit.hidden_sizes.unsqueeze(1)))
            self._known = known.clone()
        squared = scale * self._variance
        # What overflows is not known at all.
        return filled, squared if squared < torch.inf else torch.inf


def foretell(channels: OfExample, known: Tensor, moves: Tensor) -> Tensor:
    """Returns what all channels are moved by, from what some of them are.

    It is the mean of :class:`MaskRegression`, for which no scale is needed.

    Args:
        channels (OfExample): The channels.
        known (Tensor): Which moves are known, `(P,)` of bool.
        moves (Tensor): `(P, n)`, each column by itself; those that are not known are
            left aside.
    """
    if known.all():
        return moves
    fit = _Fit(channels.masks, known)
    found = moves.clone()
    found[~known] = fit.foretell(fit.solve(fit.relative(moves[known])))
    return found


class _Fit:
    """What known weights tell of others, whatever the weights are.

    Args:
        masks (Tensor): `(P, places)`.
        known (Tensor): Of which of them the weights are known, `(P,)` of bool.
    """

    def __init__(self, masks: Tensor, known: Tensor) -> None:
        sizes = masks.square().sum(1)
        self.places = masks.shape[1]
        self._distance = _mean_distance(masks, sizes)
        self._hidden = masks[~known]
        self._sizes = sizes[known].unsqueeze(1)
        self.hidden_sizes = sizes[~known]
        self._factor = _factor(shown := masks[known], self._distance)
        self._across = _correlation(shown, self._hidden, self._distance)

    def relative(self, weights: Tensor) -> Tensor:
        """Returns known weights `(known, n)` over the squared size of their masks."""
        return weights / self._sizes

    def solve(self, relative: Tensor) -> Tensor:
        """Returns the inverse of their covariance times relative weights."""
        below = torch.linalg.solve_triangular(self._factor, relative, upper=False)
        solved: Tensor = torch.linalg.solve_triangular(
            self._factor.mT, below, upper=True
        )
        return solved

    def foretell(self, solved: Tensor) -> Tensor:
        """Returns the weights that are not known, `(P - known, n)`."""
        return (self._across.T @ solved) * self.hidden_sizes.unsqueeze(1)

    def variance(self, maps: Tensor) -> float:
        """Returns the expected squared norm of what is foretold wrongly.

        Args:
            maps (Tensor): Of the channels that are not known, times the squared size of
                their masks.
        """
        explained = torch.linalg.solve_triangular(
            self._factor, self._across, upper=False
        )
        return _variance(self._hidden, maps, explained, self._distance)


def _mean_distance(masks: Tensor, sizes: Tensor) -> float:
    """Returns the mean squared distance of two masks."""
    mean = float(sizes.mean())
    found = 2 * (mean - float(masks.mean(0).square().sum()))
    return found if found > SAME * mean else torch.inf


def _correlation(some: Tensor, others: Tensor, distance: float) -> Tensor:
    """Returns the correlation of the weights over `||m_k||^2` of channels."""
    found = some.new_empty(len(some), len(others))
    sizes = others.square().sum(1)
    for start in range(0, len(some), BLOCK):
        part = some[start : start + BLOCK]
        products = part @ others.T
        mine = part.square().sum(1, keepdim=True)
        apart = products.mul(-2).add_(mine).add_(sizes).clamp_(min=0)
        products.square_().div_(mine).div_(sizes).mul_(apart.div_(-distance).exp_())
        found[start : start + BLOCK] = products
    return found


def _factor(masks: Tensor, distance: float) -> Tensor:
    """Returns the lower Cholesky factor of what is known, each with its own."""
    # In place, which LAPACK does column by column: this is the largest of all tables.
    table = _correlation(masks, masks, distance).mT
    table.diagonal().add_(OWN)
    torch.linalg.cholesky(table, out=table)
    return table


def _variance(masks: Tensor, maps: Tensor, explained: Tensor, distance: float) -> float:
    """Returns the expected squared norm of `sum_k e_k A_k ||m_k||^2`.

    The errors `e_k` of the channels have the covariance that is left where `explained`,
    `(known, P)`, is known.
    """
    total = 0.0
    for start in range(0, len(masks), BLOCK):
        rows = slice(start, start + BLOCK)
        left = _correlation(masks[rows], masks, distance)
        left.diagonal(start).add_(OWN)
        left -= explained[:, rows].T @ explained
        total += float(left.mul_(maps[rows] @ maps.T).sum())
    return max(total, 0.0)
