"""Fewer passes than channels: only those that can matter are scored."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam._numbers import as_number
from captum_iscam.attr._engine import Channels
from captum_iscam.attr._estimates import ratio_of
from captum_iscam.attr._plans import Plan, Weights


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

    How much of the input a channel shows, the mean of its mask, says roughly what it
    will score. The channels for which this, times the norm of their activation, is
    largest are scored. The others get their mean of the mask times the ratio of score
    to mean found on the less important half of those. The error of the map counts the
    spread of the ratios, and how they differ between the halves.

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
        guesses = [example.mask_means for example in examples]
        scored = [
            self._choose(guess * e.norms)
            for guess, e in zip(guesses, examples, strict=True)
        ]
        rows = [e.rows[s] for e, s in zip(examples, scored, strict=True)]
        channels.varying = everything[torch.cat(rows)] if rows else everything
        try:
            weights = self._plan.weigh(channels)
        finally:
            channels.varying = everything
        values = channels.gather(weights.values)
        squared = weights.error.double().cpu() ** 2
        for example, chosen, guess in zip(examples, scored, guesses, strict=True):
            if len(chosen) == len(guess):
                continue  # nothing is left to be guessed
            mine, weaker = values[example.rows], chosen[len(chosen) // 2 :]
            ratio = ratio_of(mine[weaker], guess[weaker], example.norms[weaker])
            stronger = chosen[: len(chosen) // 2]
            above = ratio_of(mine[stronger], guess[stronger], example.norms[stronger])
            guessed = ratio.kappa * guess
            guessed[chosen] = 0
            values[example.rows] = mine + guessed
            # Where the ratio falls from half to half it may go on falling.
            trend = above.kappa / ratio.kappa - 1 if ratio.kappa else 0.0
            squared[example.number] += ratio.squared_error(guessed, example)
            squared[example.number] += trend**2 * example.squared_norm(guessed)
        return Weights(channels.scatter(values), squared.sqrt().to(weights.error))

    def _choose(self, importance: Tensor) -> Tensor:
        """Returns which of an example's channels are scored, most important first."""
        count = max(1, round(self._share * len(importance)))
        return importance.argsort(descending=True, stable=True)[:count]
