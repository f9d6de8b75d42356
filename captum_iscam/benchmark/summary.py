"""From rows to the answer: means with intervals, paired differences, wins, costs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captum_iscam._utils.files import write_whole
from captum_iscam.benchmark._comparison import contents
from captum_iscam.benchmark._results import Results, read_results
from captum_iscam.benchmark._tables import as_markdown
from captum_iscam.benchmark.layout import (
    SUMMARY_CSV,
    SUMMARY_JSON,
    SUMMARY_MARKDOWN,
)

_COLUMNS = (
    *("model", "metric", "method", "unit", "higher_is_better"),
    *("n", "missing", "undefined", "mean", "low", "high", "median"),
    *("best", "level_with_best", "reference"),
    *("difference_n", "difference", "difference_low", "difference_high", "wins"),
)


@dataclass
class Summary:
    """The answer of a benchmark.

    Attributes:
        folder (Path): The benchmark's folder.
        content (dict): What `summary.json` holds: "run", "bootstrap", "reference",
            "images", "models", and the lists "means", "pairs", "costs", "curves" and
            "failures", one entry per model, metric and method.
        results (Results): The rows it was made of.
    """

    folder: Path
    content: dict[str, Any]
    results: Results


def summarise(folder: Path | str, reference: str | None = None) -> Summary:
    """Writes `summary.md`, `summary.csv` and `summary.json` from the rows of a folder.

    Means are over the images on which a metric has a value for any method; images
    without (no box for a localisation metric, say) are counted as undefined, values
    that only some methods lack as missing. Intervals are percentile bootstrap
    intervals over images, those of differences paired. The same rows give the same
    summary, whatever their order.

    Args:
        folder (Path or str): A benchmark's folder; the run may still be going on.
        reference (str, optional): The method that differences in the tables are taken
            to; `summary.json` has those of all pairs. Default: None, the run's first

    Raises:
        FileNotFoundError: If the folder holds no `run.json`.
        ValueError: If `reference` is not a method of the run, or rows do not belong to
            it.
        OSError: If something cannot be written; the file that was there stays.
    """
    folder = Path(folder)
    results = read_results(folder)
    reference = results.methods[0] if reference is None else reference
    if reference not in results.methods:
        raise ValueError(
            f"reference must be a method of the run, got {reference!r}. "
            f"Known are: {', '.join(results.methods)}."
        )
    content = contents(results, reference)
    write_whole(folder / SUMMARY_MARKDOWN, _encoded(as_markdown(content)))
    write_whole(folder / SUMMARY_CSV, _encoded(_as_csv(content)))
    write_whole(folder / SUMMARY_JSON, _encoded(_as_json(content)))
    return Summary(folder, content, results)


def _as_json(content: dict[str, Any]) -> str:
    """One entry per line in the long lists, so that two summaries can be compared."""
    parts = []
    for name, value in content.items():
        if isinstance(value, list):
            lines = ",\n".join("  " + json.dumps(entry) for entry in value)
            text = f"[\n{lines}\n ]" if value else "[]"
        else:
            text = json.dumps(value, indent=1).replace("\n", "\n ")
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _as_csv(content: dict[str, Any]) -> str:
    """A line per model, metric and method; costs have no interval."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    reference = content["reference"]
    versus = {_key(p): p for p in content["pairs"] if p["other"] == reference}
    for entry in [*content["means"], *content["costs"]]:
        metric = content["run"]["metrics"][entry["metric"]]
        line = {
            **entry,
            "unit": metric["unit"],
            "higher_is_better": metric["higher_is_better"],
        }
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
        writer.writerow(line)
    return out.getvalue()


def _key(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["model"], entry["metric"], entry["method"]


def _encoded(text: str) -> bytes:
    # A file name that is no valid text may stand in an error.
    return text.encode("utf-8", "backslashreplace")
