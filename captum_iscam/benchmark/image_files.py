"""Finds the files of images, and checks their names."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""How the names of images end."""


def images_below(root: Path) -> list[Path]:
    """Returns the images in and below a folder, sorted.

    Raises:
        ValueError: If two links lead to one folder.
    """
    found: list[Path] = []
    _add_images(root, found, {root.resolve(): root})
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def _add_images(folder: Path, found: list[Path], seen: dict[Path, Path]) -> None:
    """Adds the images in and below a folder, each folder once.

    A link to a folder around it is ignored. One to any other folder would count its
    images twice, under two labels.
    """
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            if entry.name.lower().endswith(SUFFIXES):
                found.append(entry)
            continue
        target = entry.resolve()
        if target not in seen:
            seen[target] = entry
            _add_images(entry, found, seen)
        elif target not in folder.resolve().parents and target != folder.resolve():
            raise ValueError(
                f"data must contain each folder once, got {str(entry)!r}, which is "
                f"{str(seen[target])!r} by a link. Remove the link."
            )


def check_encoding(name: str, where: str) -> None:
    """Raises for a name of a file that the file system's encoding cannot hold.

    Args:
        name (str): The name.
        where (str): Where it is named, for the message.

    Raises:
        ValueError: If the encoding cannot hold it.
    """
    try:
        os.fsencode(name)
    except UnicodeEncodeError as error:
        raise ValueError(
            "data must name files in the file system's encoding, here "
            f"{error.encoding}, got {name!r} in {where}. Set PYTHONUTF8=1, or rename "
            "the file."
        ) from error
