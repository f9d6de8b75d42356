"""The folder of a command's output: its lock, its names, and what was in it before."""

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
    # A ValueError for a name that the file system's encoding cannot hold.
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"out must be a folder that can be made, got {str(folder)!r} "
            f"({said}). Choose another with --out."
        ) from error
    if not os.access(folder, os.W_OK):
        raise ValueError(
            f"out must be a folder that can be written, got {str(folder)!r}. "
            "Choose another with --out."
        )
    return folder


@contextmanager
def output_folder(folder: Path) -> Iterator[ExistingOutput]:
    """Locks a folder for this run and prints what earlier runs left in it.

    It is made if it was missing. Yields its content.

    Raises:
        ValueError: If it cannot be made or written, or another run is writing there.
    """
    with locked(make_folder(folder)):
        finished, parts = finish_moves(folder), drop_unfinished(folder)
        existing = scan_output(folder)
        for sentence in _describe_existing(existing, finished, parts):
            print_line(f"{folder}: {sentence}.", sys.stderr)
        yield existing


def _describe_existing(
    existing: ExistingOutput, finished: int, parts: int
) -> Iterator[str]:
    if finished:
        yield (
            f"completed the results of {finished} images, whose files an interrupted "
            "run had written but not moved into place"
        )
    if parts:
        yield f"removed {parts} unfinished files of an interrupted run"
    if existing.owners:
        yield (
            f"has the results of {len(existing.owners)} images; they are replaced only "
            "where the same images are explained again"
        )
    if existing.changed:
        names = ", ".join(sorted(existing.changed))
        yield f"some files differ from those of their records ({names}); they are kept"
    if existing.incomplete:
        yield f"some records lack a file ({', '.join(sorted(existing.incomplete))})"


def print_line(text: str, stream: TextIO) -> None:
    """Prints one line above the progress bar, as :func:`printable` text."""
    tqdm.write(printable(text, stream), file=stream)


def printable(text: str, stream: TextIO) -> str:
    r"""Returns a text as one line that a stream can print, with escapes for the rest.

    Examples::

        >>> printable("a\x1b[2Jb\n", sys.stdout)
        'a\\x1b[2Jb\\n'
    """
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    coding = stream.encoding or "utf-8"
    return escaped.encode(coding, "backslashreplace").decode(coding)


SUFFIXES = (".png", ".npz", ".json")
"""Suffixes of the files that are made for one image."""

# A file name has at most 255 bytes in most file systems. Numbers, suffixes and the name
# of an unfinished file need some of them.
_LONGEST = 200

# Records have a few megabytes at most.
_LARGEST_RECORD = 2**25


@dataclass(frozen=True)
class ExistingOutput:
    """What an output folder contains.

    Attributes:
        folder (Path): The folder.
        owners (dict[str, str or None]): The SHA-256 of the image that each record is
            about, by the record's name; None for a bundled scene.
        files (set[str]): Names of all files, in folded case.
        incomplete (set[str]): Names of records of which a file is missing.
        changed (set[str]): Names of records of which a file has changed.
    """

    folder: Path
    owners: dict[str, str | None] = field(default_factory=dict)
    files: frozenset[str] = frozenset()
    incomplete: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()

    def is_free(self, name: str, digest: str | None) -> bool:
        """Returns whether the files of an image may have a name."""
        if name in self.owners:
            return self.owners[name] == digest and name not in self.changed
        names = (f"{name}{suffix}".casefold() for suffix in SUFFIXES)
        return self.files.isdisjoint(names)


def scan_output(folder: Path) -> ExistingOutput:
    """Returns what a folder contains."""
    owners: dict[str, str | None] = {}
    incomplete, changed = set(), set()
    for file in sorted(folder.glob("*.json")):
        record = read_record(file)
        if record is None:
            continue
        owners[file.stem] = record.get("image_sha256")
        for kind, other in _files_of(file).items():
            expected = _digests(record).get(kind)
            if not os.path.lexists(other):
                incomplete.add(file.stem)
            elif expected is not None and sha256_if_readable(other) != expected:
                changed.add(file.stem)
    files = frozenset(file.name.casefold() for file in folder.iterdir())
    return ExistingOutput(
        folder, owners, files, frozenset(incomplete), frozenset(changed)
    )


def finish_moves(folder: Path) -> int:
    """Moves files into place that an interrupted run had written but not moved.

    Such a run has moved the figure already and left the record under the name of an
    unfinished file.

    Returns:
        The number of images.

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
    files, digests = _files_of(file), _digests(record)
    figure, maps = files["picture"], files["maps"]
    if not digests or sha256_if_readable(figure) != digests.get("picture"):
        return False
    # A file that somebody has put there since then is kept.
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
    for source, destination in moves.items():
        try:
            source.replace(destination)
        except OSError as error:
            raise not_written(error, destination) from error
    return True


def _files_of(file: Path) -> dict[str, Path]:
    """Returns the files that a record describes."""
    return {"picture": file.with_suffix(".png"), "maps": file.with_suffix(".npz")}


def _digests(record: dict[str, Any]) -> dict[str, Any]:
    digests = record.get("files_sha256")
    return digests if isinstance(digests, dict) else {}


def read_record(file: Path) -> dict[str, Any] | None:
    """Returns a record, None where the file is anything else."""
    try:
        # Reading a pipe would wait for a writer.
        if not file.is_file() or file.stat().st_size > _LARGEST_RECORD:
            return None
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    valid = isinstance(record, dict) and {"image", "maps", "files"} <= record.keys()
    return record if valid else None


def output_names(
    files: Iterable[str | Path], existing: ExistingOutput | None = None
) -> list[str]:
    """Returns a name without suffix for each file, all of them different.

    That is the file's stem, with a number where the stem is taken. Names differ in more
    than letter case, which some file systems ignore.

    Args:
        files (Iterable[str or Path]): The images.
        existing (ExistingOutput, optional): What is in the folder. A name is taken if a
            file there has it, unless that file was made of the same image. The images
            themselves are never overwritten. Default: None

    Examples::

        >>> output_names(["a/cat.jpg", "b/cat.jpg", "dog.png"])
        ['cat', 'cat-2', 'dog']
    """
    images = [Path(file) for file in files]
    stems = [_shortened(image.stem) or "image" for image in images]
    if existing is None:
        return free_names(stems)
    digests = [sha256_if_readable(image) for image in images]
    inputs = {found for image in images if (found := _file_id(image)) is not None}
    return free_names(stems, digests, existing, inputs)


def free_names(
    stems: Sequence[str],
    digests: Sequence[str | None] | None = None,
    existing: ExistingOutput | None = None,
    inputs: Iterable[tuple[int, int]] = (),
) -> list[str]:
    """Returns a free name for each stem: the stem itself, or with a number after it.

    Args:
        stems (Sequence[str]): The names wanted.
        digests (Sequence[str or None], optional): SHA-256 of the images they are for.
            Default: None, bundled scenes
        existing (ExistingOutput, optional): What is in the folder. Default: None,
            nothing
        inputs (Iterable[tuple[int, int]], optional): Device and inode of files that
            must not be overwritten. Default: ()
    """
    names: list[str] = []
    taken: set[str] = set()
    inputs = set(inputs)
    for stem, digest in zip(stems, digests or [None] * len(stems), strict=True):
        name, number = stem, 1
        while name.casefold() in taken or not _is_available(
            name, digest, existing, inputs
        ):
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _is_available(
    name: str,
    digest: str | None,
    existing: ExistingOutput | None,
    inputs: set[tuple[int, int]],
) -> bool:
    if existing is None:
        return True
    files = [existing.folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return existing.is_free(name, digest) and not inputs & {
        _file_id(file) for file in files
    }


def _file_id(file: Path) -> tuple[int, int] | None:
    """Returns device and inode of a file, None where there is none."""
    try:
        found = os.stat(file)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _shortened(stem: str) -> str:
    encoded = stem.encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST:
        return stem
    return encoded[:_LONGEST].decode("utf-8", "ignore")
