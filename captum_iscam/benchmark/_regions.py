"""Where an object is: boxes and masks in pixels of the image before any crop."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from captum_iscam._utils.images import UnreadableImageError, picture_in

Label = int | str
Regions = dict[int, npt.NDArray[np.bool_]]
"""Which pixels each class has, `(H, W)` of the image before any crop."""


@dataclass(frozen=True)
class Box:
    """A box in pixels of the image: columns `x0` to before `x1`, rows alike."""

    label: Label | None
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True)
class Mask:
    """A picture that marks a class by one value, or by all values that are not 0."""

    label: Label | None
    file: Path
    value: int | None = None


def draw(
    boxes: Iterable[Box],
    masks: Iterable[Mask],
    own: Label | None,
    size: tuple[int, int],
) -> Regions:
    """Returns the pixels of each class.

    Args:
        boxes (Iterable[Box]): Boxes.
        masks (Iterable[Mask]): Masks.
        own (int, str or None): The image's own label.
        size (tuple[int, int]): Width and height of the image.

    Raises:
        UnreadableImageError: If a mask cannot be read.
    """
    found: Regions = {}
    for box in boxes:
        rows = slice(round(box.y0), round(box.y1))
        inside = _pixels(found, box.label, own, size)
        inside[rows, round(box.x0) : round(box.x1)] = True
    for mask in masks:
        inside = _pixels(found, mask.label, own, size)
        inside |= _read_mask(mask, size)
    return found


def check(name: str, image: Path, boxes: Iterable[Box], masks: Iterable[Mask]) -> None:
    """Raises unless boxes and masks fit the image, if that can be read.

    Raises:
        ValueError: If a box is empty or outside, or a mask has another size.
    """
    size = _size_of(image)
    if size is None:
        return
    for box in boxes:
        _check_box(box, name, size)
    for mask in masks:
        found = _size_of(mask.file)
        if found != size:
            got = f"one of {found[0]} x {found[1]}" if found else "no picture"
            raise ValueError(
                f"masks must be pictures of the size of their image, {size[0]} x "
                f"{size[1]} for {name}, got {got} in {str(mask.file)!r}. "
                "Correct it or leave it out."
            )


def _check_box(box: Box, name: str, size: tuple[int, int]) -> None:
    width, height = size
    if not (0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height):
        raise ValueError(
            f"boxes must be inside the image, {width} wide and {height} high for "
            f"{name}, and not empty, got {(box.x0, box.y0, box.x1, box.y1)}. Give "
            "x0, y0, x1, y1 in pixels of the image as it is in its file."
        )


def _pixels(
    found: Regions, label: Label | None, own: Label | None, size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The pixels of a class, to be written into; nobody's where there is no class."""
    width, height = size
    index = own if label is None else label
    blank = np.zeros((height, width), dtype=bool)
    return found.setdefault(index, blank) if isinstance(index, int) else blank


def _read_mask(mask: Mask, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    try:
        with picture_in(mask.file) as opened:
            fits = opened.size == size
            values = np.asarray(opened) if fits else np.empty(0)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"mask {mask.file}: {error}") from error
    if not fits:
        raise UnreadableImageError(f"mask {mask.file}: not of the image's size")
    if values.ndim == 3:
        values = values[..., :3].max(2)
    marks: npt.NDArray[np.bool_] = np.equal(values, mask.value or 0)
    return ~marks if mask.value is None else marks


def _size_of(file: Path) -> tuple[int, int] | None:
    """Width and height of a picture as it will be shown, from its header."""
    try:
        with picture_in(file) as opened:
            width, height = opened.size
            turned = opened.getexif().get(0x0112, 1) >= 5
    except UnreadableImageError:
        return None
    return (height, width) if turned else (width, height)
