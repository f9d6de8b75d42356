"""The folder of a command's output: its lock, its names, and what was in it before.

::

    OUT/NAME/overlay.png, maps.npz, record.json     a folder for each image
    OUT/NAME/page/                                  small images for the page
    OUT/index.html                                  the page that shows all of them
    OUT/.captum-iscam.lock                          locked while a run writes here
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from captum_iscam._utils.files import (
    LOCK,
    drop_unfinished,
    locked,
    put_back_all,
    sha256_if_readable,
)
from captum_iscam._utils.interrupts import raising_sigterm

RECORD = "record.json"
ARRAYS = "maps.npz"
PAGE = "index.html"
PAGE_MARK = b"<!-- The page of captum-iscam explain -->"
"""What the page begins with."""

# A file name has at most 255 bytes in most file systems. Numbers and the name of an
# unfinished folder need some of them.
_LONGEST = 200

# Records have a few megabytes at most.
_LARGEST_RECORD = 2**25


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

    It is made if it was missing. Yields its content. SIGTERM raises inside, so that a
    page of what there is can be written.

    Raises:
        ValueError: If it cannot be made or written, another run is writing there, or it
            has a page or a benchmark that is not ours to write over.
    """
    with locked(make_folder(folder)), raising_sigterm():
        _check_own(folder)
        put_back_all(folder)
        parts = drop_unfinished(folder)
        existing = scan_output(folder)
        for sentence in _describe_existing(existing, parts):
            print_line(f"{folder}: {sentence}.", sys.stderr)
        yield existing


# What a benchmark writes first. Its module is not imported for this name: it brings
# torch, and the messages of errors, which are printed from here, need not.
_OF_A_BENCHMARK = "run.json"


def _check_own(folder: Path) -> None:
    """Raises for the output folder of another program.

    Raises:
        ValueError: If it is the folder of a benchmark, or its page is another's.
    """
    page = folder / PAGE
    benchmark = os.path.lexists(folder / _OF_A_BENCHMARK)
    foreign = f"whose {PAGE} another program has written"
    if benchmark:
        foreign = f"which has the {_OF_A_BENCHMARK} of a benchmark"
    if benchmark or (os.path.lexists(page) and not _is_page(page)):
        raise ValueError(
            f"out must be a folder of this command, got {str(folder)!r}, {foreign}. "
            "Choose another with --out."
        )


def _is_page(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return PAGE_MARK in stream.read(200)


def _describe_existing(existing: ExistingOutput, parts: int) -> Iterator[str]:
    if parts:
        yield f"removed {parts} unfinished results of an interrupted run"
    if existing.owners:
        yield (
            f"has the results of {len(existing.owners)} images; where the "
            "same images are explained again, all of their maps are replaced"
        )
    if existing.changed:
        names = ", ".join(sorted(existing.changed))
        yield f"some folders differ from their records ({names}); they are kept"


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


@dataclass(frozen=True)
class ExistingOutput:
    """What an output folder contains.

    Attributes:
        folder (Path): The folder.
        owners (dict[str, str or None]): The SHA-256 of the image that each folder of
            results is about, by the folder's name; None for a bundled scene.
        entries (frozenset[str]): Names of all files and folders, in folded case.
        changed (frozenset[str]): Names of the folders of results in which a file was
            changed or added since.
    """

    folder: Path
    owners: dict[str, str | None] = field(default_factory=dict)
    entries: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()

    def is_free(self, name: str, digest: str | None) -> bool:
        """Returns whether the results of an image may have a name."""
        if name in self.owners:
            return self.owners[name] == digest and name not in self.changed
        return name.casefold() not in self.entries


def scan_output(folder: Path) -> ExistingOutput:
    """Returns what a folder contains."""
    owners: dict[str, str | None] = {}
    changed = set()
    for name, record in records_in(folder):
        owners[name] = record.get("image_sha256")
        if _is_changed(folder / name, record):
            changed.add(name)
    entries = frozenset(entry.name.casefold() for entry in folder.iterdir())
    return ExistingOutput(folder, owners, entries, frozenset(changed))


def records_in(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the name and the record of each folder of results, sorted by name."""
    for entry in sorted(folder.iterdir()):
        record = None if entry.is_symlink() else read_record(entry / RECORD)
        if record is not None:
            yield entry.name, record


def _is_changed(folder: Path, record: dict[str, Any]) -> bool:
    """Whether a file of the results was changed, or one was added."""
    expected = record["files_sha256"]
    for file in folder.rglob("*"):
        name = file.relative_to(folder).as_posix()
        if (file.is_dir() and not file.is_symlink()) or name == RECORD:
            continue
        if expected.get(name) != sha256_if_readable(file):
            return True
    return False


def read_record(file: Path) -> dict[str, Any] | None:
    """Returns a record, None where the file is anything else."""
    try:
        # Reading a pipe would wait for a writer.
        if not file.is_file() or file.stat().st_size > _LARGEST_RECORD:
            return None
        record = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    known = isinstance(record, dict) and {"image", "maps"} <= record.keys()
    return record if known and isinstance(record.get("files_sha256"), dict) else None


def is_output(folder: Path) -> bool:
    """Returns whether a folder holds what one of the commands has written."""
    results = (folder / RECORD).is_file() and (folder / ARRAYS).is_file()
    return results or (folder / LOCK).is_file()


class Names:
    """Gives each image of a run a name of its own: its stem, or with a number after it.

    Names differ in more than letter case, which some file systems ignore. A name is
    taken if anything in the folder has it, unless that is the unchanged result of the
    same image.

    Args:
        existing (ExistingOutput, optional): What is in the folder. Default: None,
            nothing

    Examples::

        >>> names = Names()
        >>> [names.free(stem) for stem in ("cat", "Cat", "dog", "..")]
        ['cat', 'Cat-2', 'dog', 'image']
    """

    def __init__(self, existing: ExistingOutput | None = None) -> None:
        self._existing = existing
        self._taken = {PAGE}

    def free(self, stem: str, digest: str | None = None) -> str:
        """Returns a free name, and takes it.

        Args:
            stem (str): The name wanted. Dots and spaces at its ends are dropped: they
                hide a folder, lead out of it, or are not allowed everywhere.
            digest (str, optional): SHA-256 of the image. Default: None, a bundled scene
        """
        stem = _shortened(stem.strip(". ")) or "image"
        name, number = stem, 1
        while not self._is_free(name, digest):
            number += 1
            name = f"{stem}-{number}"
        self._taken.add(name.casefold())
        return name

    def _is_free(self, name: str, digest: str | None) -> bool:
        if name.casefold() in self._taken:
            return False
        return self._existing is None or self._existing.is_free(name, digest)


def _shortened(stem: str) -> str:
    encoded = stem.encode("utf-8", "surrogateescape")
    if len(encoded) <= _LONGEST:
        return stem
    return encoded[:_LONGEST].decode("utf-8", "ignore")
