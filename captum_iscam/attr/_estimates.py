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
            over the chance that the channel had of being among these: it stands for
            as many.
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
    """Returns which of an example's channels stand for all of them, and each's chance.

    They are drawn in proportion to the norm of their map times its spread: how much
    they add to the map, and how much of the input their mask tells from the rest.
    """
    importance = channels.norms * channels.spreads
    return sample_by_importance(importance, sample_size(len(importance)))


def sample_size(count: int) -> int:
    """Returns how many of so many channels stand for all of them."""
    return max(FEWEST, round(SAMPLED * count))


def sample_by_importance(importance: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the indices of channels, drawn in proportion to their importance.

    Channels that are drawn more than once leave room; the most important of the others
    take it. The second tensor tells how often each channel was to be expected among
    those drawn, `(P,)`.
    """
    order = importance.argsort(descending=True, stable=True)
    if not len(order):
        return order, importance
    count = min(count, len(order))
    drawn = torch.zeros(len(order), dtype=torch.bool)
    drawn[_steps_along(importance[order], count, 0.5)] = True
    missing = count - int(drawn.sum())
    drawn[(~drawn).nonzero().squeeze(1)[:missing]] = True
    # Where none matters none was to be expected.
    total = importance.sum().clamp(min=torch.finfo(importance.dtype).tiny)
    return order[drawn], importance / total * count


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
