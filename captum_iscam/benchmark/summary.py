"""Summarises rows: means with intervals, paired differences, wins, costs."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from captum_iscam._utils.about import bibtex, citation
from captum_iscam._utils.files import write_whole
from captum_iscam.benchmark import storage
from captum_iscam.benchmark.bootstrap import (
    CONFIDENCE,
    N_RESAMPLES,
    SEED,
    Array,
    bootstrap,
    pairs,
    win_shares,
)
from captum_iscam.benchmark.csv_tables import as_csv, as_wide_csv
from captum_iscam.benchmark.emphasis import best_methods, decimals, is_distinct
from captum_iscam.benchmark.latex import as_latex
from captum_iscam.benchmark.markdown import as_markdown
from captum_iscam.benchmark.results import Results, Table, read_results
from captum_iscam.benchmark.significance import (
    ALPHA,
    N_FLIPS,
)
from captum_iscam.benchmark.storage import (
    SUMMARY_CSV,
    SUMMARY_JSON,
    SUMMARY_LATEX,
    SUMMARY_MARKDOWN,
    SUMMARY_WIDE_CSV,
)
from captum_iscam.benchmark.table_text import claim_text, metric_title, version_of
from captum_iscam.benchmark.verdicts import (
    Comparisons,
    Verdict,
    comparisons,
    verdicts_of,
)


@dataclass
class Summary:
    """The summary of a benchmark.

    Attributes:
        folder (Path): The benchmark's folder.
        content (dict): The content of `summary.json`: "run", "bootstrap", "reference",
            "citation", "titles", "images", "models", "decimals", "tests", and the lists
            "claims", "metric_tests", "means", "pairs", "costs", "curves" and
            "failures", one entry per claim, or per model, metric and method.
        results (Results): The rows it was computed from.
    """

    folder: Path
    content: dict[str, Any]
    results: Results


def summarise(folder: Path | str, reference: str | None = None) -> Summary:
    """Writes the summary of the rows of a folder.

    It is `summary.md`, `summary.tex`, `summary.csv`, `summary_wide.csv` and
    `summary.json`.

    Means are over the images on which a metric has a value for any method. Images
    without one (for example without a box for a localisation metric) are counted as
    undefined. Values that only some methods lack are counted as missing. Intervals are
    percentile bootstrap intervals over images; those of differences are paired. The
    same rows give the same summary, in any order.

    Args:
        folder (Path or str): A benchmark's folder; the run may be incomplete.
        reference (str, optional): The method with which the tables compare all others;
            `summary.json` has all pairs. Default: None, the run's first

    Raises:
        FileNotFoundError: If the folder has no `run.json`.
        ValueError: If `reference` is not a method of the run, or rows do not belong to
            it.
        OSError: If something cannot be written; the old file is kept then.
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
    for name, text in {**tables(content), SUMMARY_JSON: _as_json(content)}.items():
        # An error may contain a file name that is not valid text.
        write_whole(folder / name, text.encode("utf-8", "backslashreplace"))
    return Summary(folder, content, results)


def tables(content: dict[str, Any]) -> dict[str, str]:
    """Returns the text of each file with tables, by its name.

    Args:
        content (dict): The content of `summary.json`.
    """
    return {
        SUMMARY_MARKDOWN: as_markdown(content),
        SUMMARY_LATEX: as_latex(content),
        SUMMARY_CSV: as_csv(content),
        SUMMARY_WIDE_CSV: as_wide_csv(content),
    }


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


def contents(results: Results, reference: str) -> dict[str, Any]:
    """Returns the content of `summary.json`.

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
        "citation": {},
        "titles": {metric: metric_title(metric) for metric in run["metrics"]},
        "images": {
            "total": len(results.images),
            "unreadable": [
                {"image": image, "error": error}
                for image, error in sorted(results.unreadable.items())
            ],
        },
        "models": {model: _model(results, model) for model in results.models},
        "decimals": {model: {} for model in results.models},
        "claims": [],
        "metric_tests": [
            _test(results, model, metric)
            for model in results.models
            for metric in results.metrics(model)
            if (model, metric) in results.tests
        ],
        "means": [],
        "pairs": [],
        "costs": [],
        "curves": [],
        "failures": [
            {**failure._asdict(), "images": count}
            for failure, count in sorted(results.failures.items())
        ],
    }
    content["claims"] = [_verdict(content, results, v) for v in verdicts_of(results)]
    version = version_of(content)
    content["citation"] = {"text": citation(version), "bibtex": bibtex(version)}
    chances = comparisons(results)
    content["tests"] = {"pairs": len(chances), "flips": N_FLIPS, "level": ALPHA}
    for model in results.models:
        for metric in results.metrics(model):
            _compare(results, model, metric, content, chances)
        content["costs"] += _costs(results, model)
    for model, metric in sorted(results.curves):
        content["curves"] += _mean_curves(results, model, metric)
    return content


def _verdict(
    content: dict[str, Any], results: Results, verdict: Verdict
) -> dict[str, Any]:
    claim = verdict.claim
    found = {**asdict(claim), **verdict._asdict()}
    numbers = {k: _number(v) for k, v in found.items() if isinstance(v, float)}
    test = results.tests.get((claim.model, claim.metric))
    return {
        **found,
        **numbers,
        "claim": claim_text(content, claim),
        "metric_can_judge": None if test is None else test.can_judge,
    }


def _test(results: Results, model: str, metric: str) -> dict[str, Any]:
    test = results.tests[model, metric]
    return {
        "model": model,
        "metric": metric,
        "method": results.run["settings"]["metric_test"]["method"],
        "maps": test.maps,
        "right_orders": None if test.share is None else _number(test.share),
        "kinds": {kind: _number(share) for kind, share in test.shares.items()},
        "undefined": _number(test.undefined),
        "can_judge": test.can_judge,
    }


def _model(results: Results, model: str) -> dict[str, Any]:
    present = [row for row in results.seen[model] if row is not None]
    predicted = [row for row in present if row.prediction is not None]
    labelled = [row for row in predicted if row.label is not None]
    correct = sum(row.prediction == row.label for row in labelled)
    return {
        "images": len(present),
        "waiting": results.waiting(model),
        "labelled": len(labelled),
        "top1": correct / len(labelled) if labelled else None,
    }


def _compare(
    results: Results,
    model: str,
    metric: str,
    content: dict[str, Any],
    chances: Comparisons,
) -> None:
    """Adds the means and differences of one metric on one model."""
    of, about = (model, metric), results.run["metrics"][metric]
    table = results.tables[of]
    defined = _defined(table)
    values = table.values[defined]
    undefined = int(((table.present > 0).any(1) & ~defined).sum())
    of_metric = {key[2:]: both for key, both in chances.items() if key[:2] == of}
    differences = _differences(
        values, results.methods, about["higher_is_better"], of_metric
    )
    found = bootstrap(values)
    best = best_methods(values, results.methods, about["higher_is_better"])
    if results.cannot_judge(model, metric):  # so it decides nothing
        best = set()
        differences = [{**pair, "distinct": False} for pair in differences]
    level = {
        pair["method"]
        for pair in differences
        if pair["other"] in best and not pair["distinct"]
    }
    if level:  # so the best mean is not decided either
        level, best = level | best, set()
    means: list[dict[str, Any]] = []
    for i, method in enumerate(results.methods):
        means.append(
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
                "level_with_best": method in level,
            }
        )
    content["means"] += means
    content["pairs"] += [{"model": model, "metric": metric, **d} for d in differences]
    content["decimals"][model][metric] = {
        "means": decimals(means, about["unit"]),
        "pairs": decimals(differences, about["unit"]),
    }


def _defined(table: Table) -> npt.NDArray[np.bool_]:
    """Images on which the metric has a value, or an error in place of one."""
    defined: npt.NDArray[np.bool_] = np.any(
        ~np.isnan(table.values) | (table.failed > 0), axis=1
    )
    return defined


def _differences(
    values: Array,
    methods: list[str],
    higher_is_better: bool | None,
    chances: dict[tuple[int, int], tuple[float, float]],
) -> list[dict[str, Any]]:
    """The differences of all pairs of methods, in both orders."""
    wins = win_shares(values, higher_is_better)
    found = []
    for a, b, difference in pairs(values):
        mean, low, high = (float(end) for end in difference[1:])
        for first, second, ends in (
            (a, b, (mean, low, high)),
            (b, a, (-mean, -high, -low)),
        ):
            pair = {
                "method": methods[first],
                "other": methods[second],
                "n": int(difference.n),
                "mean": _number(ends[0]),
                "low": _number(ends[1]),
                "high": _number(ends[2]),
                "wins": _number(wins[first, second]),
                "p": _number(chances[a, b][0]),
                "corrected_p": _number(chances[a, b][1]),
            }
            found.append({**pair, "distinct": is_distinct(pair)})
    return found


def _costs(results: Results, model: str) -> list[dict[str, Any]]:
    costs = []
    for metric in storage.COSTS:
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
    """Rounds to six digits, since the others depend on the order of additions."""
    if not np.isfinite(value):  # JSON has no form for it
        return None
    return float(f"{value:.6g}") + 0.0  # no minus zero


def _numbers(values: Array) -> list[float | None]:
    return [_number(value) for value in values]
