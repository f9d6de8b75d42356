"""What the model is shown to find the weights: every score method is one of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from captum_iscam._numbers import as_number
from captum_iscam.attr._engine import Channels


@dataclass(frozen=True)
class Weights:
    """The weights of the channels and how far the map may be off.

    Attributes:
        values (Tensor): `a`, `(N, K)`.
        error (Tensor): Standard error of the map `sum_k a_k A_k` of each example, as
            the norm of the difference; 0 where nothing was estimated.
    """

    values: Tensor
    error: Tensor


def check_tolerance(tolerance: float | None) -> float | None:
    """Returns the tolerance, or raises unless it is a number above 0 or None."""
    number = as_number(tolerance)
    if tolerance is not None and not (number is not None and number > 0):
        raise ValueError(
            f"tolerance must be a number above 0 or None, got {tolerance!r}. It is the "
            "relative error of the map that is good enough, such as 0.02."
        )
    return number


class Plan(Protocol):
    """A way to find the weights."""

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the channels."""
        ...


class Quadrature:
    """The increase in confidence at the same strengths for every channel, summed.

    Args:
        points (Sequence[tuple[float, float]]): Strength and weight of each view.
    """

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        # Strength 0 shows the baseline, whose increase in confidence is 0.
        self._points = [(t, w) for t, w in points if t]

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the channels."""
        values = self.of(channels, channels.varying)
        return Weights(channels.scatter(values), torch.zeros_like(channels.nothing))

    def of(self, channels: Channels, pairs: Tensor) -> Tensor:
        """Returns the weights `(P,)` of some of the channels."""
        if not self._points:
            return channels.nothing.new_zeros(len(pairs))
        strengths, weights = torch.tensor(self._points, dtype=torch.double).unbind(1)
        channels.expect(len(pairs) * len(weights))
        found = channels.increase(pairs, strengths.expand(len(pairs), -1))
        # No matrix product: autocast would round it to half precision.
        return (found * weights.to(found)).sum(1)


SCORE_CAM = Quadrature([(1.0, 1.0)])
