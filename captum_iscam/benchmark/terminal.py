"""The means as plain text, for a terminal, and what has no value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captum_iscam.benchmark.degradation import ABLE
from captum_iscam.benchmark.significance import MIN_IMAGES
from captum_iscam.benchmark.storage import COSTS
from captum_iscam.benchmark.table_text import (
    claim_marks,
    direction,
    fixed,
    judging_mark,
    method_title,
    metric_title,
    right_orders,
    unit_of,
)


def as_text(content: dict[str, Any], width: int = 80) -> list[str]:
    """Returns the means of all networks as lines: a row per metric.

    Args:
        content (dict): The content of `summary.json`.
        width (int, optional): Characters of a line. Methods that do not fit stand in a
            further table. Default: 80
    """
    lines = [
        f"{e['verdict']}{claim_marks(e)} | {e['claim']}" for e in content["claims"]
    ]
    for model in content["run"]["models"]:
        means = [entry for entry in content["means"] if entry["model"] == model]
        if means:
            n = sorted({min(e["n"] for e in means), max(e["n"] for e in means)})
            images = " to ".join(map(str, n))
            lines += [f"{model}, means over {images} images:"]
            lines += _tables(content, model, means, width)
            lines += _undefined(means)
    if any(entry["best"] for entry in content["means"]):
        lines.append("*: best mean, different from that of every other method.")
    fewest = min((e["n"] for e in content["means"] if e["n"]), default=MIN_IMAGES)
    if fewest < MIN_IMAGES:
        lines.append(f"Below {MIN_IMAGES} images no mean is called the best.")
    if any(entry["can_judge"] is False for entry in content["metric_tests"]):
        lines.append(f"no: cannot judge here, with right orders below {ABLE:.0%}.")
    return lines


def _tables(
    content: dict[str, Any], model: str, means: list[dict[str, Any]], width: int
) -> list[str]:
    metrics = list(dict.fromkeys(entry["metric"] for entry in means))
    found = {(e["method"], e["metric"]): e for e in means}
    names = _aligned(["", *(_label(content, metric) for metric in metrics)])
    if any(entry["model"] == model for entry in content["metric_tests"]):
        shares = [
            right_orders(content, model, metric)
            + (", no" if judging_mark(content, model, metric) else "")
            for metric in metrics
        ]
        both = zip(names, _aligned(["right orders", *shares]), strict=True)
        names = ["  ".join(line) for line in both]
    columns = []
    for method in content["run"]["methods"]:
        cells = [method_title(content, method)]
        for metric in metrics:
            entry = found[method, metric]
            mean = fixed(entry["mean"], content["decimals"][model][metric]["means"])
            cells.append(mean + ("*" if entry["best"] else " "))
        columns.append(_padded(cells))
    lines: list[str] = []
    while columns:
        shown = [names, columns.pop(0)]
        while columns and _width([*shown, columns[0]]) <= width:
            shown.append(columns.pop(0))
        lines += ["  ".join(row).rstrip() for row in zip(*shown, strict=True)]
    return lines


def _undefined(means: list[dict[str, Any]]) -> list[str]:
    """Returns a line for each metric without a value on any image."""
    valued = {entry["metric"] for entry in means if entry["n"]}
    undefined = (e["metric"] for e in means if e["undefined"])
    return [
        f"{metric_title(metric)} has no value on any image: it is undefined there."
        for metric in dict.fromkeys(undefined)
        if metric not in valued
    ]


def _aligned(cells: Sequence[str]) -> list[str]:
    """Cells of equal width, aligned to the left."""
    width = max(map(len, cells))
    return [cell.ljust(width) for cell in cells]


def _padded(cells: Sequence[str]) -> list[str]:
    """Cells of equal width, aligned to the right; a star stands to the right of all."""
    title = cells[0] + " "
    width = max(map(len, [title, *cells[1:]]))
    return [cell.rjust(width) for cell in [title, *cells[1:]]]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(len(column[0]) + 2 for column in columns) - 2


def _label(content: dict[str, Any], metric: str) -> str:
    name = f"{metric_title(metric)} {direction(content, metric)}".rstrip()
    return f"{name} ({unit_of(content, metric)})"


def describe_without_value(content: dict[str, Any]) -> list[str]:
    """Returns a line for each method on each network of which all images failed.

    It fails where a metric, or the map itself, has errors and no value at all.

    Args:
        content (dict): The content of `summary.json`.
    """
    images = content["images"]
    if images["total"] == len(images["unreadable"]):
        return [f"none of the {images['total']} images could be read"]
    valued = {_key(e) for e in (*content["means"], *content["costs"]) if e["n"]}
    found: dict[tuple[str, str], list[str]] = {}
    errors: dict[tuple[str, str], str] = {}
    for failure in content["failures"]:
        model, metric, method = _key(failure)
        names = found.setdefault((model, method), [])
        if (model, metric, method) not in valued and metric not in names:
            names.append(metric)
            errors.setdefault((model, method), failure["error"])
    lines = []
    for of, names in found.items():
        # Without its cost there is no map.
        whole = set(COSTS) <= set(names)
        if names:
            what = "every image has an error" if whole else f"no {', '.join(names)}"
            lines.append(f"{', '.join(of)}: {what} ({errors[of]})")
    return lines


def _key(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["model"], entry["metric"], entry["method"]
