"""Pascal VOC: annotations with boxes, and painted masks for some images."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from captum_iscam.benchmark._regions import Box, Mask
from captum_iscam.benchmark.data import DataSet, FileItem

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


def voc_root(path: Path) -> Path | None:
    """The folder with `JPEGImages`: the path, or the newest year below it."""
    for pattern in ("", "VOC2*", "VOCdevkit/VOC2*"):
        found = sorted(path.glob(pattern)) if pattern else [path]
        roots = [p for p in found if (p / "JPEGImages").is_dir()]
        if roots:
            return roots[-1]
    return None


def read_voc(root: Path) -> DataSet:
    """The validation images; the label is the class of the largest box."""
    listed = root / "ImageSets" / "Main" / "val.txt"
    if listed.is_file():
        names = listed.read_text(encoding="utf-8").split()
    else:
        names = sorted(p.stem for p in (root / "Annotations").glob("*.xml"))
    if not names:
        raise ValueError(
            f"data must hold annotated images, got none in {str(root)!r}. Keep the "
            "folders Annotations and ImageSets beside JPEGImages."
        )
    items = tuple(_item(root, name) for name in names)
    return DataSet("voc", root, items, _CLASSES)


def _item(root: Path, name: str) -> FileItem:
    file = root / "Annotations" / f"{name}.xml"
    try:
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
        # Its palette index is the class, 255 the rim that belongs to nobody.
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
    # Counted from 1, the last pixel included.
    return Box(entry.findtext("name"), x0 - 1, y0 - 1, x1, y1)
