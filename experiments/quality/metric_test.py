"""Which metrics can judge maps: do they put maps that are made worse in order?

    python -m experiments.quality.metric_test MAPS.pt --photographs 10

makes IS-CAM's maps of each object of the bundled scenes and, with photographs, of the
predicted class of each, and keeps them in MAPS.pt: where that file is, only the metrics
run. The other class is that of another object of the scene, the most probable one where
there is no other object, and on photographs the least probable class, since the next
one often is a kind of the same thing. Writes `metric_test.md` and `metric_test.csv.gz`.
Metrics that call the method judge a method, not a map, and are excluded, as are
attainable insertion and deletion on photographs. On scenes these have 4 x 4 patches,
for 153 passes instead of 1275.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_iscam import LayerIntegratedScoreCAM
from captum_iscam.benchmark.degradation import (
    ABLE,
    Order,
    degraded_maps,
    orders,
    share_of_right_orders,
)
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.metric_registry import METRICS
from captum_iscam.benchmark.metric_spec import MetricContext, MetricSpec
from captum_iscam.demo import load_network, load_scenes, preprocess
from experiments._common import save_rows
from experiments.quality.photographs import as_input, network, photographs

OUT = Path(__file__).parents[1] / "results" / "metric_test"
KINDS = ("noise", "shift", "flip", "other class", "constant", "all")


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
            yield "scene-net", f"scene_{number}", model.features, context


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


def tested(context: MetricContext) -> dict[str, MetricSpec]:
    """Returns the metrics of the table that judge this map."""
    scene = context.masks is not None
    return {
        name: replace(spec, chosen={"patches": 4}) if spec.group == "named" else spec
        for name, spec in METRICS.items()
        if spec.metric.higher_is_better is not None
        and "attributions" in spec.parameters
        and "explanation_func" not in spec.parameters
        and (scene or not (spec.needs_regions or spec.needs_interventions))
        and (scene or spec.group != "named")
    }


def judge(case: Case) -> Iterator[Row]:
    """Yields the orders in which each metric puts a map and its worse copies."""
    noise = torch.Generator().manual_seed(0)
    maps = degraded_maps(case.context.attributions, case.other, noise)
    for metric, spec in tested(case.context).items():
        higher = spec.metric.higher_is_better
        for order in orders(_values(spec, case), maps, higher_is_better=higher):
            about = (case.network, case.image, case.context.target, metric)
            yield Row(*about, order.kind, order.step, order.right)


def _values(spec: MetricSpec, case: Case) -> Callable[[Tensor], float | None]:
    def value(maps: Tensor) -> float | None:
        return spec.evaluate(replace(case.context, attributions=maps)).value

    return value


def table(rows: list[Row]) -> str:
    """Returns the share of right orders of each metric, on each network."""
    blocks = []
    for name in dict.fromkeys(row.network for row in rows):
        own = [row for row in rows if row.network == name]
        maps = len({(row.image, row.target) for row in own})
        lines = sorted(_lines(own), key=lambda line: -line[1])
        cells = [cells for cells, _ in lines]
        heads = ["metric", *KINDS, "undefined", "can judge"]
        blocks += [f"### {name}, {maps} maps", markdown_table(heads, cells, left=1)]
    return "\n\n".join(blocks)


def _lines(rows: list[Row]) -> Iterator[tuple[list[str], float]]:
    for metric in dict.fromkeys(row.metric for row in rows):
        own = [Order(r.kind, r.step, r.right) for r in rows if r.metric == metric]
        shares = share_of_right_orders(own)
        undefined = sum(order.right is None for order in own) / len(own)
        found = [
            f"{100 * shares[kind]:.0f}" if kind in shares else "" for kind in KINDS
        ]
        able = "yes" if shares.get("all", 0) >= ABLE else "**no**"
        words = [metric.replace("_", " "), *found, f"{100 * undefined:.0f}", able]
        yield words, shares.get("all", 0)


def main() -> None:
    """Makes or reads the maps, runs the metrics, and writes table and rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("--photographs", type=int, default=0)
    parser.add_argument("--networks", nargs="+", default=["squeezenet1_1"])
    args = parser.parse_args()
    kept = torch.load(args.maps) if args.maps.exists() else {}
    sources = [on_scenes()]
    if args.photographs:
        sources += [on_photographs(name, args.photographs) for name in args.networks]
    rows = []
    for case in (case for source in sources for case in explained(source, kept)):
        rows += judge(case)
        torch.save(kept, args.maps)
        print(case.network, case.image, case.context.target, flush=True)
    save_rows(OUT, rows)
    OUT.with_suffix(".md").write_text(table(rows) + "\n")


if __name__ == "__main__":
    main()
