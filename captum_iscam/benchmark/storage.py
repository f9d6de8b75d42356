"""The folder of a benchmark: its files, and how to write and read them.

::

    OUT/run.json                             the settings, written before the first row
    OUT/rows/rank0.jsonl                     one `Row` per line, a file per process
    OUT/curves/rank0.jsonl                   one `Curve` per line, a file per process
    OUT/orders/rank0.jsonl                   one `JudgedMap` per line, of tested metrics
    OUT/images/<key>.jpg                     the input's crop, at most 160 pixels
    OUT/maps/<model>/<method>/<key>.png      8-bit grey, at most 112 pixels
    OUT/summary.md, summary.tex, summary.csv, summary_wide.csv, summary.json
    OUT/report.html, report_data/*.js
    OUT/.captum-iscam.lock                   locked while a run writes here

The folder of a model in `maps` is its name, made safe by `safe_name`. `run.json` is one
object::

    {"command": ["captum-iscam", "benchmark", ...],
     "settings": {"layer": null, "target_class": "predicted", "autocast": false, ...},
     "versions": {"python": "3.12.3", "torch": ..., "torchvision": ..., "captum": ...,
                  "captum_iscam": ...},
     "plugins": {"mine.py": "SHA-256 of the file"},
     "claims": {"file": "claims.toml", "sha256": "...", "claims": [...]},
     "device": {"type": "cpu", "name": "...", "threads": 1, "processes": 1},
     "notes": ["..."],
     "data": {"kind": "scenes", "path": null, "samples": null, "seed": 0,
              "images": [{"id": "scene_0", "key": "scene_0-1f...", "label": 3,
                          "class": "star", "digest": null}, ...]},
     "models": {"squeezenet1_1": {"layer": "features", "weights": "squeezenet1_1.pt",
                "sha256": "...", "classes": 1000, "preprocessing": {...},
                "source": "torchvision 0.20.0",
                "top1": 0.585, "class_names": {"91": "coucal", ...}}, ...},
     "methods": {"is-cam": {"title": "IS-CAM", "settings": {...}}, ...},
     "metrics": {"insertion": {"higher_is_better": true, "unit": "score",
                 "settings": {"substrate": "blur", ...}}, ...}}

`images` lists all images of the run in order. A digest changes when the file, its boxes
or its masks change. `top1` of a model is the share of the images whose prediction is
the label; it is null until the run is complete, and where no image has a label.
`class_names` are the names of the classes that occur in the rows, added when the run is
complete. `metrics` also lists "seconds", "forward_passes" and "backward_passes", of
which every map has rows. The rows use the same names of models and methods.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from captum_iscam._utils.files import safe_name, write_whole
from captum_iscam.benchmark.line_format import (
    Lines,
    check_is_file,
    ends_incomplete,
    parse_line,
)
from captum_iscam.benchmark.thumbnails import as_png

RUN = "run.json"
ROWS = "rows"
CURVES = "curves"
ORDERS = "orders"
MAPS = "maps"
IMAGES = "images"
SUMMARY_MARKDOWN = "summary.md"
SUMMARY_LATEX = "summary.tex"
SUMMARY_CSV = "summary.csv"
SUMMARY_WIDE_CSV = "summary_wide.csv"
SUMMARY_JSON = "summary.json"
REPORT = "report.html"
REPORT_DATA = "report_data"

WRITTEN = (
    ROWS,
    CURVES,
    ORDERS,
    SUMMARY_MARKDOWN,
    SUMMARY_LATEX,
    SUMMARY_CSV,
    SUMMARY_WIDE_CSV,
    SUMMARY_JSON,
    REPORT,
    REPORT_DATA,
)
"""Names of what a run writes that other programs may use too."""

COSTS = ("seconds", "forward_passes", "backward_passes")
"""Metrics of what a map costs; lower is better."""


class Key(NamedTuple):
    """Image, model, method and metric of a row; every row has another key."""

    image: str
    model: str | None
    method: str | None
    metric: str | None


@dataclass(frozen=True)
class Row:
    """One value: image x model x method x metric.

    An image that cannot be read has one row, with an error and no model, method or
    metric.

    Attributes:
        image (str): Id of the image, from `run.json`.
        model (str or None): Name of the model.
        method (str or None): Name of the method.
        metric (str or None): Name of the metric, or one of `COSTS`.
        value (float or None): None where the metric has no value: there is no box or
            mask of the target's class, the result is not finite, or there was an
            error.
        target (int or None): Class the map explains.
        label (int or None): True class.
        prediction (int or None): Class the model predicts.
        probability (float or None): The model's probability of the target; with
            `--score identity` its output.
        group (str or None): Name of the true class.
        error (str or None): The error, in one line.
    """

    image: str
    model: str | None = None
    method: str | None = None
    metric: str | None = None
    value: float | None = None
    target: int | None = None
    label: int | None = None
    prediction: int | None = None
    probability: float | None = None
    group: str | None = None
    error: str | None = None

    @property
    def key(self) -> Key:
        """The key of the row."""
        return Key(self.image, self.model, self.method, self.metric)


@dataclass(frozen=True)
class Curve:
    """The score of the target while pixels are inserted or deleted.

    Attributes:
        image (str): Id of the image.
        model (str): Name of the model.
        method (str): Name of the method.
        metric (str): "insertion" or "deletion".
        fractions (list[float]): Shares of the image, from 0 to 1.
        scores (list[float]): The target's score at each share.
    """

    image: str
    model: str
    method: str
    metric: str
    fractions: list[float]
    scores: list[float]

    @property
    def key(self) -> Key:
        """The key of the curve, which is that of its row."""
        return Key(self.image, self.model, self.method, self.metric)


@dataclass(frozen=True)
class JudgedMap:
    """How a metric has ordered a map and its copies that are worse.

    Attributes:
        image (str): Id of the image.
        model (str): Name of the model.
        method (str): Name of the method.
        metric (str): Name of the metric.
        target (int or None): Class the map explains; None if the model failed.
        other_target (int or None): The other class; None where there is none.
        right (dict[str, list[float or None]]): What :mod:`.degradation` calls `Orders`.
        error (str or None): The error in their place, in one line.
    """

    image: str
    model: str
    method: str
    metric: str
    target: int | None = None
    other_target: int | None = None
    right: dict[str, list[float | None]] = field(default_factory=dict)
    error: str | None = None

    @property
    def key(self) -> Key:
        """The key of its metric's row."""
        return Key(self.image, self.model, self.method, self.metric)


_KINDS = [[field.name for field in fields(of)] for of in (Row, Curve, JudgedMap)]


def image_key(name: str) -> str:
    """Returns a file name, safe and unique, for the id of an image.

    Examples::

        >>> image_key("cats/Tom & Jerry.jpg")
        'Tom-Jerry-19b859bc43'
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
    stem = name.rpartition("/")[2].rpartition(".")[0] or name.rpartition("/")[2]
    safe = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:40]
    return f"{safe or 'image'}-{digest[:10]}"


def rank_file(folder: Path, kind: str, rank: int) -> Path:
    """Returns the file of `ROWS`, `CURVES` or `ORDERS` that a process writes."""
    return folder / kind / f"rank{rank}.jsonl"


def map_file(folder: Path, model: str, method: str, key: str) -> Path:
    """Returns the file of a map, by the names in the rows."""
    return folder / MAPS / safe_name(model) / method / f"{key}.png"


def image_file(folder: Path, key: str) -> Path:
    """Returns the file of an image's thumbnail."""
    return folder / IMAGES / f"{key}.jpg"


def to_line(record: Row | Curve | JudgedMap) -> bytes:
    """Returns a record as one line of JSON.

    Raises:
        ValueError: If a number is infinite or not a number, which JSON has no form for.
    """
    text = json.dumps(asdict(record), allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def read_run(folder: Path) -> dict[str, Any]:
    """Returns the content of `run.json`."""
    check_is_file(folder / RUN)
    run: dict[str, Any] = json.loads((folder / RUN).read_bytes())
    return run


def read_rows(folder: Path) -> list[Row]:
    """Returns the rows of all processes, those of one image in their order."""
    return list(rows_in(folder))


def rows_in(folder: Path) -> Iterator[Row]:
    """Yields the rows of all processes, one of several equal ones.

    Raises:
        ValueError: If two rows of one key differ, of which nothing tells the right one.
    """
    # Their hashes alone: a folder may hold millions.
    found: dict[Key, int] = {}
    for file, record in _records(folder / ROWS):
        names = (_interned(record.get(name)) for name in ("model", "method", "metric"))
        key, content = Key(sys.intern(record["image"]), *names), hash(Row(**record))
        if key not in found:
            found[key] = content
            yield Row(**record)
        elif found[key] != content:
            raise ValueError(
                "out must be a folder with one row for each image, model, method and "
                f"metric, got two that differ for {tuple(key)}, the second in "
                f"{str(file)!r}. Delete the wrong line, or both and repeat the "
                "command, which computes it again."
            )


def read_curves(folder: Path) -> list[Curve]:
    """Returns the curves of all processes, the first where two have the same key."""
    return _first_of_each(Curve(**record) for record in read_lines(folder / CURVES))


def read_orders(folder: Path) -> list[JudgedMap]:
    """Returns the judged maps of all processes, the first where two have one key."""
    records = read_lines(folder / ORDERS)
    return _first_of_each(JudgedMap(**record) for record in records)


_Keyed = TypeVar("_Keyed", Curve, JudgedMap)


def _first_of_each(records: Iterable[_Keyed]) -> list[_Keyed]:
    found: dict[Key, _Keyed] = {}
    for record in records:
        found.setdefault(record.key, record)
    return list(found.values())


def read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of all files, without a last line that is incomplete."""
    return (record for _, record in _records(folder))


def _records(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for file in sorted(folder.glob("rank*.jsonl")):
        check_is_file(file)
        with file.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield file, parse_line(line, file, *_KINDS)


Cell = tuple[str | None, str | None, str | None]
"""Model, method and metric of a row."""


class Store:
    """The files that one process writes in the folder of a run.

    Opening it removes a last line that is incomplete because a run was killed.

    Args:
        folder (Path): The folder, which exists.
        rank (int): The number of the process; each has its own files.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._rank = folder, rank
        self._rows = Lines(rank_file(folder, ROWS, rank))
        self._curves = Lines(rank_file(folder, CURVES, rank))
        self._orders: Lines | None = None

    def __enter__(self) -> Store:
        """Returns itself; leaving the block closes the files."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the files."""
        for lines in self._files():
            lines.close()

    def add_row(self, row: Row) -> None:
        """Appends a row, which is kept even if the process is killed afterwards."""
        self._rows.append(to_line(row))

    def add_curve(self, curve: Curve) -> None:
        """Appends a curve; call it before the row it belongs to is appended."""
        self._curves.append(to_line(curve))

    def add_orders(self, judged: JudgedMap) -> None:
        """Appends a judged map; without any there is no file."""
        if self._orders is None:
            self._orders = Lines(rank_file(self._folder, ORDERS, self._rank))
        self._orders.append(to_line(judged))

    def sync(self) -> None:
        """Waits until everything that was appended is on the disk."""
        for lines in self._files():
            lines.sync()

    def _files(self) -> list[Lines]:
        files = [self._curves, self._rows, self._orders]
        return [lines for lines in files if lines is not None]

    def save_image(self, key: str, jpeg: bytes) -> None:
        """Writes the thumbnail of an image, if it is missing."""
        file = image_file(self._folder, key)
        if not file.exists():
            write_whole(file, jpeg, self._rank)

    def save_map(self, model: str, method: str, key: str, maps: Tensor) -> None:
        """Writes a map `(1, 1, h, w)` as a grey image; its maximum is white."""
        file = map_file(self._folder, model, method, key)
        write_whole(file, as_png(maps), self._rank)


def count_incomplete_lines(folder: Path) -> int:
    """Returns the number of files whose last line is incomplete."""
    kinds = (ROWS, CURVES, ORDERS)
    files = [f for kind in kinds for f in (folder / kind).glob("rank*.jsonl")]
    return sum(ends_incomplete(file) for file in files)


def done_cells(folder: Path, kind: str = ROWS) -> dict[str, set[Cell]]:
    """Returns the rows or `ORDERS` that exist, by image, of all processes."""
    done: dict[str, set[Cell]] = {}
    for record in rows_in(folder) if kind == ROWS else read_orders(folder):
        image, model, method, metric = record.key
        cell = (_interned(model), _interned(method), _interned(metric))
        done.setdefault(image, set()).add(cell)
    return done


def _interned(name: str | None) -> str | None:
    return None if name is None else sys.intern(name)
