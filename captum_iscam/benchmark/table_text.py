"""What every table of the summary writes alike: titles, directions, numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from captum_iscam import __version__
from captum_iscam.benchmark.claims import Claim

_T = TypeVar("_T")
_SPELLED = {"adcc": "ADCC", "iou": "IoU", "road": "ROAD"}


def metric_title(metric: str) -> str:
    """Returns a metric's name as a heading.

    Examples::

        >>> metric_title("mask_iou"), metric_title("road_most_relevant_first")
        ('Mask IoU', 'ROAD most relevant first')
    """
    words = [_SPELLED.get(word, word) for word in metric.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def method_title(content: dict[str, Any], method: str) -> str:
    """Returns a method's name in figures and tables.

    Args:
        content (dict): The content of `summary.json`.
        method (str): Its name on the command line.
    """
    return str(content["run"]["methods"][method].get("title") or method)


def direction(content: dict[str, Any], metric: str) -> str:
    """Returns ↑ where more is better, ↓ where less is, and nothing where neither is."""
    higher = content["run"]["metrics"][metric]["higher_is_better"]
    return "" if higher is None else "↑" if higher else "↓"


def test_of(content: dict[str, Any], model: str, metric: str) -> dict[str, Any] | None:
    """Returns the entry of a metric's test on a network, None without one.

    Args:
        content (dict): The content of `summary.json`.
        model (str): The network.
        metric (str): The metric.
    """
    for entry in content["metric_tests"]:
        if (entry["model"], entry["metric"]) == (model, metric):
            return dict(entry)
    return None


def right_orders(content: dict[str, Any], model: str, metric: str) -> str:
    """Returns a metric's share of right orders, a dash where it has none.

    It is rounded down, so that what is below the limit is shown below it.
    """
    test = test_of(content, model, metric)
    share = None if test is None else test["right_orders"]
    return "-" if share is None else f"{int(100 * share + 1e-4)}%"


def judging_mark(content: dict[str, Any], model: str, metric: str) -> str:
    """Returns the mark of a metric that cannot judge on a network, nothing for others.

    Args:
        content (dict): The content of `summary.json`.
        model (str): The network.
        metric (str): The metric.
    """
    test = test_of(content, model, metric)
    if test is None or test["can_judge"] is not False:
        return ""
    return f"cannot judge here ({right_orders(content, model, metric)})"


def unit_of(content: dict[str, Any], metric: str) -> str:
    """Returns the sign or the name of a metric's unit."""
    unit = str(content["run"]["metrics"][metric]["unit"])
    return "%" if unit == "percent" else unit


def fixed(value: float | None, decimals: int, sign: str = "") -> str:
    """Returns a number with that many decimals, a dash for None.

    Examples::

        >>> fixed(0.29411, 3), fixed(0.0021, 2, "+"), fixed(-0.0021, 2), fixed(None, 1)
        ('0.294', '+0.00', '0.00', '-')
    """
    if value is None:
        return "-"
    text = f"{abs(value):.{decimals}f}"
    return ("-" if value < 0 and float(text) else sign) + text


def interval(entry: dict[str, Any], decimals: int, sign: str = "") -> str:
    """Returns the interval of an entry in brackets, nothing where there is none."""
    if entry["low"] is None:
        return ""
    low, high = (fixed(entry[end], decimals, sign) for end in ("low", "high"))
    return f"[{low}, {high}]"


def counts(means: Sequence[dict[str, Any]], metric: str, field: str) -> str:
    """Returns a count of all methods, or its smallest and largest value.

    Args:
        means (Sequence[dict]): The means of a model.
        metric (str): The metric.
        field (str): "n", "missing" or "undefined".
    """
    found = {entry[field] for entry in means if entry["metric"] == metric}
    return "-".join(map(str, sorted({min(found), max(found)})))


def count(n: int, thing: str) -> str:
    """Returns a number of things.

    Examples::

        >>> count(1, "image"), count(2, "image")
        ('1 image', '2 images')
    """
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def version_of(content: dict[str, Any]) -> str:
    """Returns the version of the package that a run was begun with."""
    return str(content["run"]["versions"].get("captum_iscam") or __version__)


def parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    """Yields the items in parts of that size, for tables side by side."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def claim_text(content: dict[str, Any], claim: Claim) -> str:
    """Returns a claim as a sentence.

    Args:
        content (dict): The content of `summary.json`.
        claim (Claim): The claim.
    """
    first, second = (method_title(content, m) for m in (claim.method, claim.other))
    of = f" ({claim.images})" if claim.images != "*" else ""
    where = f"{claim.model}{of}"
    what = metric_title(claim.metric)
    if claim.direction == "better":
        return f"{first} is better than {second}: {what}, {where}"
    return f"{first} is {claim.direction} than {second}: {what}, {where}"


def claim_marks(entry: dict[str, Any]) -> str:
    """Returns what stands behind a claim's verdict: what would decide, and a doubt."""
    doubt = ", metric cannot judge here" if entry["metric_can_judge"] is False else ""
    return images_needed(entry) + doubt


def images_needed(entry: dict[str, Any]) -> str:
    """Returns how many images would decide a claim, nothing where it is decided."""
    needed = entry["needed"]
    return f", about {needed:,.0f} images would decide" if needed else ""
