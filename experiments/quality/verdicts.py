"""The verdicts on `claims.toml`, from the published rows of several runs.

    python -m experiments.quality.verdicts [--rows FOLDER] [--images PATTERN] OUT

reads the tables that `publish.py` has written, by default
`experiments/results/rows/claims_*.csv.gz`. A claim is answered by the first table that
has its network and both of its methods. All claims are corrected for each other, those
without rows too, which stay undecided. `--images` keeps images whose name fits a
pattern, such as `*val*`. It writes `OUT.csv.gz`, a line for each claim (`OUT.md`), and
the verdict of each question on each network (`OUT_short.md`), with † where the metric
failed its test on that network (`metric_test.py`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captum_iscam.benchmark.bootstrap import Array
from captum_iscam.benchmark.claims import Claim, read_claims
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.metric_registry import METRICS
from captum_iscam.benchmark.table_text import metric_title
from captum_iscam.benchmark.verdicts import Verdict, verdicts
from experiments._common import save_rows
from experiments.quality.metric_test import abilities, kept_rows
from experiments.quality.published import NETWORKS, ROWS, Values, claimed_runs, title

CLAIMS = Path(__file__).with_name("claims.toml")


class Row(NamedTuple):
    """A verdict as a line of a table."""

    method: str
    other: str
    network: str
    metric: str
    verdict: str
    n: int
    mean: float
    low: float
    high: float
    margin: float
    p: float
    corrected_p: float
    p_equivalent: float
    corrected_p_equivalent: float
    effect: float
    wins: float
    needed: float


def values(claim: Claim, runs: Sequence[Values]) -> Array:
    """Returns the values of both methods, `(images, 2)`, none without a run."""
    key = network_of(claim), claim.metric
    for run in runs:
        first, second = (run[key].get(name, {}) for name in (claim.method, claim.other))
        both = [image for image in first if image in second]
        if both:
            kept = sorted(image for image in both if fnmatchcase(image, claim.images))
            pairs = [(first[image], second[image]) for image in kept]
            return np.array(pairs).reshape(-1, 2)
    return np.full((1, 2), np.nan)


def network_of(claim: Claim) -> str:
    """Returns the network's short name."""
    return Path(claim.model).stem


def judged(claims: Sequence[Claim], runs: Sequence[Values]) -> list[Verdict]:
    """Returns a verdict for each claim."""
    return verdicts(
        claims,
        [values(claim, runs) for claim in claims],
        [bool(METRICS[claim.metric].metric.higher_is_better) for claim in claims],
    )


def row(verdict: Verdict) -> Row:
    """Returns a verdict as a line."""
    claim = verdict.claim
    numbers = {k: v for k, v in verdict._asdict().items() if k in Row._fields}
    return Row(
        method=claim.method,
        other=claim.other,
        network=network_of(claim),
        metric=claim.metric,
        margin=claim.margin,
        **numbers,
    )


def question(r: Row) -> str:
    """Returns which two methods a claim compares."""
    return f"{title(r.method)} against {title(r.other)}"


def table(rows: Sequence[Row]) -> str:
    """Returns a table for each network that was run, with a line for each claim."""
    heading = ["claim", "metric, margin", "verdict", "images", "difference"]
    heading += ["p, corrected", "p of the margin, corrected", "wins", "needed"]
    blocks = []
    for network, name in NETWORKS.items():
        lines = [_line(r) for r in rows if r.n and r.network == network]
        if lines:
            blocks += [f"## {name}", markdown_table(heading, lines, left=3)]
    return "\n\n".join(blocks) + "\n"


def _line(r: Row) -> list[str]:
    return [
        question(r),
        f"{metric_title(r.metric)}, {r.margin:g}",
        f"**{r.verdict}**",
        str(r.n),
        f"{r.mean:+.3f} [{r.low:+.3f},\u00a0{r.high:+.3f}]",
        f"{r.p:.2g}, {r.corrected_p:.2g}",
        f"{r.p_equivalent:.2g}, {r.corrected_p_equivalent:.2g}",
        f"{r.wins:.0%}",
        "" if np.isnan(r.needed) else f"{r.needed:,.0f}",
    ]


def short_table(rows: Sequence[Row], able: Callable[[str, str], bool]) -> str:
    """Returns a line for each question, with its verdict on each network that was run.

    Args:
        rows (Sequence[Row]): All verdicts.
        able (Callable): Whether a network's metric can judge maps.
    """
    cells = {
        (question(r), r.metric, r.network): _cell(r, able(r.network, r.metric))
        for r in rows
    }
    asked = dict.fromkeys((question(r), r.metric) for r in rows if r.n)
    run = [name for name in NETWORKS if any(r.network == name and r.n for r in rows)]
    lines = [
        [of, metric_title(metric)]
        + [cells.get((of, metric, network), "") for network in run]
        for of, metric in asked
    ]
    heads = ["claim", "metric", *(NETWORKS[name] for name in run)]
    return markdown_table(heads, lines, left=2) + "\n"


def _cell(r: Row, able: bool) -> str:
    if not r.n:
        return "not run"
    word = f"**{r.verdict}**" if r.verdict != "undecided" else "undecided"
    mark = "" if able else "†"
    return f"{word}{mark} {r.mean:+.{1 if abs(r.mean) >= 1 else 3}f} ({r.n})"


def can_judge() -> Callable[[str, str], bool]:
    """Returns whether a metric passed the test of metrics; untested ones count so."""
    rows = kept_rows([])
    tested = {
        name: abilities([row for row in rows if row.network == name])
        for name in {row.network for row in rows}
    }
    return lambda network, metric: (
        metric not in tested.get(network, {}) or tested[network][metric].can_judge
    )


def main() -> None:
    """Writes the tables and the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--rows", type=Path, default=ROWS)
    parser.add_argument("--images", default="*", metavar="PATTERN")
    args = parser.parse_args()
    claims = [
        replace(claim, images=args.images) for claim in read_claims(CLAIMS).claims
    ]
    rows = [row(verdict) for verdict in judged(claims, claimed_runs(args.rows))]
    save_rows(args.out, rows)
    args.out.with_suffix(".md").write_text(table(rows))
    short = args.out.with_name(f"{args.out.name}_short.md")
    short.write_text(short_table(rows, can_judge()))


if __name__ == "__main__":
    main()
