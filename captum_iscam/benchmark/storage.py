"""The folder of a benchmark: its files, and how to write and read them.

::

    OUT/run.json                             the settings, written before the first row
    OUT/rows/rank0.jsonl                     one `Row` per line, a file per process
    OUT/curves/rank0.jsonl                   one `Curve` per line, a file per process
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
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_iscam._utils.files import not_written, safe_name, write_whole
from captum_iscam.benchmark.line_format import check_is_file, parse_line

RUN = "run.json"
ROWS = "rows"
CURVES = "curves"
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
    SUMMARY_MARKDOWN,
    SUMMARY_LATEX,
    SUMMARY_CSV,
    SUMMARY_WIDE_CSV,
    SUMMARY_JSON,
    REPORT,
    REPORT_DATA,
)
"""Names of what a run writes that other programs may use too."""

MAP_SIZE = 112
"""Longest side of a stored map in pixels."""

THUMBNAIL_SIZE = 160
"""Longest side of a stored image in pixels."""

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


_ROW, _CURVE = ([field.name for field in fields(of)] for of in (Row, Curve))


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
    """Returns the file of `ROWS` or `CURVES` that a process writes."""
    return folder / kind / f"rank{rank}.jsonl"


def map_file(folder: Path, model: str, method: str, key: str) -> Path:
    """Returns the file of a map, by the names in the rows."""
    return folder / MAPS / safe_name(model) / method / f"{key}.png"


def image_file(folder: Path, key: str) -> Path:
    """Returns the file of an image's thumbnail."""
    return folder / IMAGES / f"{key}.jpg"


def to_line(record: Row | Curve) -> bytes:
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
    return [Row(**record) for record in read_lines(folder / ROWS)]


def read_curves(folder: Path) -> list[Curve]:
    """Returns the curves of all processes, the first where two have the same key."""
    curves: dict[Key, Curve] = {}
    for record in read_lines(folder / CURVES):
        curve = Curve(**record)
        curves.setdefault(curve.key, curve)
    return list(curves.values())


def read_lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields the records of all files, without a last line that is incomplete."""
    for file in sorted(folder.glob("rank*.jsonl")):
        check_is_file(file)
        with file.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield parse_line(line, file, _ROW, _CURVE)


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
        self._rows = _Lines(rank_file(folder, ROWS, rank))
        self._curves = _Lines(rank_file(folder, CURVES, rank))

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
        self._rows.close()
        self._curves.close()

    def add_row(self, row: Row) -> None:
        """Appends a row, which is kept even if the process is killed afterwards."""
        self._rows.append(to_line(row))

    def add_curve(self, curve: Curve) -> None:
        """Appends a curve; call it before the row it belongs to is appended."""
        self._curves.append(to_line(curve))

    def sync(self) -> None:
        """Waits until all rows and curves are on the disk."""
        self._curves.sync()
        self._rows.sync()

    def save_image(self, key: str, jpeg: bytes) -> None:
        """Writes the thumbnail of an image, if it is missing."""
        file = image_file(self._folder, key)
        if not file.exists():
            write_whole(file, jpeg, self._rank)

    def save_map(self, model: str, method: str, key: str, maps: Tensor) -> None:
        """Writes a map `(1, 1, h, w)` as a grey image; its maximum is white."""
        file = map_file(self._folder, model, method, key)
        write_whole(file, as_png(maps), self._rank)


class _Lines:
    """A file to which lines are appended; a failed write leaves no incomplete line."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        check_is_file(file)
        self._file = file
        self._stream = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = _end_of_last_line(self._stream)
        os.ftruncate(self._stream, self._end)

    def append(self, line: bytes) -> None:
        try:
            written = os.pwrite(self._stream, line, self._end)
            while written < len(line):
                written += os.pwrite(self._stream, line[written:], self._end + written)
        except OSError as error:
            os.ftruncate(self._stream, self._end)
            raise not_written(error, self._file) from error
        self._end += len(line)

    def sync(self) -> None:
        try:
            os.fsync(self._stream)
        except OSError as error:
            raise not_written(error, self._file) from error

    def close(self) -> None:
        os.close(self._stream)


def count_incomplete_lines(folder: Path) -> int:
    """Returns the number of files whose last line is incomplete."""
    files = [f for kind in (ROWS, CURVES) for f in (folder / kind).glob("rank*.jsonl")]
    return sum(_ends_incomplete(file) for file in files)


def done_cells(folder: Path) -> dict[str, set[Cell]]:
    """Returns the rows that exist, by image, whichever process wrote them."""
    done: dict[str, set[Cell]] = {}
    for record in read_lines(folder / ROWS):
        model, method, metric = (
            _interned(record[name]) for name in ("model", "method", "metric")
        )
        done.setdefault(record["image"], set()).add((model, method, metric))
    return done


def as_jpeg(image: Image.Image, side: int) -> bytes:
    """Returns an image of at most `side` pixels as the bytes of a JPEG file."""
    small = image.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def as_png(maps: Tensor) -> bytes:
    """Returns a map `(1, 1, h, w)` as the bytes of a grey PNG; its maximum is white."""
    values = maps.detach().float().cpu().nan_to_num(0.0, 0.0, 0.0).clamp_min(0)
    height, width = values.shape[2:]
    scale = MAP_SIZE / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    # With antialiasing where the map shrinks, so that no peak is lost between pixels.
    small = F.interpolate(
        values, size, mode="bilinear", align_corners=False, antialias=scale < 1
    )[0, 0]
    largest = float(small.max())
    levels = (small / largest if largest > 0 else small).mul(255).round().byte()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(levels)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _end_of_last_line(stream: int) -> int:
    """Returns the length of a file up to the end of its last complete line."""
    size = os.fstat(stream).st_size
    while size > 0:
        start = max(0, size - 4096)
        at = os.pread(stream, size - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        size = start
    return 0


def _ends_incomplete(file: Path) -> bool:
    check_is_file(file)
    with file.open("rb") as stream:
        return _end_of_last_line(stream.fileno()) < os.fstat(stream.fileno()).st_size


def _interned(name: str | None) -> str | None:
    return None if name is None else sys.intern(name)
