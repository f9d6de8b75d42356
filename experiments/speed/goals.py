"""The goals of speed and of few passes, with what was measured.

    python -m experiments.speed.goals FOLDER OUT.md

reads what the measurements left in a folder, `speed.json` and so on, and lists every
goal, what was measured, and where it was missed. A goal without a measurement says so.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import load


@dataclass(frozen=True)
class Reading:
    """A measured value, where it was measured, and what it was to stay below."""

    value: float
    where: str
    limit: float | None
    form: str = "{:.2f}"

    def __str__(self) -> str:
        """Returns the value, in bold words where it is above the limit."""
        shown = self.form.format(100 * self.value if "%" in self.form else self.value)
        missed = self.limit is not None and float(f"{self.value:.4g}") > self.limit
        return f"{self.where}: {shown}{' (**missed**)' if missed else ''}"


Readings = Iterable[Reading]
DEFAULT = "default, with the estimate"
SHIPPED = "3 points, 45% of the channels"
SMALL = "bundled network"
PERCENT = "{:.1f} %"


def against_torchcam(
    method: str, contender: str, limits: dict[str, float], source: str = "speed"
) -> Callable[[dict], Readings]:
    """Returns our time over torch-cam's, by network; `limits` may have an "any"."""

    def read(found: dict) -> Readings:
        for case in _cases({"speed": found.get(source)}, method):
            limit = limits.get(case["network"], limits.get("any"))
            ratios = _ratios(case, contender, "torch-cam")
            if limit is not None and ratios:
                form = "{:.2f}" if limit > 0.1 else "{:.3f}"
                where = case["network"] + _rounds(ratios)
                yield Reading(statistics.median(ratios), where, limit, form)

    return read


def map_error(found: dict) -> Readings:
    """Returns how far Score-CAM under autocast is from its float32 map."""
    for name, off in (found.get("precision") or {}).items():
        where = f"{name}, median of {len(off)}"
        yield Reading(float(np.median(off)), where, 0.015, PERCENT)
        yield Reading(max(off), "at worst", None, PERCENT)


def over_bare(found: dict) -> Readings:
    """Returns the time over the bare passes, by method and network."""
    for device, limit in (("cpu", 1.08), ("cuda", 1.10)):
        for case in _cases(found, device=device):
            ratios = _ratios(case, "captum_iscam", "raw passes")
            if ratios:
                where = f"{case['network']} ({case['method']}){_rounds(ratios)}"
                yield Reading(statistics.median(ratios), where, limit)


def on_gpu(found: dict) -> Readings:
    """Returns the time of torch-cam over ours, and the seconds of IS-CAM."""
    for case in _cases(found, "score-cam", "cuda"):
        ratios = _ratios(case, "captum_iscam", "torch-cam")
        if case["network"] == "resnet50" and ratios:
            yield Reading(statistics.median(ratios), "ResNet-50, of its time", 0.25)
    for case in _cases(found, "is-cam", "cuda"):
        if case["network"] == "resnet50":
            seconds = statistics.median(_seconds(case, "captum_iscam"))
            yield Reading(seconds, "ResNet-50, IS-CAM", 1.0, "{:.2f} s")


def memory(found: dict) -> Readings:
    """Returns how many MB each method adds."""
    figures = found.get("memory")
    for method, runs in (figures["methods"] if figures else {}).items():
        limit = None if method.endswith(", score-cam") else 64  # another library
        added = statistics.median(run["added"] for run in runs)
        yield Reading(added, method, limit, "{:.0f} MB")


def growth(found: dict) -> Readings:
    """Returns the memory after a hundred images and after all of them."""
    used = found.get("growth")
    if used:
        yield Reading(used[0], "after 100 images", None, "{:.1f} MB")
        # A page more or less is not growth.
        where = f"after {100 * len(used)}"
        yield Reading(used[-1], where, used[0] + 1, "{:.1f} MB")


def linear(found: dict) -> Readings:
    """Returns the exponent of time in each amount, less that of the bare passes."""
    figures = found.get("scaling") or {"axes": []}
    by_axis = {row["axis"]: row["exponent"] for row in figures["axes"]}
    network = by_axis.pop("pixels, bare passes", None)
    for axis, exponent in by_axis.items():
        yield Reading(exponent, axis, 1.1)
    if network is not None:
        yield Reading(network, "pixels in the bare passes", None)


def errors(
    column: str, middle: float, high: float, small: bool = False
) -> Callable[[dict], Readings]:
    """Returns median and 95th percentile of the default's error, by network."""

    def read(found: dict) -> Readings:
        for network, rows in _of_rule(found, SHIPPED, small):
            off = [row[column] for row in rows]
            where = f"{network}, median of {len(off)}"
            yield Reading(float(np.median(off)), where, middle, PERCENT)
            value = max(off) if small else float(np.quantile(off, 0.95))
            yield Reading(value, "at worst" if small else "95 of 100", high, PERCENT)

    return read


def passes(limit: float, small: bool = False) -> Callable[[dict], Readings]:
    """Returns the mean passes per active channel of the default, by network."""

    def read(found: dict) -> Readings:
        for network, rows in _of_rule(found, SHIPPED, small):
            mean = statistics.mean(row["passes"] for row in rows)
            # As many digits as the goal has, for a share of channels is rounded up.
            yield Reading(round(mean, 2), network, limit)

    return read


def screening(found: dict) -> Readings:
    """Returns the median error of Score-CAM with a share of the channels."""
    for network, rows in _of_rule(found, "Score-CAM, screening 0.4"):
        off = [row["error"] for row in rows]
        yield Reading(float(np.median(off)), network, 0.03, PERCENT)


def delta(found: dict) -> Readings:
    """Returns the share of the default's maps whose error is above delta."""
    for small in (False, True):
        for network, rows in _of_rule(found, DEFAULT, small):
            above = statistics.mean(row["error"] > row["delta"] for row in rows)
            yield Reading(above, f"{network}, {len(rows)} maps", 0.1, PERCENT)


def warned(found: dict) -> Readings:
    """Returns the share of maps that were warned of, by their error."""
    rows = [row for _, of in _of_rule(found, DEFAULT) for row in of]
    if rows:
        share = statistics.mean(row["warned"] == "True" for row in rows)
        yield Reading(share, f"{len(rows)} maps of photographs", 0.02, PERCENT)
    made_up = found.get("steep_scores") or []
    steep = [row["warned"] != "True" for row in made_up if row["error"] > 0.1]
    calm = [row["warned"] == "True" for row in made_up if row["error"] < 0.03]
    if steep and calm:
        where = f"random layers, not warned of {len(steep)} with an error above 10 %"
        yield Reading(statistics.mean(steep), where, 0.1, PERCENT)
        where = f"random layers, warned of {len(calm)} below 3 %"
        yield Reading(statistics.mean(calm), where, 0.05, PERCENT)


def several(found: dict) -> Readings:
    """Returns the time of five targets over that of one, by method."""
    for name, ratios in (found.get("several_targets") or {}).items():
        where = name + _rounds(ratios)
        yield Reading(statistics.median(ratios), where, 1.05, "{:.3f}")


def outside(found: dict) -> Readings:
    """Returns the seconds outside the model on a layer of 2048 x 7 x 7."""
    seconds = found.get("outside")
    if seconds:
        where = f"median of {len(seconds)}"
        yield Reading(statistics.median(seconds), where, 0.15, "{:.2f} s")


def explained(found: dict) -> Readings:
    """Returns what `captum-iscam explain` takes over the model's own passes."""
    figures = found.get("explain")
    if figures:
        for kind, ratio in figures["ratio"].items():
            where = f"{figures['model']}, {figures['images']} photographs, "
            where += kind.replace("_", " ")
            yield Reading(ratio, where, 1.15)


GOALS: tuple[tuple[str, str, Callable[[dict], Readings]], ...] = (
    (
        "Score-CAM in float32, of torch-cam's time",
        "0.35 on SqueezeNet 1.1, 0.60 on ResNet-18",
        against_torchcam(
            "score-cam", "captum_iscam", {"squeezenet1_1": 0.35, "resnet18": 0.6}
        ),
    ),
    (
        "the same with a compiled model, on another machine",
        "the same",
        against_torchcam(
            "score-cam",
            "captum_iscam, compiled",
            {"squeezenet1_1": 0.35, "resnet18": 0.6},
            "compiled",
        ),
    ),
    (
        "Score-CAM under bfloat16 autocast, of torch-cam's time",
        "0.25",
        against_torchcam("score-cam", "captum_iscam, bfloat16", {"any": 0.25}),
    ),
    ("error of its map, compared with float32", "1.5 %", map_error),
    (
        "IS-CAM by default, of torch-cam's IS-CAM",
        "0.08",
        against_torchcam("is-cam", "captum_iscam", {"any": 0.08}),
    ),
    (
        "the same under autocast",
        "0.04",
        against_torchcam("is-cam", "captum_iscam, bfloat16", {"any": 0.04}),
    ),
    (
        "SS-CAM with 35 samples, of torch-cam's",
        "0.5",
        against_torchcam("ss-cam", "captum_iscam", {"any": 0.5}),
    ),
    ("time over the bare passes", "1.08, on a GPU 1.10", over_bare),
    ("memory over a bare chunk, ResNet-50; compared with the peers'", "64 MB", memory),
    ("on a GPU, of torch-cam's time; seconds of IS-CAM", "0.25; 1 s", on_gpu),
    ("exponent of the time, 1 is linear", "1", linear),
    ("memory over many images", "flat", growth),
    ("IS-CAM by default, passes per active channel", "1.35", passes(1.35)),
    (
        "its error without a common factor",
        "median 2 %, 95 of 100 below 4 %",
        errors("up_to_a_factor", 0.02, 0.04),
    ),
    ("its error", "median 3 %, 95 of 100 below 7 %", errors("error", 0.03, 0.07)),
    (
        "its error on a small layer",
        "median 2 %, worst of 18 below 6 %",
        errors("error", 0.02, 0.06, small=True),
    ),
    ("its passes there", "3", passes(3.0, small=True)),
    ("maps with a larger error than delta", "10 %", delta),
    (
        "warnings of steep scores",
        "2 % of photographs; random layers: 10 % missed, 5 % false alarms",
        warned,
    ),
    ("five targets, of the time of one", "1.05", several),
    ("seconds outside the model, 2048 x 7 x 7", "0.15 s", outside),
    ("`captum-iscam explain`, over the model's passes", "1.15", explained),
    ("Score-CAM with `screening=0.4`, error", "median 3 %", screening),
)


def table(found: dict[str, Any]) -> str:
    """Returns the goals as a Markdown table."""
    lines = []
    for case, goal, read in GOALS:
        measured = "; ".join(map(str, read(found))) or "not measured"
        lines.append([case, goal, measured])
    return markdown_table(["case", "goal", "measured"], lines, left=None) + "\n"


def _cases(found: dict, method: str | None = None, device: str = "cpu") -> list[dict]:
    """Returns what was timed on a kind of device, of one method or of all."""
    return [
        case
        for case in (found.get("speed") or {"cases": []})["cases"]
        if case["environment"]["type"] == device and method in (None, case["method"])
    ]


def _rounds(ratios: list[float]) -> str:
    """Returns of how many rounds a median is where they are few."""
    few = {1: ", one round", 2: ", two rounds"}
    return few.get(len(ratios), "")


def _seconds(case: dict, contender: str) -> list[float]:
    for one in case["contenders"]:
        raw = contender == "raw passes" and one["name"].startswith(contender)
        if raw or one["name"] == contender:
            return list(one["seconds"])
    return []


def _ratios(case: dict, first: str, second: str) -> list[float]:
    ours, others = _seconds(case, first), _seconds(case, second)
    return [a / b for a, b in zip(ours, others, strict=True)] if ours and others else []


def _of_rule(
    found: dict, rule: str, small: bool = False
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Returns the rows of a rule by network, of photographs or of the small layer."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in found.get("passes") or []:
        if row["rule"] == rule and (row["network"] == SMALL) == small:
            groups.setdefault(row["network"], []).append(row)
    return sorted(groups.items())


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Returns the rows of a compressed table, numbers as numbers."""

    def value(text: str) -> Any:
        try:
            return float(text)
        except ValueError:
            return text

    with gzip.open(file, "rt", newline="") as table:
        return [{k: value(v) for k, v in row.items()} for row in csv.DictReader(table)]


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    found = {file.stem: load(file) for file in args.folder.glob("*.json")}
    for file in args.folder.glob("*.csv.gz"):
        found[file.name.partition(".")[0]] = rows_of(file)
    args.out.write_text(table(found))


if __name__ == "__main__":
    main()
