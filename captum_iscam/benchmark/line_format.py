"""Files of lines of JSON: checks before they are read, and how they grow."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from captum_iscam._utils.files import not_written

# A key that is missing, orders that are no object, or an integer too large for a float.
_MALFORMED = (
    AttributeError,
    KeyError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


def check_is_file(file: Path) -> None:
    """Raises for a pipe, a device or a folder: reading a pipe waits for a writer.

    Raises:
        ValueError: If there is something other than a file.
    """
    if file.exists() and not file.is_file():
        raise ValueError(
            f"out must be a folder in which {file.name} is a file, got {str(file)!r}, "
            "which is something else. Remove it."
        )


def parse_line(
    line: bytes,
    file: Path,
    row: Collection[str],
    curve: Collection[str],
    judged: Collection[str],
) -> dict[str, Any]:
    """Returns the record of a line.

    Args:
        line (bytes): The line.
        file (Path): The file it is from, for the message.
        row (Collection[str]): Names of the fields of a row.
        curve (Collection[str]): Names of the fields of a curve.
        judged (Collection[str]): Names of the fields of a judged map.

    Raises:
        ValueError: If it is none of these, or a number is not finite.
    """
    try:
        record = json.loads(line)
        valid = isinstance(record, dict) and _is_record(record, row, curve, judged)
    except _MALFORMED:
        valid = False
    if not valid:
        raise ValueError(
            f"out must be a folder with unchanged rows, got the line {line[:60]!r} in "
            f"{str(file)!r}. Delete the line and repeat the command, which computes it "
            "again."
        )
    found: dict[str, Any] = record
    return found


def _is_record(
    record: dict[str, Any],
    row: Collection[str],
    curve: Collection[str],
    judged: Collection[str],
) -> bool:
    known = row
    names = [record["model"], record["method"], record["metric"]]
    texts = [*names, record.get("group"), record.get("error")]
    fields = ("target", "other_target", "label", "prediction")
    indices = [record.get(name) for name in fields]
    numbers = [record.get("value"), record.get("probability")]
    if "fractions" in record:
        known, numbers = curve, [*record["fractions"], *record["scores"]]
        if None in [*names, *numbers]:
            return False
        if len(record["fractions"]) != len(record["scores"]):
            return False
    elif "right" in record:
        known = judged
        numbers = [number for steps in record["right"].values() for number in steps]
        if None in names:
            return False
    return (
        record.keys() <= set(known)
        and isinstance(record["image"], str)
        and all(text is None or isinstance(text, str) for text in texts)
        and all(index is None or isinstance(index, int) for index in indices)
        and all(number is None or math.isfinite(number) for number in numbers)
    )


class Lines:
    """A file to which lines are appended; a failed write leaves no incomplete line."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(exist_ok=True)
        check_is_file(file)
        self._file = file
        self._stream = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        self._end = _end_of_last_line(self._stream)
        os.ftruncate(self._stream, self._end)

    def append(self, line: bytes) -> None:
        """Writes a line, which is kept even if the process is killed afterwards."""
        try:
            written = os.pwrite(self._stream, line, self._end)
            while written < len(line):
                written += os.pwrite(self._stream, line[written:], self._end + written)
        except OSError as error:
            os.ftruncate(self._stream, self._end)
            raise not_written(error, self._file) from error
        self._end += len(line)

    def sync(self) -> None:
        """Waits until all lines are on the disk."""
        try:
            os.fsync(self._stream)
        except OSError as error:
            raise not_written(error, self._file) from error

    def close(self) -> None:
        """Closes the file."""
        os.close(self._stream)


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


def ends_incomplete(file: Path) -> bool:
    """Returns whether the last line of a file is incomplete."""
    check_is_file(file)
    with file.open("rb") as stream:
        return _end_of_last_line(stream.fileno()) < os.fstat(stream.fileno()).st_size
