"""The published variants of IS-CAM and Score-CAM on three networks.

    python -m experiments.quality.readings RECORDINGS ROWS.csv

makes the maps from the scores that `experiments/passes/record_outputs.py` kept, in
single precision; scores between the recorded strengths are those of the polynomial
through them. Two variants have strengths above 1, which need further passes: these, and
the metrics, run compiled and under bfloat16 autocast. Values of a variant are added to
ROWS.csv, and those it has are not computed again. Writes `results/readings.md` with
the differences in `COMPARISONS`, and `results/readings.csv.gz`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from captum_iscam.attr._base import combine, softmax_over_channels
from captum_iscam.attr._engine import Request, WeightingScheme
from captum_iscam.attr._quadrature import (
    ACCUMULATED,
    READINGS,
    RECURRENCE,
    SCORE_CAM,
    Quadrature,
    path_points,
)
from captum_iscam.attr.integrated_score_cam import _scheme
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.metrics._maps import rank_correlation
from experiments._common import save_rows
from experiments.passes.passes import Recorded
from experiments.passes.record_outputs import record
from experiments.quality.compiled import Compiled
from experiments.quality.paired import (
    METRICS,
    Comparison,
    Row,
    Rows,
    box_of,
    judged,
    outcomes,
    table,
)
from experiments.quality.photographs import as_input, network, photographs

OUT = Path(__file__).parents[1] / "results" / "readings"
ABOVE_ONE = (1.5, 2.1, 2.8, 3.6, 4.5, 5.5)
"""The strengths of the recurrence and of the accumulated sum that are above 1."""


class Variant(NamedTuple):
    """Name, weights, whether of logits, and whether their softmax over channels."""

    title: str
    scheme: WeightingScheme
    logits: bool = False
    channel_softmax: bool = False


def _ten(method: str) -> Quadrature:
    return Quadrature(path_points(10, method, extra=READINGS))


VARIANTS = {
    "score-cam": Variant("Score-CAM", SCORE_CAM),
    "is-cam": Variant("IS-CAM", _scheme(None, None, None, with_error=False)),
    "sum": Variant("IS-CAM, authors' sum", _ten("riemann_right")),
    RECURRENCE: Variant("IS-CAM, printed recurrence", _ten(RECURRENCE)),
    ACCUMULATED: Variant("IS-CAM, accumulated", _ten(ACCUMULATED)),
    "algorithm-1": Variant("Score-CAM, Algorithm 1", SCORE_CAM, True, True),
    "channel-softmax": Variant(
        "Score-CAM, probability and channel softmax", SCORE_CAM, False, True
    ),
}
BRIGHT = (RECURRENCE, ACCUMULATED)
# Planned before the first row: every variant against Score-CAM, in four metrics.
NETWORKS = ("squeezenet1_1", "resnet18", "mobilenet_v2")
COMPARISONS = [
    Comparison(network, method, "score-cam", metric)
    for network in NETWORKS
    for method in VARIANTS
    if method != "score-cam"
    for metric in METRICS
]
HALF = torch.autocast("cpu", torch.bfloat16)
ALIKE = ("score-cam", "is-cam")
"""What every map is compared with."""


class Answers(Recorded):
    """Recorded channels whose score may be the logit, and whose strengths above 1.

    Args:
        answers (dict): What `record_outputs.py` keeps of a photograph.
        bright (Tensor, optional): The outputs at `ABOVE_ONE`. Default: None
        logits (bool): Whether the score is the logit. Default: False
    """

    def __init__(
        self, answers: dict, bright: Tensor | None = None, logits: bool = False
    ) -> None:
        self._logits = logits
        super().__init__(answers)
        self._width = self.activations.shape[1]
        if bright is not None:
            self._bright = self._scores(bright) - self.baseline_score

    def _scores(self, outputs: Tensor) -> Tensor:
        scores = outputs.double()
        return (scores if self._logits else scores.softmax(-1))[..., self._target]

    def increases(
        self, requests: Sequence[Request], update: Callable[[int], object]
    ) -> list[Tensor]:
        """Returns `C_k`, at strengths above 1 as they were recorded."""
        found = super().increases(requests, update)
        for request, gains in zip(requests, found, strict=True):
            for place, strength in enumerate(request.strengths):
                if strength > 1:
                    column = self._bright[:, ABOVE_ONE.index(strength)]
                    gains[:, place, 0] = column[request.rows]
        return found


def map_of(variant: Variant, answers: dict, bright: Tensor | None) -> Tensor:
    """Returns the map `(1, 1, h, w)` of a variant."""
    channels = Answers(answers, bright, variant.logits)
    weights = channels.to_dense(channels.weigh_recorded(variant.scheme).values)
    if variant.channel_softmax:
        weights = softmax_over_channels(weights)
    return combine(weights, channels.activations, relu=True)


def similarity(found: Tensor, other: Tensor) -> tuple[float, float]:
    """Returns relative difference up to a common factor, and rank correlation."""
    a, b = found.double().flatten(), other.double().flatten()
    factor = (a @ b) / a.square().sum().clamp(min=1e-300)
    apart = (factor * a - b).norm() / b.norm()
    return float(apart), float(rank_correlation(found, other))


class Photograph(NamedTuple):
    """What is known of a photograph on a network."""

    network: str
    file: Path
    answers: dict
    alike: dict[str, Tensor]

    def rows(self, ask: nn.Module, method: str, bright: Tensor | None) -> Iterator[Row]:
        """Yields all values of a variant."""
        found = map_of(VARIANTS[method], self.answers, bright)
        image, target = as_input(self.file), int(self.answers["of_input"].argmax())
        box = box_of(self.file, target)
        with HALF:
            values = judged(ask, image, found, target, box)
        for name, other in self.alike.items():
            apart, ranks = similarity(found, other)
            values |= {f"difference to {name}": apart, f"ranks of {name}": ranks}
        for metric, value in values.items():
            yield Row(self.network, self.file.stem, method, metric, value)


@torch.no_grad()
def measure(name: str, args: argparse.Namespace, rows: Rows) -> None:
    """Adds the rows of a network that are missing."""
    single, layer = network(name)
    ask = Compiled(network(name)[0])
    for file in photographs(args.photographs):
        recording = args.recordings / f"{name}_{file.stem}.pt"
        methods = [m for m in args.variants if not rows.has(name, file.stem, m)]
        if not (methods and recording.is_file()):
            continue
        answers = torch.load(recording, weights_only=True)
        maps = {other: map_of(VARIANTS[other], answers, None) for other in ALIKE}
        photograph = Photograph(name, file, answers, maps)
        bright = None
        if set(methods) & set(BRIGHT):
            bright = outputs_above_one(single, layer, ask, photograph)
        for method in methods:
            rows.add(photograph.rows(ask, method, bright))
        print(name, file.stem, *methods, flush=True)


def outputs_above_one(
    model: nn.Module, layer: nn.Module, ask: nn.Module, photograph: Photograph
) -> Tensor:
    """Returns the outputs of all channels at `ABOVE_ONE`."""
    image = as_input(photograph.file)
    found = record(model, layer, HALF(ask), image, ABOVE_ONE)
    if not torch.equal(found["varying"], photograph.answers["varying"]):
        raise RuntimeError(f"other channels vary than recorded: {photograph.file}")
    return found["outputs"]


def alike(rows: Sequence[Row]) -> str:
    """Returns a table of how much the maps of each variant differ from two others."""
    values: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        line = values.setdefault((row.network, row.method), {})
        line.setdefault(row.metric, []).append(row.value)
    lines = []
    for (name, method), line in sorted(values.items(), key=_in_order):
        cells = [
            f"{100 * np.median(line[f'difference to {other}']):.1f}, "
            f"{np.median(line[f'ranks of {other}']):.3f}"
            for other in ALIKE
        ]
        count = len(line["insertion"])
        lines.append([name, VARIANTS[method].title, str(count), *cells])
    heads = ["network", "", "photographs", "to Score-CAM", "to IS-CAM"]
    return markdown_table(heads, lines, left=2)


def _in_order(item: tuple[tuple[str, str], object]) -> tuple[int, int]:
    (name, method), _ = item
    return NETWORKS.index(name), list(VARIANTS).index(method)


def save(rows: Sequence[Row]) -> None:
    """Writes all rows and both tables."""
    save_rows(OUT, sorted(rows))
    titles = {name: variant.title for name, variant in VARIANTS.items()}
    judgements = table(outcomes(COMPARISONS, rows), titles, list(METRICS))
    OUT.with_suffix(".md").write_text(
        f"### Maps\n\n{alike(rows)}\n\n### Difference to Score-CAM\n\n{judgements}\n"
    )


def main() -> None:
    """Adds the rows that are missing, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--photographs", type=int, default=40)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    args = parser.parse_args()
    rows = Rows(args.rows)
    for name in args.networks:
        measure(name, args, rows)
    save(rows.all)


if __name__ == "__main__":
    main()
