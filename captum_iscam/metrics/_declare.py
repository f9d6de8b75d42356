"""What a metric says of itself: its direction and its unit."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, Protocol, TypeVar, cast

_P = ParamSpec("_P")
_R_co = TypeVar("_R_co", covariant=True)


class Metric(Protocol[_P, _R_co]):
    """A metric: a function that declares its direction and its unit.

    Attributes:
        higher_is_better (bool): Whether a larger value speaks for the map.
        unit (str): "percent" (0 to 100), "score" (the unit of `score`, by default a
            probability), "score squared", "share" (0 to 1), "correlation distance"
            (0 to 2) or "relative change" (from 0).

    Examples::

        >>> from captum_iscam.metrics import average_drop, pointing_game
        >>> average_drop.higher_is_better, average_drop.unit
        (False, 'percent')
        >>> pointing_game.higher_is_better, pointing_game.unit
        (True, 'share')
    """

    higher_is_better: bool
    unit: str

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co:
        """Returns one value per example."""
        ...


def metric(
    *, higher_is_better: bool, unit: str
) -> Callable[[Callable[_P, _R_co]], Metric[_P, _R_co]]:
    """Declares direction and unit of a function, which otherwise stays as it is."""

    def declare(function: Callable[_P, _R_co]) -> Metric[_P, _R_co]:
        declared = cast(Metric[_P, _R_co], function)
        declared.higher_is_better = higher_is_better
        declared.unit = unit
        return declared

    return declare
