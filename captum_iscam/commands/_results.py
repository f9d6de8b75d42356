"""What a folder holds of earlier results, and names that are free beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captum_iscam.networks import sha256

SUFFIXES = (".png", ".npz", ".json")
"""Of the files that are made of one picture."""

# A file name has at most 255 bytes in most file systems; what is added to a picture's
# name needs some of them.
_LONGEST = 200

# Records of ours have a few megabytes at most.
_LARGEST_RECORD = 2**25


@dataclass(frozen=True)
class Held:
    """What a folder holds.

    Attributes:
        folder (Path): The folder.
        owners (dict[str, str or None]): Which picture a record is about: its SHA-256 by
            name, None for a bundled scene.
        files (set[str]): Names of everything there, in folded case.
    """

    folder: Path
    owners: dict[str, str | None] = field(default_factory=dict)
    files: frozenset[str] = frozenset()

    def is_free(self, name: str, digest: str | None) -> bool:
        """Says whether a picture's files may have a name: nobody else's have it."""
        if name in self.owners:
            return self.owners[name] == digest
        names = (f"{name}{suffix}".casefold() for suffix in SUFFIXES)
        return self.files.isdisjoint(names)


def held_by(folder: Path) -> Held:
    """Returns what a folder holds."""
    owners = {}
    for file in folder.glob("*.json"):
        record = read_record(file)
        if record is not None:
            owners[file.stem] = record.get("image_sha256")
    return Held(folder, owners, frozenset(f.name.casefold() for f in folder.iterdir()))


def read_record(file: Path) -> dict[str, Any] | None:
    """Returns a record of ours, None where the file is anything else."""
    try:
        # A pipe of that name would be waited for.
        if not file.is_file() or file.stat().st_size > _LARGEST_RECORD:
            return None
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(record, dict) and {"image", "maps", "files"} <= record.keys()
    return record if ours else None


def output_names(files: Iterable[str | Path], held: Held | None = None) -> list[str]:
    """Returns a name without suffix for each file, all of them different.

    That is the file's stem, with a number where that is taken; letter case does not
    tell names apart, since it does not on every file system.

    Args:
        files (Iterable[str or Path]): The pictures.
        held (Held, optional): What is in the folder. A name is taken where a file there
            has it, but for what was made of the same picture. The pictures themselves
            are never written over. Default: None

    Examples::

        >>> output_names(["a/cat.jpg", "b/cat.jpg", "dog.png"])
        ['cat', 'cat-2', 'dog']
    """
    pictures = [Path(file) for file in files]
    stems = [_shortened(picture.stem) or "image" for picture in pictures]
    if held is None:
        return free_names(stems)
    digests = [_digest(picture) for picture in pictures]
    inputs = {place for p in pictures if (place := _place(p)) is not None}
    return free_names(stems, digests, held, inputs)


def free_names(
    stems: Sequence[str],
    digests: Sequence[str | None] | None = None,
    held: Held | None = None,
    inputs: Iterable[tuple[int, int]] = (),
) -> list[str]:
    """Returns a free name for each stem, which is the stem or has a number behind it.

    Args:
        stems (Sequence[str]): The names wanted.
        digests (Sequence[str or None], optional): Of the pictures they are for.
            Default: None, bundled scenes
        held (Held, optional): What is in the folder. Default: None, nothing
        inputs (Iterable[tuple[int, int]], optional): Device and number of files that
            are not to be written over. Default: ()
    """
    names: list[str] = []
    taken: set[str] = set()
    inputs = set(inputs)
    for stem, digest in zip(stems, digests or [None] * len(stems), strict=True):
        name, number = stem, 1
        while name.casefold() in taken or not _may_have(name, digest, held, inputs):
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _may_have(
    name: str, digest: str | None, held: Held | None, inputs: set[tuple[int, int]]
) -> bool:
    if held is None:
        return True
    files = [held.folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return held.is_free(name, digest) and not inputs & {_place(file) for file in files}


def _place(file: Path) -> tuple[int, int] | None:
    """Returns what tells a file from all others, whatever path leads to it."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


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
