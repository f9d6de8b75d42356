"""Are masked inputs of one channel saturated or starved, and does feeding them help?

    python -m experiments.quality.starved_views RECORDINGS ROWS.csv

1. From what `experiments/passes/record_outputs.py` kept: how much of the image's score
   an image has that is masked by one channel. EfficientNet-Lite0 is not recorded: some
   of its channels are scored here.
2. Score-CAM with other baselines, under which a masked image shows more than one
   channel's region, and with other scores, which do not vanish: each of them against
   the standard, in `COMPARISONS`. The three scores of a baseline share their passes.

Passes run compiled and under bfloat16 autocast. Values of a photograph are added to
ROWS.csv, and those it has are not computed again. Writes `results/starved_views.md`
and `results/starved_views.csv.gz`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import gaussian_blur

from captum_iscam import LayerScoreCAM
from captum_iscam.attr._layer import evaluate_layer
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.layers import default_layer
from experiments._common import save_rows
from experiments.passes.passes import NAME
from experiments.passes.record_outputs import ROWS, record
from experiments.quality.compiled import Compiled
from experiments.quality.efficientnet import lite0
from experiments.quality.paired import (
    Comparison,
    Row,
    Rows,
    box_of,
    judged,
    outcomes,
    table,
)
from experiments.quality.photographs import as_input, network, photographs

OUT = Path(__file__).parents[1] / "results" / "starved_views"
AT = "strength "
SHARES = (0.01, 0.1, 0.5, 0.9)
LITE0, LITE0_STRENGTHS, LITE0_EVERY = "efficientnet_lite0", (0.25, 0.5, 0.75, 1.0), 16
HALF = torch.autocast("cpu", torch.bfloat16)

SIGMA = 10
"""Standard deviation of the blur, in pixels, as in R. Fong, A. Vedaldi,
"Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017. The
blur that RISE's insertion starts from leaves up to all of the score."""


def _blurred(image: Tensor) -> Tensor:
    return gaussian_blur(image, [6 * SIGMA + 1, 6 * SIGMA + 1], [SIGMA, SIGMA])


def _mean_colour(image: Tensor) -> Tensor:
    return image.mean((2, 3), keepdim=True).expand_as(image)


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": torch.zeros_like,
    "blur": _blurred,
    "mean colour": _mean_colour,
}
SCORES = ("probability", "log-probability", "logit")
STANDARD = "zero, probability"
FED = [f"{baseline}, {score}" for baseline in BASELINES for score in SCORES]
# Planned before the first row: all against the standard, in three metrics.
NETWORKS = ("resnet18", "mobilenet_v2")
METRICS = ("insertion", "deletion", "energy_pointing_game")
SCREENING = {"mobilenet_v2": 0.25}
"""Share of the channels that is scored, on networks with too many for all."""
COMPARISONS = [
    Comparison(name, method, STANDARD, metric)
    for name in NETWORKS
    for method in FED
    if method != STANDARD
    for metric in METRICS
]


def views(name: str, image: str, answers: dict) -> Iterator[Row]:
    """Yields, for each strength, how much of the image's score is left."""
    target = int(answers["of_input"].argmax())

    def score(outputs: Tensor) -> Tensor:
        return outputs.double().softmax(-1)[..., target]

    whole, nothing = score(answers["of_input"]), score(answers["of_baseline"])
    kept = score(answers["outputs"]) / whole
    for strength, some in zip(answers["strengths"], kept.unbind(1), strict=True):
        method = f"{AT}{strength:g}"
        for share in SHARES:
            below = (some < share).double().mean()
            yield Row(name, image, method, f"below {share:g}", float(below))
        gain = (some - nothing / whole).median()
        yield Row(name, image, method, "median increase", float(gain))


def recorded_views(folder: Path, rows: Rows) -> None:
    """Adds what the recordings say."""
    for file in sorted(folder.glob("*.pt")):
        named = NAME.match(file.stem)
        if named and not rows.has(*named.groups(), f"{AT}1"):
            rows.add(views(*named.groups(), torch.load(file, weights_only=True)))


def lite0_views(count: int, rows: Rows) -> None:
    """Adds what a few channels of EfficientNet-Lite0 say, on a few photographs."""
    files = [f for f in photographs(count) if not rows.has(LITE0, f.stem, f"{AT}1")]
    if not files:
        return
    model, ask = lite0(), Compiled(lite0())
    for file in files:
        image = as_input(file, [0.498] * 3, [0.502] * 3)
        _, layer = default_layer(model, image)
        found = record(
            model, layer, HALF(ask), image, LITE0_STRENGTHS, every=LITE0_EVERY
        )
        rows.add(views(LITE0, file.stem, found))
        print(LITE0, file.stem, flush=True)


class ThreeScores:
    """Probability, log-probability and logit of each class, next to each other.

    Attributes:
        kept (list[Tensor]): The probabilities of all outputs so far.
    """

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def __call__(self, outputs: Tensor) -> Tensor:
        """Returns `(N, 3 * classes)`."""
        logs = outputs.float().log_softmax(1)
        self.kept.append(logs.exp())
        return torch.cat([logs.exp(), logs, outputs.float()], 1)


def fed_rows(ask: Compiled, layer: nn.Module, name: str, file: Path) -> Iterator[Row]:
    """Yields all values of one photograph."""
    image = as_input(file)
    ((maps,), output) = evaluate_layer(ask, layer, (image,), None, None, False)
    active = int((maps.flatten(2).amax(2) > maps.flatten(2).amin(2)).sum())
    scored = round(SCREENING.get(name, 1) * active)
    probabilities = output.float().softmax(1)[0]
    target, classes = int(probabilities.argmax()), len(probabilities)
    box = box_of(file, target)
    for baseline, make in BASELINES.items():
        scores, shown = ThreeScores(), make(image)
        explain = LayerScoreCAM(ask, layer, score=scores)
        targets = [[target + classes * i for i in range(len(SCORES))]]
        found = explain.attribute(
            image,
            targets,
            baselines=shown,
            screening=SCREENING.get(name),
            internal_batch_size=ROWS,
        )
        # The masked images come last.
        kept = torch.cat(scores.kept)[-scored:, target] / probabilities[target]
        for share in SHARES:
            below = float((kept < share).double().mean())
            yield Row(name, file.stem, baseline, f"below {share:g}", below)
        left = float(ask(shown).softmax(1)[0, target] / probabilities[target])
        yield Row(name, file.stem, baseline, "baseline", left)
        for i, score in enumerate(SCORES):
            values = judged(ask, image, found[:, i : i + 1], target, box)
            for metric, value in values.items():
                yield Row(name, file.stem, f"{baseline}, {score}", metric, value)


@torch.no_grad()
def feed(name: str, count: int, rows: Rows) -> None:
    """Adds the rows of photographs that are missing."""
    model, layer = network(name)
    ask = Compiled(model)
    for file in photographs(count):
        if not rows.has(name, file.stem, STANDARD):
            with HALF:
                rows.add(fed_rows(ask, layer, name, file))
            print(name, file.stem, flush=True)


def means(rows: Sequence[Row]) -> dict[tuple[str, str, str], tuple[float, int]]:
    """Returns mean, or median of medians, and number of photographs by what it is."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.network, row.method, row.metric), []).append(row.value)
    return {
        key: (float(np.median(v) if "median" in key[2] else np.mean(v)), len(v))
        for key, v in values.items()
    }


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def views_table(rows: Sequence[Row]) -> str:
    """Returns a table of the shares, at all strengths and at full strength."""
    found, lines = means([r for r in rows if r.method.startswith(AT)]), []
    for name in sorted({key[0] for key in found}):
        methods = sorted({key[1] for key in found if key[0] == name})
        at = ", ".join(method.removeprefix(AT) for method in methods)
        for which, some in ((at, methods), ("1", [f"{AT}1"])):
            cells = []
            for share in SHARES:
                below = [found[name, method, f"below {share:g}"][0] for method in some]
                cells.append(_percent(float(np.mean(below))))
            gain, count = found[name, some[-1], "median increase"]
            middle = f"{100 * gain:.2f}" if which == "1" else ""
            lines.append([name, str(count), which, *cells, middle])
    heads = [f"below {share:.0%}" for share in SHARES]
    heads = ["network", "photographs", "strengths", *heads, "median increase, %"]
    return markdown_table(heads, lines, left=3)


def baselines_table(rows: Sequence[Row]) -> str:
    """Returns a table of what each baseline leaves to the masked images."""
    found, lines = means(rows), []
    for name in NETWORKS:
        for baseline in BASELINES:
            if (name, baseline, "baseline") in found:
                left, count = found[name, baseline, "baseline"]
                cells = [
                    _percent(found[name, baseline, f"below {share:g}"][0])
                    for share in SHARES
                ]
                which = f"{name}, {SCREENING.get(name, 1):.0%} of the channels"
                lines.append([which, str(count), baseline, _percent(left), *cells])
    heads = [f"below {share:.0%}" for share in SHARES]
    heads = ["network", "photographs", "baseline", "score of the baseline, %", *heads]
    return markdown_table(heads, lines, left=3)


def save(rows: Sequence[Row]) -> None:
    """Writes all rows and the tables."""
    save_rows(OUT, sorted(rows))
    fed = table(outcomes(COMPARISONS, rows), {m: m for m in FED}, list(METRICS))
    parts = {
        "Masked by one channel": views_table(rows),
        "Other baselines": baselines_table(rows),
        f"Difference to Score-CAM ({STANDARD})": fed,
    }
    text = "\n\n".join(f"### {title}\n\n{part}" for title, part in parts.items())
    OUT.with_suffix(".md").write_text(f"{text}\n")


def main() -> None:
    """Adds the rows that are missing, and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recordings", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--photographs", type=int, default=40)
    parser.add_argument("--networks", nargs="*", default=NETWORKS)
    parser.add_argument("--lite0", type=int, default=0, help="photographs")
    args = parser.parse_args()
    rows = Rows(args.rows)
    recorded_views(args.recordings, rows)
    lite0_views(args.lite0, rows)
    for name in args.networks:
        feed(name, args.photographs, rows)
    save(rows.all)


if __name__ == "__main__":
    main()
