"""The folder of a command's output."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from captum_iscam._utils.files import (
    drop_unfinished,
    locked,
    not_written,
    part_of,
    sha256_if_readable,
    unfinished,
)


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
def own_folder(folder: Path) -> Iterator[ExistingOutput]:
    """Keeps other runs out of a folder, made if it was missing; says what is in it.

    Yields what it holds.

    Raises:
        ValueError: If it cannot be made or written, or another run is writing there.
    """
    with locked(make_folder(folder)):
        finished, parts = finish_moves(folder), drop_unfinished(folder)
        existing = scan_output(folder)
        for said in _what_is_there(existing, finished, parts):
            say(f"{folder} holds {said}.", sys.stderr)
        yield existing


def _what_is_there(
    existing: ExistingOutput, finished: int, parts: int
) -> Iterator[str]:
    if finished:
        yield (
            f"the results of {finished} pictures that a run was cut off in putting in "
            "their places; that is completed"
        )
    if parts:
        yield f"{parts} unfinished files of a run that was cut off; they are removed"
    if existing.owners:
        yield (
            f"what was made of {len(existing.owners)} pictures before; only the same "
            "pictures' is replaced"
        )
    if existing.changed:
        names = ", ".join(sorted(existing.changed))
        yield f"files that are not those of their records ({names}); they stay"
    if existing.lost:
        yield f"records that miss a file ({', '.join(sorted(existing.lost))})"


def say(text: str, stream: TextIO) -> None:
    """Writes one line above the progress bar, as :func:`printable` text."""
    tqdm.write(printable(text, stream), file=stream)


def printable(text: str, stream: TextIO) -> str:
    r"""Returns a text as one line that a stream takes, whatever a file is called.

    Examples::

        >>> printable("a\x1b[2Jb\n", sys.stdout)
        'a\\x1b[2Jb\\n'
    """
    escaped = "".join(
        sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text
    )
    coding = stream.encoding or "utf-8"
    return escaped.encode(coding, "backslashreplace").decode(coding)


SUFFIXES = (".png", ".npz", ".json")
"""Of the files that are made of one picture."""

# A file name has at most 255 bytes in most file systems; what is added to a picture's
# name needs some of them.
_LONGEST = 200

# Records of ours have a few megabytes at most.
_LARGEST_RECORD = 2**25


@dataclass(frozen=True)
class ExistingOutput:
    """What a folder holds.

    Attributes:
        folder (Path): The folder.
        owners (dict[str, str or None]): Which picture a record is about: its SHA-256 by
            name, None for a bundled scene.
        files (set[str]): Names of everything there, in folded case.
        lost (set[str]): Names of records that miss a file.
        changed (set[str]): Names of records beside a file that is not the one they are
            about.
    """

    folder: Path
    owners: dict[str, str | None] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()

    def is_free(self, name: str, digest: str | None) -> bool:
        """Says whether a picture's files may have a name: nobody else's have it."""
        if name in self.owners:
            return self.owners[name] == digest and name not in self.changed
        names = (f"{name}{suffix}".casefold() for suffix in SUFFIXES)
        return self.files.isdisjoint(names)


def scan_output(folder: Path) -> ExistingOutput:
    """Returns what a folder holds."""
    owners: dict[str, str | None] = {}
    lost, changed = set(), set()
    for file in sorted(folder.glob("*.json")):
        record = read_record(file)
        if record is None:
            continue
        owners[file.stem] = record.get("image_sha256")
        for kind, beside in _beside(file).items():
            expected = _digests(record).get(kind)
            if not os.path.lexists(beside):
                lost.add(file.stem)
            elif expected is not None and sha256_if_readable(beside) != expected:
                changed.add(file.stem)
    files = frozenset(file.name.casefold() for file in folder.iterdir())
    return ExistingOutput(folder, owners, files, frozenset(lost), frozenset(changed))


def finish_moves(folder: Path) -> int:
    """Completes what a run that ended between two moves had begun.

    Such a run has moved the picture already, and left the record beside its place.

    Returns:
        Of how many pictures that was.

    Raises:
        OSError: If a file cannot be moved.
    """
    finished = 0
    for part in unfinished(folder):
        named = re.fullmatch(r"\.captum-iscam\.(.+\.json)\.0\.part", part.name)
        record = read_record(part) if named else None
        if named and record is not None:
            finished += _finish(folder / named[1], part, record)
    return finished


def _finish(file: Path, part: Path, record: dict[str, Any]) -> bool:
    beside, digests = _beside(file), _digests(record)
    picture, maps = beside["picture"], beside["maps"]
    if not digests or sha256_if_readable(picture) != digests.get("picture"):
        return False
    # Whoever put a file there since then keeps it.
    before = read_record(file)
    if os.path.lexists(file) and (
        before is None or before.get("image_sha256") != record.get("image_sha256")
    ):
        return False
    moves = {part: file}
    if sha256_if_readable(maps) != digests.get("maps"):
        known = _digests(before or {}).get("maps")
        if os.path.lexists(maps) and (
            known is None or sha256_if_readable(maps) != known
        ):
            return False
        if sha256_if_readable(part_of(maps)) != digests.get("maps"):
            return False
        moves = {part_of(maps): maps, part: file}
    for here, there in moves.items():
        try:
            here.replace(there)
        except OSError as error:
            raise not_written(error, there) from error
    return True


def _beside(file: Path) -> dict[str, Path]:
    """Returns the files that a record is about."""
    return {"picture": file.with_suffix(".png"), "maps": file.with_suffix(".npz")}


def _digests(record: dict[str, Any]) -> dict[str, Any]:
    digests = record.get("files_sha256")
    return digests if isinstance(digests, dict) else {}


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


def output_names(
    files: Iterable[str | Path], existing: ExistingOutput | None = None
) -> list[str]:
    """Returns a name without suffix for each file, all of them different.

    That is the file's stem, with a number where that is taken; letter case does not
    tell names apart, since it does not on every file system.

    Args:
        files (Iterable[str or Path]): The pictures.
        existing (ExistingOutput, optional): What is in the folder. A name is taken
            where a file there has it, but for what was made of the same picture. The
            pictures themselves are never written over. Default: None

    Examples::

        >>> output_names(["a/cat.jpg", "b/cat.jpg", "dog.png"])
        ['cat', 'cat-2', 'dog']
    """
    pictures = [Path(file) for file in files]
    stems = [_shortened(picture.stem) or "image" for picture in pictures]
    if existing is None:
        return free_names(stems)
    digests = [sha256_if_readable(picture) for picture in pictures]
    inputs = {place for p in pictures if (place := _place(p)) is not None}
    return free_names(stems, digests, existing, inputs)


def free_names(
    stems: Sequence[str],
    digests: Sequence[str | None] | None = None,
    existing: ExistingOutput | None = None,
    inputs: Iterable[tuple[int, int]] = (),
) -> list[str]:
    """Returns a free name for each stem, which is the stem or has a number behind it.

    Args:
        stems (Sequence[str]): The names wanted.
        digests (Sequence[str or None], optional): Of the pictures they are for.
            Default: None, bundled scenes
        existing (ExistingOutput, optional): What is in the folder. Default: None,
            nothing
        inputs (Iterable[tuple[int, int]], optional): Device and number of files that
            are not to be written over. Default: ()
    """
    names: list[str] = []
    taken: set[str] = set()
    inputs = set(inputs)
    for stem, digest in zip(stems, digests or [None] * len(stems), strict=True):
        name, number = stem, 1
        while name.casefold() in taken or not _may_have(name, digest, existing, inputs):
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _may_have(
    name: str,
    digest: str | None,
    existing: ExistingOutput | None,
    inputs: set[tuple[int, int]],
) -> bool:
    if existing is None:
        return True
    files = [existing.folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return existing.is_free(name, digest) and not inputs & {
        _place(file) for file in files
    }


def _place(file: Path) -> tuple[int, int] | None:
    """Returns what tells a file from all others, whatever path leads to it."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _shortened(stem: str) -> str:
    whole = stem.encode("utf-8", "surrogateescape")
    if len(whole) <= _LONGEST:
        return stem
    return whole[:_LONGEST].decode("utf-8", "ignore")
