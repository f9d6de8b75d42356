"""Whether IS-CAM is better than its rivals: paired differences over several runs.

    python -m experiments.quality.claims OUT --rivals score-cam,grad-cam FOLDER...

reads folders of `captum-iscam benchmark` that hold IS-CAM and writes OUT/claims.md: for
each network and rival the mean difference on the same images, in IS-CAM's favour where
it is above zero whatever the metric's direction, with its 95 % interval and IS-CAM's
share of wins; the number of images is given where it is smaller, and below 30
nothing is bold. OUT/poster.md compares average drop and increase with what the IS-CAM
poster prints, and with the most that one of the two leaves to the other.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.results import read_results
from captum_iscam.benchmark.summary import contents

METRICS = (
    *("average_drop", "average_increase", "average_gain", "insertion", "deletion"),
    *("energy_pointing_game", "pointing_game"),
)
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


def favour(content: dict[str, Any], rivals: list[str]) -> list[list[str]]:
    """Returns a line for each rival of IS-CAM in one run."""
    lines = []
    for model in content["run"]["models"]:
        known = {
            (p["other"], p["metric"]): p
            for p in content["pairs"]
            if p["model"] == model and p["method"] == "is-cam"
        }
        for rival in rivals:
            if (rival, "insertion") not in known:
                continue
            title = content["run"]["methods"][rival]["title"]
            count = known[rival, "insertion"]["n"]
            cells = [_cell(content, known.get((rival, m)), m, count) for m in METRICS]
            name = named(content["run"], model)
            lines.append([f"{name}, {count}", title, *cells])
    return lines


def named(run: dict[str, Any], model: str) -> str:
    """Returns a network's name with the notes of its run."""
    notes = ", ".join(run["notes"])
    return f"{model} ({notes})" if notes else model


def _cell(
    content: dict[str, Any], pair: dict[str, Any] | None, metric: str, usual: int
) -> str:
    if pair is None or pair["mean"] is None:
        return "-"
    about = content["run"]["metrics"][metric]
    ends = [pair["mean"], pair["low"], pair["high"]]
    if not about["higher_is_better"]:
        ends = [-ends[0], -ends[2], -ends[1]]
    digits = 1 if about["unit"] == "percent" else 3
    mean, low, high = (f"{end + 0.0:+.{digits}f}" for end in ends)
    if pair["n"] >= 30 and not ends[1] <= 0 <= ends[2]:
        mean = f"**{mean}**"
    of = "" if pair["n"] == usual else f" of {pair['n']}"
    return f"{mean} [{low}, {high}], {pair['wins']:.0%}{of}"


def compared_with_poster(contents: list[dict[str, Any]]) -> list[list[str]]:
    """Returns average drop and increase, printed and measured, and their bound."""
    lines, known = [], POSTER["ResNet"]
    for network, methods in POSTER.items():
        for method, (drop, increase) in methods.items():
            lines.append(_bound("poster", network, method, drop, increase))
    for content in contents:
        found = {(e["model"], e["method"], e["metric"]): e for e in content["means"]}
        for model, method, metric in found:
            title = content["run"]["methods"][method]["title"]
            if metric == _plain(content["run"], "average_drop") and title in known:
                drop = found[model, method, metric]
                name = _plain(content["run"], "average_increase")
                increase = found[model, method, name]
                source = f"here, {drop['n']} photographs"
                ends = drop["mean"], increase["mean"]
                name = named(content["run"], model)
                lines.append(_bound(source, name, title, *ends))
    return lines


def _plain(run: dict[str, Any], name: str) -> str | None:
    """Returns the row of a metric without `keep`, which the poster did not use."""
    return next(
        (
            row
            for row in (name, f"{name}_plain")
            if row in run["metrics"] and run["metrics"][row]["settings"]["keep"] is None
        ),
        None,
    )


def _bound(
    source: str, network: str, method: str, drop: float, increase: float
) -> list[str]:
    verdict = "yes" if drop <= 100 - increase else "**no**"
    figures = [f"{value:.2f}" for value in (drop, increase, 100 - increase)]
    return [source, network, method, *figures, verdict]


def main() -> None:
    """Writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--rivals", default="score-cam,grad-cam")
    args = parser.parse_args()
    runs = [contents(read_results(folder), "is-cam") for folder in args.folders]
    lines = [line for run in runs for line in favour(run, args.rivals.split(","))]
    heads = [metric.replace("_", " ") for metric in METRICS]
    claims = markdown_table(["network, images", "against", *heads], lines, left=None)
    heads = ["average drop", "average increase", "100 - increase", "possible"]
    heads = ["source", "network", "method", *heads]
    poster = markdown_table(heads, compared_with_poster(runs), left=3)
    for name, text in (("claims", claims), ("poster", poster)):
        (args.out / f"{name}.md").write_text(f"{text}\n")


if __name__ == "__main__":
    main()
