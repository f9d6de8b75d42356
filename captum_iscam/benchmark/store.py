"""Rows, curves and pictures on disk, whole or not at all."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from types import TracebackType

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_iscam._utils.files import not_written, write_whole
from captum_iscam.benchmark.layout import (
    CURVES,
    MAP_SIZE,
    ROWS,
    Curve,
    Row,
    image_file,
    map_file,
    rank_file,
    read_lines,
    to_line,
)

Cell = tuple[str | None, str | None, str | None]
"""Model, method and metric of a row."""


class Store:
    """What one process writes into the folder of a run.

    Opening it drops a line that was torn when a run was killed.

    Args:
        folder (Path): The folder, which is there.
        rank (int): The process; each has its own files.
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
        """Appends a row; it survives whatever happens to the process from here on."""
        self._rows.append(to_line(row))

    def add_curve(self, curve: Curve) -> None:
        """Appends a curve, to be called before the row it belongs to."""
        self._curves.append(to_line(curve))

    def sync(self) -> None:
        """Returns once all rows and curves survive a loss of power."""
        self._curves.sync()
        self._rows.sync()

    def save_image(self, key: str, jpeg: bytes) -> None:
        """Writes the small picture of an image, if it is missing."""
        file = image_file(self._folder, key)
        if not file.exists():
            write_whole(file, jpeg, self._rank)

    def save_map(self, model: str, method: str, key: str, maps: Tensor) -> None:
        """Writes a map `(1, 1, h, w)` as a picture, its largest value white."""
        file = map_file(self._folder, model, method, key)
        write_whole(file, _as_png(maps), self._rank)


class _Lines:
    """A file of lines that grows; a failed write leaves no part of a line."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        self._file = file
        self._stream = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = _whole_lines(self._stream)
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


def torn_lines(folder: Path) -> int:
    """Returns how many files end in a part of a line; opening a store drops it."""
    files = [f for kind in (ROWS, CURVES) for f in (folder / kind).glob("rank*.jsonl")]
    return sum(_ends_torn(file) for file in files)


def done_cells(folder: Path) -> dict[str, set[Cell]]:
    """Returns which rows there are, by image, whoever wrote them."""
    done: dict[str, set[Cell]] = {}
    for record in read_lines(folder / ROWS):
        model, method, metric = (
            _interned(record[name]) for name in ("model", "method", "metric")
        )
        done.setdefault(record["image"], set()).add((model, method, metric))
    return done


def as_jpeg(image: Image.Image, side: int) -> bytes:
    """Returns a picture of at most `side` pixels as the bytes of a JPEG file."""
    small = image.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _as_png(maps: Tensor) -> bytes:
    values = maps.detach().float().cpu().nan_to_num(0.0, 0.0, 0.0).clamp_min(0)
    height, width = values.shape[2:]
    scale = MAP_SIZE / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    # Averaged where it shrinks, so that no peak falls between the pixels.
    shown = F.interpolate(
        values, size, mode="bilinear", align_corners=False, antialias=scale < 1
    )[0, 0]
    largest = float(shown.max())
    levels = (shown / largest if largest > 0 else shown).mul(255).round().byte()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(levels)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _whole_lines(stream: int) -> int:
    """Returns the length of a file up to the end of its last whole line."""
    size = os.fstat(stream).st_size
    while size > 0:
        start = max(0, size - 4096)
        at = os.pread(stream, size - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        size = start
    return 0


def _ends_torn(file: Path) -> bool:
    with file.open("rb") as stream:
        return _whole_lines(stream.fileno()) < os.fstat(stream.fileno()).st_size


def _interned(name: str | None) -> str | None:
    return None if name is None else sys.intern(name)
