"""How far a rule on the path may be off, found by following a few channels closely."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam.attr._engine import Channels, OfExample
from captum_iscam.attr._estimates import draw_by_importance, sample_size
from captum_iscam.attr._path import path_points
from captum_iscam.attr._plans import Plan, Quadrature, Weights


class Checked:
    """A plan for the integral, and how its weights compare with a fine rule's.

    A sample of the channels is followed at `n_steps` Gauss-Legendre points. It is drawn
    in proportion to what each adds to the map, at other places along the channels than
    the plan's own sample, which would agree with it too well. The mean of the
    ratios of the true weights to the plan's, and their spread, is what all channels may
    be off. Where the sample is all channels, that is known.

    Args:
        plan (Plan): Whose weights are checked.
        n_steps (int): Points of the fine rule.
    """

    def __init__(self, plan: Plan, n_steps: int) -> None:
        self._plan = plan
        self._fine = Quadrature(path_points(n_steps, "gausslegendre"))

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the plan, with the error that was found added."""
        weights = self._plan.weigh(channels)
        squared = weights.error.cpu().double() ** 2
        found = channels.gather(weights.values)
        checks = [_Check(one, found[one.rows]) for one in channels.of_examples()]
        rows = [check.channels.rows[check.sample] for check in checks]
        pairs = channels.varying[torch.cat(rows)] if rows else channels.varying[:0]
        fine = self._fine.of(channels, pairs).cpu().double()
        true = fine.split([len(check.sample) for check in checks])
        for check, exact in zip(checks, true, strict=True):
            squared[check.channels.number] += check.squared_error(exact)
        return Weights(weights.values, squared.sqrt().to(weights.error))


class _Check:
    """The channels of one example that are followed, and what they tell of all.

    Args:
        channels (OfExample): The channels.
        mine (Tensor): The weights of all of them that are to be checked.
    """

    def __init__(self, channels: OfExample, mine: Tensor) -> None:
        self.channels = channels
        self._mine = mine
        count = sample_size(len(mine))
        if len(mine) <= count:
            self.sample = torch.arange(len(mine))
            self._times = torch.ones(len(mine))
            return
        importance = mine.abs() * channels.norms
        if not importance.any():
            importance = channels.norms * channels.spreads
        self.sample, self._times = draw_by_importance(importance, count)

    def squared_error(self, exact: Tensor) -> float:
        """Returns the expected squared norm of the error of the map.

        Args:
            exact (Tensor): The weights of the sample, as the fine rule has them.
        """
        mine = self._mine[self.sample]
        if len(self.sample) == len(self._mine):
            return self.channels.squared_norm(exact - mine)
        if not mine.all():
            # No channel has weight. Where one should, nothing tells what others should.
            return torch.inf if exact.any() else 0.0
        ratios, times = exact / mine, self._times / self._times.sum()
        mean = (ratios * times).sum()
        # As many are drawn as there are steps, however often a channel is.
        drawn = self._times.sum()
        spread = ((ratios - mean).square() * times).sum() * drawn / (drawn - 1)
        shared = (mean - 1).square() * self.channels.squared_norm(self._mine)
        own = spread * (self._mine * self.channels.norms).square().sum()
        return float(shared + own)
