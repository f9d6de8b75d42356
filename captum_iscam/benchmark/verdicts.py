"""What the rows of a benchmark say of claims that were written down before it."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import combinations
from typing import NamedTuple

import numpy as np

from captum_iscam.benchmark.bootstrap import Array, bootstrap, win_shares
from captum_iscam.benchmark.claims import Claim, check_claims
from captum_iscam.benchmark.results import Results
from captum_iscam.benchmark.significance import (
    ALPHA,
    MIN_IMAGES,
    N_FLIPS,
    corrected,
    equivalence,
    images_to_decide,
    sign_flip,
)


class Verdict(NamedTuple):
    """What the rows say of a claim.

    Attributes:
        claim (Claim): The claim.
        verdict (str): "holds", "refuted" (the opposite is shown), "equivalent" (the
            difference lies within the margin) or "undecided".
        n (int): Number of images on which both methods have a value.
        mean (float): Mean difference, `method` less `other`, in the metric's unit.
        low (float): Lower end of its 95 % bootstrap interval, not corrected.
        high (float): Upper end.
        effect (float): The mean in standard deviations of the differences; NaN where
            they are all equal up to rounding.
        wins (float): Share of the images on which `method` is better; ties count half.
        p (float): That the means are equal, by the sign-flip test.
        corrected_p (float): The same, corrected for all claims of the file.
        p_equivalent (float): That the difference is beyond the margin, by two one-sided
            tests.
        corrected_p_equivalent (float): The same, corrected.
        needed (float): For the undecided, about how many images would decide.
    """

    claim: Claim
    verdict: str
    n: int
    mean: float
    low: float
    high: float
    effect: float
    wins: float
    p: float
    corrected_p: float
    p_equivalent: float
    corrected_p_equivalent: float
    needed: float


class _Chances(NamedTuple):
    """p of both hypotheses of a claim, each also corrected."""

    p: float
    corrected_p: float
    p_equivalent: float
    corrected_p_equivalent: float


def verdicts_of(results: Results) -> list[Verdict]:
    """Returns a verdict for each claim that was recorded before the run.

    Args:
        results (Results): The rows.
    """
    recorded = results.run.get("claims") or {"claims": []}
    claims = [Claim(**claim) for claim in recorded["claims"]]
    return judge(claims, results) if claims else []


def judge(claims: Sequence[Claim], results: Results) -> list[Verdict]:
    """Returns a verdict for each claim, from the rows of one run.

    Args:
        claims (Sequence[Claim]): All that are corrected for each other.
        results (Results): The rows.

    Raises:
        ValueError: If a claim is about something that the run does not have.
    """
    check_claims(claims, results.run)
    metrics = results.run["metrics"]
    return verdicts(
        claims,
        [_values(claim, results) for claim in claims],
        [bool(metrics[claim.metric]["higher_is_better"]) for claim in claims],
    )


def _values(claim: Claim, results: Results) -> Array:
    """Returns the values of both methods, `(images, 2)`, of the claim's images."""
    columns = [results.methods.index(name) for name in (claim.method, claim.other)]
    chosen = [fnmatchcase(image["id"], claim.images) for image in results.images]
    table = results.tables.get((claim.model, claim.metric))
    if table is None:  # no row yet
        return np.full((sum(chosen), 2), np.nan)
    found: Array = table.values[np.array(chosen)][:, columns]
    return found


@np.errstate(over="ignore", invalid="ignore")  # sums of huge values are undecided
def verdicts(
    claims: Sequence[Claim],
    values: Sequence[Array],
    higher_is_better: Sequence[bool],
    n_flips: int = N_FLIPS,
) -> list[Verdict]:
    """Returns a verdict for each claim, corrected for all of them.

    1. The difference is tested against 0 by the sign-flip test, and against the margin
       by two one-sided ones.
    2. All p are corrected together by Holm's method. A claim counts once, since a
       difference is not both 0 and beyond the margin.
    3. A difference within the margin is "equivalent", even if it is certainly not 0.
       Any other that is certainly not 0 decides by its sign.

    Args:
        claims (Sequence[Claim]): The claims.
        values (Sequence[Array]): For each, the values of `method` and `other`,
            `(images, 2)`, NaN where there is none.
        higher_is_better (Sequence[bool]): For each, the direction of its metric.
        n_flips (int, optional): Number of random flips of each test. Default: 100,000
    """
    # All claims share the flips, so that these are drawn once.
    differences = np.full((max(map(len, values)), len(claims)), np.nan)
    for column, pair in enumerate(values):
        differences[: len(pair), column] = pair[:, 0] - pair[:, 1]
    margins = np.array([claim.margin for claim in claims], np.float64)
    p = sign_flip(differences, n_flips=n_flips)
    within = equivalence(differences, margins, n_flips)
    both = corrected(np.concatenate([p, within]), [*range(len(p)), *range(len(p))])
    chances = zip(p, both[: len(p)], within, both[len(p) :], strict=True)
    each = zip(claims, values, higher_is_better, chances, strict=True)
    return [
        _judged(claim, pair, higher, _Chances(*map(float, four)), len(claims))
        for claim, pair, higher, four in each
    ]


def _judged(
    claim: Claim,
    values: Array,
    higher_is_better: bool,
    chances: _Chances,
    tests: int,
) -> Verdict:
    """Returns a verdict, given p and its correction for both hypotheses."""
    differences = values[:, :1] - values[:, 1:]
    known = differences[~np.isnan(differences)]
    interval = bootstrap(differences)
    mean = float(interval.mean[0])
    deviation = _deviation(known)
    wanted = claim.direction == "higher"
    if claim.direction == "better":
        wanted = higher_is_better
    verdict = _verdict(len(known), mean, wanted, chances)
    needed = np.nan
    if verdict == "undecided" and deviation > 0:
        needed = images_to_decide(mean, deviation, claim.margin, tests)
    return Verdict(
        claim=claim,
        verdict=verdict,
        n=len(known),
        mean=mean,
        low=float(interval.low[0]),
        high=float(interval.high[0]),
        effect=mean / deviation if deviation > 0 else np.nan,
        wins=float(win_shares(values, higher_is_better)[0, 1]),
        needed=needed,
        **chances._asdict(),
    )


def _deviation(known: Array) -> float:
    """Returns the standard deviation, 0 if it is rounding, NaN if it is undefined."""
    if len(known) < 2:
        return np.nan
    deviation, mean = float(known.std(ddof=1)), float(known.mean())
    if not np.isfinite(deviation):
        return np.nan
    return 0.0 if deviation <= 1e-12 * abs(mean) else deviation


def _verdict(n: int, mean: float, wanted: bool, chances: _Chances) -> str:
    if n < MIN_IMAGES:
        return "undecided"
    if chances.corrected_p_equivalent <= ALPHA:
        return "equivalent"
    if chances.corrected_p <= ALPHA:
        return "holds" if (mean > 0) == wanted else "refuted"
    return "undecided"


Comparisons = dict[tuple[str, str, int, int], tuple[float, float]]
"""p and its correction by model, metric and two columns of methods."""


def comparisons(results: Results) -> Comparisons:
    """Returns p and corrected p of every model, metric and pair of columns.

    All are corrected for each other, since tables are read as a whole.

    Args:
        results (Results): The rows.
    """
    methods = range(len(results.methods))
    keys = [
        (model, metric, a, b)
        for model in results.models
        for metric in results.metrics(model)
        for a, b in combinations(methods, 2)
    ]
    if not keys:
        return {}
    values = {key: results.tables[key[:2]].values for key in keys}
    differences = [values[key][:, key[2]] - values[key][:, key[3]] for key in keys]
    p = sign_flip(np.stack(differences, axis=1))
    both = zip(p.tolist(), corrected(p).tolist(), strict=True)
    return dict(zip(keys, both, strict=True))
