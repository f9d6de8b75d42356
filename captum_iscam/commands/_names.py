"""Names for what is made of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def output_names(files: Iterable[str | Path]) -> list[str]:
    """Returns a name without suffix for each file, all of them different.

    That is the file's stem, with a number where that is taken; letter case does not
    tell names apart, since it does not on every file system.

    Examples::

        >>> output_names(["a/cat.jpg", "b/cat.jpg", "dog.png"])
        ['cat', 'cat-2', 'dog']
    """
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        stem = Path(file).stem or "image"
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
