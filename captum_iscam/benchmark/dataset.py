"""Images with labels, and with boxes or masks where they are known."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from captum_iscam._utils.files import sha256_if_readable
from captum_iscam._utils.images import (
    UnreadableImageError,
    not_black,
    picture_in,
    read_image,
)
from captum_iscam._utils.warn import warn_user
from captum_iscam.networks.classes import number

WORDNET_ID = re.compile(r"n\d{8}")
"""How the folders of ImageNet's classes are named."""

Label = int | str
Regions = dict[int, npt.NDArray[np.bool_]]
"""The pixels of each class, `(H, W)` of the image before any crop."""


@dataclass(frozen=True)
class Box:
    """A box in pixels of the image: columns `x0` to before `x1`, rows alike.

    Where it is from a line of a table, its index and its name must be of one class.
    """

    label: Label | None
    x0: float
    y0: float
    x1: float
    y1: float
    class_name: str | None = None
    line: str = ""


@dataclass(frozen=True)
class Mask:
    """An image that marks a class by one value, or by all pixels that are not black."""

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
            got = f"one of {found[0]} x {found[1]}" if found else "no image"
            raise ValueError(
                f"masks must be images of the size of their image, {size[0]} x "
                f"{size[1]} for {name}, got {got} in {str(mask.file)!r}. "
                "Correct or remove it."
            )


def _check_box(box: Box, name: str, size: tuple[int, int]) -> None:
    width, height = size
    corners = box.x0, box.y0, box.x1, box.y1
    inside = 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height
    # Whole numbers may be the pixel in the corner.
    relative = inside and max(corners) <= 1 and any(x % 1 for x in corners)
    empty = inside and (
        round(box.x0) == round(box.x1) or round(box.y0) == round(box.y1)
    )
    if not inside or empty or relative:
        fractions = ", which look like fractions of it" if relative else ""
        raise ValueError(
            f"boxes must be inside the image, {width} wide and {height} high for "
            f"{name}, and not empty, got {corners}{fractions}. Give x0, y0, "
            "x1, y1 in pixels of the image as it is in its file."
        )


def _pixels(
    found: Regions, label: Label | None, own: Label | None, size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The pixels of a class, to be written to; discarded where there is no class."""
    width, height = size
    index = own if label is None else label
    blank = np.zeros((height, width), dtype=bool)
    return found.setdefault(index, blank) if isinstance(index, int) else blank


def _read_mask(mask: Mask, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    marks: npt.NDArray[np.bool_]
    try:
        with picture_in(mask.file) as opened:
            if mask.value is None:
                marks = not_black(opened)
            else:
                marks = np.equal(np.asarray(opened), mask.value)
    except UnreadableImageError as error:
        raise UnreadableImageError(f"mask {mask.file}: {error}") from error
    if marks.ndim > 2:
        raise UnreadableImageError(f"mask {mask.file}: colours instead of indices")
    if marks.shape != size[::-1]:
        raise UnreadableImageError(f"mask {mask.file}: not of the image's size")
    return marks


def _size_of(file: Path) -> tuple[int, int] | None:
    """Width and height of an image after its EXIF rotation, from its header."""
    try:
        with picture_in(file) as opened:
            width, height = opened.size
            rotated = opened.getexif().get(0x0112, 1) >= 5
    except UnreadableImageError:
        return None
    return (height, width) if rotated else (width, height)


@dataclass(frozen=True)
class Item(ABC):
    """One image and what is known about it.

    Attributes:
        id (str): A name that is the same on every machine.
        label (int, str or None): Its class: an index, or a name that
            :func:`resolve` turns into one.
        class_name (str or None): Name of that class.
    """

    id: str
    label: Label | None = None
    class_name: str | None = None

    @property
    @abstractmethod
    def has_regions(self) -> bool:
        """Whether there is a box or a mask of a known class."""

    @property
    def is_missing(self) -> bool:
        """Whether its file is missing."""
        return False

    def digest(self) -> str | None:
        """Returns a digest of the image, None where it cannot change."""
        return None

    @abstractmethod
    def read(self) -> tuple[Image.Image, Regions]:
        """Returns the image as RGB, and the pixels of each class.

        Raises:
            UnreadableImageError: If the image or a mask cannot be read.
        """

    @property
    def has_interventions(self) -> bool:
        """Whether the image can be drawn without one of its objects."""
        return False

    def interventions(self) -> dict[int, Image.Image]:
        """Returns the image without the object of each class, where that is known.

        What was behind the object is in its place, all else is the same.
        """
        return {}


@dataclass(frozen=True)
class FileItem(Item):
    """An image in a file. Boxes and masks without a label have the image's label.

    Attributes:
        file (Path): The file.
        boxes (tuple[Box, ...]): Boxes of objects. Default: ()
        masks (tuple[Mask, ...]): Masks of objects. Default: ()
        line (str): The line of a table that it is from, by which an error names it; its
            index and its name must be of one class then. Default: "", none
    """

    file: Path = field(default=Path())
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()
    line: str = ""

    @property
    def has_regions(self) -> bool:
        """Whether there is a box or a mask of a known class."""
        labels = [m.label for m in self.boxes] + [m.label for m in self.masks]
        own = self.label is not None
        return any(own or label is not None for label in labels)

    @property
    def is_missing(self) -> bool:
        """Whether its file is missing."""
        return not self.file.exists()

    def digest(self) -> str | None:
        """Returns a digest of the image, the boxes and the masks."""
        corners = [(box.label, box.x0, box.y0, box.x1, box.y1) for box in self.boxes]
        masks = [
            (mask.label, mask.value, sha256_if_readable(mask.file))
            for mask in self.masks
        ]
        return _digest(repr((sha256_if_readable(self.file), corners, masks))).hex()[:16]

    def read(self) -> tuple[Image.Image, Regions]:
        """Returns the image as RGB, and the pixels of each class."""
        image = read_image(self.file)
        return image, draw(self.boxes, self.masks, self.label, image.size)


@dataclass(frozen=True)
class DataSet:
    """Images in a fixed order.

    Attributes:
        kind (str): "scenes", "csv", "voc", "imagenet", "folder", or the name of a
            registered reader.
        path (Path or None): Their folder or table; None for the bundled scenes.
        items (tuple[Item, ...]): The images.
        classes (tuple[str, ...]): Names of all classes in the order of their indices,
            where the labels are names. Default: ()
        seed (int): Seed of the choice, if some were chosen. Default: 0
        samples (int or None): How many were chosen. Default: None, all
    """

    kind: str
    path: Path | None
    items: tuple[Item, ...]
    classes: tuple[str, ...] = ()
    seed: int = 0
    samples: int | None = None

    @property
    def has_regions(self) -> bool:
        """Whether any image has a box or a mask of a class that is known."""
        return any(item.has_regions for item in self.items)

    @property
    def has_interventions(self) -> bool:
        """Whether any image can be drawn without one of its objects."""
        return any(item.has_interventions for item in self.items)

    def subset(self, samples: int, seed: int) -> DataSet:
        """Returns `samples` images at random, the same on every machine.

        The choice depends on the seed and the images' ids alone: those with the
        smallest hashes of both are taken, and keep their order.

        Raises:
            ValueError: If there are fewer.
        """
        if not 1 <= samples <= len(self.items):
            raise ValueError(
                f"samples must be from 1 to the number of images, {len(self.items)}, "
                f"got {samples}. Omit it to take all."
            )
        ranked = sorted(self.items, key=lambda item: _digest(f"{seed}:{item.id}"))
        chosen = {item.id for item in ranked[:samples]}
        items = tuple(item for item in self.items if item.id in chosen)
        return replace(self, items=items, seed=seed, samples=samples)

    def check_regions(self) -> None:
        """Raises for a box or mask that does not fit its image.

        An image that cannot be read is reported by the run instead.

        Raises:
            ValueError: If a box is empty or outside of the image, or a mask has another
                size.
        """
        for item in self.items:
            if isinstance(item, FileItem) and (item.boxes or item.masks):
                check(item.id, item.file, item.boxes, item.masks)

    def check_files(self) -> None:
        """Raises where all images are missing; single ones are reported by the run.

        Raises:
            ValueError: If all are missing.
        """
        if self.items and all(item.is_missing for item in self.items):
            first = next(i for i in self.items if isinstance(i, FileItem))
            raise ValueError(
                f"data must name files that exist, got {len(self.items)} that do not, "
                f"such as {str(first.file)!r}. Correct the folder or the paths."
            )

    def without_labels(self) -> DataSet:
        """Returns the images alone, for a model with other classes."""
        items = tuple(
            replace(item, label=None, boxes=(), masks=())
            if isinstance(item, FileItem)
            else replace(item, label=None)
            for item in self.items
        )
        return replace(self, items=items, classes=())


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


_Marked = TypeVar("_Marked", "Box", "Mask")


def resolve(data: DataSet, classes: Sequence[str]) -> DataSet:
    """Returns the data with every label as an index into the model's classes.

    Names are looked up among the model's. Where none of them is a class of the model,
    numbers are indices, and as many names as the model has classes are taken in their
    order.

    Args:
        data (DataSet): The images.
        classes (Sequence[str]): The model's classes.

    Raises:
        ValueError: If a label is not a class of the model, or a line of a table has the
            index of one class and the name of another.
    """
    names = _names_of(data)
    lookup = _lookup(names, data.classes, classes) if names else {}

    def index(label: Label | None, item: Item) -> int | None:
        number = lookup[label] if isinstance(label, str) else label
        if number is not None and not 0 <= number < len(classes):
            raise ValueError(
                f"labels must be indices of the model's {len(classes)} classes, got "
                f"{number} for {item.id}. Use the model that the labels are made for."
            )
        return number

    def resolved(item: Item) -> Item:
        label = index(item.label, item)
        if isinstance(item, FileItem):
            _check_name(item, label, classes)
        name = item.class_name or (classes[label] if label is not None else None)
        item = replace(item, label=label, class_name=name)
        if not isinstance(item, FileItem):
            return item

        def relabel(marks: tuple[_Marked, ...]) -> tuple[_Marked, ...]:
            return tuple(replace(m, label=index(m.label, item)) for m in marks)

        item = replace(item, boxes=relabel(item.boxes), masks=relabel(item.masks))
        for box in item.boxes:
            _check_name(box, box.label, classes)
        return item

    return replace(data, items=tuple(resolved(item) for item in data.items))


def _check_name(
    named_in: FileItem | Box, index: Label | None, classes: Sequence[str]
) -> None:
    """Raises for a line of a table with the index of one class and another's name."""
    line, class_name = named_in.line, named_in.class_name
    if not line or class_name is None or not isinstance(index, int):
        return
    plain = _plain(class_name)
    named = [i for i, name in enumerate(classes) if _plain(name) == plain]
    if named and index not in named:
        raise ValueError(
            f"class_index and class_name must be of one class, got {index}, which is "
            f"{classes[index]!r}, and {class_name!r}, which is {named[0]}, in "
            f"{line}. Correct one of them, or delete the column class_name."
        )


def _names_of(data: DataSet) -> list[str]:
    """Labels that are names, those of boxes and masks included, each once."""
    marks: list[Any] = list(data.items)
    for item in data.items:
        if isinstance(item, FileItem):
            marks += [*item.boxes, *item.masks]
    return list(dict.fromkeys(m.label for m in marks if isinstance(m.label, str)))


def _lookup(
    names: Sequence[str], ordered: Sequence[str], classes: Sequence[str]
) -> dict[str, int]:
    known = [_plain(name) for name in classes]
    wanted = {name: _plain(name) for name in names}
    if all(known.count(plain) == 1 for plain in wanted.values()):
        return {name: known.index(plain) for name, plain in wanted.items()}
    if all(name.isdecimal() for name in names):
        _check_numbers(ordered, classes)
        return {name: int(name) for name in names}
    # Where one name is a class of the model, the other one is misspelt.
    if len(ordered) == len(classes) and not {_plain(n) for n in ordered} & {*known}:
        _check_order(ordered, classes)
        return {name: ordered.index(name) for name in names}
    unknown = [n for n, plain in wanted.items() if known.count(plain) != 1]
    many = [n for n in unknown if _plain(n) in known]
    why = "the name of several classes" if many else "which is not one of them"
    raise ValueError(
        f"labels must be classes of the model ({len(classes)}, such as {classes[0]}), "
        f"got {(many or unknown)[0]!r}, {why}. Use a model with these classes, name "
        "the folders by the model's class indices, or ignore the labels."
    )


def _check_numbers(ordered: Sequence[str], classes: Sequence[str]) -> None:
    """Raises or warns where the folders' numbers may not be indices of classes.

    All folders count, so that which images are drawn changes nothing: 1 to 102 are no
    indices of 102 classes, and 0 to 10 are other classes to torchvision's reader.
    """
    way = "give the folder of the class folders as --classes."
    numbers = [name for name in ordered if name.isdecimal()]
    beyond = next((name for name in numbers if int(name) >= len(classes)), None)
    if beyond is not None:
        raise ValueError(
            f"labels must be indices of the model's {len(classes)} classes, the first "
            f"of which is 0, got a folder {beyond!r}. Use the model that the labels "
            f"are made for, or, where torchvision's ImageFolder numbered them, {way}"
        )
    if not len(numbers) == len(ordered) == len(classes):
        return
    other = next((n for i, n in enumerate(ordered) if i != int(n)), None)
    if other is not None:
        warn_user(
            f"The names of the folders are taken for class indices, so {other!r} is "
            f"class {int(other)}. torchvision's ImageFolder sorts them as text, and so "
            f"it is class {ordered.index(other)}: for a network trained in that way, "
            f"{way}"
        )


_PARTS = {"train", "training", "val", "valid", "validation", "test"}
"""Folders into which data sets are divided, with the folders of classes in each."""


def _check_order(ordered: Sequence[str], classes: Sequence[str]) -> None:
    """Raises or warns where the order of folders probably is not that of the classes.

    Nothing but the order is known of classes without names, and ImageNet's folders.
    """
    if {_plain(name) for name in ordered} <= _PARTS:
        raise ValueError(
            f"data must contain a folder for each class, got {' and '.join(ordered)}, "
            "none of which is a class of the model. Name one of these folders."
        )
    if tuple(classes) != number(len(classes)) and not all(
        WORDNET_ID.fullmatch(name) for name in ordered
    ):
        pairs = zip(ordered[:3], classes[:3], strict=True)
        taken = ", ".join(f"{name!r} for {known!r}" for name, known in pairs)
        warn_user(
            "The data has none of the model's class names, so its classes are taken in "
            f"their order: {taken}{', ...' * (len(classes) > 3)}. If that is wrong, "
            "rename its folders."
        )


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").strip()
