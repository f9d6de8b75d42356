"""The folder of a command's output, and the names of what is made of pictures."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from captum_iscam._files import drop_unfinished, locked
from captum_iscam.networks import sha256

# A file name has at most 255 bytes in most file systems; what is added to a picture's
# name needs some of them.
_LONGEST = 200

Owners = Mapping[str, str | None]
"""Which picture a record is about: its SHA-256 by name, None for a bundled scene."""


def make_folder(folder: Path) -> Path:
    """Returns the folder, made if it was missing.

    Raises:
        ValueError: If it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"out must be a folder that can be made, got {str(folder)!r} "
            f"({error.strerror}). Choose another with --out."
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"out must be a folder that can be written, got {str(folder)!r}. "
            "Choose another with --out."
        )
    return folder


@contextmanager
def own_folder(folder: Path) -> Iterator[Owners]:
    """Keeps other runs out of a folder, made if it was missing; says what is in it.

    Yields which picture each record there is about.

    Raises:
        ValueError: If it cannot be made or written, or another run is writing there.
    """
    with locked(make_folder(folder)):
        parts, earlier = drop_unfinished(folder), _records(folder)
        if parts:
            said = f"{folder} holds {parts} unfinished files of a run that was cut off"
            tqdm.write(f"{said}; they are removed.", file=sys.stderr)
        if earlier:
            said = f"{folder} holds what was made of {len(earlier)} pictures before"
            tqdm.write(f"{said}; only the same pictures' is replaced.", file=sys.stderr)
        yield earlier


def output_names(
    files: Iterable[str | Path], earlier: Owners | None = None
) -> list[str]:
    """Returns a name without suffix for each file, all of them different.

    That is the file's stem, with a number where that is taken; letter case does not
    tell names apart, since it does not on every file system.

    Args:
        files (Iterable[str or Path]): The pictures.
        earlier (Owners, optional): Names that are taken for all but the picture of
            this SHA-256. Default: None

    Examples::

        >>> output_names(["a/cat.jpg", "b/cat.jpg", "dog.png"])
        ['cat', 'cat-2', 'dog']
    """
    owners = {name.casefold(): digest for name, digest in (earlier or {}).items()}
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        digest = _digest(Path(file)) if owners else None
        stem = _shortened(Path(file).stem) or "image"
        name, number = stem, 1
        while (key := name.casefold()) in taken or owners.get(key, digest) != digest:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def printable(text: str) -> str:
    r"""Returns a text that any terminal takes as text, whatever a file is called.

    Examples::

        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    escaped = "".join(
        sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1]
        for sign in text
    )
    coding = sys.stdout.encoding or "utf-8"
    return escaped.encode(coding, "backslashreplace").decode(coding)


def _records(folder: Path) -> dict[str, str | None]:
    found = {}
    for file in folder.glob("*.json"):
        try:
            record = json.loads(file.read_bytes())
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and "image" in record:
            found[file.stem] = record.get("image_sha256")
    return found


def _digest(file: Path) -> str | None:
    try:
        return sha256(file) if file.is_file() else None
    except OSError:
        return None


def _shortened(stem: str) -> str:
    whole = stem.encode("utf-8", "surrogateescape")
    if len(whole) <= _LONGEST:
        return stem
    return whole[:_LONGEST].decode("utf-8", "ignore")
