"""Fewer passes than channels: only those that can matter are scored."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam._numbers import as_number
from captum_iscam.attr._engine import Channels, OfExample
from captum_iscam.attr._plans import Plan, Weights
from captum_iscam.attr._regression import MaskRegression

UNSURE = 2.0
"""How much larger the variance is than the regression knows, whose kernel is a guess
too: with it delta holds for 34 to 39 of 40 photographs on ResNet-18."""


def check_screening(screening: float | None) -> float | None:
    """Returns the share of the channels, or raises unless it is one or None."""
    share = as_number(screening)
    if screening is not None and not (share is not None and 0 < share <= 1):
        raise ValueError(
            "screening must be a share of the channels above 0 and up to 1, or None, "
            f"got {screening!r}. Leave it out to score every channel."
        )
    return share


def screened(plan: Plan, screening: float | None) -> Plan:
    """Returns the plan for the share of the channels that is to be scored."""
    share = check_screening(screening)
    return plan if share is None else Screening(plan, share)


class Screening:
    """A plan carried out for some of the channels; the others are estimated.

    The channels that show most of the input, by the mean of their mask, times the norm
    of their activation, are scored; the weights of the others are foretold from theirs
    by :class:`MaskRegression`.

    Args:
        plan (Plan): What is done for the channels that are scored.
        share (float): How many of the channels that vary are scored.
    """

    def __init__(self, plan: Plan, share: float) -> None:
        self._plan = plan
        self._share = share

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the channels."""
        everything, examples = channels.varying, channels.of_examples()
        scored = [most_shown(one, self._share) for one in examples]
        rows = [e.rows[s] for e, s in zip(examples, scored, strict=True)]
        channels.varying = everything[torch.cat(rows)] if rows else everything
        try:
            weights = self._plan.weigh(channels)
        finally:
            channels.varying = everything
        values = channels.gather(weights.values)
        squared = weights.error.cpu().double() ** 2
        for example, chosen in zip(examples, scored, strict=True):
            known = torch.zeros(len(example.rows), dtype=torch.bool)
            known[chosen] = True
            regression = MaskRegression(example)
            values[example.rows], error = regression.fill(known, values[example.rows])
            squared[example.number] += UNSURE * error
        return Weights(channels.scatter(values), squared.sqrt().to(weights.error))


def most_shown(channels: OfExample, share: float) -> Tensor:
    """Returns so many of an example's channels, those that can matter most first."""
    importance = channels.masks.mean(1) * channels.norms
    order: Tensor = importance.argsort(descending=True, stable=True)
    return order[: max(1, round(share * len(order)))]
