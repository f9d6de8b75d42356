"""Means with bootstrap intervals, paired differences, wins and mean curves.

Everything takes a table `(images, columns)` in which NaN stands for a missing value,
and resamples images: all columns of a resample are means over the same images, which
is what makes a difference of two columns paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from captum_iscam.metrics.faithfulness import ROUNDING

Array = npt.NDArray[np.float64]

N_RESAMPLES = 10_000
CONFIDENCE = 0.95
SEED = 0
_MOST_DRAWS = 4_000_000  # images drawn at once: 32 MB


class Interval(NamedTuple):
    """A mean and the ends of its interval, one per column; NaN where undefined.

    Attributes:
        n (Array): Values the mean is taken over.
        mean (Array): Their mean.
        low (Array): Lower end; NaN for fewer than two values, or huge ones.
        high (Array): Upper end; NaN for fewer than two values, or huge ones.
    """

    n: Array
    mean: Array
    low: Array
    high: Array


def bootstrap(
    values: Array,
    n_resamples: int = N_RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = SEED,
) -> Interval:
    """Returns the mean of each column with its percentile bootstrap interval.

    A resample draws as many images as there are, with replacement; its mean is that of
    the values present. The same seed draws the same images for every table with the
    same number of images.

    Args:
        values (Array): `(images, columns)`, NaN where a value is missing.
        n_resamples (int, optional): Number of resamples. Default: 10,000
        confidence (float, optional): Share of the resampled means in the interval.
            Default: 0.95
        seed (int, optional): Seed of the resamples. Default: 0

    Examples::

        >>> found = bootstrap(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, np.nan]]))
        >>> found.n, found.mean
        (array([3., 2.]), array([2., 5.]))
        >>> found.low, found.high
        (array([1., 5.]), array([3., 5.]))
    """
    present = ~np.isnan(values)
    n = present.sum(0).astype(np.float64)
    mean = _ratio(np.where(present, values, 0).sum(0), n)
    # Around the mean, so that a constant column has an interval of width 0.
    centred = np.where(present, values - mean, 0)
    tail = (1 - confidence) / 2
    low, high = np.full((2, values.shape[1]), np.nan)
    # Sums that overflow have no interval.
    enough = (n > 1) & np.isfinite(np.where(present, np.abs(values), 0).sum(0))
    if enough.any():
        shifts = _resampled_means(
            centred[:, enough], present[:, enough], n_resamples, seed
        )
        low[enough], high[enough] = mean[enough] + _quantiles(shifts, tail)
    # Otherwise rounding could move an end that is zero to one side of it.
    least = 1e-12 * np.where(present, np.abs(values), 0).max(0, initial=0)
    return Interval(n, *(np.where(np.abs(v) < least, 0, v) for v in (mean, low, high)))


def pairs(
    values: Array, n_resamples: int = N_RESAMPLES
) -> list[tuple[int, int, Interval]]:
    """Returns the difference of every two columns, first less second, each with n = 1.

    Only images on which both have a value count.

    Args:
        values (Array): `(images, columns)`, NaN where a value is missing.
        n_resamples (int, optional): Number of resamples. Default: 10,000

    Examples::

        >>> ((first, second, found),) = pairs(np.array([[1.0, 0.5], [2.0, 1.5]]))
        >>> first, second, float(found.mean), float(found.low), float(found.high)
        (0, 1, 0.5, 0.5, 0.5)
    """
    both = list(combinations(range(values.shape[1]), 2))
    if not both:
        return []
    first, second = (list(columns) for columns in zip(*both, strict=True))
    found = bootstrap(values[:, first] - values[:, second], n_resamples)
    return [
        (a, b, Interval(*(field[i] for field in found)))
        for i, (a, b) in enumerate(both)
    ]


def win_shares(values: Array, higher_is_better: bool | None) -> Array:
    """Returns the share of images on which a column is better than another.

    A tie is half a win, so the shares of two columns add up to 1. Two values tie where
    they differ by 1e-5 of the larger one or less, which is rounding. Only images on
    which both have a value count. NaN where there is none, and on the diagonal.

    Args:
        values (Array): `(images, columns)`, NaN where a value is missing.
        higher_is_better (bool or None): Whether the larger value wins; None where
            neither is better, and nothing wins.

    Returns:
        *Array* `(columns, columns)`: row against column.

    Examples::

        >>> win_shares(np.array([[1.0, 0.0], [1.0, 1.0]]), higher_is_better=True)
        array([[ nan, 0.75],
               [0.25,  nan]])
    """
    n_columns = values.shape[1]
    shares = np.full((n_columns, n_columns), np.nan)
    if higher_is_better is None:
        return shares
    signed = values if higher_is_better else -values
    for a, b in combinations(range(n_columns), 2):
        difference = signed[:, a] - signed[:, b]
        largest = np.maximum(np.abs(signed[:, a]), np.abs(signed[:, b]))
        difference[np.abs(difference) <= ROUNDING * largest] = 0
        difference = difference[~np.isnan(difference)]
        if len(difference):
            shares[a, b] = float(np.mean((np.sign(difference) + 1) / 2))
            shares[b, a] = 1 - shares[a, b]
    return shares


def common_grid(lengths: Sequence[int], most: int = 101) -> Array:
    """Returns even fractions from 0 to 1, as many as the longest curve has points."""
    return np.linspace(0, 1, min(max(lengths, default=2), most))


def on_grid(
    fractions: Sequence[float] | Array, scores: Sequence[float] | Array, grid: Array
) -> Array:
    """Returns a curve's scores on the grid, by linear interpolation."""
    found: Array = np.interp(grid, fractions, scores)
    return found


def _resampled_means(
    centred: Array, present: npt.NDArray[np.bool_], n_resamples: int, seed: int
) -> Array:
    """Means of the resamples, `(n_resamples, columns)`."""
    complete = bool(present.all())
    counted = present.astype(np.float64)
    means = np.empty((n_resamples, centred.shape[1]))
    done = 0
    for weights in _weights(len(centred), n_resamples, seed):
        n = np.float64(len(centred)) if complete else weights @ counted
        means[done : done + len(weights)] = _ratio(weights @ centred, n)
        done += len(weights)
    return means


def _weights(n_images: int, n_resamples: int, seed: int) -> Iterator[Array]:
    """How often each image is drawn, `(resamples, n_images)`, in several parts."""
    rng = np.random.default_rng(seed)
    at_once = max(1, _MOST_DRAWS // n_images)
    for start in range(0, n_resamples, at_once):
        rows = min(at_once, n_resamples - start)
        drawn = rng.integers(0, n_images, (rows, n_images))
        drawn += np.arange(rows)[:, None] * n_images
        counts = np.bincount(drawn.ravel(), minlength=rows * n_images)
        yield counts.reshape(rows, n_images).astype(np.float64)


def _quantiles(means: Array, tail: float) -> Array:
    # A resample may contain no value of a sparse column. It is ignored.
    quantile = np.nanquantile if np.isnan(means).any() else np.quantile
    ends: Array = quantile(means, [tail, 1 - tail], axis=0)
    return ends


def _ratio(total: Array, n: Array | np.float64) -> Array:
    found = np.full(total.shape, np.nan)
    np.divide(total, n, out=found, where=np.broadcast_to(n > 0, total.shape))
    return found
