"""Which rule needs how many passes, worked out on recorded outputs.

    python benchmarks/passes.py FOLDER OUT

reads what `record_outputs.py` wrote and compares, for every network, the maps of all
rules of IS-CAM and of its plans with the map at the recorded Gauss-Legendre points. The
plans are the package's own; only the forward passes are replaced, by the polynomial
through the recorded scores. Rules are carried out on all photographs, plans on those of
which every channel was kept; photographs kept at more than 16 points tell how good 16
are as the reference.
"""

from __future__ import annotations

import argparse
import math
import re
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from figures import save
from torch import Tensor

from captum_iscam._captum import SUPPORTED_METHODS
from captum_iscam.attr._checking import Checked
from captum_iscam.attr._combine import relative_error
from captum_iscam.attr._curves import between, integral_weights, radau_points
from captum_iscam.attr._engine import Channels
from captum_iscam.attr._path import path_points
from captum_iscam.attr._plans import SCORE_CAM, Plan, Quadrature
from captum_iscam.attr._refinement import STRENGTHS, Refinement
from captum_iscam.attr._screening import screened
from captum_iscam.attr.integrated_score_cam import TOLERANCE

POINTS = 16
"""Of the rule that is the reference."""
STEPS = range(1, 11)
TOLERANCES = (0.05, 0.03, 0.02, TOLERANCE, 0.008, 0.006, 0.004)
SHARES = (0.2, 0.3, 0.35, 0.4, 0.5)
HINDSIGHT = "one view, with hindsight"


class Recorded(Channels):
    """Channels whose passes were made before.

    Args:
        answers (dict): What `record_outputs.py` keeps of a photograph.
    """

    def __init__(self, answers: dict) -> None:
        self.target = int(answers["of_input"].argmax())
        self.activations = answers["activations"].unsqueeze(0)
        self.nothing = self._score(answers["of_baseline"]).unsqueeze(0)
        self.confidence = self._score(answers["of_input"]).unsqueeze(0)
        channels = answers["varying"]
        self.varying = torch.stack([torch.zeros_like(channels), channels], dim=1)
        self._row = {int(k): i for i, k in enumerate(channels)}
        self._points = answers["strengths"]
        self._curves = self._score(answers["outputs"]) - self.nothing
        self.passes = 0

    def _score(self, outputs: Tensor) -> Tensor:
        return outputs.double().softmax(-1)[..., self.target]

    def expect(self, passes: int) -> None:
        """Shows nothing."""

    def increase(self, pairs: Tensor, strengths: Tensor, *_: object) -> Tensor:
        """Returns `C_k` between the recorded strengths."""
        self.passes += strengths.numel()
        rows = torch.tensor([self._row[int(k)] for k in pairs[:, 1]])
        curves = self._curves[rows]
        columns = []
        for column in strengths.unbind(1):
            known, place = column.unique(return_inverse=True)
            matrix = between(self._points, known.tolist())
            columns.append((curves @ matrix).gather(1, place.unsqueeze(1)))
        return torch.cat(columns, dim=1)

    def with_hindsight(self, reference: Tensor) -> float:
        """Returns the error of the best map that one view of each channel gives.

        All channels are shown at one strength, the best for this map, and their answers
        are turned into weights by one factor, the best as well.
        """
        matrix = between(self._points, STRENGTHS.tolist())
        found = [1.0]  # of a factor of zero
        for values in (self._curves @ matrix).unbind(1):
            shape = self.map_of(self.scatter(values))
            if not shape.any():
                continue
            best = (shape @ reference) / (shape @ shape)
            found.append(float((best * shape - reference).norm() / reference.norm()))
        return min(found)

    def map_of(self, weights: Tensor) -> Tensor:
        """Returns `ReLU(sum_k a_k A_k)`, flat."""
        return (weights[0] @ self.activations[0].flatten(1).double()).relu()


def radau(count: int) -> Quadrature:
    """Returns the Gauss-Radau rule that knows the value at 0."""
    points = radau_points(count)
    return Quadrature(list(zip(points, integral_weights(points).tolist(), strict=True)))


def rules() -> dict[str, Plan]:
    """Returns every rule by name."""
    found: dict[str, Plan] = {}
    for method in SUPPORTED_METHODS:
        for n_steps in STEPS:
            if n_steps > 1 or method in ("gausslegendre", "riemann_middle"):
                points = path_points(n_steps, method)
                found[f"{method} {n_steps}"] = Quadrature(points)
    for count in (1, 2, 3, 4):
        found[f"gaussradau {count}"] = radau(count)
    return found


def plans() -> dict[str, Plan]:
    """Returns the plans that choose their passes, by name."""
    found: dict[str, Plan] = {}
    for tolerance in TOLERANCES:
        found[f"tolerance {tolerance:g}"] = Refinement(tolerance)
    for share in SHARES:
        found[f"screening {share:g}"] = Refinement(TOLERANCE, share)
    return found


def compare(
    channels: Recorded, plan: Plan, reference: Tensor, check: int | None
) -> tuple[float, float, float]:
    """Returns relative error, passes per varying channel, and delta, which is relative
    to the reference as well.

    The delta is checked at so many points, or not at all.
    """
    channels.passes = 0
    weights = plan.weigh(channels)
    passes = channels.passes / len(channels.varying)
    found = channels.map_of(weights.values)
    error = float((found - reference).norm() / reference.norm())
    if check is not None:
        weights = Checked(plan, check).weigh(channels)
    delta = relative_error(weights.error, found.unsqueeze(0))
    return error, passes, float(delta * found.norm() / reference.norm())


@dataclass(frozen=True, order=True)
class Recording:
    """One photograph seen by one network; the greater one is the better record."""

    points: int
    channels: float
    network: str
    photograph: str
    file: Path

    @classmethod
    def of(cls, file: Path) -> Recording:
        """Returns what a file's name tells."""
        found = re.match(
            r"(.+?)_(\d+)(?:x(\d+))?_((?:nips17|scorecam|train|val).*)", file.stem
        )
        network, points, channels, photograph = found.groups()
        count = math.inf if channels is None else int(channels)
        return cls(int(points), count, network, photograph, file)

    @property
    def whole(self) -> bool:
        """Whether every channel was kept."""
        return self.channels == math.inf


def best(recordings: list[Recording]) -> list[Recording]:
    """Returns the best record of each photograph and network."""
    found: dict[tuple[str, str], Recording] = {}
    for one in recordings:
        key = one.network, one.photograph
        found[key] = max(found.get(key, one), one)
    return sorted(found.values(), key=lambda one: (one.network, one.photograph))


def read(one: Recording) -> tuple[Recorded, Tensor]:
    """Returns the channels of a photograph, and its map at all recorded points."""
    channels = Recorded(torch.load(one.file, weights_only=True))
    _, weights = np.polynomial.legendre.leggauss(one.points)
    recorded = zip(channels._points, weights / 2, strict=False)
    integral = Quadrature(list(recorded)).weigh(channels).values
    return channels, channels.map_of(integral)


Row = tuple[float, float, float | None]
Rows = dict[str, dict[str, list[Row]]]


def tabulate(folder: Path) -> tuple[Rows, Rows]:
    """Returns errors, passes and deltas by name and network, of rules and of plans."""
    every = [Recording.of(file) for file in folder.glob("*.pt")]
    usual = [one for one in every if one.points <= POINTS]
    of_rules: Rows = defaultdict(lambda: defaultdict(list))
    for one in best(usual):
        channels, fine = read(one)
        for label, plan in rules().items():
            method, steps = label.split()
            steps = int(steps)
            # Gauss's rules of more points are exact on the recorded polynomial.
            if steps <= one.points / (2 if method == "gausslegendre" else 1):
                # As many points as the package takes.
                row = compare(channels, plan, fine, max(8, 2 * steps))
                of_rules[label][one.network].append(row)
    for one in best([one for one in every if one.points > POINTS]):
        channels, fine = read(one)
        plan = Quadrature(path_points(POINTS, "gausslegendre"))
        label = f"gausslegendre {POINTS}, against {one.points}"
        row = compare(channels, plan, fine, 2 * POINTS)
        of_rules[label][one.network].append(row)
    # The finest rules may have come last, for not every record is fine enough.
    ordered = [label for label in (*rules(), *of_rules) if label in of_rules]
    of_plans: Rows = defaultdict(lambda: defaultdict(list))
    for one in best([one for one in usual if one.whole]):
        channels, fine = read(one)
        for label, plan in plans().items():
            of_plans[label][one.network].append(compare(channels, plan, fine, 8))
        # What no factor at any of the plan's strengths goes below; it has no delta.
        row = channels.with_hindsight(fine), 1.0, None
        of_plans[HINDSIGHT][one.network].append(row)
        whole = channels.map_of(SCORE_CAM.weigh(channels).values)
        for share in SHARES:
            label = f"Score-CAM, screening {share:g}"
            row = compare(channels, screened(SCORE_CAM, share), whole, None)
            of_plans[label][one.network].append(row)
    return {label: of_rules[label] for label in ordered}, of_plans


def table(found: Rows) -> str:
    """Returns a Markdown table: a row for each rule or plan, a column a network."""
    networks = sorted({name for by_network in found.values() for name in by_network})
    counts = {n: max(len(rows.get(n, [])) for rows in found.values()) for n in networks}
    heads = [f"{n} ({counts[n]})" for n in networks]
    lines = [
        "| | " + " | ".join(heads) + " | delta holds |",
        "|---" * (len(networks) + 2) + "|",
    ]
    for label, by_network in found.items():
        cells = [cell(by_network[n]) if n in by_network else "" for n in networks]
        everything = [row for rows in by_network.values() for row in rows]
        checked = [row for row in everything if row[2] is not None]
        held = sum(error <= delta for error, _, delta in checked)
        share = f"{100 * held / len(checked):.0f} %" if checked else ""
        lines.append(f"| {label} | {' | '.join(cells)} | {share} |")
    return "\n".join(lines) + "\n"


def cell(rows: list[Row]) -> str:
    """Returns median and 95th percentile of the error, and the mean of the passes."""
    errors = [error for error, _, _ in rows]
    passes = statistics.mean(cost for _, cost, _ in rows)
    middle, high = np.quantile(errors, [0.5, 0.95])
    return f"{100 * middle:.2f} / {100 * high:.2f} % at {passes:.2f}"


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="without a suffix")
    args = parser.parse_args()
    of_rules, of_plans = tabulate(args.folder)
    text = "\n".join([table(of_plans), table(of_rules)])
    save(args.out, of_plans | of_rules, text)


if __name__ == "__main__":
    main()
