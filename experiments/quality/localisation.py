"""Where the maps lie: localisation by method, over several runs, as one table.

    python -m experiments.quality.localisation OUT.md [--only TEXT] FOLDER...

reads folders of `captum-iscam benchmark`. `--only` keeps images whose name holds the
text, such as those whose boxes are small, where guessing the middle fails.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from captum_iscam.benchmark.bootstrap import bootstrap
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.results import Results, read_results
from experiments.quality.claims import named

METRICS = ("energy_pointing_game", "pointing_game", "mask_iou", "top_k_intersection")


def lines(results: Results, only: str) -> list[list[str]]:
    """Returns a line for each method of each network of one run."""
    kept = np.array([only in image["id"] for image in results.images])
    found = []
    for model in results.models:
        table = {m: results.tables[model, m].values[kept] for m in METRICS}
        # Means of all methods are over the same images.
        whole = ~np.isnan(np.concatenate(list(table.values()), axis=1)).any(axis=1)
        if not whole.any():
            continue
        means = {m: bootstrap(values[whole]) for m, values in table.items()}
        for place, method in enumerate(results.methods):
            cells = [
                f"{x.mean[place]:.2f} [{x.low[place]:.2f}, {x.high[place]:.2f}]"
                for x in means.values()
            ]
            title, name = results.title(method), named(results.run, model)
            found.append([f"{name}, {whole.sum()}", title, *cells])
    return found


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--only", default="", metavar="TEXT")
    args = parser.parse_args()
    heads = [f"{metric.replace('_', ' ')} ↑" for metric in METRICS]
    rows = [row for f in args.folders for row in lines(read_results(f), args.only)]
    text = markdown_table(["network, images", "method", *heads], rows, left=2)
    args.out.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
