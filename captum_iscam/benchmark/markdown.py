"""The summary as a page of Markdown tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from captum_iscam.benchmark.degradation import ABLE
from captum_iscam.benchmark.significance import MIN_IMAGES
from captum_iscam.benchmark.table_text import (
    claim_marks,
    count,
    counts,
    direction,
    fixed,
    interval,
    judging_mark,
    method_title,
    metric_title,
    parts,
    right_orders,
    unit_of,
)

_WIDTH = 5  # metrics side by side
_MOST_LISTED = 20
_LEGEND = """\
Each cell is a mean over images and its {confidence:.0%} interval (percentile
bootstrap, {n_resamples:,} resamples of images, seed {seed}). ↑ more is better, ↓ less
is better. **Bold** is a best mean that is decided: it differs from that of every other
method. Where it does not, ~ marks it and the methods that these images do not separate
from it. {tests}"""
_TESTS = (
    "Decided means over {images} images or more, by a paired sign-flip test at "
    "{level:.0%}, corrected by Holm's method for all {pairs:,} comparisons of the run."
)
_METRIC_TEST = """\
Right orders: how often a metric puts a map of {method} before copies of it that are
worse by construction, over the maps of {images}, the run's first. Below {able:.0%} a
metric cannot judge on that network, and nothing of it is bold there."""
_CLAIMS = """\
Written down in `{file}` before the first row (SHA-256 {sha256}). A claim *holds* or is
*refuted* where the mean difference is certainly not 0, by a paired sign-flip test. It
is *equivalent* where the difference certainly lies within the margin, by two one-sided
tests. All p are corrected together by Holm's method; the level is {level:.0%}, and
fewer than {images} images decide nothing. Intervals are not corrected. The effect is
the mean difference in standard deviations of the differences."""


def markdown_table(
    heading: Sequence[str],
    rows: Iterable[Sequence[str]],
    left: int | None = 1,
    padded: bool = False,
) -> str:
    """Returns a Markdown table without a line break at its end.

    Args:
        heading (Sequence[str]): A title for each column.
        rows (Iterable[Sequence[str]]): As many cells in each row.
        left (int, optional): Number of columns that are aligned to the left, all others
            to the right; None for all. Default: 1
        padded (bool, optional): Whether columns stand under each other in a terminal.
            Default: False

    Examples::

        >>> print(markdown_table(["method", "n"], [["IS-CAM", "30"]]))
        | method | n |
        |---|---:|
        | IS-CAM | 30 |
    """
    lines = [list(heading), *map(list, rows)]
    count = len(heading)
    left = count if left is None else left
    dashes = ["-" * 3] * left + ["-" * 3 + ":"] * (count - left)
    if padded:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines = [[c.ljust(w) for c, w in zip(x, widths, strict=True)] for x in lines]
        dashes = [d.rjust(w + 2, "-") for d, w in zip(dashes, widths, strict=True)]
    written = ["".join(f"| {c} " if c else "| " for c in line) + "|" for line in lines]
    return "\n".join([written[0], f"|{'|'.join(dashes)}|", *written[1:]])


def as_markdown(content: dict[str, Any]) -> str:
    """Returns the summary as one page."""
    blocks = [*_head(content), *_claims(content)]
    for model in content["run"]["models"]:
        blocks += _model(content, model)
    notes = content["run"].get("notes") or []
    if notes:
        blocks += ["## Notes", "\n".join(f"- {_text(note)}" for note in notes)]
    blocks += _failures(content)
    blocks += ["## How to cite", f"```bibtex\n{content['citation']['bibtex']}```"]
    run = json.dumps(content["run"], indent=2)
    blocks += ["## The run", f"```json\n{run}\n```"]
    return "\n\n".join(blocks) + "\n"


def _head(content: dict[str, Any]) -> list[str]:
    run, images = content["run"], content["images"]
    counts = (
        f"{count(images['total'], 'image')} ({_text(run['data']['kind'])}), "
        f"{count(len(run['models']), 'network')}, "
        f"{count(len(run['methods']), 'method')}."
    )
    blocks = ["# Benchmark", counts]
    if images["unreadable"]:
        unreadable = count(len(images["unreadable"]), "image")
        blocks.append(f"**{unreadable} could not be read.**")
    waiting = {m: v["waiting"] for m, v in content["models"].items() if v["waiting"]}
    if waiting:
        left = ", ".join(f"{_text(model)}: {count}" for model, count in waiting.items())
        blocks.append(f"**The run is incomplete; images without rows: {left}.**")
    blocks.append(_LEGEND.format(**content["bootstrap"], tests=decided(content)))
    if content["metric_tests"]:
        blocks.append(metric_test_text(content))
    fewest = min((e["n"] for e in content["means"] if e["n"]), default=0)
    if 0 < fewest < MIN_IMAGES:
        blocks.append(
            f"Some means are over {count(fewest, 'image')} only: below about "
            f"{MIN_IMAGES} the intervals are too narrow, and nothing is bold."
        )
    return blocks


def decided(content: dict[str, Any]) -> str:
    """Returns a sentence on when a difference is decided."""
    return _TESTS.format(**content["tests"], images=MIN_IMAGES)


def metric_test_text(content: dict[str, Any]) -> str:
    """Returns a paragraph on what the right orders of a metric are."""
    test = content["run"]["settings"]["metric_test"]
    return _METRIC_TEST.format(
        method=method_title(content, test["method"]),
        images=count(test["images"], "image"),
        able=ABLE,
    )


def _claims(content: dict[str, Any]) -> list[str]:
    """Returns a table of the claims and what the rows say of them."""
    if not content["claims"]:
        return []
    about = {**content["run"]["claims"], **content["tests"], "images": MIN_IMAGES}
    lines = []
    for entry in content["claims"]:
        ends = [fixed(entry[end], 3, "+") for end in ("mean", "low", "high")]
        lines.append(
            [
                _text(entry["claim"]),
                f"**{entry['verdict']}**{claim_marks(entry)}",
                str(entry["n"]),
                f"{ends[0]} [{ends[1]}, {ends[2]}]",
                f"{entry['margin']:g}",
                chance(entry["p"], entry["corrected_p"]),
                chance(entry["p_equivalent"], entry["corrected_p_equivalent"]),
                fixed(entry["effect"], 2, "+"),
                _share(entry["wins"]),
            ]
        )
    heading = ["claim", "verdict", "images", "difference", "margin"]
    heading += ["p (corrected)", "p equivalent (corrected)", "effect", "wins"]
    about_claims = _CLAIMS.format(**about)
    return ["## Claims", about_claims, markdown_table(heading, lines, left=2)]


def chance(p: float, corrected_p: float) -> str:
    """Returns p and, in brackets, its correction."""
    return f"{p:.2g} ({corrected_p:.2g})"


def _model(content: dict[str, Any], model: str) -> list[str]:
    settings, found = content["run"]["models"][model], content["models"][model]
    images = count(found["images"], "image")
    about = f"Layer {_text(settings.get('layer'))}, {images}"
    if found["top1"] is not None:
        of = "them" if found["labelled"] == found["images"] else found["labelled"]
        about += f", {found['top1']:.1%} of {of} classified as labelled"
    blocks = [f"## {_text(model)}", about + "."]
    means = [entry for entry in content["means"] if entry["model"] == model]
    metrics = list(dict.fromkeys(entry["metric"] for entry in means))
    for part in parts(metrics, _WIDTH):
        blocks.append(_means(content, model, means, part))
    others = [p for p in content["pairs"] if p["model"] == model]
    versus = [p for p in others if p["other"] == content["reference"]]
    if versus:
        title = _title(content, content["reference"])
        blocks.append(
            f"### Difference to {title} on the same images\n\n"
            "**Bold** where the difference is decided, as above."
        )
        for part in parts(metrics, _WIDTH):
            blocks.append(_differences(content, model, versus, part))
    blocks += _costs(content, model)
    if others:
        blocks.append("### Wins\n\nShare of images on which the row beats the column.")
        blocks += [
            _wins(content, model, others, metric)
            for metric in metrics
            if direction(content, metric)
        ]
    return blocks


def _means(
    content: dict[str, Any],
    model: str,
    means: list[dict[str, Any]],
    metrics: Sequence[str],
) -> str:
    found = {(e["method"], e["metric"]): e for e in means}
    digits = content["decimals"][model]
    lines = []
    for method in content["run"]["methods"]:
        cells = [_mean(found[method, m], digits[m]["means"]) for m in metrics]
        lines.append([_title(content, method), *cells])
    if any(entry["model"] == model for entry in content["metric_tests"]):
        shares = [right_orders(content, model, metric) for metric in metrics]
        lines.insert(0, ["*right orders*", *shares])
    for name, field in (
        ("images", "n"),
        ("missing", "missing"),
        ("undefined", "undefined"),
    ):
        cells = [counts(means, metric, field) for metric in metrics]
        if name == "images" or any(cell != "0" for cell in cells):
            lines.append([f"*{name}*", *cells])
    heads = [_heading(content, model, metric) for metric in metrics]
    return markdown_table(["method", *heads], lines)


def _mean(entry: dict[str, Any], digits: int) -> str:
    mean = fixed(entry["mean"], digits)
    cell = f"**{mean}**" if entry["best"] else mean
    mark = "~" if entry["level_with_best"] else ""
    return " ".join(filter(None, [cell, mark, interval(entry, digits)]))


def _differences(
    content: dict[str, Any],
    model: str,
    versus: list[dict[str, Any]],
    metrics: Sequence[str],
) -> str:
    found = {(p["method"], p["metric"]): p for p in versus}
    lines = []
    for method in content["run"]["methods"]:
        if method == content["reference"]:
            continue
        cells = []
        for metric in metrics:
            digits = content["decimals"][model][metric]["pairs"]
            pair = found[method, metric]
            mean = fixed(pair["mean"], digits, "+")
            cell = f"**{mean}**" if pair["distinct"] else mean
            cells.append(f"{cell} {interval(pair, digits, '+')}".rstrip())
        lines.append([_title(content, method), *cells])
    heads = [_heading(content, model, metric) for metric in metrics]
    return markdown_table(["method", *heads], lines)


def _costs(content: dict[str, Any], model: str) -> list[str]:
    costs = [entry for entry in content["costs"] if entry["model"] == model]
    if not costs:
        return []
    found = {(e["method"], e["metric"]): e for e in costs}
    metrics = list(dict.fromkeys(entry["metric"] for entry in costs))
    lines = []
    for method in content["run"]["methods"]:
        entries = [found.get((method, metric)) for metric in metrics]
        cells = [
            "" if e is None else f"{_cost(e['median'])} ({_cost(e['mean'])})"
            for e in entries
        ]
        lines.append([_title(content, method), *cells])
    heading = ["method", *(metric.replace("_", " ") for metric in metrics)]
    return ["### Cost of one map: median (mean)", markdown_table(heading, lines)]


def _wins(
    content: dict[str, Any], model: str, others: list[dict[str, Any]], metric: str
) -> str:
    shares = {
        (p["method"], p["other"]): p["wins"] for p in others if p["metric"] == metric
    }
    methods = list(content["run"]["methods"])
    lines = []
    for row in methods:
        cells = [_share(shares.get((row, column))) for column in methods]
        lines.append([_title(content, row), *cells])
    table = markdown_table(
        ["", *(_title(content, method) for method in methods)], lines
    )
    heading = _heading(content, model, metric)
    return f"<details><summary>{heading}</summary>\n\n{table}\n\n</details>"


def _failures(content: dict[str, Any]) -> list[str]:
    unreadable = [
        f"{_text(entry['image'])}: {_text(entry['error'])}"
        for entry in content["images"]["unreadable"]
    ]
    failures = [
        f"{_text(e['model'])}, {_title(content, e['method'])}, {_text(e['metric'])}, "
        f"{count(e['images'], 'image')}: {_text(e['error'])}"
        for e in content["failures"]
    ]
    blocks = []
    for title, entries in (("Unreadable images", unreadable), ("Errors", failures)):
        if entries:
            more = len(entries) - _MOST_LISTED
            lines = [f"- {entry}" for entry in entries[:_MOST_LISTED]]
            lines += [f"- and {more} more"] if more > 0 else []
            blocks += [f"## {title}", "\n".join(lines)]
    return blocks


def _heading(content: dict[str, Any], model: str, metric: str) -> str:
    unit = _text(unit_of(content, metric))
    name = f"{_text(metric_title(metric))} {direction(content, metric)}".rstrip()
    mark = judging_mark(content, model, metric)
    return f"{name} ({unit})" + (f", {mark}" if mark else "")


def _title(content: dict[str, Any], method: str) -> str:
    return _text(method_title(content, method))


def _cost(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _text(value: object) -> str:
    """Returns a name or message with escapes: no markup, no end of a cell."""
    text = " ".join(str(value).split())
    for sign in "\\`*_[]|<>":
        text = text.replace(sign, f"\\{sign}" if sign not in "<>" else _ENTITIES[sign])
    return text


_ENTITIES = {"<": "&lt;", ">": "&gt;"}
