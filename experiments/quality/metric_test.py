"""Which metrics can judge maps: do they put maps that are made worse in order?

    python -m experiments.quality.metric_test MAPS.pt
    python -m experiments.quality.metric_test MAPS.pt --networks squeezenet1_1

makes IS-CAM's maps of each object of the bundled scenes or, for other networks, of the
predicted class of photographs, and keeps them in MAPS.pt: where that file is, only the
metrics run. The other class is that of another object of the scene, the most probable
one where there is no other object, and on photographs the least probable class, since
the next one often is a kind of the same thing. Writes `metric_test.md` and
`metric_test.csv.gz`; networks that are not named keep what these have of them.
Metrics that call the method judge a method, not a map, and are excluded, as are
attainable insertion and deletion on photographs. On scenes these have 4 x 4 patches,
for 153 passes instead of 1275. `captum-iscam benchmark --test-metrics` does the same
with networks and images of your own.
"""

from __future__ import annotations

import argparse
import csv
import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_iscam import LayerIntegratedScoreCAM
from captum_iscam.benchmark.degradation import (
    KINDS,
    Ability,
    Orders,
    ability,
    degraded_maps,
    judges_maps,
    orders_of,
)
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.metric_registry import METRICS
from captum_iscam.benchmark.metric_spec import MetricContext, MetricSpec
from captum_iscam.demo import load_network, load_scenes, preprocess
from experiments._common import save_rows
from experiments.quality.photographs import as_input, network, photographs

OUT = Path(__file__).parents[1] / "results" / "metric_test"
SCENES = "scene-net"


class Row(NamedTuple):
    """Whether a metric has put two maps in order; empty where it is undefined."""

    network: str
    image: str
    target: int
    metric: str
    kind: str
    step: int
    right: float | None


class Case(NamedTuple):
    """One map to make worse: what a metric may need, and the map of another class."""

    network: str
    image: str
    context: MetricContext
    other: Tensor


def _context(model: nn.Module, inputs: Tensor, target: int, **own: Any) -> Any:
    def refuse(*args: object, **options: object) -> Tensor:
        raise AssertionError("a metric of a map calls no method")

    return MetricContext(
        model=model,
        inputs=inputs,
        attributions=inputs[:, :1],
        target=target,
        explanation_func=refuse,
        cached_explanation_func=refuse,
        seed=0,
        **own,
    )


def on_scenes() -> Iterator[tuple[str, str, nn.Module, MetricContext]]:
    """Yields what is explained of each object of the bundled scenes."""
    model = load_network()
    for number, scene in enumerate(load_scenes()):
        inputs, without = preprocess(scene.image), preprocess(scene.without)
        with torch.no_grad():
            ranked = model(inputs)[0].argsort(descending=True).tolist()
        for i, target in enumerate(scene.labels):
            others = [label for label in scene.labels if label != target]
            others += [label for label in ranked if label != target]
            context = _context(
                model,
                inputs,
                target,
                other_target=others[0],
                masks=scene.masks[None, [i]],
                interventions=without.unsqueeze(0),
                object_masks=scene.masks.unsqueeze(0),
            )
            yield SCENES, f"scene_{number}", model.features, context


def on_photographs(
    name: str, count: int
) -> Iterator[tuple[str, str, nn.Module, MetricContext]]:
    """Yields what is explained of photographs: the predicted class of each."""
    model, layer = network(name)
    for number, file in enumerate(photographs(count)):
        inputs = as_input(file)
        with torch.no_grad():
            ranked = model(inputs)[0].argsort(descending=True).tolist()
        context = _context(
            model, inputs, ranked[0], other_target=ranked[-1], masks=None
        )
        yield name, f"photograph_{number}", layer, context


def explained(
    what: Iterator[tuple[str, str, nn.Module, MetricContext]], kept: dict[str, Tensor]
) -> Iterator[Case]:
    """Yields the maps of both classes, made where they are not kept yet."""
    for name, image, layer, context in what:
        pair = [context.target, context.other_target]
        key = f"{name} {image} {pair}"
        if key not in kept:
            method = LayerIntegratedScoreCAM(context.model, layer)
            kept[key] = method.attribute(context.inputs, [pair])
        maps = kept[key]
        yield Case(name, image, replace(context, attributions=maps[:, :1]), maps[:, 1:])


def tested(scene: bool) -> dict[str, MetricSpec]:
    """Returns the metrics of the table that judge a map of a scene or photograph."""
    return {
        name: replace(spec, chosen={"patches": 4}) if spec.group == "named" else spec
        for name, spec in METRICS.items()
        if judges_maps(spec)
        and (scene or not (spec.needs_regions or spec.needs_interventions))
        and (scene or spec.group != "named")
    }


def judge(case: Case) -> Iterator[Row]:
    """Yields the orders in which each metric puts a map and its worse copies."""
    context = case.context
    noise = torch.Generator().manual_seed(context.seed)
    maps = degraded_maps(context.attributions, case.other, noise)
    for metric, spec in tested(case.network == SCENES).items():
        about = (case.network, case.image, context.target, metric)
        for kind, steps in orders_of(spec, context, maps).items():
            for step, right in enumerate(steps, 1):
                yield Row(*about, kind, step, right)


def table(rows: list[Row]) -> str:
    """Returns the share of right orders of each metric, on each network."""
    blocks = []
    for name in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == name]
        maps = len({(row.image, row.target) for row in own})
        lines = sorted(_lines(own), key=lambda line: -line[1])
        cells = [cells for cells, _ in lines]
        heads = ["metric", *KINDS, "all", "undefined", "can judge"]
        blocks += [f"### {name}, {maps} maps", markdown_table(heads, cells, left=1)]
    return "\n\n".join(blocks)


def abilities(rows: list[Row]) -> dict[str, Ability]:
    """Returns how well each metric judges, from the rows of one network."""
    found: dict[str, dict[tuple[str, int], Orders]] = {}
    for row in rows:
        of_map = found.setdefault(row.metric, {}).setdefault(
            (row.image, row.target), {}
        )
        of_map.setdefault(row.kind, []).append(row.right)
    return {metric: ability(by_map.values()) for metric, by_map in found.items()}


def _lines(rows: list[Row]) -> Iterator[tuple[list[str], float]]:
    for metric, test in abilities(rows).items():
        shares = [test.shares.get(kind) for kind in KINDS]
        cells = ["" if x is None else f"{100 * x:.0f}" for x in (*shares, test.share)]
        able = "yes" if test.can_judge else "**no**"
        title = metric.replace("_", " ")
        yield [title, *cells, f"{100 * test.undefined:.0f}", able], test.share or 0


def kept_rows(networks: list[str]) -> list[Row]:
    """Returns the rows of before of all networks but these."""
    file = OUT.with_suffix(".csv.gz")
    if not file.exists():
        return []
    with gzip.open(file, "rt") as stream:
        _, *lines = csv.reader(stream)
    return [
        Row(
            *names,
            int(target),
            metric,
            kind,
            int(step),
            float(right) if right else None,
        )
        for *names, target, metric, kind, step, right in lines
        if names[0] not in networks
    ]


def main() -> None:
    """Makes or reads the maps, runs the metrics, and writes table and rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("--photographs", type=int, default=10)
    parser.add_argument("--networks", nargs="+", default=[SCENES])
    args = parser.parse_args()
    kept = torch.load(args.maps) if args.maps.exists() else {}
    rows = kept_rows(args.networks)
    for name in args.networks:
        scene = name == SCENES
        source = on_scenes() if scene else on_photographs(name, args.photographs)
        for case in explained(source, kept):
            torch.save(kept, args.maps)
            rows += judge(case)
            save_rows(OUT, rows)
            OUT.with_suffix(".md").write_text(table(rows) + "\n")
            print(case.network, case.image, case.context.target, flush=True)


if __name__ == "__main__":
    main()
