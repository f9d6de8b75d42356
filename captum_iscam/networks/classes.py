"""Names of classes from a file or a folder."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from captum_iscam._utils.files import read_named
from captum_iscam._utils.validation import as_integer

_FORMS = (
    "Write one name a line, with indices from 0 in front of all or none (0,cat), or "
    'JSON: ["cat", "dog"], {"0": "cat", "1": "dog"} or {"cat": 0, "dog": 1}; or name a '
    "folder with a folder for each class."
)
_INDEX = r'(?P<quote>")?(?P<index>\d+)(?:\.0+)?(?(quote)")'
# There is no mark where a blank separates, which may be that of a name.
_NUMBERED = re.compile(_INDEX + r"(?:(?P<mark>\s*[,;:\t])|[.)]?\s)\s*(?P<name>.*)")
_NUMBER_LAST = re.compile(
    r"""(?P<name>.+?)(?:(?P<mark>\s*[,;\t]|(?<=["'])\s*:)|:?\s)\s*""" + _INDEX
)
# A mark of quotation may be in the name behind a backslash, or twice.
_QUOTED = re.compile(
    r"""(?P<mark>["'])(?P<name>(?:\\.|(?P=mark){2}|(?!(?P=mark))[^\\])*)(?P=mark)"""
)


def read_classes(given: str | Path | Sequence[str]) -> tuple[str, ...]:
    """Returns names of classes in the order of their indices.

    Args:
        given (str, Path or Sequence[str]): A file or folder, or the names themselves.

    Raises:
        ValueError: If there are no names, or they are not one for each index.
        FileNotFoundError: If the file is missing.
    """
    if isinstance(given, str | Path):
        names, where = _names_in(Path(given)), repr(str(given))
    else:
        names, where = [str(name) for name in given], "the names given"
    if not names or not all(names):
        raise ValueError(
            f"classes must hold a name for each class, got {len(names)} names, "
            f"{names.count('')} of them empty, in {where}. {_FORMS}"
        )
    return tuple(names)


def _names_in(path: Path) -> list[str]:
    if os.path.isdir(path):
        folders = (inside for inside in path.iterdir() if inside.is_dir())
        return sorted(f.name for f in folders if not f.name.startswith("."))
    content = read_named(path, "classes", _FORMS)
    try:
        text = content.decode("utf-8-sig")
        if path.suffix.lower() == ".json" or text.lstrip().startswith(("[", "{")):
            return _from_json(json.loads(text, object_pairs_hook=_once))
        lines = [line.strip() for line in text.rstrip().splitlines()]
        if all(line.startswith("- ") for line in lines):  # a list of YAML
            lines = [line[2:].lstrip() for line in lines]
        return _without_quotes(_from_lines(_without_commas(lines)))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"classes must be a file of names, got {str(path)!r} ({error}). {_FORMS}"
        ) from error


def _without_commas(lines: list[str]) -> list[str]:
    """Returns lines of a list in code, of which all but the last end with a comma."""
    if not all(line.endswith(",") for line in lines[:-1] or lines):
        return lines
    names = [line.removesuffix(",").rstrip() for line in lines]
    # An index alone lacks its name.
    return lines if any(name.isdecimal() for name in names) else names


def _without_quotes(names: list[str]) -> list[str]:
    """Returns names without their quotes, if all have some."""
    found = [match for match in map(_QUOTED.fullmatch, names) if match]
    if len(found) < len(names):
        return names
    names = [m["name"].replace(2 * m["mark"], m["mark"]) for m in found]
    return [re.sub(r"""\\(["'\\])""", r"\1", name) for name in names]


def _from_lines(lines: list[str]) -> list[str]:
    """Returns the names in lines, without the indices if there are some in all."""
    under_header = lines[1:] if lines[2:] else []
    for rows in filter(None, (lines, under_header)):
        for form in (_NUMBERED, _NUMBER_LAST):
            found = [match for match in map(form.fullmatch, rows) if match]
            if len(found) == len(rows) and not _are_names(found):
                return _in_order((int(row["index"]), _unquoted(row)) for row in found)
    for form in (_NUMBERED, _NUMBER_LAST):
        _check_unnumbered(lines, form)
    return lines


def _check_unnumbered(lines: list[str], form: re.Pattern[str]) -> None:
    """Raises if some lines have an index and others have none."""
    rows = [(line, form.fullmatch(line)) for line in lines]
    indexed = [line for line, row in rows if row and row["mark"]]
    bare = [line for line, row in rows if not row]
    if indexed and bare:
        raise ValueError(f"{indexed[0]!r} has an index, {bare[0]!r} has none")


def _are_names(found: list[re.Match[str]]) -> bool:
    """Whether lines are names with a number, such as "20 km/h" or "class 0"."""
    indices = sorted(int(row["index"]) for row in found)
    # Those from 1 on are indices as well, if wrong ones.
    in_turn = indices in [list(range(s, s + len(found))) for s in (0, 1)]
    one_name = len({row["name"] for row in found}) == 1 < len(found)
    blanks = all(not row["mark"] for row in found)
    return blanks and (one_name or not in_turn)


def _unquoted(row: re.Match[str]) -> str:
    """Returns the name in a row, which may be in quotes in a table."""
    mark = (row["mark"] or "").strip(" ")
    if mark not in (",", ";", "\t"):
        return row["name"]
    columns = next(csv.reader([row["name"]], delimiter=mark, skipinitialspace=True), [])
    if len(columns) > 1:
        raise ValueError(
            f"{row[0]!r} has more than an index and a name, which must be in quotes "
            f"if it has {mark!r} in it"
        )
    return "".join(columns)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Returns an object of JSON, which would have the last of two equal names."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _from_json(content: object) -> list[str]:
    if isinstance(content, dict):
        labels = content.get("id2label")  # as in the config.json of transformers
        if isinstance(labels, dict):
            return _from_json(labels)
        content = {key: _last_name(value) for key, value in content.items()}
        by_index = all(isinstance(value, str) for value in content.values())
        pairs = content.items() if by_index else ((v, k) for k, v in content.items())
        return _in_order((_index(index), str(name)) for index, name in pairs)
    if not isinstance(content, list) or not all(isinstance(n, str) for n in content):
        raise ValueError("neither a list nor an object of names and indices")
    return content


def _last_name(value: object) -> object:
    """Returns the name in a list such as ["n01440764", "tench"], else the value."""
    if isinstance(value, list) and value and all(isinstance(n, str) for n in value):
        return value[-1]
    return value


def _in_order(pairs: Iterable[tuple[int, str]]) -> list[str]:
    named = sorted(pairs)
    if [index for index, _ in named] != list(range(len(named))):
        raise ValueError(f"the indices are not 0 to {len(named) - 1}, once each")
    return [name for _, name in named]


def _index(value: object) -> int:
    if isinstance(value, str) and value.isdecimal():
        return int(value)
    index = as_integer(value)
    return -1 if index is None else index


def number(count: int) -> tuple[str, ...]:
    """Returns "class 0", "class 1" and so on, where no names are known."""
    return tuple(f"class {index}" for index in range(count))
