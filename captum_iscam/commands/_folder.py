"""The folder of a command's output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from captum_iscam._utils.files import drop_unfinished, locked
from captum_iscam.commands._results import Held, finish_moves, held_by


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
def own_folder(folder: Path) -> Iterator[Held]:
    """Keeps other runs out of a folder, made if it was missing; says what is in it.

    Yields what it holds.

    Raises:
        ValueError: If it cannot be made or written, or another run is writing there.
    """
    with locked(make_folder(folder)):
        finished, parts = finish_moves(folder), drop_unfinished(folder)
        held = held_by(folder)
        for said in _what_is_there(held, finished, parts):
            say(f"{folder} holds {said}.", sys.stderr)
        yield held


def _what_is_there(held: Held, finished: int, parts: int) -> Iterator[str]:
    if finished:
        yield (
            f"the results of {finished} pictures that a run was cut off in putting in "
            "their places; that is completed"
        )
    if parts:
        yield f"{parts} unfinished files of a run that was cut off; they are removed"
    if held.owners:
        yield (
            f"what was made of {len(held.owners)} pictures before; only the same "
            "pictures' is replaced"
        )
    if held.changed:
        names = ", ".join(sorted(held.changed))
        yield f"files that are not those of their records ({names}); they stay"
    if held.lost:
        yield f"records that miss a file ({', '.join(sorted(held.lost))})"


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
