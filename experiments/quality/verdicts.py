"""The verdicts on `claims.toml`, from the rows of several runs.

    python -m experiments.quality.verdicts OUT FOLDER...

reads folders of `captum-iscam benchmark`. A claim is answered by the first folder that
has its network and both of its methods. All claims are corrected for each other, those
without rows too, which stay undecided. `--images` keeps images whose name fits a
pattern, such as `*val*`. It writes `OUT.md` and `OUT.csv.gz`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import numpy as np

from captum_iscam.benchmark.bootstrap import Array
from captum_iscam.benchmark.claims import Claim, read_claims
from captum_iscam.benchmark.markdown import chance, markdown_table
from captum_iscam.benchmark.results import Results, read_results
from captum_iscam.benchmark.table_text import metric_title
from captum_iscam.benchmark.verdicts import Verdict, verdicts
from experiments._common import save_rows

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


def run_of(claim: Claim, runs: Sequence[Results]) -> Results | None:
    """Returns the first run that has the claim's network and methods."""
    for run in runs:
        known = {claim.method, claim.other} <= set(run.methods)
        if known and (claim.model, claim.metric) in run.tables:
            return run
    return None


def values(claim: Claim, run: Results | None) -> Array:
    """Returns the values of both methods, `(images, 2)`, none without a run."""
    if run is None:
        return np.full((1, 2), np.nan)
    layer = run.run["models"][claim.model]["layer"]
    if claim.layer not in ("", layer):
        raise SystemExit(f"{claim.model} was explained at {layer}, not {claim.layer}")
    kept = [fnmatchcase(image["id"], claim.images) for image in run.images]
    columns = [run.methods.index(name) for name in (claim.method, claim.other)]
    table = run.tables[claim.model, claim.metric].values
    found: Array = table[np.array(kept)][:, columns]
    return found


def judged(claims: Sequence[Claim], runs: Sequence[Results]) -> list[Verdict]:
    """Returns a verdict for each claim."""
    answered = [run_of(claim, runs) for claim in claims]
    about = {
        name: metric["higher_is_better"]
        for run in runs
        for name, metric in run.run["metrics"].items()
    }
    return verdicts(
        claims,
        [values(c, run) for c, run in zip(claims, answered, strict=True)],
        [bool(about.get(claim.metric)) for claim in claims],
    )


def row(verdict: Verdict) -> Row:
    """Returns a verdict as a line."""
    claim = verdict.claim
    numbers = {k: v for k, v in verdict._asdict().items() if k in Row._fields}
    return Row(
        method=claim.method,
        other=claim.other,
        network=Path(claim.model).stem,
        metric=claim.metric,
        margin=claim.margin,
        **numbers,
    )


def table(rows: Sequence[Row]) -> str:
    """Returns a Markdown table of the claims that have rows."""
    lines = [
        [
            f"{r.method} against {r.other}",
            metric_title(r.metric),
            r.network,
            f"**{r.verdict}**",
            str(r.n),
            f"{r.mean:+.3f} [{r.low:+.3f}, {r.high:+.3f}]",
            chance(r.p, r.corrected_p),
            chance(r.p_equivalent, r.corrected_p_equivalent),
            f"{r.wins:.0%}",
            "" if np.isnan(r.needed) else f"{r.needed:,.0f}",
        ]
        for r in rows
        if r.n
    ]
    heading = ["claim", "metric", "network", "verdict", "images", "difference"]
    heading += ["p (corrected)", "p equivalent (corrected)", "wins", "images needed"]
    return markdown_table(heading, lines, left=4) + "\n"


def main() -> None:
    """Writes the table and the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--images", default="*", metavar="PATTERN")
    args = parser.parse_args()
    claims = [replace(c, images=args.images) for c in read_claims(CLAIMS).claims]
    rows = [row(v) for v in judged(claims, [read_results(f) for f in args.folders])]
    save_rows(args.out, rows)
    args.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
