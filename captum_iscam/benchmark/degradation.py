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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from captum_iscam.benchmark.metric_spec import MetricContext, MetricSpec
from captum_iscam.metrics._maps import min_max

ABLE = 0.8
"""Least share of right orders of a metric that can judge maps on a network."""

KINDS = ("noise", "shift", "flip", "other class", "constant")

Orders = dict[str, list[float | None]]
"""For each kind and step: 1 where a metric has put the map before a worse one, 0.5
where both are equal, 0 where not; None where it is undefined for one of the two."""


def degraded_maps(
    attributions: Tensor, other: Tensor | None, generator: torch.Generator
) -> dict[str, list[Tensor]]:
    """Returns for each kind of degradation the map and its copies, worse at each step.

    A constant map cannot be made worse, and has no copies.

    Args:
        attributions (Tensor): The map, `(1, 1, *spatial)`.
        other (Tensor or None): The map of another class, of the same shape. There are
            no copies with it where it is None or constant, since these would rank the
            pixels alike.
        generator (torch.Generator): Source of the noise, on the CPU.
    """
    if _is_constant(attributions):
        return {}
    whole = min_max(attributions)
    drawn = torch.rand(whole.shape, generator=generator, dtype=torch.float32)
    noise = min_max(drawn.to(whole))
    dims = tuple(range(2, whole.dim()))

    def shifted(parts: int) -> Tensor:
        return whole.roll([whole.shape[dim] // parts for dim in dims], dims)

    copies = {
        "noise": [(whole + noise) / 2, noise],
        "shift": [shifted(4), shifted(2)],
        "flip": [whole.flip(dims)],
        "other class": [],
        "constant": [torch.full_like(whole, 0.5)],
    }
    if other is not None and not _is_constant(other):
        another = min_max(other)
        copies["other class"] = [(whole + another) / 2, another]
    return {kind: [whole, *worse] for kind, worse in copies.items() if worse}


def _is_constant(maps: Tensor) -> bool:
    return bool(maps.amin() == maps.amax())


def judges_maps(spec: MetricSpec) -> bool:
    """Returns whether a metric judges a map that it is given, and has a direction.

    One that calls the method judges the method, not a map.
    """
    asked = spec.parameters
    return (
        spec.metric.higher_is_better is not None
        and "attributions" in asked
        and "explanation_func" not in asked
    )


def orders_of(
    spec: MetricSpec, context: MetricContext, maps: Mapping[str, list[Tensor]]
) -> Orders:
    """Returns how a metric orders the maps of :func:`degraded_maps`.

    Args:
        spec (MetricSpec): The metric.
        context (MetricContext): What it may need; its map is replaced.
        maps (Mapping): The maps.
    """

    def judge(attributions: Tensor) -> float | None:
        mine = replace(context, attributions=attributions).copied()
        return spec.evaluate(mine).value

    return orders(judge, maps, higher_is_better=spec.metric.higher_is_better)


def orders(
    judge: Callable[[Tensor], float | None],
    maps: Mapping[str, list[Tensor]],
    *,
    higher_is_better: bool,
) -> Orders:
    """Returns the order of each pair of consecutive maps.

    Args:
        judge (Callable): Returns the metric's value of a map, None where undefined.
        maps (Mapping): What :func:`degraded_maps` returned.
        higher_is_better (bool): The metric's direction.
    """
    if not maps:
        return {}
    whole = judge(next(iter(maps.values()))[0])

    def right(better: float | None, worse: float | None) -> float | None:
        if better is None or worse is None:
            return None
        gap = better - worse if higher_is_better else worse - better
        return 0.5 + 0.5 * ((gap > 0) - (gap < 0))

    return {
        kind: [right(*pair) for pair in pairwise([whole, *map(judge, steps[1:])])]
        for kind, steps in maps.items()
    }


class Ability(NamedTuple):
    """How well a metric has ordered the maps of a network.

    Attributes:
        maps (int): Number of maps for which it has a value, and so has orders.
        shares (dict[str, float]): Share of right orders of each kind.
        share (float or None): Their mean, so each kind counts alike, however many steps
            it has. None where there is no order.
        undefined (float): Share of all pairs for which it has no value.
    """

    maps: int
    shares: dict[str, float]
    share: float | None
    undefined: float

    @property
    def can_judge(self) -> bool | None:
        """Whether it can judge maps on the network; None where that is not known."""
        return None if self.share is None else self.share >= ABLE


def ability(found: Iterable[Orders]) -> Ability:
    """Returns the shares of right orders, from the orders of each map."""
    found = list(found)
    pairs = {kind: [r for one in found for r in one.get(kind, [])] for kind in KINDS}
    known = {kind: [r for r in of if r is not None] for kind, of in pairs.items()}
    shares = {kind: sum(of) / len(of) for kind, of in known.items() if of}
    count = sum(map(len, pairs.values()))
    return Ability(
        maps=sum(
            any(r is not None for of in one.values() for r in of) for one in found
        ),
        shares=shares,
        share=sum(shares.values()) / len(shares) if shares else None,
        undefined=1 - sum(map(len, known.values())) / count if count else 0.0,
    )
