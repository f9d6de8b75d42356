"""The rows of a benchmark as arrays, in the order that `run.json` fixes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.bootstrap import Array, common_grid, on_grid
from captum_iscam.benchmark.degradation import Ability, Orders, ability


class Failure(NamedTuple):
    """An error by model, method and metric, without the image."""

    model: str
    method: str
    metric: str
    error: str


class Table(NamedTuple):
    """The values of one metric for all methods on one model.

    Attributes:
        values (Array): `(images, methods)`, NaN where there is none.
        failed (Array): `(images, methods)`, 1 where there is an error instead.
        present (Array): `(images, methods)`, 1 where there is a row.
    """

    values: Array
    failed: Array
    present: Array


@dataclass
class Results:
    """All rows and curves of a folder.

    Attributes:
        run (dict): The content of `run.json`.
        tables (dict): A :class:`Table` for each model and metric that has rows.
        seen (dict): For each model, a row of each image, which has the target, the
            prediction and the probability. None where there is no row.
        unreadable (dict): The error of each image that could not be read.
        failures (Counter): The number of images with each error.
        curves (dict): `(images, methods, points)` for each model and curve metric.
        grid (Array): The fractions of the curves.
        tests (dict): For each model and metric that was tested, what
            :mod:`.degradation` says of its orders.
    """

    run: dict[str, Any]
    tables: dict[tuple[str, str], Table] = field(default_factory=dict)
    seen: dict[str, list[storage.Row | None]] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    failures: Counter[Failure] = field(default_factory=Counter)
    curves: dict[tuple[str, str], Array] = field(default_factory=dict)
    grid: Array = field(default_factory=lambda: common_grid([]))
    tests: dict[tuple[str, str], Ability] = field(default_factory=dict)

    def cannot_judge(self, model: str, metric: str) -> bool:
        """Whether a test has shown that a metric cannot judge on a model."""
        test = self.tests.get((model, metric))
        return test is not None and test.can_judge is False

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
        """Names of the metrics that have rows on a model, without costs."""
        return [
            metric
            for metric in self.run["metrics"]
            if metric not in storage.COSTS and (model, metric) in self.tables
        ]

    def title(self, method: str) -> str:
        """A method's name in figures and tables."""
        return str(self.run["methods"][method].get("title") or method)

    def waiting(self, model: str) -> int:
        """Number of readable images without rows of the model."""
        return sum(
            row is None and image["id"] not in self.unreadable
            for image, row in zip(self.images, self.seen[model], strict=True)
        )


def read_results(folder: str | Path) -> Results:
    """Returns the rows and curves of a benchmark's folder.

    Args:
        folder (str or Path): The folder.

    Raises:
        FileNotFoundError: If there is no `run.json`.
        ValueError: If a row names something that is not in `run.json`, or two rows of
            one image, model, method and metric differ.
    """
    folder = Path(folder)
    if not (folder / storage.RUN).is_file():
        raise FileNotFoundError(
            f"folder must contain the {storage.RUN} of a benchmark, got {folder}. "
            "Run captum-iscam benchmark first."
        )
    results = Results(storage.read_run(folder))
    indices = _Indices(results)
    results.seen = {model: [None] * len(indices.images) for model in results.models}
    for row in storage.rows_in(folder):
        _enter(results, indices, row)
    _enter_curves(results, indices, folder)
    _enter_tests(results, indices, folder)
    return results


class _Indices:
    """The index of each name in the arrays."""

    def __init__(self, results: Results) -> None:
        self.images = {image["id"]: i for i, image in enumerate(results.images)}
        self.methods = {name: i for i, name in enumerate(results.methods)}
        self.models, self.metrics = results.run["models"], results.run["metrics"]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.images), len(self.methods)

    def of(
        self, record: storage.Row | storage.Curve | storage.JudgedMap
    ) -> tuple[int, int]:
        known = (
            record.image in self.images
            and record.model in self.models
            and record.method in self.methods
            and record.metric in self.metrics
        )
        if not known:
            raise ValueError(
                f"rows must be about names of {storage.RUN}, got {record.key}. "
                "Give each benchmark a folder of its own."
            )
        return self.images[record.image], self.methods[str(record.method)]


def _enter(results: Results, indices: _Indices, row: storage.Row) -> None:
    if row.model is None and row.image in indices.images:
        results.unreadable[row.image] = row.error or ""
        return
    index = indices.of(row)
    model, metric = str(row.model), str(row.metric)
    table = results.tables.get((model, metric))
    if table is None:
        empty, zeros = np.full(indices.shape, np.nan), np.zeros(indices.shape)
        table = results.tables[model, metric] = Table(empty, zeros, zeros.copy())
    table.present[index] = 1
    if row.error is not None:
        table.failed[index] = 1
        results.failures[Failure(model, str(row.method), metric, row.error)] += 1
    elif row.value is not None:
        table.values[index] = row.value
    seen = results.seen[model]
    if seen[index[0]] is None or row.error is None:
        seen[index[0]] = row


def _enter_curves(results: Results, indices: _Indices, folder: Path) -> None:
    # Lists of numbers take four times the memory of arrays, and there may be 100,000s.
    found: list[tuple[tuple[str, str], tuple[int, int], Array, Array]] = []
    for record in storage.read_lines(folder / storage.CURVES):
        curve = storage.Curve(**record)
        points = np.array([curve.fractions, curve.scores])
        found.append(((curve.model, curve.metric), indices.of(curve), *points))
    results.grid = common_grid([len(scores) for *_, scores in found])
    for key, index, fractions, scores in found:
        if key not in results.curves:
            shape = (*indices.shape, len(results.grid))
            results.curves[key] = np.full(shape, np.nan)
        results.curves[key][index] = on_grid(fractions, scores, results.grid)


def _enter_tests(results: Results, indices: _Indices, folder: Path) -> None:
    found: dict[tuple[str, str], list[Orders]] = {}
    for judged in storage.read_orders(folder):
        indices.of(judged)
        model, method, metric = judged.model, judged.method, judged.metric
        found.setdefault((model, metric), []).append(judged.right)
        if judged.error is not None:
            error = f"in the test of metrics: {judged.error}"
            results.failures[Failure(model, method, metric, error)] += 1
    results.tests = {key: ability(orders) for key, orders in found.items()}
