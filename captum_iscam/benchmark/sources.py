"""Readers of images: folders, tables, ImageNet, Pascal VOC, the bundled scenes."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from captum_iscam._utils.files import read_tensors
from captum_iscam.benchmark.dataset import (
    Box,
    DataSet,
    FileItem,
    Item,
    Mask,
    Regions,
    resolve,
)
from captum_iscam.benchmark.image_files import SUFFIXES, check_encoding, images_below
from captum_iscam.demo import CLASSES, Scene, draw_scene, load_scenes
from captum_iscam.demo.pictures import RECIPES

_WORDNET_ID = re.compile(r"n\d{8}")


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
        pixels = (scene.image * 255).round().byte().permute(1, 2, 0).numpy()
        masks = dict(zip(scene.labels, scene.masks.numpy(), strict=True))
        return Image.fromarray(pixels), masks if self.has_regions else {}


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


def _read_folder(path: Path) -> DataSet:
    """Class folders, or images without a class; ImageNet's lie one folder below."""
    val = path / "val"
    is_imagenet = val.is_dir() and any(
        _WORDNET_ID.fullmatch(entry.name) for entry in val.iterdir()
    )
    return _class_folders(val if is_imagenet else path)


def _class_folders(root: Path) -> DataSet:
    """One folder per class, or images without a class."""
    files = [file.relative_to(root) for file in images_below(root)]
    flat = [file for file in files if len(file.parts) == 1]
    if not files:
        raise ValueError(
            f"data must contain images ({', '.join(SUFFIXES)}), got none in "
            f"{str(root)!r}. Name the folder that has the folders of images."
        )
    if flat and len(flat) < len(files):
        raise ValueError(
            "data must contain images in one folder per class, or without classes, got "
            f"both in {str(root)!r}: {flat[0].name} lies next to folders. Move it."
        )
    labels = [None if flat else file.parts[0] for file in files]
    items = tuple(
        FileItem(file.as_posix(), label, label, root / file)
        for file, label in zip(files, labels, strict=True)
    )
    classes = sorted({label for label in labels if label})
    return DataSet("folder", root, items, tuple(classes))


def _is_imagenet(path: Path) -> bool:
    return (path / "val").is_dir() and (path / "meta.bin").is_file()


def _read_imagenet(root: Path) -> DataSet:
    """The validation images; sorted names of folders are in the order of classes."""
    names = _names_in(root / "meta.bin")
    order = sorted(names)
    found = _class_folders(root / "val")
    unknown = [name for name in found.classes if name not in names]
    if unknown or not found.classes:
        raise ValueError(
            f"data must contain the folders of ImageNet in {str(root / 'val')!r}, got "
            f"{unknown[0] if unknown else 'no folders'}. Let "
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
    """Names of the classes by folder, as torchvision stores them."""
    repair = 'Let torchvision.datasets.ImageNet(root, "val") write it again.'
    found = read_tensors(meta, "meta.bin", repair)
    names = found[0] if isinstance(found, tuple) and found else None
    if not isinstance(names, dict) or not names:
        raise ValueError(
            "meta.bin must contain the names of ImageNet's classes, got "
            f"{type(found).__name__} in {str(meta)!r}. {repair}"
        )
    return names


def _is_table(path: Path) -> bool:
    return path.is_file() or (path / "labels.csv").is_file()


def _read_table(path: Path) -> DataSet:
    """A CSV of files and labels; `boxes.csv` next to it may list boxes."""
    file = path if path.is_file() else path / "labels.csv"
    root = file.parent
    boxes = _boxes(root / "boxes.csv") if (root / "boxes.csv").is_file() else {}
    items: dict[str, FileItem] = {}
    spelt: set[str] = set()
    for line, row in _rows(file):
        name = row["file"]
        # Two spellings of a path are one file.
        one = os.path.normpath(root / name)
        for used in (name, row.get("mask") or ""):
            check_encoding(used, line)
        if one in spelt:
            raise ValueError(
                f"data must name each file once, got {name!r} again in {line}. "
                "Delete one of the lines."
            )
        spelt.add(one)
        label: int | str | None = _integer(row, "class_index", line)
        class_name = row.get("class_name") or None
        label = class_name if label is None else label
        mask = row.get("mask")
        masks = (Mask(None, root / mask),) if mask else ()
        marks = tuple(boxes.pop(name, ()))
        items[name] = FileItem(name, label, class_name, root / name, marks, masks)
    if boxes:
        raise ValueError(
            f"boxes must belong to files of {file.name}, got {next(iter(boxes))!r} in "
            f"{str(root / 'boxes.csv')!r}. Delete the line, or add the file."
        )
    if not items:
        raise ValueError(
            f"data must contain images, got a table without lines in {str(file)!r}. "
            "Write a line for each image."
        )
    return DataSet("csv", file, tuple(items.values()))


def _boxes(file: Path) -> dict[str, list[Box]]:
    found: dict[str, list[Box]] = {}
    for line, row in _rows(file):
        try:
            corners = [float(row[name] or "") for name in ("x0", "y0", "x1", "y1")]
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"boxes must have the numbers x0, y0, x1, y1, got {error} in {line}. "
                "Correct the line."
            ) from error
        label = _integer(row, "class_index", line)
        found.setdefault(row["file"], []).append(Box(label, *corners))
    return found


def _rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the lines of a CSV with a column `file`, each with its line number."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if "file" not in (reader.fieldnames or ()):
                raise ValueError(
                    f"data must have a column named file, got "
                    f"{', '.join(reader.fieldnames or ()) or 'an empty table'} in "
                    f"{str(file)!r}. Name the columns in the first line."
                )
            for row in reader:
                line = f"{file.name}, line {reader.line_num}"
                if None in row or not row["file"]:
                    raise ValueError(
                        "data must have a file and as many fields as columns in each "
                        f"line, got another line in {line}. Correct it."
                    )
                yield line, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"data must be a CSV file in UTF-8, got {str(file)!r} ({error}). "
            "Name a table or a folder."
        ) from error


def _integer(row: dict[str, str], column: str, line: str) -> int | None:
    text = (row.get(column) or "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise ValueError(
            f"{column} must be an integer of 0 or more, got {text!r} in {line}. "
            "Put names into the column class_name."
        )
    return int(text)


_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def _voc_root(path: Path) -> Path | None:
    """The folder with `JPEGImages`: the path, or the newest year below it."""
    for pattern in ("", "VOC2*", "VOCdevkit/VOC2*"):
        found = sorted(path.glob(pattern)) if pattern else [path]
        roots = [p for p in found if (p / "JPEGImages").is_dir()]
        if roots:
            return roots[-1]
    return None


def _is_voc(path: Path) -> bool:
    return _voc_root(path) is not None


def _read_voc(path: Path) -> DataSet:
    """The validation images; the label is the class of the largest box."""
    root = _voc_root(path) or path
    listed = root / "ImageSets" / "Main" / "val.txt"
    if listed.is_file():
        names = list(dict.fromkeys(listed.read_text(encoding="utf-8").split()))
    else:
        names = sorted(p.stem for p in (root / "Annotations").glob("*.xml"))
    if not names:
        raise ValueError(
            f"data must contain annotated images, got none in {str(root)!r}. Keep the "
            "folders Annotations and ImageSets next to JPEGImages."
        )
    for name in names:
        check_encoding(name, listed.name)
    items = tuple(_item(root, name) for name in names)
    return DataSet("voc", root, items, _CLASSES)


def _item(root: Path, name: str) -> FileItem:
    file = root / "Annotations" / f"{name}.xml"
    try:
        if file.exists() and not file.is_file():
            raise ValueError("not a file")  # reading a pipe would wait for a writer
        boxes = [_box(o) for o in ElementTree.parse(file).iter("object")]
    except (OSError, ElementTree.ParseError, TypeError, ValueError) as error:
        raise ValueError(
            f"data must have an annotation for each image, got {str(file)!r} ({error})."
            " Restore it from the archive."
        ) from error
    largest = max(boxes, key=lambda b: (b.x1 - b.x0) * (b.y1 - b.y0), default=None)
    label = largest.label if largest else None
    painted = root / "SegmentationClass" / f"{name}.png"
    masks: list[Mask] = []
    if painted.is_file():
        # The palette index is the class; 255 is the border, which belongs to no class.
        present = dict.fromkeys(b.label for b in boxes)
        masks = [
            Mask(label, painted, 1 + _CLASSES.index(str(label)))
            for label in present
            if label in _CLASSES
        ]
    image = root / "JPEGImages" / f"{name}.jpg"
    class_name = None if label is None else str(label)
    marks = () if masks else tuple(boxes)
    return FileItem(image.name, label, class_name, image, marks, tuple(masks))


def _box(entry: ElementTree.Element) -> Box:
    box = entry.find("bndbox")
    if box is None:
        raise ValueError("an object without a box")
    x0, y0, x1, y1 = (float(box.findtext(k) or "") for k in _CORNERS)
    # VOC counts pixels from 1 and includes the last one.
    return Box(entry.findtext("name"), x0 - 1, y0 - 1, x1, y1)


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
    Reader("csv", _is_table, _read_table),
    Reader("voc", _is_voc, _read_voc),
    Reader("imagenet", _is_imagenet, _read_imagenet),
    Reader("folder", Path.is_dir, _read_folder),
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
    if not path.exists():
        raise ValueError(
            f"data must be a folder or a CSV file, got {str(path)!r}, which does not "
            "exist. Omit it for the bundled scenes."
        )
    reader = next((r for r in READERS if r.recognises(path)), None)
    if reader is None:
        raise ValueError(
            f"data must be of a known kind, got {str(path)!r}. Known are: "
            f"{', '.join(r.name for r in READERS)}."
        )
    return replace(reader.read(path), kind=reader.name)
