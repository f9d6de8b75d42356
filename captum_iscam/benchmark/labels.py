"""From names of folders and tables to indices of a model's classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

from captum_iscam.benchmark._regions import Box, Label, Mask
from captum_iscam.benchmark.data import DataSet, FileItem, Item

_Marked = TypeVar("_Marked", "Box", "Mask")


def resolve(data: DataSet, classes: Sequence[str]) -> DataSet:
    """Returns the data with every label as an index into the model's classes.

    Names are looked up among the model's. Where none of the data's is there, folders
    named by numbers are indices, and as many classes as the model has are taken in
    their order.

    Args:
        data (DataSet): The images.
        classes (Sequence[str]): The model's classes.

    Raises:
        ValueError: If a label is no class of the model.
    """
    names = _names_of(data)
    lookup = _lookup(names, data.classes, classes) if names else {}

    def index(label: Label | None, item: Item) -> int | None:
        number = lookup[label] if isinstance(label, str) else label
        if number is not None and not 0 <= number < len(classes):
            raise ValueError(
                f"labels must be indices of the model's {len(classes)} classes, got "
                f"{number} for {item.id}. Take the model the labels are made for."
            )
        return number

    def resolved(item: Item) -> Item:
        label = index(item.label, item)
        name = item.class_name or (classes[label] if label is not None else None)
        item = replace(item, label=label, class_name=name)
        if not isinstance(item, FileItem):
            return item

        def relabel(marks: tuple[_Marked, ...]) -> tuple[_Marked, ...]:
            return tuple(replace(m, label=index(m.label, item)) for m in marks)

        return replace(item, boxes=relabel(item.boxes), masks=relabel(item.masks))

    return replace(data, items=tuple(resolved(item) for item in data.items))


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
        return {name: int(name) for name in names}
    # One known name shows that the folders are named by classes, and one is misspelt.
    if len(ordered) == len(classes) and not {_plain(n) for n in ordered} & {*known}:
        return {name: ordered.index(name) for name in names}
    strange = [n for n, plain in wanted.items() if known.count(plain) != 1]
    many = [n for n in strange if _plain(n) in known]
    why = "the name of several classes" if many else "not one of them"
    raise ValueError(
        f"labels must be classes of the model ({len(classes)}, such as {classes[0]}), "
        f"got {(many or strange)[0]!r}, {why}. Use a model with these classes, name "
        "the folders by the model's class indices, or ignore the labels."
    )


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").strip()
