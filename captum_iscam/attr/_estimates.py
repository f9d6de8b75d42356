"""Weights of many channels from those of a few: ratio estimates and their error.

The model behind it: the true weight of a channel is a cheap estimate of it times
`kappa + e_k`, with `e_k` independent from channel to channel. The ratios seen on
channels where both are known give `kappa` and the variance of `e`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_iscam.attr._engine import OfExample

SAMPLED = 0.022  # of the channels, but no fewer than
FEWEST = 12


@dataclass(frozen=True)
class Ratio:
    """How true weights compare with cheap estimates of them.

    Attributes:
        kappa (float): Mean of the ratios.
        spread (float): Mean squared deviation of the ratios, relative to `kappa`
            squared.
        count (float): How many equally important channels the mean stands for.
    """

    kappa: float
    spread: float
    count: float

    @property
    def variance(self) -> float:
        """The variance of a single ratio, relative to `kappa` squared.

        Two channels go into the ratio itself and the choice of what it is a ratio of.
        Little more than two say nothing of the spread; the ratio is then as uncertain
        as it is large.
        """
        if self.count <= 2.5:
            return max(self.spread, 1.0)
        return self.spread * self.count / (self.count - 2)

    def squared_error(
        self, scaled: Tensor, going_along: Tensor, channels: OfExample
    ) -> float:
        """Returns the expected squared norm of the error of `sum_k a_k A_k`.

        Args:
            scaled (Tensor): `a` of the channels that are estimated, 0 for others.
            going_along (Tensor): `a` of these and of all that follow from them.
            channels (OfExample): The channels.
        """
        if self.variance == torch.inf:
            return torch.inf
        shared = channels.squared_norm(going_along)
        own = (scaled * channels.norms).square().sum().item()
        return float(self.variance * (shared / self.count + own))


def ratio_of(true: Tensor, cheap: Tensor, importance: Tensor) -> Ratio:
    """Returns the ratio `true / cheap`, each channel counting as `cheap * importance`.

    Args:
        true (Tensor): True weights `(P,)`.
        cheap (Tensor): Cheap estimates of them.
        importance (Tensor): What an error of a weight does to the map, its `||A_k||`,
            over how often a channel like it was to be expected among these.
    """
    shares = cheap.abs() * importance
    total = shares.sum().item()
    if not total:
        # Channels that do nothing at all say nothing of the others.
        return Ratio(0.0, torch.inf, 1.0)
    ratios = torch.where(cheap == 0, 0, true / cheap)
    kappa = ((ratios * shares).sum() / total).item()
    count = total**2 / shares.square().sum().item()
    spread = ((ratios - kappa).square() * shares).sum().item() / total
    return Ratio(kappa, spread / kappa**2 if kappa else torch.inf, count)


def sample_channels(channels: OfExample) -> tuple[Tensor, Tensor]:
    """Returns which of an example's channels stand for all, and each one's draws.

    They are drawn in proportion to the norm of their map times its spread: how much
    they add to the map, and how much of the input their mask tells from the rest. The
    draws, `(P,)`, are those to be expected on the average.
    """
    importance = channels.norms * channels.spreads
    sample = sample_by_importance(importance, sample_size(len(importance)))
    return sample, expected_draws(importance, importance, len(sample))


def expected_draws(importance: Tensor, of_others: Tensor, count: int) -> Tensor:
    """Returns how often channels are met if so many are drawn by importance.

    Args:
        importance (Tensor): Of the channels, which may be among the others or not.
        of_others (Tensor): Importance of those that can be drawn.
        count (int): How many are drawn.
    """
    # Where none matters none is to be expected.
    total = of_others.sum().clamp(min=torch.finfo(of_others.dtype).tiny)
    return importance * count / total


def sample_size(count: int) -> int:
    """Returns how many of so many channels stand for all of them."""
    return max(FEWEST, round(SAMPLED * count))


def sample_by_importance(importance: Tensor, count: int) -> Tensor:
    """Returns the indices of channels, drawn in proportion to their importance.

    Channels that are drawn more than once leave room; the most important of the others
    take it.
    """
    order = importance.argsort(descending=True, stable=True)
    if not len(order):
        return order
    count = min(count, len(order))
    drawn = torch.zeros(len(order), dtype=torch.bool)
    drawn[_steps_along(importance[order], count, 0.5)] = True
    missing = count - int(drawn.sum())
    drawn[(~drawn).nonzero().squeeze(1)[:missing]] = True
    return order[drawn]


def draw_by_importance(importance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns indices drawn in proportion to importance, and how often each was.

    Weighted by how often it was drawn, each channel counts as much as it is important.
    The steps stop at other places than those of `sample_by_importance`.
    """
    order = importance.argsort(descending=True, stable=True)
    places = _steps_along(importance[order], count, 0.25)
    drawn, times = places.unique(return_counts=True)
    return order[drawn], times


def _steps_along(importance: Tensor, count: int, phase: float) -> Tensor:
    """Returns the places of so many steps along channels lined up by importance.

    All steps are equally wide, so nothing is left to chance, and a channel wider than a
    step appears more than once.
    """
    along = importance.double().cumsum(0)
    steps = (torch.arange(count) + phase) / count * along[-1]
    return torch.searchsorted(along, steps).clamp(max=len(along) - 1)
