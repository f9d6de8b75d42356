"""SS-CAM's quality against the amount of noise, as a picture and a table.

    python -m experiments.ss_cam_noise.curves OUT FOLDER...

reads folders that `variants.py --method score-cam,noise,random-map,channel-mean` left
and writes OUT.png and OUT.md. The deviation of the authors' rule depends on image and
channel, so it stands at the right edge, by itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.results import read_results
from captum_iscam.benchmark.summary import contents
from experiments.quality.variants import DEVIATIONS

METRICS = ("insertion", "deletion", "average_drop")
COLOURS = {"input": "tab:blue", "mask": "tab:orange"}
LEVEL = {
    "score-cam": ("Score-CAM", "black", "-"),
    "channel-mean": ("channel mean", "gray", "--"),
    "random-map": ("random map", "gray", ":"),
}


class Run:
    """A folder's means by method and metric."""

    def __init__(self, folder: Path) -> None:
        content = contents(read_results(folder), "score-cam")
        self.network = next(iter(content["run"]["models"]))
        self.about = content["run"]["metrics"]
        self.found = {(e["method"], e["metric"]): e for e in content["means"]}
        self.differences = {
            (p["method"], p["metric"]): p
            for p in content["pairs"]
            if p["other"] == "score-cam"
        }
        methods = content["run"]["methods"]
        self.samples = methods["ss-cam-input-rule"]["settings"]["n_samples"]
        self.images = self.found["score-cam", "insertion"]["n"]

    def arrow(self, metric: str) -> str:
        """Returns which direction is better."""
        return "↑" if self.about[metric]["higher_is_better"] else "↓"


def draw(axis: Any, run: Run, metric: str) -> None:
    """Draws one panel."""
    for method, (title, colour, style) in LEVEL.items():
        level = run.found[method, metric]["mean"]
        axis.axhline(level, color=colour, linestyle=style, linewidth=1, label=title)
    edge = 2 * max(x for of_form in DEVIATIONS.values() for x in of_form if x)
    for noise, deviations in DEVIATIONS.items():
        known = [x for x in deviations if x is not None]
        entries = [run.found[f"ss-cam-{noise}-{x}", metric] for x in known]
        means, low, high = (
            [e[end] for e in entries] for end in ("mean", "low", "high")
        )
        axis.plot(
            known, means, "o-", color=COLOURS[noise], label=f"noise on the {noise}"
        )
        axis.fill_between(known, low, high, color=COLOURS[noise], alpha=0.15)
    rule = run.found["ss-cam-input-rule", metric]
    away = [[rule["mean"] - rule["low"]], [rule["high"] - rule["mean"]]]
    axis.errorbar(
        [edge], [rule["mean"]], away, fmt="s", color="tab:blue", label="authors' rule"
    )
    axis.set_xscale("log")
    axis.set_title(f"{run.network}, {metric.replace('_', ' ')} {run.arrow(metric)}")
    axis.set_xlabel("standard deviation")


def table(run: Run) -> str:
    """Returns means, and in brackets the interval of the difference to Score-CAM."""
    heads = [f"{m.replace('_', ' ')} {run.arrow(m)}" for m in METRICS]
    lines = []
    for method in dict.fromkeys(name for name, _ in run.found):
        if method.startswith("ss-cam") or method in LEVEL:
            cells = [_cell(run, method, metric) for metric in METRICS]
            lines.append([_title(method), *cells])
    heading = [f"{run.network}, {run.images} photographs", *heads]
    return markdown_table(heading, lines, left=None)


def _title(method: str) -> str:
    if method in LEVEL:
        return LEVEL[method][0]
    _, _, noise, size = method.split("-")
    return f"noise on the {noise}, " + ("authors' rule" if size == "rule" else size)


def _cell(run: Run, method: str, metric: str) -> str:
    digits = 1 if run.about[metric]["unit"] == "percent" else 3
    mean = f"{run.found[method, metric]['mean']:.{digits}f}"
    pair = run.differences.get((method, metric))
    if pair is None:
        return mean
    ends = f"{pair['low']:+.{digits}f}, {pair['high']:+.{digits}f}"
    return f"{mean} [{ends}]"


def main() -> None:
    """Writes the picture and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    args = parser.parse_args()
    runs = [Run(folder) for folder in args.folders]
    size = (4 * len(METRICS), 3.2 * len(runs))
    figure, axes = plt.subplots(len(runs), len(METRICS), figsize=size, squeeze=False)
    for row, run in zip(axes, runs, strict=True):
        for axis, metric in zip(row, METRICS, strict=True):
            draw(axis, run, metric)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    figure.savefig(args.out.with_suffix(".png"), dpi=100)
    text = "\n\n".join(table(run) for run in runs)
    args.out.with_suffix(".md").write_text(text + "\n")


if __name__ == "__main__":
    main()
