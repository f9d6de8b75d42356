"""Does Score-CAM lose anything if channels are normalised in its sum too?

    python -m experiments.quality.invariant_form MAPS.pt --photographs 40

makes both maps from the same weights `a_k`: `ReLU(sum_k a_k A_k)`, which changes where
channels are rescaled, and `ReLU(sum_k a_k m_k)` with `m_k` the channel scaled to
[0, 1], which does not. Data are drawn scenes, of which the bundled ones are the first,
and photographs with a box of the class that SqueezeNet 1.1 predicts, as many of each.
The maps are kept in MAPS.pt, where a run that was stopped continues. Writes
`invariant_form.md` and `invariant_form.csv.gz`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from captum_iscam import LayerScoreCAM
from captum_iscam._utils.interpolate import scale
from captum_iscam.attr._base import Seen, Task, combine, progress_bar
from captum_iscam.attr._engine import Channels
from captum_iscam.benchmark.bootstrap import bootstrap
from captum_iscam.benchmark.image_tables import read_table
from captum_iscam.benchmark.markdown import chance, markdown_table
from captum_iscam.benchmark.significance import corrected, sign_flip
from captum_iscam.benchmark.sources import bundled_scenes
from captum_iscam.demo import load_network, preprocess
from captum_iscam.metrics import deletion, energy_pointing_game, insertion
from experiments._common import save_rows
from experiments.quality.photographs import FOLDER, as_input, cropped, network

OUT = Path(__file__).parents[1] / "results" / "invariant_form"
METRICS = ("insertion ↑", "deletion ↓", "energy pointing ↑")


class BothForms(LayerScoreCAM):
    """Score-CAM's map as the first, that of normalised channels as the second."""

    def _explain(self, seen: Seen, task: Task) -> tuple[Any, Any]:
        (activations,) = seen.maps
        score, chunks = task.score, task.chunks
        channels = Channels(activations, task.batch, score, chunks, seen.input_score)
        found = channels.weigh(task.scheme, partial(progress_bar, "", False))
        weights = channels.to_dense(found.values)
        forms = (activations, scale(activations))
        relu = task.relu_attributions
        return torch.cat([combine(weights, form, relu) for form in forms], 1), None


class Row(NamedTuple):
    """A metric of both maps of an image."""

    network: str
    image: str
    metric: str
    activations: float
    normalised: float


class Case(NamedTuple):
    """What is explained of an image, and where it is."""

    network: str
    image: str
    model: nn.Module
    layer: nn.Module
    inputs: Tensor
    target: int
    mask: Tensor


def scenes() -> Iterator[Case]:
    """Yields scenes in which the network predicts the class of an object."""
    model = load_network()
    for item in bundled_scenes(1000).items:
        image, regions = item.read()
        inputs = preprocess(pil_to_tensor(image).float() / 255)
        target = _predicted(model, inputs)
        if target in regions:
            mask = torch.from_numpy(regions[target])
            yield Case(
                "scene-net", item.id, model, model.features, inputs, target, mask
            )


def photographs() -> Iterator[Case]:
    """Yields photographs with a box of the predicted class, in a fixed order."""
    model, layer = network("squeezenet1_1")
    items = [i for i in read_table(FOLDER / "images").items if i.has_regions]
    random.Random(0).shuffle(items)
    for item in items:
        inputs = as_input(item.file)
        target, regions = _predicted(model, inputs), item.read()[1]
        if target in regions:
            mask = cropped(torch.from_numpy(regions[target]))
            if mask.any():
                yield Case(
                    "SqueezeNet 1.1", item.id, model, layer, inputs, target, mask
                )


def _predicted(model: nn.Module, inputs: Tensor) -> int:
    with torch.no_grad():
        return int(model(inputs).argmax())


def judge(case: Case, maps: Tensor) -> Iterator[Row]:
    """Yields every metric of both maps."""
    both = case.inputs.expand(2, -1, -1, -1)
    shown = case.model, both, maps.transpose(0, 1), case.target
    values = (
        insertion(*shown),
        deletion(*shown),
        energy_pointing_game(shown[2], case.mask.expand(2, 1, -1, -1)),
    )
    for metric, value in zip(METRICS, values, strict=True):
        yield Row(case.network, case.image, metric, *value.tolist())


def table(rows: list[Row]) -> str:
    """Returns mean values, their difference, its interval and p."""
    groups = list(dict.fromkeys((row.network, row.metric) for row in rows))
    pairs = [
        np.array([(r[3], r[4]) for r in rows if (r.network, r.metric) == group])
        for group in groups
    ]
    differences = [pair[:, 1:] - pair[:, :1] for pair in pairs]
    p = np.concatenate([sign_flip(column) for column in differences])
    lines = []
    for group, pair, column, own, holm in zip(
        groups, pairs, differences, p, corrected(p), strict=True
    ):
        mean, low, high = (float(x[0]) for x in bootstrap(column)[1:])
        lines.append(
            [
                f"{group[0]}, {len(pair)}",
                group[1],
                *(f"{value:.3f}" for value in pair.mean(0)),
                f"{mean:+.4f} [{low:+.4f}, {high:+.4f}]",
                chance(own, holm),
            ]
        )
    heading = ["network, images", "metric", "sum of `a_k A_k`", "sum of `a_k m_k`"]
    heading += ["difference", "p (corrected)"]
    return markdown_table(heading, lines, left=2) + "\n"


def main() -> None:
    """Makes or reads the maps, runs the metrics, and writes table and rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("--photographs", type=int, default=40)
    args = parser.parse_args()
    kept = torch.load(args.maps) if args.maps.exists() else {}
    rows = []
    for source in (scenes(), photographs()):
        for case in islice(source, args.photographs):
            key = f"{case.network} {case.image}"
            if key not in kept:
                method = BothForms(case.model, case.layer)
                kept[key] = method.attribute(case.inputs, case.target)
                torch.save(kept, args.maps)
            rows += judge(case, kept[key])
            print(key, flush=True)
    save_rows(OUT, rows)
    OUT.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
