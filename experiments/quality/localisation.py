"""Where the maps lie: localisation by method, over several runs, as one table.

    python -m experiments.quality.localisation OUT.md [--only TEXT] [ROWS.csv.gz ...]

reads tables of `publish.py`, without names those of the runs that answer `claims.toml`.
`--only` keeps images whose name holds the text, such as those whose boxes are small.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from captum_iscam.benchmark.bootstrap import bootstrap
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.methods import METHODS
from experiments.quality.published import (
    NETWORKS,
    Values,
    claimed_runs,
    read_run,
    title,
)

METRICS = ("energy_pointing_game", "pointing_game", "mask_iou")


def lines(run: Values, only: str) -> Iterator[list[str]]:
    """Yields a line for each method of each network of one run."""
    for network in dict.fromkeys(name for name, _ in run):
        tables = [run.get((network, metric), {}) for metric in METRICS]
        order = dict.fromkeys((*METHODS, *tables[0]))
        methods = [name for name in order if all(name in of for of in tables)]
        if not methods:
            continue
        # Means of all methods are over the same images.
        common = set.intersection(*(set(of[m]) for of in tables for m in methods))
        images = sorted(image for image in common if only in image)
        if not images:
            continue
        means = [
            bootstrap(np.array([[of[m][image] for m in methods] for image in images]))
            for of in tables
        ]
        name = f"{NETWORKS.get(network, network)}, {len(images)}"
        for place, method in enumerate(methods):
            cells = [
                f"{x.mean[place]:.2f} [{x.low[place]:.2f}, {x.high[place]:.2f}]"
                for x in means
            ]
            yield [name, title(method), *cells]


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("rows", type=Path, nargs="*")
    parser.add_argument("--only", default="", metavar="TEXT")
    args = parser.parse_args()
    runs = [read_run(file) for file in args.rows] or claimed_runs()
    heads = [f"{metric.replace('_', ' ')} ↑" for metric in METRICS]
    rows = [row for run in runs for row in lines(run, args.only)]
    text = markdown_table(["network, images", "method", *heads], rows, left=2)
    args.out.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
