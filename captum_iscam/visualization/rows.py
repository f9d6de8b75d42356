"""A row of panels as it is given, and as it is drawn: image, signal or slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_iscam._utils.validation import as_integer, as_number, as_sequence
from captum_iscam.visualization.arrays import (
    Array,
    ImageLike,
    as_map,
    as_tensor,
    denormalize,
    display_image,
    upsample,
    warn_of_stretching,
)

Frame = tuple[float, float, float, float]


class Row(NamedTuple):
    """One line of panels: an image and maps over it.

    Attributes:
        title (str): The title above the image.
        image (Tensor, numpy.ndarray or PIL.Image.Image): The image: a tensor
            `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3, an array `(H, W)` or `(H, W, 3)`,
            or a PIL image; of uint8, or in [0, 1], or, with `mean` and `std`,
            normalised by them. Or a signal `(C, L)` or `(1, C, L)`, or a volume
            `(C, D, H, W)` or `(1, C, D, H, W)`. `mean` and `std` are passed to the
            function that draws the row.
        maps (Mapping[str, Tensor or numpy.ndarray]): A map for each title: `(h, w)`,
            `(1, h, w)` or `(1, 1, h, w)`, at any size; `(1, 1, l)` for a signal and
            `(1, 1, d, h, w)` for a volume. A map of the image's shape, as gradient
            methods give one, is summed over its channels. Of the maps of several
            targets, `(1, T, h, w)`, pass one: `maps[:, t:t+1]`. Each title stands above
            its map.
        frame (tuple[float, float, float, float], optional): A rectangle that is marked
            in each panel, such as the crop that the model saw: left, top, right and
            bottom in pixels of the image. Default: None

    Examples::

        >>> import torch
        >>> row = Row("a cat", torch.rand(3, 8, 8), {"IS-CAM": torch.rand(1, 1, 2, 2)})
        >>> list(row.maps)
        ['IS-CAM']
    """

    title: str
    image: ImageLike
    maps: Mapping[str, Tensor | Array]
    frame: Frame | None = None


class Drawable(NamedTuple):
    """A row whose image and maps have one size."""

    title: str
    image: Array | None
    """`(H, W, 3)` in [0, 1], or None for a signal."""
    signal: Array | None
    """`(C, L)`, or None for an image."""
    maps: dict[str, Array]
    """`(H, W)` each; `(1, L)` for a signal."""
    frame: Frame | None

    @property
    def aspect(self) -> float:
        """Width of a panel over its height."""
        if self.image is None:
            return 2.5
        height, width = self.image.shape[:2]
        return float(width / height)


MOST = 8
"""Maps side by side. More would be small on a screen and on a page."""


def in_lines(row: Drawable) -> list[Drawable]:
    """Returns a row of many maps as lines of about as many, each with the image."""
    maps = list(row.maps.items())
    lines = max(1, ceil(len(maps) / MOST))
    size = ceil(len(maps) / lines)
    parts = [maps[line * size : (line + 1) * size] for line in range(lines)]
    return [row._replace(maps=dict(part)) for part in parts]


def prepare(
    row: Row,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    slice_axis: int,
    slice_index: int | None,
) -> Drawable:
    """Returns a row as it is drawn; the maps say whether it is a signal or a volume."""
    if not isinstance(row.maps, Mapping):
        raise TypeError(
            f"maps must be a mapping of titles to maps, got {type(row.maps).__name__}. "
            'Name them, as in {"IS-CAM": attributions}.'
        )
    row = _titled(row)
    given = as_tensor(row.image)
    shapes = [tuple(values.shape) for values in row.maps.values() if _has_shape(values)]
    if any(len(shape) == 5 for shape in shapes):
        return _volume(row, given, mean, std, slice_axis, slice_index)
    if _is_signal(given, shapes):
        return _signal(row, given)
    image = display_image(row.image, mean, std)
    pixels = given[0] if given.dim() == 4 else given
    pixels = pixels.unsqueeze(0) if pixels.dim() == 2 else pixels
    maps = {}
    for title, values in row.maps.items():
        checked = as_map(values, pixels, title, rank=2)
        warn_of_stretching(checked, image.shape[:2], title)
        maps[title] = upsample(checked, image.shape[:2])[0, 0].numpy()
    frame = check_frame(row.frame, image.shape[:2])
    return Drawable(row.title, image, None, maps, frame)


def _titled(row: Row) -> Row:
    """Returns the row with titles of text; a number stands for itself."""
    maps = {_as_text("maps' titles", key): values for key, values in row.maps.items()}
    if len(maps) < len(row.maps):
        raise ValueError(
            f"maps must have different titles, got {list(row.maps)}. Rename those that "
            "read the same."
        )
    return row._replace(title=_as_text("title", row.title), maps=maps)


def _as_text(name: str, title: object) -> str:
    if isinstance(title, str):
        return title
    if as_number(title) is None:
        raise TypeError(
            f'{name} must be text, got {title!r}. Pass a name such as "IS-CAM", or "" '
            "for none."
        )
    return str(title.item() if isinstance(title, Tensor) else title)


def check_frame(frame: Any, size: Sequence[int]) -> Frame | None:
    """Returns a frame as numbers, or raises unless it marks a part of an image.

    It may reach beyond the image, as the frame of a padded crop does.

    Args:
        frame (Sequence[float] or None): Left, top, right and bottom.
        size (Sequence[int]): Height and width of the image.
    """
    if frame is None:
        return None
    order = "left, top, right and bottom in pixels of the image"
    edges = as_sequence(
        "frame", frame, as_number, "four finite numbers", f"Pass {order}."
    )
    if len(edges) != 4 or not all(map(isfinite, edges)):
        raise ValueError(
            f"frame must be four finite numbers, got {frame!r}. Pass {order}."
        )
    left, top, right, bottom = edges
    height, width = size
    if left >= right or top >= bottom:
        raise ValueError(
            f"frame must have left below right and top below bottom, got {frame!r}. "
            f"Pass {order}."
        )
    if right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise ValueError(
            f"frame must overlap the image, {width} wide and {height} high, got "
            f"{frame!r}. Pass {order}."
        )
    return left, top, right, bottom


def _has_shape(values: object) -> bool:
    return hasattr(values, "shape")


def _is_signal(given: Tensor, shapes: Sequence[tuple[int, ...]]) -> bool:
    """Whether it is a signal: its maps have one line, and no dimension of height."""
    if not (given.dim() == 2 or (given.dim() == 3 and given.shape[0] == 1)):
        return False
    flat = [len(s) == 1 or (len(s) in (2, 3) and set(s[:-1]) == {1}) for s in shapes]
    return bool(flat) and all(flat)


def _signal(row: Row, given: Tensor) -> Drawable:
    signal = given.reshape(given.shape[-2:]).double()
    if not torch.isfinite(signal).all():
        raise ValueError(
            "image must be finite, got NaN or infinity in the signal. Replace them."
        )
    if row.frame is not None:
        raise ValueError(f"frame must be None for a signal, got {row.frame}. Omit it.")
    maps = {}
    for title, values in row.maps.items():
        checked = as_map(values, signal, title, rank=1)
        maps[title] = upsample(checked, signal.shape[1:])[0].numpy()
    return Drawable(row.title, None, signal.numpy(), maps, None)


def _volume(
    row: Row,
    given: Tensor,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    axis: int,
    index: int | None,
) -> Drawable:
    """Returns one slice of a volume and its maps."""
    if given.dim() < 4 or (given.dim() == 4 and len(given) == 1):
        pixels = given[0] if given.dim() == 4 else given
        if pixels.dim() < 3 or len(pixels) in (1, 3):
            raise ValueError(
                "maps must have the dimensions of the image, got maps of a volume, (1, "
                f"1, d, h, w), for an image of the shape {tuple(given.shape)}. Pass a "
                "slice of the maps, or the volume (1, C, D, H, W)."
            )
    volume = given[0] if given.dim() == 5 and given.shape[0] == 1 else given
    volume = volume.unsqueeze(0) if volume.dim() == 3 else volume
    if volume.dim() != 4:
        raise ValueError(
            "image must be a volume (C, D, H, W) or (1, C, D, H, W) where maps have "
            f"five dimensions, got {tuple(given.shape)}. Pass one volume at a time."
        )
    if as_integer(axis) not in (0, 1, 2):
        raise ValueError(
            f"slice_axis must be 0, 1 or 2, got {axis!r}. These are depth, height and "
            "width."
        )
    maps = {}
    for title, values in row.maps.items():
        checked = as_map(values, volume, title, rank=3)
        maps[title] = upsample(checked, volume.shape[1:])[0, 0]
    depth = volume.shape[1 + axis]
    index = _strongest(list(maps.values()), axis) if index is None else index
    if as_integer(index) is None or not 0 <= index < depth:
        raise ValueError(
            f"slice_index must be from 0 to {depth - 1}, got {index!r}. Omit it for "
            "the slice where the maps are strongest."
        )
    pixels = denormalize(volume, mean, std).select(1 + axis, index)
    image = display_image(pixels)
    shown = {
        title: values.select(axis, index).numpy() for title, values in maps.items()
    }
    title = f"{row.title}\nslice {index} of {depth}"
    frame = check_frame(row.frame, image.shape[:2])
    return Drawable(title, image, None, shown, frame)


def _strongest(maps: Sequence[Tensor], axis: int) -> int:
    """Returns the slice with the largest share of the maps' sums."""
    others = [other for other in range(3) if other != axis]
    sums = torch.stack([values.abs().sum(others) for values in maps])
    totals = sums.sum(1, keepdim=True)
    if not totals.any():
        return sums.shape[1] // 2
    return int((sums / totals.clamp(min=torch.finfo(sums.dtype).tiny)).sum(0).argmax())
