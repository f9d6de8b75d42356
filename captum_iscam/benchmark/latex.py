r"""The summary as LaTeX tables, for `\input` in a paper that uses `booktabs`."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from captum_iscam.benchmark.markdown import decided
from captum_iscam.benchmark.significance import MIN_IMAGES
from captum_iscam.benchmark.table_text import (
    count,
    counts,
    direction,
    fixed,
    interval,
    judging_mark,
    method_title,
    metric_title,
    parts,
    unit_of,
    version_of,
)

_WIDTH = 4  # metrics side by side, as many as the text of an article is wide
_CLAIMS = 15  # in a table, as many as a page is long
_ARROWS = {"↑": r" $\uparrow$", "↓": r" $\downarrow$", "": ""}
_ESCAPES = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
}
_ACCENTS = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def as_latex(content: dict[str, Any]) -> str:
    """Returns the verdicts, and tables of means of at most four metrics, in ASCII.

    Args:
        content (dict): The content of `summary.json`.
    """
    lines = [
        f"% Tables of captum-iscam benchmark, captum_iscam {version_of(content)}.",
        r"% In the preamble: \usepackage{booktabs}",
    ]
    for number, claims in enumerate(parts(content["claims"], _CLAIMS), start=1):
        lines += ["", *_claims(content, claims, number)]
    number = 0
    for model in content["run"]["models"]:
        means = [entry for entry in content["means"] if entry["model"] == model]
        metrics = list(dict.fromkeys(entry["metric"] for entry in means))
        for part in parts(metrics, _WIDTH):
            number += 1
            lines += ["", *_table(content, model, means, part, number)]
    return "\n".join(lines) + "\n"


def escape(text: object) -> str:
    r"""Returns text with everything that LaTeX reads as a command escaped.

    The result is ASCII, so that every engine and encoding takes it. A character that
    is no letter with an accent becomes its number.

    Examples::

        >>> print(escape("50% of a_b"), escape("é"), escape("中"))
        50\% of a\_b \'{e} U+4E2D
    """
    found = "".join(map(_escaped, " ".join(str(text).split())))
    found = re.sub("-(?=-)", "-{}", found)  # two would be a dash
    # At the start of a row both would be an argument of the row before.
    return re.sub(r"^([\[*])", r"{\1}", found)


def _escaped(sign: str) -> str:
    if sign in _ESCAPES:
        return _ESCAPES[sign]
    if sign.isascii() and sign.isprintable():
        return sign
    parted = unicodedata.normalize("NFD", sign)
    letter, mark = parted[0], parted[1:]
    if letter.isascii() and mark in _ACCENTS:
        return f"\\{_ACCENTS[mark]}{{{letter}}}"
    return f"U+{ord(sign):04X}"


def _table(
    content: dict[str, Any],
    model: str,
    means: list[dict[str, Any]],
    metrics: Sequence[str],
    number: int,
) -> list[str]:
    heads = [_heading(content, metric) for metric in metrics]
    rows = []
    for method in content["run"]["methods"]:
        rows += _method(content, model, method, means, metrics)
    images = [counts(means, metric, "n").replace("-", "--") for metric in metrics]
    rows += [r"\midrule", " & ".join(["Images", *images]) + r" \\"]
    return _framed(
        _caption(content, model, means, metrics),
        f"{_slug(model)}-{number}",
        "l" + "r" * len(metrics),
        ["Method", *heads],
        rows,
    )


def _framed(
    caption: str, label: str, columns: str, heads: Sequence[str], rows: Sequence[str]
) -> list[str]:
    return [
        r"\begin{table}",
        r"\centering",
        r"\small",
        r"\setlength{\tabcolsep}{4pt}",
        r"\setlength{\belowcaptionskip}{6pt}",
        f"\\caption{{{caption}}}",
        f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def _claims(
    content: dict[str, Any], claims: Sequence[dict[str, Any]], number: int
) -> list[str]:
    """The verdicts on claims, with the differences and their intervals."""
    rows = []
    for entry in claims:
        mean, low, high = (fixed(entry[end], 3, "+") for end in ("mean", "low", "high"))
        same = entry["verdict"] == "equivalent"
        p = entry["corrected_p_equivalent" if same else "corrected_p"]
        cells = [
            r"\raggedright " + escape(entry["claim"]),
            entry["verdict"] + (r"\rlap{$^\dagger$}" * _is_doubted(entry)),
            str(entry["n"]),
            # \shortstack would put its last line beside the first ones of the others.
            r"\begin{tabular}[t]{@{}r@{}}"
            f"${mean}$\\\\{{\\scriptsize $[{low}, {high}]$}}\\end{{tabular}}",
            f"${entry['margin']:g}$",
            "$<0.001$" if p < 0.001 else f"${p:.2g}$",
        ]
        rows += [" & ".join(cells) + r" \\", r"\addlinespace[3pt]"]
    return _framed(
        _claims_caption(content, claims),
        f"claims-{number}",
        r"p{0.34\linewidth}lrrrr",
        ["Claim", "Verdict", "$n$", "Difference", "Margin", "$p$"],
        rows[:-1],
    )


def _claims_caption(content: dict[str, Any], claims: Sequence[dict[str, Any]]) -> str:
    record, n_claims = content["run"]["claims"], len(content["claims"])
    confidence = 100 * content["bootstrap"]["confidence"]
    sentences = [
        f"Claims of {escape(record['file'])} (SHA-256 {record['sha256'][:12]}), "
        "written down before the run. Difference: first method less the second, with "
        f"its {confidence:.0f}\\,\\% interval. $p$: of no difference, or of a "
        "difference beyond the margin where equivalent, corrected by Holm's method for "
        f"all {n_claims} claims, level {100 * content['tests']['level']:g}\\,\\%."
    ]
    if any(entry["verdict"] == "undecided" for entry in claims):
        sentences.append(f"Fewer than {MIN_IMAGES} images decide nothing.")
    if any(map(_is_doubted, claims)):
        sentences.append(r"$^\dagger$: the metric failed its test on this network.")
    return " ".join(sentences)


def _is_doubted(entry: dict[str, Any]) -> bool:
    return entry["metric_can_judge"] is False


def _heading(content: dict[str, Any], metric: str) -> str:
    lines = [
        escape(part)
        for part in textwrap.wrap(metric_title(metric), 10, break_long_words=False)
    ]
    lines[-1] += _ARROWS[direction(content, metric)]
    lines.append(f"({escape(unit_of(content, metric))})")
    return r"\shortstack[r]{" + r"\\".join(lines) + "}"


def _method(
    content: dict[str, Any],
    model: str,
    method: str,
    means: list[dict[str, Any]],
    metrics: Sequence[str],
) -> list[str]:
    """The means of a method, and a line below them with their intervals."""
    found = {e["metric"]: e for e in means if e["method"] == method}
    values, ends = [], []
    for metric in metrics:
        entry = found[metric]
        digits = content["decimals"][model][metric]["means"]
        mean = fixed(entry["mean"], digits)
        mean = f"$\\mathbf{{{mean}}}$" if entry["best"] else f"${mean}$"
        # Without a width of its own, so that the numbers stay aligned.
        values.append(mean + (r"\rlap{$^\sim$}" if entry["level_with_best"] else ""))
        between = interval(entry, digits)
        ends.append(f"{{\\scriptsize $[{between[1:-1]}]$}}" if between else "")
    title = escape(method_title(content, method))
    lines = [" & ".join([title, *values]) + r" \\"]
    if any(ends):
        lines.append(" & ".join(["", *ends]).strip() + r" \\[2pt]")
    return lines


def _caption(
    content: dict[str, Any],
    model: str,
    means: list[dict[str, Any]],
    metrics: Sequence[str],
) -> str:
    run, bootstrap = content["run"], content["bootstrap"]
    shown = [e for e in means if e["metric"] in metrics]
    sentences = [
        f"Means over images on {escape(model)}, layer "
        f"{escape(run['models'][model].get('layer'))}, "
        f"$n={content['models'][model]['images']}$, with "
        f"{100 * bootstrap['confidence']:.0f}\\,\\% intervals "
        f"({bootstrap['interval']} bootstrap, {bootstrap['n_resamples']:,} resamples).",
        *_choices(run, metrics),
    ]
    arrows = {direction(content, metric) for metric in metrics}
    told = [("↑", "more is better"), ("↓", "less is better")]
    signs = [f"{_ARROWS[a].strip()} {what}" for a, what in told if a in arrows]
    if signs:
        sentences.append(f"{', '.join(signs)}.")
    if any(e["best"] for e in shown):
        sentences.append("Bold: best mean, different from that of every other method.")
    if any(e["level_with_best"] for e in shown):
        sentences.append(r"$^\sim$: best mean, and those not distinguished from it.")
    if any(e["best"] or e["level_with_best"] for e in shown):
        sentences.append(escape(decided(content)))
    if 0 < min((e["n"] for e in shown if e["n"]), default=0) < MIN_IMAGES:
        sentences.append(
            f"Over fewer than {MIN_IMAGES} images intervals are too narrow."
        )
    marks = {metric: judging_mark(content, model, metric) for metric in metrics}
    sentences += [
        f"{escape(f'{metric_title(metric)} {mark}')}."
        for metric, mark in marks.items()
        if mark
    ]
    waiting = content["models"][model]["waiting"]
    if waiting:
        sentences.append(f"Incomplete: {count(waiting, 'image')} to come.")
    seed = run["settings"].get("seed", run["data"].get("seed"))
    sentences.append(f"Seed {seed}, captum\\_iscam {escape(version_of(content))}.")
    return " ".join(sentences)


def _choices(run: dict[str, Any], metrics: Sequence[str]) -> Iterator[str]:
    """Yields what the numbers depend on: the class explained, and the pixels kept."""
    explained = {"predicted": "predicted", "true": "labelled"}
    which = explained.get(run["settings"].get("target_class", ""))
    if which:
        yield f"The {which} class is explained."
    kept: dict[float, list[str]] = {}
    for metric in metrics:
        keep = run["metrics"][metric].get("settings", {}).get("keep")
        if keep is not None:
            kept.setdefault(keep, []).append(escape(metric_title(metric)))
    for keep, titles in kept.items():
        yield f"{', '.join(titles)}: keep $={keep}$."


def _slug(model: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", model).strip("-") or "network"
