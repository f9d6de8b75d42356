"""The folder of a command's output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from captum_iscam._files import drop_unfinished, locked
from captum_iscam.commands._results import Held, held_by


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
        parts, held = drop_unfinished(folder), held_by(folder)
        if parts:
            said = f"{folder} holds {parts} unfinished files of a run that was cut off"
            tqdm.write(f"{said}; they are removed.", file=sys.stderr)
        if held.owners:
            said = f"{folder} holds what was made of {len(held.owners)} pictures before"
            tqdm.write(f"{said}; only the same pictures' is replaced.", file=sys.stderr)
        yield held


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
