"""A test of metrics: maps that are made worse on purpose must be judged worse.

A metric that cannot put a map and its spoilt copies in order on a network cannot judge
methods there. The steps are known to be worse by construction, whatever the method:

1. noise: the map mixed half and half with a smooth random map, then the random map.
2. shift: the map moved round by a quarter of each side, then by half of it.
3. flip: the map mirrored along every side.
4. other class: mixed half and half with the map of another class, then that map.
5. constant: one value everywhere.

All maps are min-max scaled before they are mixed. A shift or a flip may leave a map of
a centred or symmetric object as good as it was, so no metric can be right every time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from captum_iscam.metrics._maps import min_max

ABLE = 0.8
"""Least share of right orders of a metric that can judge maps on a network."""


def degraded_maps(
    attributions: Tensor, other: Tensor, generator: torch.Generator
) -> dict[str, list[Tensor]]:
    """Returns for each kind of degradation the map and its copies, worse at each step.

    Args:
        attributions (Tensor): The map, `(1, 1, *spatial)`.
        other (Tensor): The map of another class, of the same shape.
        generator (torch.Generator): Source of the noise, on the CPU.
    """
    whole, another = min_max(attributions), min_max(other)
    noise = torch.rand(whole.shape, generator=generator).to(whole)
    dims = tuple(range(2, whole.dim()))

    def shifted(parts: int) -> Tensor:
        return whole.roll([whole.shape[dim] // parts for dim in dims], dims)

    return {
        "noise": [whole, (whole + min_max(noise)) / 2, min_max(noise)],
        "shift": [whole, shifted(4), shifted(2)],
        "flip": [whole, whole.flip(dims)],
        "other class": [whole, (whole + another) / 2, another],
        "constant": [whole, torch.full_like(whole, 0.5)],
    }


@dataclass(frozen=True)
class Order:
    """Whether a metric has put a map before a worse one.

    Attributes:
        kind (str): The kind of degradation.
        step (int): The step that makes the map worse, from 1 on.
        right (float or None): 1 if it has, 0.5 if both are equal, 0 if not; None where
            the metric is undefined for one of the two.
    """

    kind: str
    step: int
    right: float | None


def orders(
    judge: Callable[[Tensor], float | None],
    maps: Mapping[str, list[Tensor]],
    *,
    higher_is_better: bool,
) -> Iterator[Order]:
    """Yields the order of each pair of consecutive maps.

    Args:
        judge (Callable): Returns the metric's value of a map, None where undefined.
        maps (Mapping): What :func:`degraded_maps` returned.
        higher_is_better (bool): The metric's direction.
    """
    sign = 1 if higher_is_better else -1
    whole = judge(next(iter(maps.values()))[0])
    for kind, steps in maps.items():
        values = [whole, *map(judge, steps[1:])]
        for step, (better, worse) in enumerate(pairwise(values), 1):
            if better is None or worse is None:
                yield Order(kind, step, None)
            else:
                gap = sign * (better - worse)
                yield Order(kind, step, 0.5 + 0.5 * ((gap > 0) - (gap < 0)))


def share_of_right_orders(found: list[Order]) -> dict[str, float]:
    """Returns the share of right orders of each kind, and "all", their mean.

    So each kind counts alike, however many steps it has. Undefined pairs are excluded;
    a kind without a defined pair is absent, and "all" with it if there is none.
    """
    shares = {}
    for kind in dict.fromkeys(order.kind for order in found):
        right = [o.right for o in found if o.kind == kind and o.right is not None]
        if right:
            shares[kind] = sum(right) / len(right)
    if shares:
        shares["all"] = sum(shares.values()) / len(shares)
    return shares
