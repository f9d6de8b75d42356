"""Checks of what a folder contains before it is read: files, and lines of JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any


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
    line: bytes, file: Path, row: Collection[str], curve: Collection[str]
) -> dict[str, Any]:
    """Returns the record of a line.

    Args:
        line (bytes): The line.
        file (Path): The file it is from, for the message.
        row (Collection[str]): Names of the fields of a row.
        curve (Collection[str]): Names of the fields of a curve.

    Raises:
        ValueError: If it is no row and no curve, or a number is not finite.
    """
    try:
        record = json.loads(line)
        valid = isinstance(record, dict) and _is_record(record, row, curve)
    # A key that is missing, or an integer too large for a float.
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
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
    record: dict[str, Any], row: Collection[str], curve: Collection[str]
) -> bool:
    is_curve = "fractions" in record
    names = [record["model"], record["method"], record["metric"]]
    texts = [*names, record.get("group"), record.get("error")]
    indices = [record.get(name) for name in ("target", "label", "prediction")]
    numbers = [record.get("value"), record.get("probability")]
    if is_curve:
        numbers = [*record["fractions"], *record["scores"]]
        if None in [*names, *numbers]:
            return False
        if len(record["fractions"]) != len(record["scores"]):
            return False
    return (
        record.keys() <= set(curve if is_curve else row)
        and isinstance(record["image"], str)
        and all(text is None or isinstance(text, str) for text in texts)
        and all(index is None or isinstance(index, int) for index in indices)
        and all(number is None or math.isfinite(number) for number in numbers)
    )
