"""What the poster of IS-CAM prints, next to the same methods and metrics here.

    python -m experiments.quality.poster [OUT.md]

reads the runs that answer `claims.toml` and writes `experiments/results/poster.md`:
average drop and increase in the plain form, which the poster used, with the most that
the increase leaves to the drop.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from captum_iscam.benchmark.markdown import markdown_table
from experiments.quality.published import NETWORKS, Values, claimed_runs, title

OUT = Path(__file__).parents[1] / "results" / "poster.md"
METHODS = ("score-cam", "ss-cam", "ss-cam-0.1", "is-cam")
# Average drop and increase in percent, by network and method: R. Naidu et al., poster
# at the workshop on Responsible Computer Vision, CVPR 2021.
POSTER = {
    "VGG-16": {
        "Score-CAM": (66.03, 51.85),
        "SS-CAM": (79.15, 51.30),
        "IS-CAM": (63.30, 52.35),
    },
    "ResNet": {
        "Score-CAM": (64.23, 53.55),
        "SS-CAM": (64.53, 54.80),
        "IS-CAM": (64.85, 53.50),
    },
    "SqueezeNet": {
        "Score-CAM": (13.42, 60.85),
        "SS-CAM": (12.06, 64.85),
        "IS-CAM": (13.00, 62.15),
    },
}


def printed() -> Iterator[list[str]]:
    """Yields the poster's lines."""
    for network, methods in POSTER.items():
        for method, (drop, increase) in methods.items():
            yield line("poster", network, method, drop, increase)


def measured(run: Values) -> Iterator[list[str]]:
    """Yields a line for each method of the poster that a run has."""
    for network, name in NETWORKS.items():
        drops = run.get((network, "average_drop_plain"), {})
        increases = run.get((network, "average_increase_plain"), {})
        for method in METHODS:
            if method in drops:
                ends = (mean(of[method].values()) for of in (drops, increases))
                source = f"here, {len(drops[method])} photographs"
                yield line(source, name, title(method), *ends)


def line(
    source: str, network: str, method: str, drop: float, increase: float
) -> list[str]:
    """Returns a line, and whether an image can have both values."""
    possible = "yes" if drop <= 100 - increase else "**no**"
    figures = [f"{value:.2f}" for value in (drop, increase, 100 - increase)]
    return [source, network, method, *figures, possible]


def table() -> str:
    """Returns the poster's lines and the measured ones."""
    lines = [*printed(), *(one for run in claimed_runs() for one in measured(run))]
    heads = ["source", "network", "method", "average drop", "average increase"]
    return markdown_table([*heads, "100 - increase", "possible"], lines, left=3) + "\n"


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=OUT)
    parser.parse_args().out.write_text(table())


if __name__ == "__main__":
    main()
