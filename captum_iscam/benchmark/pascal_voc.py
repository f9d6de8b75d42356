"""Reads Pascal VOC: images with an annotation each, and painted masks."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from captum_iscam.benchmark.dataset import Box, DataSet, FileItem, Mask
from captum_iscam.benchmark.image_files import check_encoding

CLASSES = (
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


def is_voc(path: Path) -> bool:
    """Whether there is a folder of Pascal VOC at a path, or just below it."""
    return _voc_root(path) is not None


def read_voc(path: Path) -> DataSet:
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
    return DataSet("voc", root, items, CLASSES)


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
            Mask(label, painted, 1 + CLASSES.index(str(label)))
            for label in present
            if label in CLASSES
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
