"""The kinds of data that a benchmark reads, and the bundled scenes."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from captum_iscam._utils.files import kind_in_place_of_file
from captum_iscam._utils.user_code import user_code
from captum_iscam.benchmark.class_folders import (
    is_imagenet,
    read_folder,
    read_imagenet,
)
from captum_iscam.benchmark.dataset import DataSet, Item, Regions
from captum_iscam.benchmark.image_files import check_encoding
from captum_iscam.benchmark.image_tables import is_table, read_table
from captum_iscam.benchmark.pascal_voc import is_voc, read_voc
from captum_iscam.demo import CLASSES, Scene, draw_scene, load_scenes
from captum_iscam.demo.pictures import RECIPES


@dataclass(frozen=True)
class SceneItem(Item):
    """A scene, by number: first the bundled ones, then drawn ones.

    Its label is the class of the largest object.
    """

    number: int = 0

    @property
    def has_regions(self) -> bool:
        """Whether the masks are of the model's classes."""
        return self.label is not None

    def read(self) -> tuple[Image.Image, Regions]:
        """Returns the scene as an image, and the mask of each object."""
        scene = _scene(self.number)
        masks = dict(zip(scene.labels, scene.masks.numpy(), strict=True))
        return _as_image(scene.image), masks if self.has_regions else {}

    @property
    def has_interventions(self) -> bool:
        """Whether the objects are of the model's classes."""
        return self.has_regions

    def interventions(self) -> dict[int, Image.Image]:
        """Returns the scene drawn without the object of each class."""
        scene = _scene(self.number)
        images = map(_as_image, scene.without)
        return dict(zip(scene.labels, images, strict=True)) if self.has_regions else {}


def _as_image(pixels: Tensor) -> Image.Image:
    return Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())


def bundled_scenes(samples: int | None = None) -> DataSet:
    """Returns the bundled scenes, and drawn ones after them if there are to be more.

    Examples::

        >>> data = bundled_scenes()
        >>> len(data.items), data.items[0].id, data.items[0].class_name
        (8, 'scene_0', 'star')
    """
    items = []
    for number in range(max(len(RECIPES), samples or 0)):
        scene = _scene(number)
        label = scene.labels[int(scene.masks.flatten(1).sum(1).argmax())]
        name = CLASSES[label]
        items.append(SceneItem(f"scene_{number}", name, name, number))
    return DataSet("scenes", None, tuple(items), CLASSES)


@cache
def _bundled() -> list[Scene]:
    return load_scenes()


def _scene(number: int) -> Scene:
    if number < len(RECIPES):
        return _bundled()[number]
    return draw_scene(np.random.default_rng([0, number]))


@dataclass(frozen=True)
class Reader:
    """A kind of data.

    Attributes:
        name (str): Its name, which becomes the :attr:`DataSet.kind` of what it reads.
        recognises (Callable): Whether a path that exists is of this kind.
        read (Callable): Returns the images at such a path.
    """

    name: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path], DataSet]


READERS: list[Reader] = [
    Reader("csv", is_table, read_table),
    Reader("voc", is_voc, read_voc),
    Reader("imagenet", is_imagenet, read_imagenet),
    Reader("folder", Path.is_dir, read_folder),
]
"""The first reader that recognises a path reads it; the last one takes any folder."""


def register_reader(
    name: str, recognises: Callable[[Path], bool], read: Callable[[Path], DataSet]
) -> None:
    """Adds a kind of data, which goes before the known ones.

    Args:
        name (str): Its name.
        recognises (Callable): Whether a path that exists is of this kind.
        read (Callable): Returns the images at such a path.

    Raises:
        ValueError: If the name is taken by another reader.

    Examples::

        >>> from captum_iscam.benchmark.dataset import FileItem
        >>> def is_mine(path):
        ...     return (path / "mine.json").is_file()
        >>> def read_mine(path):
        ...     return DataSet("mine", path, (FileItem("a.jpg", 3, file=path / "a"),))
        >>> register_reader("mine", is_mine, read_mine)
        >>> READERS.pop(0).name
        'mine'
    """
    old = {reader.name: reader for reader in READERS}
    # A cell of a notebook that is run again defines the same reader again.
    again = name in old and _home(old[name].read) == _home(read)
    if name == "scenes" or (name in old and not again):
        raise ValueError(
            f"name must be one that no kind of data has, got {name!r}. Known are: "
            f"scenes, {', '.join(old)}."
        )
    if again:
        READERS.remove(old[name])
    READERS.insert(0, Reader(name, recognises, read))


def _home(read: Callable[[Path], DataSet]) -> tuple[str, str]:
    return read.__module__, read.__qualname__


def find_data(path: Path) -> DataSet:
    """Returns the images at a path, by the first of `READERS` that recognises it.

    Args:
        path (Path): A CSV file or a folder with `labels.csv`; a Pascal VOC folder (with
            `JPEGImages`, or above it); an ImageNet root (with `val` and `meta.bin`);
            or a folder of images, if labelled in one folder per class.

    Raises:
        ValueError: If there are no such data, or they are inconsistent.
    """
    check_encoding(str(path), "--data")
    if not os.path.exists(path):  # unlike that of Path, it raises for no name
        raise ValueError(
            f"data must be a folder or a CSV file, got {str(path)!r}, which does not "
            "exist. Omit it for the bundled scenes."
        )
    with user_code():
        reader = next((r for r in READERS if r.recognises(path)), None)
    if reader is None:
        raise ValueError(
            f"data must be of a known kind, got {str(path)!r}"
            f"{kind_in_place_of_file(path)}. Known are: "
            f"{', '.join(r.name for r in READERS)}."
        )
    with user_code():
        return replace(reader.read(path), kind=reader.name)
