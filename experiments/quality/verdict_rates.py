"""How often a family of ten claims is decided, and how often wrongly.

    python -m experiments.quality.verdict_rates OUT

draws images, with replacement, from the paired differences of SqueezeNet 1.1 and
ResNet-18 in `results/rows` (five metrics each, IS-CAM and Grad-CAM against Score-CAM),
and judges them as `captum-iscam benchmark --claims` does:

- equal: each image's difference has a random sign, so that no method is better. Any
  "holds" or "refuted" in a family is wrong.
- at the margin: the same, shifted by the margin. Any "equivalent" is wrong.
- as observed: the differences as they are. Then decided is what is hoped for.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np

from captum_iscam.benchmark.bootstrap import Array
from captum_iscam.benchmark.claims import Claim
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.verdicts import verdicts
from experiments._common import save

ROWS = Path(__file__).parents[1] / "results" / "rows"
MARGINS = {
    "insertion": 0.01,
    "deletion": 0.01,
    "average_drop": 2.0,
    "complexity": 0.01,
    "sparseness": 0.01,
}
NETWORKS = ("squeezenet1_1", "resnet18")
FLIPS = 5_000


def observed(name: str, method: str) -> list[Array]:
    """Returns the differences `method` less Score-CAM, one array for each metric."""
    table: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    with gzip.open(ROWS / f"{name}.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            if row["metric"] in MARGINS and row["value"]:
                values = table[row["metric"]].setdefault(row["method"], {})
                values[row["image"]] = float(row["value"])
    found = []
    for metric in MARGINS:
        first, second = table[metric][method], table[metric]["score-cam"]
        images = sorted(first.keys() & second.keys())
        found.append(np.array([first[i] - second[i] for i in images]))
    return found


def claims(method: str) -> list[Claim]:
    """Returns ten claims: every metric on every network."""
    return [
        Claim(method, "score-cam", name, metric, margin)
        for name in NETWORKS
        for metric, margin in MARGINS.items()
    ]


def family(
    rng: np.random.Generator, differences: list[Array], kind: str, n: int
) -> list[Array]:
    """Returns the values of both methods of each claim, the second all 0."""
    found = []
    for d, claim in zip(differences, claims("is-cam"), strict=True):
        drawn = d[rng.integers(0, len(d), n)]
        if kind != "as observed":
            drawn = drawn * rng.choice([-1.0, 1.0], n)
        if kind == "at the margin":
            drawn = drawn + claim.margin * rng.choice([-1.0, 1.0])
        found.append(np.stack([drawn, np.zeros(n)], axis=1))
    return found


def rates(method: str, kind: str, n: int, families: int) -> dict[str, float]:
    """Returns the share of families with any, and of claims with each, verdict."""
    rng = np.random.default_rng(n)
    differences = [d for name in NETWORKS for d in observed(name, method)]
    several, counts = 0, defaultdict(int)
    wrong = {"equal": {"holds", "refuted"}, "at the margin": {"equivalent"}}
    for _ in range(families):
        pairs = family(rng, differences, kind, n)
        judged = verdicts(claims(method), pairs, [True] * len(pairs), FLIPS)
        names = [verdict.verdict for verdict in judged]
        several += bool(wrong.get(kind, set()) & set(names))
        for name in names:
            counts[name] += 1
    total = families * len(differences)
    shares = {name: counts[name] / total for name in ("holds", "refuted", "equivalent")}
    return {"wrong families": several / families, **shares}


def main() -> None:
    """Writes the figures and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--families", type=int, default=500)
    args = parser.parse_args()
    figures, lines = [], []
    for method in ("is-cam", "grad-cam"):
        for kind in ("equal", "at the margin", "as observed"):
            for n in (30, 100, 200):
                found = rates(method, kind, n, args.families)
                figures.append({"method": method, "kind": kind, "n": n, **found})
                wrong = f"{found['wrong families']:.1%}"
                decided = sum(found[v] for v in ("holds", "refuted", "equivalent"))
                lines.append(
                    [
                        f"{method} against score-cam",
                        kind,
                        str(n),
                        "-" if kind == "as observed" else wrong,
                        f"{decided:.0%}",
                        f"{found['equivalent']:.0%}",
                    ]
                )
    heading = ["methods", "differences", "images", "families with a wrong verdict"]
    heading += ["claims decided", "of these equivalent"]
    save(args.out, figures, markdown_table(heading, lines, left=2))


if __name__ == "__main__":
    main()
