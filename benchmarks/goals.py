"""The goals of speed and of few passes beside what was measured.

    python benchmarks/goals.py FOLDER OUT.md

reads what the measurements left in a folder, `speed.json` and so on, and lists every
goal, what was measured, and where it was missed. A goal without a measurement says so.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from figures import load


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
CHECKED = (
    "tolerance 0.01",
    "screening 0.4",
    "Score-CAM, screening 0.4",
    "gausslegendre 3",
    "riemann_middle 5",
)
PERCENT = "{:.1f} %"
PHOTOGRAPHS = "photographs, SqueezeNet 1.1"


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


def errors(plan: str, middle: float, high: float | None) -> Callable[[dict], Readings]:
    """Returns median and 95th percentile of a plan's error, by network."""

    def read(found: dict) -> Readings:
        for network, rows in _plan(found, plan):
            off = [error for error, _, _ in rows]
            where = f"{network}, median of {len(off)}"
            yield Reading(float(np.median(off)), where, middle, PERCENT)
            if high is not None:
                value = float(np.quantile(off, 0.95))
                yield Reading(value, "95 of 100 below", high, PERCENT)

    return read


def passes(plan: str, limit: float) -> Callable[[dict], Readings]:
    """Returns the mean passes per varying channel of a plan, by network."""

    def read(found: dict) -> Readings:
        for network, rows in _plan(found, plan):
            mean = statistics.mean(cost for _, cost, _ in rows)
            # As many digits as the goal has, for a share of channels is rounded up.
            yield Reading(round(mean, 2), network, limit)

    return read


def delta(found: dict) -> Readings:
    """Returns the share of maps whose error is above delta, by rule or plan."""
    for name in CHECKED:
        rows = [row for _, of_network in _plan(found, name) for row in of_network]
        if rows:
            above = statistics.mean(error > delta for error, _, delta in rows)
            yield Reading(above, f"{name}, {len(rows)} maps", 0.1, PERCENT)


def samples(found: dict) -> Readings:
    """Returns the error of all samples, and of the same ones with some left out."""
    for source, where in (("samples", "scenes"), ("samples_photographs", PHOTOGRAPHS)):
        rows = found.get(source)
        if rows:
            whole, ours = (
                next(row for row in rows if (row["n_samples"], row["tolerance"]) == one)
                for one in ((35, None), (35, 0.001))
            )
            yield Reading(whole["error"], f"{where}, all samples", None, PERCENT)
            where += ", `tolerance=0.001`"
            yield Reading(ours["error"], where, whole["error"], PERCENT)
            yield Reading(ours["passes"], "of the passes", 0.5)


def samples_delta(found: dict) -> Readings:
    """Returns the share of maps whose error is above delta, over all plans."""
    for source, where in (("samples", "scenes"), ("samples_photographs", PHOTOGRAPHS)):
        rows = found.get(source)
        if rows:
            worst = max(1 - row["held"] for row in rows)
            yield Reading(worst, f"{where}, the plan with most", 0.1, PERCENT)


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
    ("its map beside float32's", "1.5 %", map_error),
    (
        "IS-CAM left to itself, of torch-cam's IS-CAM",
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
    ("memory over a bare chunk, ResNet-50; beside it the peers'", "64 MB", memory),
    ("on a GPU, of torch-cam's time; seconds of IS-CAM", "0.25; 1 s", on_gpu),
    ("exponent of the time, 1 is linear", "1", linear),
    ("memory over many images", "flat", growth),
    (
        "IS-CAM left to itself, error of the map",
        "median 1 %, 95 of 100 below 2 %",
        errors("tolerance 0.01", 0.01, 0.02),
    ),
    ("its passes per channel that varies", "1.1", passes("tolerance 0.01", 1.1)),
    (
        "Score-CAM with `screening=0.4`, error",
        "median 3 %",
        errors("Score-CAM, screening 0.4", 0.03, None),
    ),
    *(
        line
        for share in (0.3, 0.4)
        for line in (
            (
                f"IS-CAM with `screening={share}`, error",
                "median 3 %",
                errors(f"screening {share}", 0.03, None),
            ),
            ("its passes per channel", "0.4", passes(f"screening {share}", 0.4)),
        )
    ),
    ("SS-CAM with half the passes, error", "that of 35 samples", samples),
    ("maps further off than delta says", "10 %", delta),
    ("the same for SS-CAM", "10 %", samples_delta),
)


def table(found: dict[str, Any]) -> str:
    """Returns the goals as a Markdown table."""
    lines = ["| case | goal | measured |", "|---|---|---|"]
    for case, goal, read in GOALS:
        measured = "; ".join(map(str, read(found))) or "not measured"
        lines.append(f"| {case} | {goal} | {measured} |")
    return "\n".join(lines) + "\n"


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


def _plan(found: dict, plan: str) -> list[tuple[str, list]]:
    return sorted(((found.get("passes") or {}).get(plan) or {}).items())


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    found = {file.stem: load(file) for file in args.folder.glob("*.json")}
    args.out.write_text(table(found))


if __name__ == "__main__":
    main()
