"""The images that a command is given: files, folders, patterns and lists."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from captum_iscam._utils.files import read_named
from captum_iscam.benchmark.image_files import IMAGES, images_below
from captum_iscam.cli.output import is_output


def find_images(words: Sequence[Path], recursive: bool = False) -> list[Path]:
    """Returns the images that are given, each once, in the order of the words.

    A word is a file, a folder, a pattern such as `photographs/*.jpg`, or `@FILE` for a
    list with a word in each line. What begins with a dot, and folders that the commands
    have written, are ignored in folders. A file that is missing is returned as it is.

    Args:
        words (Sequence[Path]): What is given.
        recursive (bool, optional): Whether to look in the folders in a folder. A folder
            that several links lead to is looked into once. Default: False

    Raises:
        ValueError: If a folder has no image, a pattern matches nothing, or a list
            cannot be read.
    """
    found: dict[str, Path] = {}
    for word in words:
        for file in _images_of(word, recursive):
            found.setdefault(os.path.realpath(file), file)
    if not found:
        raise ValueError(
            f"images must be there, got {', '.join(map(str, words))} without any line. "
            "Write a file, folder or pattern in each line of the list."
        )
    return list(found.values())


def _images_of(
    word: Path, recursive: bool, lists: tuple[str, ...] = ()
) -> Iterator[Path]:
    text = str(word)
    if os.path.isdir(word):  # unlike that of Path, it raises for no name
        yield from _in_folder(word, recursive)
    elif os.path.lexists(word):
        yield word
    elif text.startswith("@"):
        for line in _lines_of(Path(text[1:])):
            _check_list(line, (*lists, text))
            yield from _images_of(Path(line), recursive, (*lists, text))
    elif has_magic(text):
        matches = sorted(glob(text, recursive=True))
        if not matches:
            raise ValueError(
                f"images must be there, got {text!r}, which matches no file. Correct "
                "the pattern."
            )
        for match in matches:
            yield from _images_of(Path(match), recursive)
    else:
        yield word


def _check_list(line: str, lists: tuple[str, ...]) -> None:
    if line in lists:
        raise ValueError(
            f"images must be lists that do not name themselves, got {line!r} in "
            f"{lists[-1]!r}. Delete that line."
        )


def _in_folder(folder: Path, recursive: bool) -> list[Path]:
    def skipped(inner: Path) -> bool:
        return not recursive or inner.name.startswith(".") or is_output(inner)

    images = [
        file
        for file in images_below(folder, skipped, again=True)
        if not file.name.startswith(".")
    ]
    if not images:
        inner = any(entry.is_dir() for entry in folder.iterdir())
        repair = "Name another folder."
        if inner and not recursive:
            repair = "Pass --recursive to look in the folders inside of it."
        raise ValueError(
            f"images must be files or folders with images ({IMAGES}), got "
            f"{str(folder)!r} without any. {repair}"
        )
    return images


def _lines_of(file: Path) -> list[str]:
    repair = "Write a file, folder or pattern in each line of a text file."
    content = read_named(file, "images after @", repair)
    if b"\0" in content:
        raise ValueError(
            f"images after @ must be a list of paths as text, got {str(file)!r}, which "
            f"holds other bytes. {repair}"
        )
    text = os.fsdecode(content.removeprefix(codecs.BOM_UTF8))
    return [line for line in text.splitlines() if line.strip()]
