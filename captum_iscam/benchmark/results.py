"""The rows of a benchmark as arrays, in the order that `run.json` fixes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.bootstrap import Array, common_grid, on_grid


class Failure(NamedTuple):
    """An error and where it came up; the image is left out."""

    model: str
    method: str
    metric: str
    error: str


class Table(NamedTuple):
    """What one metric says of all methods on one model.

    Attributes:
        values (Array): `(images, methods)`, NaN where there is none.
        failed (Array): `(images, methods)`, 1 where there is an error instead.
        asked (Array): `(images, methods)`, 1 where there is a row.
    """

    values: Array
    failed: Array
    asked: Array


@dataclass
class Results:
    """All rows and curves of a folder.

    Attributes:
        run (dict): What `run.json` holds.
        tables (dict): A :class:`Table` for each model and metric that has rows.
        seen (dict): For each model, what each image was to it: target, prediction,
            probability of the target. None where there is no row.
        unreadable (dict): The error of each image that could not be read.
        failures (Counter): On how many images each error came up.
        curves (dict): `(images, methods, points)` for each model and curve metric.
        grid (Array): The fractions of the curves.
    """

    run: dict[str, Any]
    tables: dict[tuple[str, str], Table] = field(default_factory=dict)
    seen: dict[str, list[storage.Row | None]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    failures: Counter[Failure] = field(default_factory=Counter)
    curves: dict[tuple[str, str], Array] = field(default_factory=dict)
    grid: Array = field(default_factory=lambda: common_grid([]))

    @property
    def images(self) -> list[dict[str, Any]]:
        """Id, key, label and class of each image."""
        images: list[dict[str, Any]] = self.run["data"]["images"]
        return images

    @property
    def models(self) -> list[str]:
        """Names of the models."""
        return list(self.run["models"])

    @property
    def methods(self) -> list[str]:
        """Names of the methods."""
        return list(self.run["methods"])

    def metrics(self, model: str) -> list[str]:
        """Names of the metrics that have rows on a model, without what they cost."""
        return [
            metric
            for metric in self.run["metrics"]
            if metric not in storage.COSTS and (model, metric) in self.tables
        ]

    def title(self, method: str) -> str:
        """A method's name in pictures and tables."""
        return str(self.run["methods"][method].get("title") or method)

    def waiting(self, model: str) -> int:
        """Number of images that were neither unreadable nor shown to the model yet."""
        return sum(
            row is None and image["id"] not in self.unreadable
            for image, row in zip(self.images, self.seen[model], strict=True)
        )


def read_results(folder: Path) -> Results:
    """Returns the rows and curves of a benchmark's folder.

    Raises:
        FileNotFoundError: If there is no `run.json`.
        ValueError: If a row is about something that `run.json` does not name.
    """
    if not (folder / storage.RUN).is_file():
        raise FileNotFoundError(
            f"folder must hold the {storage.RUN} of a benchmark, got {folder}. "
            "Run captum-iscam benchmark first."
        )
    results = Results(storage.read_run(folder))
    places = _Places(results)
    results.seen = {model: [None] * len(places.images) for model in results.models}
    for record in storage.read_lines(folder / storage.ROWS):
        _enter(results, places, storage.Row(**record))
    _enter_curves(results, places, folder)
    return results


class _Places:
    """Where a name stands in the arrays."""

    def __init__(self, results: Results) -> None:
        self.images = {image["id"]: i for i, image in enumerate(results.images)}
        self.methods = {name: i for i, name in enumerate(results.methods)}
        self.models, self.metrics = results.run["models"], results.run["metrics"]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.images), len(self.methods)

    def of(self, record: storage.Row | storage.Curve) -> tuple[int, int]:
        known = (
            record.image in self.images
            and record.model in self.models
            and record.method in self.methods
            and record.metric in self.metrics
        )
        if not known:
            raise ValueError(
                f"rows must be about what {storage.RUN} names, got {record.key}. "
                "Give each benchmark a folder of its own."
            )
        return self.images[record.image], self.methods[str(record.method)]


def _enter(results: Results, places: _Places, row: storage.Row) -> None:
    if row.model is None and row.image in places.images:
        results.unreadable[row.image] = row.error or ""
        return
    place = places.of(row)
    model, metric = str(row.model), str(row.metric)
    table = results.tables.get((model, metric))
    if table is None:
        empty, zeros = np.full(places.shape, np.nan), np.zeros(places.shape)
        table = results.tables[model, metric] = Table(empty, zeros, zeros.copy())
    table.asked[place] = 1
    if row.error is not None:
        table.failed[place] = 1
        results.failures[Failure(model, str(row.method), metric, row.error)] += 1
    elif row.value is not None:
        table.values[place] = row.value
    seen = results.seen[model]
    if seen[place[0]] is None or row.error is None:
        seen[place[0]] = row


def _enter_curves(results: Results, places: _Places, folder: Path) -> None:
    # Numbers in lists take four times the room of arrays, and there may be 100,000s.
    found: list[tuple[tuple[str, str], tuple[int, int], Array, Array]] = []
    for record in storage.read_lines(folder / storage.CURVES):
        curve = storage.Curve(**record)
        points = np.array([curve.fractions, curve.scores])
        found.append(((curve.model, curve.metric), places.of(curve), *points))
    results.grid = common_grid([len(scores) for *_, scores in found])
    for key, place, fractions, scores in found:
        if key not in results.curves:
            shape = (*places.shape, len(results.grid))
            results.curves[key] = np.full(shape, np.nan)
        results.curves[key][place] = on_grid(fractions, scores, results.grid)
