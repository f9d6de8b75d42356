"""Rows, curves and pictures on disk, whole or not at all."""

from __future__ import annotations

import fcntl
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_iscam.benchmark.layout import (
    CURVES,
    LOCK,
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
            raise _not_written(error, self._file) from error
        self._end += len(line)

    def sync(self) -> None:
        try:
            os.fsync(self._stream)
        except OSError as error:
            raise _not_written(error, self._file) from error

    def close(self) -> None:
        os.close(self._stream)


def write_whole(file: Path, content: bytes, rank: int = 0) -> None:
    """Writes a file that is complete whenever it can be seen.

    Raises:
        OSError: If it cannot be written; nothing of it is left then.
    """
    # Named by the process alone, so that what a killed run leaves is written over.
    part = file.with_name(f".{file.name}.{rank}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _not_written(error, file) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other runs out of the folder, until the block or the process ends.

    Raises:
        ValueError: If another run is writing there.
    """
    with (folder / LOCK).open("a+") as stream:
        try:
            # Of the process alone: a flock would live on in workers that outlive it.
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.seek(0)
            owner = stream.read().strip() or "unknown"
            raise ValueError(
                "out must be a folder no other run writes to, got "
                f"{str(folder)!r}, where process {owner} is at work. Wait for it or "
                "choose another with --out."
            ) from error
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield


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


def as_json(value: Any) -> bytes:
    """Returns JSON for people to read."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


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


def _interned(name: str | None) -> str | None:
    return None if name is None else sys.intern(name)


def _not_written(error: OSError, file: Path) -> OSError:
    said = error.strerror or str(error)
    return OSError(
        f"{file} cannot be written ({said}). Nothing is lost: make room or mend it, "
        "and the same command goes on from there."
    )
