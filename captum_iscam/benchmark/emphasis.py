"""What tables emphasise: the best mean, differences that count, digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from captum_iscam.benchmark.bootstrap import Array
from captum_iscam.benchmark.significance import ALPHA, MIN_IMAGES


def best_methods(
    values: Array, methods: Sequence[str], higher_is_better: bool | None
) -> set[str]:
    """Returns the methods of the best mean; several only if they are equal.

    There is none for a metric without a direction, where a mean is over fewer than
    `MIN_IMAGES` images, and where a yes/no metric has a tie or only no.

    Args:
        values (Array): `(images, methods)`, NaN where a value is missing.
        methods (Sequence[str]): Names of the methods.
        higher_is_better (bool or None): The direction; None for none.

    Examples::

        >>> table = np.array([[0.5, 0.1]] * 30)
        >>> best_methods(table, ["a", "b"], higher_is_better=False)
        {'b'}
        >>> best_methods(table[:29], ["a", "b"], higher_is_better=False)
        set()
    """
    present = ~np.isnan(values)
    counts = present.sum(0)
    valued = counts > 0
    if higher_is_better is None or not valued.any():
        return set()
    if counts[valued].min() < MIN_IMAGES:
        return set()
    means = np.full(len(methods), np.nan)
    means[valued] = np.where(present, values, 0).sum(0)[valued] / counts[valued]
    top = np.nanmax(means) if higher_is_better else np.nanmin(means)
    # Of the best alone: where a map has several maxima, a pointing game has fractions.
    is_yes_no = len(np.unique(values[:, means == top][present[:, means == top]])) <= 2
    only_no = higher_is_better and top == 0
    if is_yes_no and (int((means == top).sum()) > 1 or only_no):
        return set()
    return {m for m, mean in zip(methods, means, strict=True) if mean == top}


def is_distinct(pair: dict[str, Any]) -> bool:
    """Whether two methods certainly differ, after correction, on enough images."""
    return bool(pair["n"] >= MIN_IMAGES and pair["corrected_p"] <= ALPHA)


def decimals(entries: Iterable[dict[str, Any]], unit: str) -> int:
    """Returns the decimals of a column, by the intervals of its entries.

    Half of the median interval has two significant digits. More would be noise.

    Args:
        entries (Iterable[dict]): Entries with "low" and "high".
        unit (str): The metric's unit, which decides where no entry has an interval.

    Examples::

        >>> decimals([{"low": 59.7, "high": 68.3}], "percent")
        1
        >>> decimals([{"low": 0.0521, "high": 0.0534}], "score")
        5
    """
    known = [e for e in entries if e["low"] is not None and e["high"] > e["low"]]
    if not known:
        return 1 if unit == "percent" else 3
    half = float(np.median([e["high"] - e["low"] for e in known])) / 2
    return min(6, max(0, 1 - math.floor(math.log10(half))))
