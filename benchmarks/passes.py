"""Which rule needs how many passes, worked out on recorded outputs.

    python benchmarks/passes.py FOLDER OUT

reads what `record_outputs.py` wrote and compares, for every network, the maps of all
rules of IS-CAM and of its plans with the map at the recorded Gauss-Legendre points. The
plans are the package's own; only the forward passes are replaced, by the polynomial
through the recorded scores.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections import defaultdict
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
from captum_iscam.attr._refinement import Refinement
from captum_iscam.attr._screening import screened
from captum_iscam.attr.integrated_score_cam import TOLERANCE

STEPS = range(1, 11)
TOLERANCES = (0.05, 0.03, 0.02, 0.015, 0.01, 0.005)
SHARES = (0.2, 0.3, 0.35, 0.4, 0.5)


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
        found[f"screening {share:g}"] = screened(Refinement(TOLERANCE), share)
    return found


def compare(
    channels: Recorded, plan: Plan, reference: Tensor, check: int | None
) -> tuple[float, float, float]:
    """Returns relative error, passes per varying channel, and delta.

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
    return error, passes, float(delta)


def finest(folder: Path) -> list[tuple[str, Path]]:
    """Returns network and file of each photograph, recorded at the most points."""
    found: dict[tuple[str, str], tuple[int, Path]] = {}
    for file in folder.glob("*.pt"):
        of = re.match(r"(.+?)_(\d+)_((?:nips17|scorecam|train|val).*)", file.stem)
        name, points, photograph = of.groups()
        known = found.get((name, photograph), (0, file))
        found[name, photograph] = max(known, (int(points), file))
    return [(name, file) for (name, _), (_, file) in sorted(found.items())]


def tabulate(folder: Path) -> dict[str, dict[str, list[tuple[float, float, float]]]]:
    """Returns errors, passes and deltas by name and network."""
    found: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for name, file in finest(folder):
        answers = torch.load(file, weights_only=True)
        channels = Recorded(answers)
        points = len(channels._points) - 1
        _, weights = np.polynomial.legendre.leggauss(points)
        recorded = zip(channels._points, weights / 2, strict=False)
        integral = Quadrature(list(recorded)).weigh(channels).values
        fine = channels.map_of(integral)
        for label, plan in (rules() | plans()).items():
            word = label.split()[-1]
            steps = int(word) if word.isdigit() else 1
            if steps <= points:
                # As many points as the package takes.
                check = max(8, 2 * steps)
                found[label][name].append(compare(channels, plan, fine, check))
        whole = channels.map_of(SCORE_CAM.weigh(channels).values)
        for share in SHARES:
            label = f"Score-CAM, screening {share:g}"
            plan = screened(SCORE_CAM, share)
            found[label][name].append(compare(channels, plan, whole, None))
    return found


def table(found: dict[str, dict[str, list[tuple[float, float, float]]]]) -> str:
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
        held = statistics.mean(error <= delta for error, _, delta in everything)
        lines.append(f"| {label} | {' | '.join(cells)} | {100 * held:.0f} % |")
    return "\n".join(lines) + "\n"


def cell(rows: list[tuple[float, float, float]]) -> str:
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
    found = tabulate(args.folder)
    save(args.out, found, table(found))


if __name__ == "__main__":
    main()
