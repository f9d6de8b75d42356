"""Gradient weightings as data: what each method makes of gradients and activations.

The map of a gradient method is `sum_k w_k A_k`, where the weights follow from the
gradient `g` at the layer and from `A`. They are one number per channel, or one per
position. A row of `WEIGHTINGS` is one method; a further method is one more row, and a
class that names it. `WeightedMap` and `MeanPowers` turn a row into maps, of one pass or
of many noisy ones.

The weights of Grad-CAM++ need powers of `g`, and cubes of gradients as such leave the
range of single precision. So a row that needs several powers gets those of `g / u`, and
`u A` in place of `A`, where the unit `u` of each example is its largest `g`. Its
weights must lead to the same map with any unit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GradientWeighting:
    """How one method weighs the channels.

    Attributes:
        weights (Callable): Takes `[g, g^2, ...]`, or their means over noisy copies, and
            `A`, each `(n, K, positions)`; returns weights of that shape, or with one
            number per channel `(n, K, 1)`.
        zero (str): What is so where the rectified map is zero everywhere.
        powers (int): The highest power of `g` that is needed.
    """

    weights: Callable[[Sequence[Tensor], Tensor], Tensor]
    zero: str
    powers: int = 1


def _xgrad(powers: Sequence[Tensor], activations: Tensor) -> Tensor:
    """The sum of `g` over a channel, each position weighed by its share of `A`.

    A sum that is zero but for rounding, as behind a normalisation, has no shares: one
    of which the rounding of its terms may leave fewer than three digits of seven in
    single precision, and six of sixteen in double. After a normalisation of numbers
    with a mean of 60 deviations 16 eps let pass what was 1e9 times the other weights.
    """
    weighed = (activations * powers[0]).sum(2, keepdim=True)
    total = activations.sum(2, keepdim=True)
    size = activations.abs().sum(2, keepdim=True)
    rounding = torch.finfo(activations.dtype).eps ** 0.6 * size
    return _quotient(weighed, torch.where(total.abs() > rounding, total, 0))


def _plus_plus(powers: Sequence[Tensor], third: Tensor) -> Tensor:
    """Equations 5 and 19 of Grad-CAM++, given the term with the third power."""
    first, second, _ = powers
    alpha = _quotient(second, 2 * second + third)
    return (alpha * first.relu()).sum(2, keepdim=True)


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    """Returns `above / below`, and 0 where that is not defined."""
    defined = below != 0
    return torch.where(defined, above / torch.where(defined, below, 1), 0)


_NO_SUPPORT = (
    "no position of the layer supports the target. relu_attributions=False shows what "
    "opposes it."
)
_NO_POSITIVE = (
    "no position of the layer has both an activation and a positive gradient of the "
    "score."
)

WEIGHTINGS: dict[str, GradientWeighting] = {
    "grad-cam": GradientWeighting(
        lambda g, _: g[0].mean(2, keepdim=True),
        "no position of it supports the target. Without the ReLU it shows what "
        "opposes it.",
    ),
    "layer-cam": GradientWeighting(lambda g, _: g[0].relu(), _NO_POSITIVE),
    "hires-cam": GradientWeighting(lambda g, _: g[0], _NO_SUPPORT),
    "xgrad-cam": GradientWeighting(_xgrad, _NO_SUPPORT),
    "grad-cam++": GradientWeighting(
        lambda g, a: _plus_plus(g, a.sum(2, keepdim=True) * g[2]), _NO_POSITIVE, 3
    ),
    "grad-cam++ products": GradientWeighting(
        lambda g, a: _plus_plus(g, (a * g[2]).sum(2, keepdim=True)), _NO_POSITIVE, 3
    ),
}


class WeightedMap:
    """The map of each example from one pass; nothing else is kept of it.

    Args:
        activations (Tensor): `A` of the inputs as they are, `(N, K, *spatial)`.
        weighting (GradientWeighting): The method.
    """

    def __init__(self, activations: Tensor, weighting: GradientWeighting) -> None:
        self._flat = _flat(activations)
        self._weighting = weighting
        shape = (len(activations), 1, *activations.shape[2:])
        self._maps = activations.new_zeros(shape)

    def add(self, index: int, rows: slice, grads: Tensor, values: Tensor) -> None:
        """Makes the maps of some examples."""
        grads = _flat(grads)
        unit = _unit(grads, self._weighting)
        powers = _powers(grads, unit, self._weighting)
        summed = _weighted_sum(self._flat[rows], powers, unit, self._weighting)
        maps = self._maps[rows]
        maps.copy_(summed.view(maps.shape))

    def maps(self) -> Tensor:
        """Returns them, not rectified."""
        return self._maps


class MeanPowers:
    """The means of `g`, `g^2`, ... over the perturbations, and their map.

    Args:
        activations (Tensor): `A` of the inputs as they are, `(N, K, *spatial)`.
        count (int): Number of perturbations.
        weighting (GradientWeighting): The method.
    """

    def __init__(
        self, activations: Tensor, count: int, weighting: GradientWeighting
    ) -> None:
        self._shape = (len(activations), 1, *activations.shape[2:])
        self._flat = _flat(activations)
        self._count = count
        self._weighting = weighting
        self._means = [torch.zeros_like(self._flat) for _ in range(weighting.powers)]
        # It grows with the gradients, and the means are made smaller then.
        self._unit = _unit(self._means[0], weighting)

    def add(self, index: int, rows: slice, grads: Tensor, values: Tensor) -> None:
        """Adds the powers of the gradients of one perturbation to their means."""
        grads = _flat(grads)
        means, before = [mean[rows] for mean in self._means], self._unit[rows]
        unit = torch.maximum(before, _unit(grads, self._weighting))
        factors = _powers(before, unit, self._weighting)
        powers = _powers(grads, unit, self._weighting)
        # From here on nothing needs memory, not even a view.
        for mean, factor, power in zip(means, factors, powers, strict=True):
            mean.mul_(factor).add_(power, alpha=1 / self._count)
        before.copy_(unit)

    def maps(self) -> Tensor:
        """Returns `sum_k w_k A_k`, not rectified."""
        summed = _weighted_sum(self._flat, self._means, self._unit, self._weighting)
        return summed.view(self._shape)


def _flat(maps: Tensor) -> Tensor:
    return maps.reshape(*maps.shape[:2], -1)


def _unit(grads: Tensor, weighting: GradientWeighting) -> Tensor:
    """Returns the unit of each example, `(n, 1, 1)`."""
    if weighting.powers == 1:
        return grads.new_ones((len(grads), 1, 1))
    # Above zero, so that there is something to divide by where all gradients are 0.
    tiny = torch.finfo(grads.dtype).tiny
    return grads.abs().amax((1, 2), keepdim=True).clamp(min=tiny)


def _powers(grads: Tensor, unit: Tensor, weighting: GradientWeighting) -> list[Tensor]:
    powers = [grads / unit]
    while len(powers) < weighting.powers:
        powers.append(powers[-1] * powers[0])
    return powers


def _weighted_sum(
    activations: Tensor,
    powers: Sequence[Tensor],
    unit: Tensor,
    weighting: GradientWeighting,
) -> Tensor:
    activations = unit * activations
    return (weighting.weights(powers, activations) * activations).sum(1)
