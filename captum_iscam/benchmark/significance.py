"""Tests of paired differences, and their correction for how many there are.

The test is the sign-flip test: if two methods are alike, the difference on an image is
as likely to be `d` as `-d`. So the mean difference is compared with the means after
random flips of the signs. It needs no normal distribution, and yes/no metrics, whose
differences are -1, 0 and 1, need no other test.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np

from captum_iscam.benchmark.bootstrap import SEED, Array

ALPHA = 0.05
MIN_IMAGES = 30
"""Fewer images decide nothing: at 4, a fifth of the equal methods seem different."""

N_FLIPS = 100_000
_EXACT = 16  # up to so many images all flips are counted, 65,536 of them
_POWER = 0.8
_AT_ONCE = 4_000_000  # signs drawn at once: 32 MB


def sign_flip(
    differences: Array,
    alternative: str = "two-sided",
    n_flips: int = N_FLIPS,
    seed: int = SEED,
) -> Array:
    """Returns p of the sign-flip test of each column's mean against 0.

    Up to 16 images all flips are counted, and p is exact. For more, random flips are
    drawn, the same for all columns, and the data count as one of them.

    Args:
        differences (Array): `(images, columns)`, NaN where a value is missing.
        alternative (str, optional): "two-sided", or "greater" for means above 0.
            Default: "two-sided"
        n_flips (int, optional): Number of random flips. Default: 100,000
        seed (int, optional): Seed of the flips. Default: 0

    Returns:
        *Array* `(columns,)` of p; 1 for a column without values.

    Examples::

        >>> differences = np.array([[1.0], [2.0], [3.0]])
        >>> sign_flip(differences, "greater")  # only one flip in eight reaches 2
        array([0.125])
    """
    present = np.nan_to_num(differences)
    observed = present.sum(0)
    two_sided = alternative == "two-sided"
    if two_sided:
        observed = np.abs(observed)
    # Flips that give the same sum may differ from it by rounding.
    least = observed - 1e-12 * np.abs(present).sum(0)
    images = len(present)
    exact = images <= _EXACT
    count = np.zeros(present.shape[1]) if exact else np.ones(present.shape[1])
    total = 2**images if exact else n_flips + 1
    for signs in _all_signs(images) if exact else _some_signs(images, n_flips, seed):
        sums = signs @ present
        # NaN, of sums that overflow, counts as well: it decides nothing.
        count += (~((np.abs(sums) if two_sided else sums) < least)).sum(0)
    return np.asarray(count / total)


def equivalence(differences: Array, margins: Array, n_flips: int = N_FLIPS) -> Array:
    """Returns p of two one-sided tests that each mean lies within its margin.

    The hypothesis that is tested is that the mean is at least as far from 0 as the
    margin. p is the larger one of the two tests.

    Args:
        differences (Array): `(images, columns)`, NaN where a value is missing.
        margins (Array): `(columns,)`, each above 0, in the units of the differences.
        n_flips (int, optional): Number of random flips. Default: 100,000

    Returns:
        *Array* `(columns,)` of p; 1 for a column without values.

    Examples::

        >>> same = np.tile([[0.01], [-0.01]], (6, 1))
        >>> bool(equivalence(same, np.array([1.0]))[0] == 2**-12)
        True
    """
    above = sign_flip(differences + margins, "greater", n_flips)
    below = sign_flip(margins - differences, "greater", n_flips)
    return np.maximum(above, below)


def corrected(p: Array, family: Sequence[object] | None = None) -> Array:
    """Returns p corrected for the number of tests, by Holm's step-down method.

    Hypotheses with the same entry in `family` exclude each other: a difference cannot
    be both 0 and beyond a margin. So of each entry at most one hypothesis is true, and
    each entry counts once (Shaffer 1986, JASA 81).

    Args:
        p (Array): `(tests,)`.
        family (Sequence, optional): For each test, what it is about. Default: None,
            that is something else for each

    Returns:
        *Array* `(tests,)`, at most 1, in the order of `p`.

    Examples::

        >>> corrected(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
        >>> corrected(np.array([0.01, 0.9, 0.03]), ["a", "a", "b"])
        array([0.02, 0.9 , 0.06])
    """
    about = list(range(len(p))) if family is None else list(family)
    found = np.empty(len(p))
    left, largest = list(np.argsort(p, kind="stable")), 0.0
    while left:
        at_most_true = len({about[i] for i in left})
        first = left.pop(0)
        largest = max(largest, min(1.0, at_most_true * float(p[first])))
        found[first] = largest
    return found


def images_to_decide(mean: float, deviation: float, margin: float, tests: int) -> float:
    """Returns how many images would decide, if they scatter as those observed.

    That is, with 80 % power at the level of the first step of Holm's method, by the
    normal approximation: the smaller number of those that show a difference and those
    that show equivalence.

    Args:
        mean (float): The mean difference.
        deviation (float): Standard deviation of the differences.
        margin (float): Differences smaller than it do not matter.
        tests (int): Number of claims.

    Returns:
        *float*, a whole number of at least 30.

    Examples::

        >>> images_to_decide(0.02, 0.1, 0.01, 1)
        197.0
    """
    quantile = NormalDist().inv_cdf
    level = ALPHA / tests
    # Equal methods fail at either side of the margin, so each may fail half as often.
    for_difference = quantile(1 - level / 2) + quantile(_POWER)
    for_equivalence = quantile(1 - level) + quantile((1 + _POWER) / 2)
    distances = ((for_difference, abs(mean)), (for_equivalence, margin - abs(mean)))
    needed = [
        np.ceil((z * deviation / distance) ** 2)
        for z, distance in distances
        if distance > 0
    ]
    return max(float(min(needed)), float(MIN_IMAGES))


def _all_signs(images: int) -> Iterator[Array]:
    numbers = np.arange(2**images)[:, None] >> np.arange(images)
    yield (1 - 2 * (numbers & 1)).astype(np.float64)


def _some_signs(images: int, n_flips: int, seed: int) -> Iterator[Array]:
    rng = np.random.default_rng(seed)
    at_once = max(1, _AT_ONCE // images)
    for start in range(0, n_flips, at_once):
        shape = (min(at_once, n_flips - start), images)
        drawn = rng.integers(0, 2, shape, dtype=np.int8)
        yield (1 - 2 * drawn).astype(np.float64)
