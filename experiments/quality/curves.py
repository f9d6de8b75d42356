"""Insertion and deletion curves of runs, averaged over their images, as a figure.

    python -m experiments.quality.curves FOLDER...
    python -m experiments.quality.curves

reads folders of `captum-iscam benchmark` and writes the averages to
`experiments/results/curves.csv.gz`; without folders it draws those that are there. The
figure is `docs/images/curves.png`. Images count for which every method has a curve.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from captum_iscam.benchmark.results import read_results
from experiments._common import save_rows
from experiments.quality.published import NETWORKS, title

ROOT = Path(__file__).parents[2]
OUT = ROOT / "experiments" / "results" / "curves"
PICTURE = ROOT / "docs" / "images" / "curves.png"
METRICS = ("insertion", "deletion")
# The methods of the poster and Grad-CAM in colour, a map without meaning in grey.
COLOURS = {
    "is-cam": "#0072b2",
    "ss-cam": "#cc79a7",
    "score-cam": "#e69f00",
    "grad-cam": "#009e73",
    "random-map": "#888888",
}


class Point(NamedTuple):
    """A point of an averaged curve."""

    network: str
    metric: str
    method: str
    images: int
    fraction: float
    score: float


def averaged(folder: Path) -> Iterator[Point]:
    """Yields the averaged curves of a run."""
    results = read_results(folder)
    for (model, metric), curves in results.curves.items():
        if metric not in METRICS:
            continue
        whole = ~np.isnan(curves).any(axis=(1, 2))
        for method, curve in zip(
            results.methods, curves[whole].mean(axis=0), strict=True
        ):
            for fraction, score in zip(results.grid, curve, strict=True):
                about = Path(model).stem, metric, method, int(whole.sum())
                yield Point(*about, float(fraction), float(score))


def read_points() -> list[Point]:
    """Returns the committed curves."""
    with gzip.open(OUT.with_suffix(".csv.gz"), "rt", newline="") as stream:
        return [
            Point(
                **{
                    **row,
                    "images": int(row["images"]),
                    "fraction": float(row["fraction"]),
                    "score": float(row["score"]),
                }
            )
            for row in csv.DictReader(stream)
        ]


def draw(points: Sequence[Point]) -> Figure:
    """Returns a row of panels for each network, with a column for each metric."""
    networks = [name for name in NETWORKS if any(p.network == name for p in points)]
    shape = len(networks), len(METRICS)
    figure = Figure(figsize=(9, 0.8 + 2.7 * len(networks)), layout="constrained")
    panels = figure.subplots(*shape, squeeze=False, sharex=True, sharey="row")
    for row, network in zip(panels, networks, strict=True):
        for panel, metric in zip(row, METRICS, strict=True):
            here = [p for p in points if (p.network, p.metric) == (network, metric)]
            for method, colour in COLOURS.items():
                curve = [(p.fraction, p.score) for p in here if p.method == method]
                if curve:
                    panel.plot(*zip(*curve, strict=True), color=colour, label=method)
            of = f"{NETWORKS[network]}, {here[0].images} photographs"
            panel.set_title(f"{metric}: {of}", fontsize=10)
            panel.grid(alpha=0.3)
        row[0].set_ylabel("mean probability")
    for panel, way in zip(panels[-1], ("shown", "removed"), strict=True):
        panel.set_xlabel(f"share of pixels {way}")
    lines = {line.get_label(): line for p in panels.flat for line in p.get_lines()}
    names = [title(name) for name in COLOURS if name in lines]
    shown = [lines[name] for name in COLOURS if name in lines]
    figure.legend(shown, names, loc="outside lower center", ncols=len(names))
    return figure


def main() -> None:
    """Writes the averages and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="*")
    args = parser.parse_args()
    if args.folders:
        save_rows(OUT, [p for folder in args.folders for p in averaged(folder)])
    mpl.use("agg")
    draw(read_points()).savefig(PICTURE, dpi=100)


if __name__ == "__main__":
    main()
