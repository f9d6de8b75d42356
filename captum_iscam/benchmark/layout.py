"""The folder a benchmark writes: what is where, and how to read it back.

::

    OUT/run.json                             the settings, written before the first row
    OUT/rows/rank0.jsonl                     one `Row` per line, a file per process
    OUT/curves/rank0.jsonl                   one `Curve` per line, a file per process
    OUT/images/<key>.jpg                     the input's crop, at most 160 pixels
    OUT/maps/<model>/<method>/<key>.png      8-bit grey, at most 112 pixels
    OUT/summary.md, summary.csv, summary.json, report.html, report_data/*.js
    OUT/.captum-iscam.lock                   held while a run writes here

`run.json` is one object::

    {"command": ["captum-iscam", "benchmark", ...],
     "settings": {"layer": null, "target_class": "predicted", "autocast": false, ...},
     "versions": {"python": "3.12.3", "torch": ..., "torchvision": ..., "captum": ...,
                  "captum_iscam": ...},
     "device": {"type": "cpu", "name": "...", "threads": 1, "processes": 1},
     "notes": ["..."],
     "data": {"kind": "scenes", "path": null, "samples": null, "seed": 0,
              "images": [{"id": "scene_0", "key": "scene_0-1f...", "label": 3,
                          "class": "star", "digest": null}, ...]},
     "models": {"squeezenet1_1": {"layer": "features", "weights": "squeezenet1_1.pt",
                "sha256": "...", "classes": 1000, "preprocessing": {...},
                "top1": 0.585, "class_names": {"91": "coucal", ...}}, ...},
     "methods": {"is-cam": {"title": "IS-CAM", "settings": {...}}, ...},
     "metrics": {"insertion": {"higher_is_better": true, "unit": "score",
                 "settings": {"substrate": "blur", ...}}, ...}}

`images` lists all images of the run in order; a digest changes when the file, its boxes
or its masks do. A model's `top1` is the share of its
images whose prediction is the label; it is null until the run is over and where no
image has a label. `class_names` are the model's names of the classes in the rows, there
when the run is over. `metrics` lists "seconds", "forward_passes" and "backward_passes"
as well; their rows come with every map. Model and method names are the names in the
rows.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

RUN = "run.json"
ROWS = "rows"
CURVES = "curves"
MAPS = "maps"
IMAGES = "images"
SUMMARY_MARKDOWN = "summary.md"
SUMMARY_CSV = "summary.csv"
SUMMARY_JSON = "summary.json"
REPORT = "report.html"
REPORT_DATA = "report_data"

WRITTEN = (
    ROWS,
    CURVES,
    SUMMARY_MARKDOWN,
    SUMMARY_CSV,
    SUMMARY_JSON,
    REPORT,
    REPORT_DATA,
)
"""What a run writes, less what has a name that nothing else has."""

MAP_SIZE = 112
"""Longest side of a stored map in pixels."""

THUMBNAIL_SIZE = 160
"""Longest side of a stored image in pixels."""

COSTS = ("seconds", "forward_passes", "backward_passes")
"""Metrics that say what a map cost, not how good it is; the fewer, the better."""


class Key(NamedTuple):
    """What a row is about; no two rows have the same."""

    image: str
    model: str | None
    method: str | None
    metric: str | None


@dataclass(frozen=True)
class Row:
    """One value: image x model x method x metric.

    An unreadable image has one row, with an error and neither model, method nor metric.

    Attributes:
        image (str): Id of the image, from `run.json`.
        model (str or None): Name of the model.
        method (str or None): Name of the method.
        metric (str or None): Name of the metric, or one of `COSTS`.
        value (float or None): None where the metric has no value: there is no box or
            mask of the target's class, the result is not a number, or there is an
            error.
        target (int or None): Class the map explains.
        label (int or None): True class.
        prediction (int or None): Class the model predicts.
        probability (float or None): The model's probability of the target.
        group (str or None): Name of the true class.
        error (str or None): What went wrong, in one line.
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
        """What the row is about."""
        return Key(self.image, self.model, self.method, self.metric)


@dataclass(frozen=True)
class Curve:
    """How the score of the target changes while an image is removed or put in.

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
        """What the curve is about; that of its row."""
        return Key(self.image, self.model, self.method, self.metric)


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
    """Returns where a map is, relative names as in the rows."""
    return folder / MAPS / model / method / f"{key}.png"


def image_file(folder: Path, key: str) -> Path:
    """Returns where the small picture of an image is."""
    return folder / IMAGES / f"{key}.jpg"


def to_line(record: Row | Curve) -> bytes:
    """Returns a record as one line of JSON.

    Raises:
        ValueError: If a number is infinite or not a number, which JSON cannot hold.
    """
    text = json.dumps(asdict(record), allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def read_run(folder: Path) -> dict[str, Any]:
    """Returns what `run.json` holds."""
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
    """Yields the records of all files, less a last line that was torn in writing."""
    for file in sorted(folder.glob("rank*.jsonl")):
        with file.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield _record(line, file)


def _record(line: bytes, file: Path) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        record = error
    if not isinstance(record, dict):
        raise ValueError(
            f"out must be a folder whose rows are as they were written, got the line "
            f"{line[:60]!r} in {str(file)!r}. Delete it, and give the command again to "
            "make it anew."
        )
    return record
