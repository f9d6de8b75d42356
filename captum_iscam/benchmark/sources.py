"""Where images come from: folders, tables, ImageNet, Pascal VOC, the bundled scenes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from captum_iscam._utils.files import read_tensors
from captum_iscam.benchmark._csv import read_table
from captum_iscam.benchmark._regions import Regions
from captum_iscam.benchmark._voc import read_voc, voc_root
from captum_iscam.benchmark.data import DataSet, FileItem, Item
from captum_iscam.benchmark.labels import resolve
from captum_iscam.demo import CLASSES, Scene, draw_scene, load_scenes
from captum_iscam.demo.pictures import RECIPES

_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class SceneItem(Item):
    """A scene: the bundled ones first, drawn ones after them.

    Its label is the class of the largest object.
    """

    number: int = 0

    @property
    def has_regions(self) -> bool:
        """Whether the masks speak of the model's classes."""
        return self.label is not None

    def read(self) -> tuple[Image.Image, Regions]:
        """Returns the scene as a picture, and the mask of each object."""
        scene = _scene(self.number)
        pixels = (scene.image * 255).round().byte().permute(1, 2, 0).numpy()
        masks = dict(zip(scene.labels, scene.masks.numpy(), strict=True))
        return Image.fromarray(pixels), masks if self.has_regions else {}


def bundled_scenes(samples: int | None = None) -> DataSet:
    """Returns the bundled scenes; asked for more, drawn ones after them.

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


def find_data(path: Path) -> DataSet:
    """Returns the images at a path, whose kind is told from what is there.

    Args:
        path (Path): A CSV file or a folder with `labels.csv`; a Pascal VOC folder (with
            `JPEGImages`, or above it); an ImageNet root (with `val` and `meta.bin`);
            or a folder of images, if labelled in one folder per class.

    Raises:
        ValueError: If nothing of that kind is there, or it contradicts itself.
    """
    if path.is_file():
        return read_table(path)
    if not path.is_dir():
        raise ValueError(
            f"data must be a folder or a CSV file, got {str(path)!r}, which is not "
            "there. Leave it out for the bundled scenes."
        )
    if (path / "labels.csv").is_file():
        return read_table(path / "labels.csv")
    if (voc := voc_root(path)) is not None:
        return read_voc(voc)
    if (path / "val").is_dir() and (path / "meta.bin").is_file():
        return _imagenet(path)
    whole_imagenet = (path / "val").is_dir() and any(
        _WORDNET_ID.fullmatch(entry.name) for entry in (path / "val").iterdir()
    )
    return _folder(path / "val" if whole_imagenet else path)


@cache
def _bundled() -> list[Scene]:
    return load_scenes()


def _scene(number: int) -> Scene:
    if number < len(RECIPES):
        return _bundled()[number]
    return draw_scene(np.random.default_rng([0, number]))


def _folder(root: Path) -> DataSet:
    """One folder per class, or images without a class."""
    files = [file.relative_to(root) for file in _images_below(root)]
    flat = [file for file in files if len(file.parts) == 1]
    if not files:
        raise ValueError(
            f"data must hold images ({', '.join(_SUFFIXES)}), got none in "
            f"{str(root)!r}. Name the folder whose folders hold the images."
        )
    if flat and len(flat) < len(files):
        raise ValueError(
            "data must hold images in one folder per class, or without classes, got "
            f"both in {str(root)!r}: {flat[0].name} lies beside folders. Move it."
        )
    labels = [None if flat else file.parts[0] for file in files]
    items = tuple(
        FileItem(file.as_posix(), label, label, root / file)
        for file, label in zip(files, labels, strict=True)
    )
    classes = sorted({label for label in labels if label})
    return DataSet("folder", root, items, tuple(classes))


def _images_below(root: Path) -> list[Path]:
    found = [
        Path(folder) / name
        for folder, _, names in os.walk(root, followlinks=True)
        for name in names
        if name.lower().endswith(_SUFFIXES)
    ]
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def _imagenet(root: Path) -> DataSet:
    """The validation images; their folders' names in order are the class indices."""
    names = _names_in(root / "meta.bin")
    order = sorted(names)
    found = _folder(root / "val")
    strange = [name for name in found.classes if name not in names]
    if strange or not found.classes:
        raise ValueError(
            f"data must hold the folders of ImageNet in {str(root / 'val')!r}, got "
            f"{strange[0] if strange else 'no folders'}. Let "
            'torchvision.datasets.ImageNet(root, "val") unpack it.'
        )
    items = tuple(
        FileItem(item.id, order.index(folder), names[folder][0], item.file)
        for item in found.items
        if isinstance(item, FileItem) and (folder := str(item.label))
    )
    data = DataSet("imagenet", root, items)
    return resolve(data, [names[name][0] for name in order])


def _names_in(meta: Path) -> dict[str, tuple[str, ...]]:
    """Names of the classes by folder, as torchvision keeps them."""
    repair = 'Let torchvision.datasets.ImageNet(root, "val") write it anew.'
    found = read_tensors(meta, "meta.bin", repair)
    names = found[0] if isinstance(found, tuple) and found else None
    if not isinstance(names, dict) or not names:
        raise ValueError(
            "meta.bin must hold the names of ImageNet's classes, got "
            f"{type(found).__name__} in {str(meta)!r}. {repair}"
        )
    return names
