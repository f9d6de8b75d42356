"""Images with labels, and with boxes or masks where they are known."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from captum_iscam._utils.images import read_image
from captum_iscam.benchmark._regions import Box, Label, Mask, Regions, check, draw
from captum_iscam.networks import sha256


@dataclass(frozen=True)
class Item(ABC):
    """One image and what is known of it.

    Attributes:
        id (str): A name that is the same on every machine.
        label (int, str or None): Its class: an index, or a name that
            `labels.resolve` turns into one.
        class_name (str or None): Name of that class.
    """

    id: str
    label: Label | None = None
    class_name: str | None = None

    @property
    @abstractmethod
    def has_regions(self) -> bool:
        """Whether there is a box or a mask of a class that is known."""

    @property
    def is_missing(self) -> bool:
        """Whether its file is not there."""
        return False

    def digest(self) -> str | None:
        """Returns what changes when the image does; None where nothing can."""
        return None

    @abstractmethod
    def read(self) -> tuple[Image.Image, Regions]:
        """Returns the image as RGB, and where each class is.

        Raises:
            UnreadableImageError: If the image or a mask cannot be read.
        """


@dataclass(frozen=True)
class FileItem(Item):
    """An image in a file; labels of boxes and masks are None for the image's own."""

    file: Path = field(default=Path())
    boxes: tuple[Box, ...] = ()
    masks: tuple[Mask, ...] = ()

    @property
    def has_regions(self) -> bool:
        """Whether there is a box or a mask of a class that is known."""
        labels = [m.label for m in self.boxes] + [m.label for m in self.masks]
        own = self.label is not None
        return any(own or label is not None for label in labels)

    @property
    def is_missing(self) -> bool:
        """Whether its file is not there."""
        return not self.file.exists()

    def digest(self) -> str | None:
        """Returns a digest of the picture, the boxes and the masks."""
        corners = [(box.label, box.x0, box.y0, box.x1, box.y1) for box in self.boxes]
        masks = [
            (mask.label, mask.value, _digest_of_file(mask.file)) for mask in self.masks
        ]
        return _digest(repr((_digest_of_file(self.file), corners, masks))).hex()[:16]

    def read(self) -> tuple[Image.Image, Regions]:
        """Returns the image as RGB, and where each class is."""
        image = read_image(self.file)
        return image, draw(self.boxes, self.masks, self.label, image.size)


@dataclass(frozen=True)
class DataSet:
    """Images in a fixed order.

    Attributes:
        kind (str): "scenes", "imagenet", "folder", "csv" or "voc".
        path (Path or None): Where they are; None for the bundled scenes.
        items (tuple[Item, ...]): The images.
        classes (tuple[str, ...]): Names of all classes in the order of their indices,
            where the labels are names. Default: ()
        seed (int): What chose the images, if some were chosen. Default: 0
        samples (int or None): How many were asked for. Default: None, all
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

    def subset(self, samples: int, seed: int) -> DataSet:
        """Returns `samples` images at random, the same on every machine.

        The choice depends on the seed and the images' ids alone: those with the
        smallest hashes of both are taken, and stay in their order.

        Raises:
            ValueError: If there are fewer.
        """
        if not 1 <= samples <= len(self.items):
            raise ValueError(
                f"samples must be from 1 to the number of images, {len(self.items)}, "
                f"got {samples}. Leave it out to take all."
            )
        ranked = sorted(self.items, key=lambda item: _digest(f"{seed}:{item.id}"))
        chosen = {item.id for item in ranked[:samples]}
        items = tuple(item for item in self.items if item.id in chosen)
        return replace(self, items=items, seed=seed, samples=samples)

    def check_regions(self) -> None:
        """Raises for a box or mask that does not fit its image.

        An image that cannot be read is left for the run to report.

        Raises:
            ValueError: If a box is empty or outside of the image, or a mask has another
                size.
        """
        for item in self.items:
            if isinstance(item, FileItem) and (item.boxes or item.masks):
                check(item.id, item.file, item.boxes, item.masks)

    def check_files(self) -> None:
        """Raises where no image is there; single ones are left for the run to report.

        Raises:
            ValueError: If all are missing.
        """
        if self.items and all(item.is_missing for item in self.items):
            first = next(i for i in self.items if isinstance(i, FileItem))
            raise ValueError(
                f"data must name files that are there, got {len(self.items)} that are "
                f"not, such as {str(first.file)!r}. Correct the folder they start from."
            )

    def without_labels(self) -> DataSet:
        """Returns the images alone, for a model that knows other classes."""
        items = tuple(
            replace(item, label=None, boxes=(), masks=())
            if isinstance(item, FileItem)
            else replace(item, label=None)
            for item in self.items
        )
        return replace(self, items=items, classes=())


def _digest_of_file(file: Path) -> str | None:
    """Returns the SHA-256 of a file, None where it cannot be read."""
    try:
        return sha256(file)
    except OSError:
        return None


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
