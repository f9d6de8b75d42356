"""Reads a CSV of images, with labels, masks and boxes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from captum_iscam.benchmark.dataset import Box, DataSet, FileItem, Mask
from captum_iscam.benchmark.image_files import check_encoding

_COLUMNS = ("file", "class_index", "class_name", "mask", "x0", "y0", "x1", "y1")


def is_table(path: Path) -> bool:
    """Whether a path is a table or a folder with `labels.csv`."""
    return path.is_file() or (path / "labels.csv").is_file()


def read_table(path: Path) -> DataSet:
    """A CSV of files and labels; `boxes.csv` next to it may list boxes."""
    file = path if path.is_file() else path / "labels.csv"
    root = file.parent
    boxes = _boxes(root / "boxes.csv") if (root / "boxes.csv").is_file() else {}
    items: dict[str, FileItem] = {}
    spelt: set[str] = set()
    for line, row in _rows(file):
        name = row["file"]
        # Two spellings of a path are one file.
        one = os.path.normpath(root / name)
        for used in (name, row.get("mask") or ""):
            check_encoding(used, line)
        if one in spelt:
            raise ValueError(
                f"data must name each file once, got {name!r} again in {line}. "
                "Delete one of the lines."
            )
        spelt.add(one)
        class_name = row.get("class_name") or None
        mask = row.get("mask")
        masks = (Mask(None, root / mask),) if mask else ()
        marks = tuple(boxes.pop(name, ()))
        label = _label(row, line)
        items[name] = FileItem(name, label, class_name, root / name, marks, masks, line)
    if boxes:
        raise ValueError(
            f"boxes must belong to files of {file.name}, got {next(iter(boxes))!r} in "
            f"{str(root / 'boxes.csv')!r}. Delete the line, or add the file."
        )
    if not items:
        raise ValueError(
            f"data must contain images, got a table without lines in {str(file)!r}. "
            "Write a line for each image."
        )
    return DataSet("csv", file, tuple(items.values()))


def _boxes(file: Path) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    for line, row in _rows(file):
        try:
            x0, y0, x1, y1 = (float(row[n] or "") for n in ("x0", "y0", "x1", "y1"))
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"boxes must have the numbers x0, y0, x1, y1, got {error} in {line}. "
                "Correct the line."
            ) from error
        name = row.get("class_name") or None
        box = Box(_label(row, line), x0, y0, x1, y1, name, line)
        found.setdefault(row["file"], []).append(box)
    return found


def _rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the lines of a CSV with a column `file`, each with its line number."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            _check_columns(reader.fieldnames or (), file)
            for row in reader:
                line = f"{file.name}, line {reader.line_num}"
                if None in row or None in row.values() or not row["file"]:
                    raise ValueError(
                        "data must have a file and as many fields as columns in each "
                        f"line, got another line in {line}. Correct it."
                    )
                yield line, row
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise ValueError(
            f"data must be a CSV file in UTF-8, got {str(file)!r} ({error}). "
            "Name a table or a folder."
        ) from error


def _check_columns(names: Sequence[str], file: Path) -> None:
    """Raises for a header that does not say what each column is."""
    if "file" not in names:
        raise ValueError(
            f"data must have a column named file, got "
            f"{', '.join(names) or 'an empty table'} in {str(file)!r}. Name the "
            "columns in the first line."
        )
    # What is read as a further column would be ignored.
    meant = [name.strip().lower() for name in names]
    for name, plain in zip(names, meant, strict=True):
        if plain in _COLUMNS and (name != plain or meant.count(plain) > 1):
            raise ValueError(
                f"data must have each of the columns {', '.join(_COLUMNS)} at most "
                f"once and spelt so, got {', '.join(map(repr, names))} in "
                f"{file.name}, line 1. Rename or delete {name!r}."
            )


def _label(row: dict[str, str], line: str) -> int | str | None:
    index = _integer(row, "class_index", line)
    return row.get("class_name") or None if index is None else index


def _integer(row: dict[str, str], column: str, line: str) -> int | None:
    text = (row.get(column) or "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(
            f"{column} must be an integer of 0 or more, got {text!r} in {line}. "
            "Put names into the column class_name."
        )
    return int(text)
