"""The summary as two CSV files: a line per value, and a line per method."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from captum_iscam.benchmark.table_text import test_of

_COLUMNS = (
    *("model", "metric", "method", "unit", "higher_is_better"),
    *("n", "missing", "undefined", "mean", "low", "high", "median"),
    *("best", "level_with_best", "reference"),
    *("difference_n", "difference", "difference_low", "difference_high", "wins"),
)
_TESTED = ("right_orders", "can_judge")


def as_csv(content: dict[str, Any]) -> str:
    """Returns a line per model, metric and method; costs have no interval.

    Where metrics were tested, two columns say how each did.

    Args:
        content (dict): The content of `summary.json`.
    """
    lines = []
    reference = content["reference"]
    versus = {_key(p): p for p in content["pairs"] if p["other"] == reference}
    for entry in [*content["means"], *content["costs"]]:
        metric = content["run"]["metrics"][entry["metric"]]
        line = {
            **entry,
            "unit": metric["unit"],
            "higher_is_better": metric["higher_is_better"],
        }
        test = test_of(content, entry["model"], entry["metric"]) or {}
        line |= {name: test[name] for name in _TESTED if name in test}
        pair = versus.get(_key(entry))
        if pair is not None:
            line |= {
                "reference": reference,
                "difference_n": pair["n"],
                "difference": pair["mean"],
                "difference_low": pair["low"],
                "difference_high": pair["high"],
                "wins": pair["wins"],
            }
        lines.append(line)
    tested = _TESTED if content["metric_tests"] else ()
    return _written([*_COLUMNS, *tested], lines)


def as_wide_csv(content: dict[str, Any]) -> str:
    """Returns a line per model and method, with four columns per metric.

    They are `METRIC_mean`, `METRIC_low`, `METRIC_high` and `METRIC_n`. Costs have no
    interval.

    Args:
        content (dict): The content of `summary.json`.
    """
    columns = ["model", "method", "title"]
    lines = {
        (model, method): {
            "model": model,
            "method": method,
            "title": about.get("title") or method,
        }
        for model in content["run"]["models"]
        for method, about in content["run"]["methods"].items()
    }
    for entry in [*content["means"], *content["costs"]]:
        line = lines[entry["model"], entry["method"]]
        for field in ("mean", "low", "high", "n"):
            column = f"{entry['metric']}_{field}"
            if column not in columns:
                columns.append(column)
            line[column] = entry.get(field)
    return _written(columns, lines.values())


def _written(columns: Sequence[str], lines: Iterable[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return out.getvalue()


def _key(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["model"], entry["metric"], entry["method"]
