"""Which rule needs how many passes, worked out on recorded outputs.

    python -m experiments.passes.passes FOLDER OUT

reads what `record_outputs.py` wrote and the bundled scenes, and compares, for every
network, the maps of all rules of IS-CAM with the map at all recorded strengths. The
schemes are the package's own; only the forward passes are replaced, by the polynomial
through the recorded scores. It writes `OUT.csv.gz` with a row for each map and rule,
`OUT.md` with medians and 95th percentiles, and `default.md` with those of the default.
"""

from __future__ import annotations

import argparse
import re
import statistics
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from captum_iscam.attr._engine import (
    Channels,
    Prepared,
    Request,
    WeightingScheme,
    Weights,
)
from captum_iscam.attr._error import relative_error
from captum_iscam.attr._quadrature import (
    SCORE_CAM,
    Quadrature,
    radau_points,
    sample,
)
from captum_iscam.attr._regression import MaskRegression, Screening, top_channels
from captum_iscam.attr.integrated_score_cam import SHARE, _scheme
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.demo import load_network, load_scenes, preprocess
from experiments._common import save_rows
from experiments.passes.record_outputs import STRENGTHS, record

DEFAULT, SMALL = "default, with the estimate", "bundled network"
NAME = re.compile(r"(.+?)_((?:nips17|scorecam|train|val|valsmall)_.*)")


def integral(points: Sequence[float]) -> list[tuple[float, float]]:
    """Returns the points with the weights of the rule that interpolates, 0 at 0."""
    nodes = np.array([0.0, *points])
    powers = np.vander(nodes, increasing=True).T
    weights = np.linalg.solve(powers, 1 / np.arange(1, len(nodes) + 1))
    return list(zip(points, weights[1:].tolist(), strict=True))


def between(points: Sequence[float], at: Sequence[float]) -> Tensor:
    """Returns a matrix `(points, at)` that interpolates values, 0 at 0."""
    nodes = np.array([0.0, *points])
    matrix = np.ones((len(nodes), len(at)))
    for j, node in enumerate(nodes):
        for other in np.delete(nodes, j):
            matrix[j] *= (np.asarray(at) - other) / (node - other)
    return torch.from_numpy(matrix[1:])


class Recorded(Channels):
    """Channels whose passes were made before.

    Args:
        answers (dict): What `record_outputs.py` keeps of a photograph.
        target (int, optional): The class. Default: None, the predicted one
    """

    def __init__(self, answers: dict, target: int | None = None) -> None:
        self._target = int(answers["of_input"].argmax()) if target is None else target
        self.activations = answers["activations"].unsqueeze(0)
        self.baseline_score = self._scores(answers["of_baseline"]).view(1, 1)
        self.input_score = self._scores(answers["of_input"]).view(1, 1)
        channels = answers["varying"]
        self.active = torch.stack([torch.zeros_like(channels), channels], dim=1)
        self._curves = self._scores(answers["outputs"]) - self.baseline_score
        self.passes = 0
        exact = self.weigh_recorded(Quadrature(integral(STRENGTHS)))
        self.reference = self.map_of(exact.values)

    def _scores(self, outputs: Tensor) -> Tensor:
        return outputs.double().softmax(-1)[..., self._target]

    def increases(
        self, requests: Sequence[Request], update: Callable[[int], object]
    ) -> list[Tensor]:
        """Returns `C_k` between the recorded strengths."""
        self.passes = sum(request.passes for request in requests)
        return [
            (self._curves[r.rows] @ between(STRENGTHS, r.strengths)).unsqueeze(2)
            for r in requests
        ]

    def weigh_recorded(self, scheme: WeightingScheme) -> Weights:
        """Returns the weights of the scheme."""
        prepared = scheme.prepare(self, torch.arange(len(self.active)))
        return prepared.finish(self.increases(prepared.requests, id))

    def map_of(self, weights: Tensor) -> Tensor:
        """Returns `ReLU(sum_k a_k A_k)`, flat, for weights `(P, 1)`."""
        maps = self.activations[0].flatten(1)[self.active[:, 1]].double()
        return (weights[:, 0].double() @ maps).relu()


class OneStrength:
    """All points for a share of the channels, the largest one alone for the others.

    The integral of the others is taken as proportional to the score at one strength,
    with the factor of the share, and on request the difference is predicted from the
    masks. It was considered as the default.

    Args:
        points (int): Gauss-Radau points.
        one (int): Which of them all channels are scored at.
        share (float): Share of the channels that all points are taken for.
        regression (bool): Whether the difference is predicted.
    """

    def __init__(self, points: int, one: int, share: float, regression: bool) -> None:
        self._points = radau_points(points)
        self._one = one
        self._share = share
        self._regression = regression

    def prepare(self, channels: Channels, rows: Tensor) -> Prepared:
        """Returns what is to be done for the one example there is."""
        (example,) = channels.per_example
        top = top_channels(example, self._share)
        known = torch.zeros(len(rows), dtype=torch.bool)
        known[top] = True
        strengths = [t for t, _ in self._points]
        rest = Quadrature([p for n, p in enumerate(self._points) if n != self._one])
        weight = self._points[self._one][1]

        def finish(gains: Sequence[Tensor]) -> Weights:
            once = gains[0][:, 0]
            exact = weight * once[known] + rest.sum(gains[1])
            sizes = example.maps[known].norm(dim=1, keepdim=True)
            factor = (exact * sizes).sum() / (once[known] * sizes).sum()
            values = factor * once
            missed = exact - values[known]
            values[known] = exact
            if self._regression and not known.all():
                fit = MaskRegression(example.masks, known)
                values[~known] += fit.predict(fit.solve(missed))
            return Weights(values, channels.no_error())

        requests = [Request(rows, [strengths[self._one]]), rest.request(rows[known])]
        return Prepared(requests, finish)


class Rescaled:
    """A scheme whose map is multiplied by what four points make of a few channels."""

    def __init__(self, scheme: WeightingScheme) -> None:
        self._scheme = scheme

    def prepare(self, channels: Channels, rows: Tensor) -> Prepared:
        """Returns what is to be done for the one example there is."""
        (example,) = channels.per_example
        few, fine = sample(example, rows), Quadrature(radau_points(4))
        prepared = self._scheme.prepare(channels, rows)

        def finish(gains: Sequence[Tensor]) -> Weights:
            values = prepared.finish(gains[:-1]).values
            maps = example.maps[few]
            mine, true = values[few].T @ maps, fine.sum(gains[-1]).T @ maps
            factor = (mine * true).sum() / mine.square().sum()
            return Weights(factor * values, channels.no_error())

        return Prepared([*prepared.requests, fine.request(rows[few])], finish)


def radau(count: int) -> Quadrature:
    """Returns the Gauss-Radau rule."""
    return Quadrature(radau_points(count))


def shared(count: int, share: float) -> Screening:
    """Returns so many Gauss-Radau points for a share of the channels."""
    return Screening(radau(count), share, with_error=False)


def candidates() -> dict[str, WeightingScheme]:
    """Returns what was considered as the default, by name."""
    found: dict[str, WeightingScheme] = {}
    for count, shares in ((3, (0.35, 0.4, SHARE, 0.5)), (2, (0.4, 0.5, 0.6, 2 / 3))):
        for share in shares:
            found[f"{count} points, {share:.0%} of the channels"] = shared(count, share)
    found["the same, rescaled by the sample"] = Rescaled(shared(2, 2 / 3))
    for points, one, share in ((2, 1, 0.2), (2, 1, 0.35), (3, 1, 0.175)):
        at = radau_points(points)[one][0]
        name = f"{points} points for {share:.3g}, the others at {at:.2g}"
        found[f"{name}, ratio"] = OneStrength(points, one, share, regression=False)
        found[f"{name}, regression"] = OneStrength(points, one, share, regression=True)
    for count in (1, 2, 3):
        found[f"{count} points, all channels"] = radau(count)
    return found


def checked() -> dict[str, WeightingScheme]:
    """Returns what has a delta."""
    rules = (("gausslegendre", 2), ("gausslegendre", 3), ("riemann_right", 10))
    return {
        DEFAULT: _scheme(None, None, None, with_error=True),
        "default, screening 0.3": _scheme(None, None, 0.3, with_error=True),
        **{
            f"{method} {steps}": _scheme(steps, method, None, with_error=True)
            for method, steps in rules
        },
    }


class Row(NamedTuple):
    """What a rule made of one map."""

    rule: str
    network: str
    image: str
    error: float
    up_to_a_factor: float
    passes: float
    delta: float | None = None
    warned: bool | None = None


def compare(channels: Recorded, scheme: WeightingScheme, reference: Tensor) -> list:
    """Returns relative error, the same after the best common factor, passes per active
    channel, delta, and whether a warning was given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        weights = channels.weigh_recorded(scheme)
        found = channels.map_of(weights.values)
        delta = relative_error(weights.squared_error, found.view(1, 1, -1))
    norm = reference.norm()
    factor = (found @ reference) / found.square().sum().clamp(min=1e-300)
    return [
        float((found - reference).norm() / norm),
        float((factor * found - reference).norm() / norm),
        channels.passes / len(channels.active),
        float(delta),
        any("abruptly" in str(warning.message) for warning in caught),
    ]


def recordings(folder: Path) -> Iterator[tuple[str, str, Recorded]]:
    """Yields network, image and channels."""
    for file in sorted(folder.glob("*.pt")):
        named = NAME.match(file.stem)
        if named:
            yield (*named.groups(), Recorded(torch.load(file, weights_only=True)))
    model = load_network()
    for number, scene in enumerate(load_scenes()):
        inputs = preprocess(scene.image)
        answers = record(model, model.features, model, inputs)
        for label in scene.labels:
            name = f"scene_{number}_{label}"
            yield SMALL, name, Recorded(answers, label)


def measure(folder: Path) -> list[Row]:
    """Returns a row for each map and rule."""
    found = []
    exact = candidates()
    for network, image, channels in recordings(folder):
        for name, scheme in exact.items():
            row = compare(channels, scheme, channels.reference)[:3]
            found.append(Row(name, network, image, *row))
        for name, scheme in checked().items():
            row = compare(channels, scheme, channels.reference)
            found.append(Row(name, network, image, *row))
        whole = channels.map_of(channels.weigh_recorded(SCORE_CAM).values)
        for share in (0.2, 0.3, 0.4, 0.5):
            scheme = Screening(SCORE_CAM, share, with_error=True)
            row = compare(channels, scheme, whole)
            found.append(Row(f"Score-CAM, screening {share}", network, image, *row))
    return found


def groups_of(rows: list[Row]) -> dict[str, dict[str, list[Row]]]:
    """Returns the rows by rule and network."""
    groups: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.rule][row.network].append(row)
    return groups


def default_table(rows: list[Row]) -> str:
    """Returns a Markdown table of the default: a row for each network."""
    heading = ["network, maps", "error, %", "without a common factor, %", "passes"]
    lines = []
    for network, some in sorted(groups_of(rows)[DEFAULT].items()):
        held = sum(r.error <= r.delta for r in some if r.delta is not None)
        warned = sum(bool(r.warned) for r in some)
        passes = statistics.mean(r.passes for r in some)
        errors = quantiles([r.error for r in some])
        factors = quantiles([r.up_to_a_factor for r in some])
        name = f"{network}, {len(some)}"
        lines.append([name, errors, factors, f"{passes:.2f}", str(held), str(warned)])
    return markdown_table([*heading, "within delta", "warned"], lines, left=None) + "\n"


def table(rows: list[Row]) -> str:
    """Returns a Markdown table: a row for each rule, a column a network."""
    networks = [*sorted({row.network for row in rows} - {SMALL}), SMALL]
    lines = []
    for rule, by_network in groups_of(rows).items():
        cells = []
        for network in networks:
            some = by_network[network]
            shape = quantiles([r.up_to_a_factor for r in some])
            cells.append(f"{quantiles([r.error for r in some])} ({shape})")
        few = statistics.mean(r.passes for r in by_network[SMALL])
        many = [r.passes for n in networks[:-1] for r in by_network[n]]
        passes = f"{statistics.mean(many):.2f}, {few:.2f}"
        lines.append([rule, passes, *cells])
    return markdown_table(["", "passes", *networks], lines, left=None) + "\n"


def quantiles(values: list[float]) -> str:
    """Returns median and 95th percentile in percent."""
    middle, high = np.quantile(values, [0.5, 0.95])
    return f"{100 * middle:.1f} / {100 * high:.1f}"


def save(rows: list[Row], out: Path) -> None:
    """Writes all rows and the table."""
    save_rows(out, rows)
    out.with_suffix(".md").write_text(table(rows))
    out.with_name("default.md").write_text(default_table(rows))


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="without a suffix")
    args = parser.parse_args()
    save(measure(args.folder), args.out)


if __name__ == "__main__":
    main()
