"""Finds the files of images, and checks their names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from captum_iscam._utils.images import image_suffixes
from captum_iscam._utils.warn import warn_user

IMAGES = "JPEG, PNG, WebP, TIFF, BMP, GIF, PPM, JPEG 2000, AVIF"
"""The images that are read, for messages."""

# Formats of images that are not read; the last ones an old Pillow may lack.
_OTHERS = (
    *(".heic", ".heif", ".jxl", ".svg", ".ico", ".tga", ".psd", ".dds", ".dcm", ".exr"),
    *(".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".raf", ".rw2"),
    *(".avif", ".jp2", ".j2k", ".webp"),
)


def images_below(
    root: Path, skipped: Callable[[Path], bool] | None = None, again: bool = False
) -> list[Path]:
    """Returns the images in and below a folder, sorted.

    An image is known by how its name ends. A warning names images of formats that are
    not read.

    Args:
        root (Path): The folder.
        skipped (Callable, optional): Whether to ignore a folder inside of it.
            Default: None, none is ignored
        again (bool, optional): Whether to ignore a second link to a folder, instead of
            raising. Default: False

    Raises:
        ValueError: If two links lead to one folder.
    """
    found: list[Path] = []
    unread: list[Path] = []
    seen = {root.resolve(): root}
    _Walk(found, unread, seen, skipped or (lambda folder: False), again).add(root)
    if unread:
        several = f", the first of {len(unread)} such images" * (len(unread) > 1)
        warn_user(
            f"{str(unread[0])!r} is ignored{several}: only {IMAGES} are read. Save it "
            "as PNG to have it read."
        )
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


class _Walk(NamedTuple):
    found: list[Path]
    unread: list[Path]
    seen: dict[Path, Path]
    skipped: Callable[[Path], bool]
    again: bool

    def add(self, folder: Path) -> None:
        """Adds the images in and below a folder, each folder once.

        A link to a folder around it is ignored. One to any other folder would count its
        images twice, under two labels.
        """
        for entry in sorted(folder.iterdir()):
            if not entry.is_dir():
                name = entry.name.lower()
                if name.endswith(image_suffixes()):
                    self.found.append(entry)
                elif name.endswith(_OTHERS) and not name.startswith("."):
                    self.unread.append(entry)
            elif not self.skipped(entry):
                self._enter(entry, folder)

    def _enter(self, entry: Path, folder: Path) -> None:
        target = entry.resolve()
        if target not in self.seen:
            self.seen[target] = entry
            self.add(entry)
        elif not self.again and target not in (
            folder.resolve(),
            *folder.resolve().parents,
        ):
            raise ValueError(
                f"data must contain each folder once, got {str(entry)!r}, which is "
                f"{str(self.seen[target])!r} by a link. Remove the link."
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
