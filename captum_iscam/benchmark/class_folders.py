"""Reads images in one folder per class, ImageNet's among them."""

from __future__ import annotations

from pathlib import Path

from captum_iscam._utils.files import read_tensors
from captum_iscam.benchmark.dataset import WORDNET_ID, DataSet, FileItem, resolve
from captum_iscam.benchmark.image_files import IMAGES, images_below


def read_folder(path: Path) -> DataSet:
    """Class folders, or images without a class; ImageNet's lie one folder below."""
    val = path / "val"
    in_val = val.is_dir() and any(
        WORDNET_ID.fullmatch(entry.name) for entry in val.iterdir()
    )
    return _class_folders(val if in_val else path)


def _class_folders(root: Path) -> DataSet:
    """One folder per class, or images without a class."""
    # Notebooks and file managers keep copies of images in such folders.
    below = images_below(root, lambda folder: folder.name.startswith("."))
    files = [file.relative_to(root) for file in below]
    flat = [file for file in files if len(file.parts) == 1]
    if not files:
        raise ValueError(
            f"data must contain images ({IMAGES}), got none in "
            f"{str(root)!r}. Name the folder that has them, or one folder per class."
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


def is_imagenet(path: Path) -> bool:
    """Whether a folder has ImageNet's validation images and names of classes."""
    return (path / "val").is_dir() and (path / "meta.bin").is_file()


def read_imagenet(root: Path) -> DataSet:
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
