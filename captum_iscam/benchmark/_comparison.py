"""What is said of the rows: means, paired differences, wins, costs and mean curves."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from captum_iscam.benchmark import layout
from captum_iscam.benchmark._results import Results, Table
from captum_iscam.benchmark._statistics import (
    CONFIDENCE,
    N_RESAMPLES,
    SEED,
    Array,
    bootstrap,
    pairs,
    win_shares,
)
from captum_iscam.benchmark._tables import holds_zero


def contents(results: Results, reference: str) -> dict[str, Any]:
    """Returns what `summary.json` holds.

    Args:
        results (Results): The rows.
        reference (str): The method that the tables compare the others with.
    """
    run = dict(results.run)
    run["data"] = {k: v for k, v in run["data"].items() if k != "images"}
    content: dict[str, Any] = {
        "run": run,
        "bootstrap": {
            "n_resamples": N_RESAMPLES,
            "confidence": CONFIDENCE,
            "seed": SEED,
            "interval": "percentile",
        },
        "reference": reference,
        "images": {
            "total": len(results.images),
            "unreadable": [
                {"image": image, "error": error}
                for image, error in sorted(results.unreadable.items())
            ],
        },
        "models": {model: _model(results, model) for model in results.models},
        "means": [],
        "pairs": [],
        "costs": [],
        "curves": [],
        "failures": [
            {**failure._asdict(), "images": count}
            for failure, count in sorted(results.failures.items())
        ],
    }
    for model in results.models:
        for metric in results.metrics(model):
            _compare(results, model, metric, content)
        content["costs"] += _costs(results, model)
    for model, metric in sorted(results.curves):
        content["curves"] += _mean_curves(results, model, metric)
    return content


def _model(results: Results, model: str) -> dict[str, Any]:
    shown = [row for row in results.seen[model] if row is not None]
    predicted = [row for row in shown if row.prediction is not None]
    labelled = [row for row in predicted if row.label is not None]
    right = sum(row.prediction == row.label for row in labelled)
    return {
        "images": len(shown),
        "waiting": results.waiting(model),
        "labelled": len(labelled),
        "top1": right / len(labelled) if labelled else None,
    }


def _compare(
    results: Results, model: str, metric: str, content: dict[str, Any]
) -> None:
    """Adds what one metric says of all methods on one model."""
    table = results.tables[model, metric]
    higher_is_better = bool(results.run["metrics"][metric]["higher_is_better"])
    defined = _defined(table)
    values = table.values[defined]
    undefined = int(((table.asked > 0).any(1) & ~defined).sum())
    differences = _differences(values, results.methods, higher_is_better)
    found = bootstrap(values)
    best = _best(found.mean, results.methods, higher_is_better)
    level = {
        pair["method"]
        for pair in differences
        if pair["other"] in best and holds_zero(pair)
    }
    for i, method in enumerate(results.methods):
        content["means"].append(
            {
                "model": model,
                "metric": metric,
                "method": method,
                "n": int(found.n[i]),
                "mean": _number(found.mean[i]),
                "low": _number(found.low[i]),
                "high": _number(found.high[i]),
                "median": _number(_median(values[:, i])),
                "missing": int(len(values) - found.n[i]),
                "undefined": undefined,
                "best": method in best,
                "level_with_best": method in level - best,
            }
        )
    content["pairs"] += [{"model": model, "metric": metric, **d} for d in differences]


def _defined(table: Table) -> npt.NDArray[np.bool_]:
    """Images on which the metric has a value, or an error in place of one."""
    defined: npt.NDArray[np.bool_] = np.any(
        ~np.isnan(table.values) | (table.failed > 0), axis=1
    )
    return defined


def _best(means: Array, methods: list[str], higher_is_better: bool) -> set[str]:
    """The method of the best mean; several only if they are equal."""
    signed = means if higher_is_better else -means
    if np.isnan(signed).all():
        return set()
    top = np.nanmax(signed)
    return {method for method, mean in zip(methods, signed, strict=True) if mean == top}


def _differences(
    values: Array, methods: list[str], higher_is_better: bool
) -> list[dict[str, Any]]:
    """Each method against each other one, both ways round."""
    wins = win_shares(values, higher_is_better)
    found = []
    for a, b, difference in pairs(values):
        mean, low, high = (float(end) for end in difference[1:])
        for first, second, ends in (
            (a, b, (mean, low, high)),
            (b, a, (-mean, -high, -low)),
        ):
            found.append(
                {
                    "method": methods[first],
                    "other": methods[second],
                    "n": int(difference.n),
                    "mean": _number(ends[0]),
                    "low": _number(ends[1]),
                    "high": _number(ends[2]),
                    "wins": _number(wins[first, second]),
                }
            )
    return found


def _costs(results: Results, model: str) -> list[dict[str, Any]]:
    costs = []
    for metric in layout.COSTS:
        if (model, metric) not in results.tables:
            continue
        values = results.tables[model, metric].values
        for i, method in enumerate(results.methods):
            spent = values[~np.isnan(values[:, i]), i]
            if len(spent):
                costs.append(
                    {
                        "model": model,
                        "metric": metric,
                        "method": method,
                        "n": len(spent),
                        "mean": _number(spent.mean()),
                        "median": _number(np.median(spent)),
                    }
                )
    return costs


def _mean_curves(results: Results, model: str, metric: str) -> list[dict[str, Any]]:
    curves = results.curves[model, metric]
    n_images, n_methods, n_points = curves.shape
    found = bootstrap(curves.reshape(n_images, -1))
    mean, low, high = (ends.reshape(n_methods, n_points) for ends in found[1:])
    n = found.n.reshape(n_methods, n_points)[:, 0]
    return [
        {
            "model": model,
            "metric": metric,
            "method": method,
            "n": int(n[i]),
            "fractions": _numbers(results.grid),
            "mean": _numbers(mean[i]),
            "low": _numbers(low[i]),
            "high": _numbers(high[i]),
        }
        for i, method in enumerate(results.methods)
        if n[i] > 0
    ]


def _median(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _number(value: float) -> float | None:
    """Six digits: more would only show in which order a machine adds."""
    return None if np.isnan(value) else float(f"{value:.6g}") + 0.0  # no minus zero


def _numbers(values: Array) -> list[float | None]:
    return [_number(value) for value in values]
