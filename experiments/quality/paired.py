"""Comparisons on the same photographs that are planned before the run, and their rows.

1. A script lists its `Comparison`s as data.
2. It adds a `Row` for each value to a file, photograph by photograph, so that it can be
   interrupted: what the file has is not computed again.
3. `outcomes` tests all comparisons, those without rows too, and corrects p for all.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from captum_iscam.benchmark.bootstrap import bootstrap
from captum_iscam.benchmark.image_tables import read_table
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.significance import (
    ALPHA,
    MIN_IMAGES,
    corrected,
    sign_flip,
)
from captum_iscam.metrics import (
    average_drop,
    deletion,
    energy_pointing_game,
    insertion,
)
from experiments.passes.record_outputs import ROWS
from experiments.quality.photographs import FOLDER, cropped

METRICS = {
    "insertion": "insertion ↑",
    "deletion": "deletion ↓",
    "average_drop": "average drop, keep 0.5 ↓ (%)",
    "energy_pointing_game": "energy in the box ↑",
}


class Row(NamedTuple):
    """A value of a photograph."""

    network: str
    image: str
    method: str
    metric: str
    value: float


class Comparison(NamedTuple):
    """A method, the one it is compared with, and where."""

    network: str
    method: str
    other: str
    metric: str


class Outcome(NamedTuple):
    """The mean difference, method less other, with its interval and p."""

    network: str
    method: str
    other: str
    metric: str
    n: int
    mean: float
    low: float
    high: float
    p: float
    corrected_p: float


class Rows:
    """The rows in a file, and which methods of which photographs it has.

    Args:
        file (Path): A CSV, made where there is none.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.all: list[Row] = []
        if file.is_file():
            with file.open(newline="") as lines:
                for row in csv.DictReader(lines, Row._fields):
                    self.all.append(Row(**(row | {"value": float(row["value"])})))
        self._done = {row[:3] for row in self.all}

    def has(self, network: str, image: str, method: str) -> bool:
        """Whether there are rows of a method for a photograph."""
        return (network, image, method) in self._done

    def add(self, rows: Iterable[Row]) -> None:
        """Adds all rows of a method for a photograph, or of several."""
        rows = list(rows)
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", newline="") as lines:
            csv.writer(lines, lineterminator="\n").writerows(rows)
        self.all += rows
        self._done |= {row[:3] for row in rows}


def box_of(file: Path, target: int) -> Tensor | None:
    """Returns the mask `(1, 1, 224, 224)` of the boxes of a class, None without any."""
    items = read_table(FOLDER / "images").items
    (item,) = (i for i in items if FOLDER / "images" / i.id == file)
    regions = item.read()[1] if item.has_regions else {}
    if target not in regions:
        return None
    mask = cropped(torch.from_numpy(regions[target]))[None, None]
    return mask if mask.any() else None


def judged(
    model: nn.Module,
    image: Tensor,
    attributions: Tensor,
    target: int,
    box: Tensor | None,
) -> dict[str, float]:
    """Returns the value of each metric that is defined for the map `(1, 1, h, w)`."""
    given = (model, image, attributions, target)
    found = {
        "insertion": insertion(*given, internal_batch_size=ROWS),
        "deletion": deletion(*given, internal_batch_size=ROWS),
        "average_drop": average_drop(*given, keep=0.5, internal_batch_size=ROWS),
    }
    if box is not None:
        found["energy_pointing_game"] = energy_pointing_game(attributions, box)
    return {name: float(value) for name, value in found.items()}


def outcomes(planned: Sequence[Comparison], rows: Iterable[Row]) -> list[Outcome]:
    """Returns what the rows say of each comparison; p is corrected for all."""
    values = {row[:4]: row.value for row in rows}
    images = sorted({row[1] for row in values})
    differences = np.full((len(images), len(planned)), np.nan)
    for column, (network, method, other, metric) in enumerate(planned):
        for line, image in enumerate(images):
            pair = [values.get((network, image, m, metric)) for m in (method, other)]
            if None not in pair:
                differences[line, column] = pair[0] - pair[1]
    p = sign_flip(differences)
    found = bootstrap(differences)
    numbers = zip(*found, p, corrected(p), strict=True)
    return [
        Outcome(*about, int(n), *map(float, rest))
        for about, (n, *rest) in zip(planned, numbers, strict=True)
    ]


def table(found: Sequence[Outcome], titles: dict[str, str], metrics: list[str]) -> str:
    """Returns a Markdown table: a line for each network and method, with differences.

    Those whose corrected p decides are bold, on enough photographs.
    """
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for outcome in found:
        if outcome.n:
            line = lines.setdefault((outcome.network, outcome.method), {})
            line[outcome.metric] = _cell(outcome)
    heads = ["network", "", *(METRICS[metric] for metric in metrics)]
    cells = [
        [network, titles[method], *(line.get(metric, "") for metric in metrics)]
        for (network, method), line in lines.items()
    ]
    return markdown_table(heads, cells, left=2)


def _cell(outcome: Outcome) -> str:
    digits = 1 if outcome.metric == "average_drop" else 3
    ends = (outcome.mean, outcome.low, outcome.high)
    mean, low, high = (f"{end + 0.0:+.{digits}f}" for end in ends)
    if outcome.n >= MIN_IMAGES and outcome.corrected_p <= ALPHA:
        mean = f"**{mean}**"
    chance = f"{outcome.corrected_p:.2g}"
    return f"{mean} [{low}, {high}], corrected p {chance}, n {outcome.n}"
