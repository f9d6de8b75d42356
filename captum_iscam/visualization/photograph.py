"""Maps brought back onto the photograph that was resized and cropped for the model."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from captum_iscam._utils.validation import as_number
from captum_iscam.visualization.arrays import Array, as_values
from captum_iscam.visualization.rows import Frame


class OnOriginal(NamedTuple):
    """A map aligned with the photograph, and the part of it that the model saw.

    Attributes:
        attributions (Tensor): The map `(1, C, H, W)` at the photograph's size, 0
            outside the frame.
        frame (tuple[float, float, float, float]): Left, top, right and bottom of the
            crop in pixels of the photograph. It reaches beyond the photograph where
            the crop was padded.

    Examples::

        >>> import torch
        >>> OnOriginal(torch.zeros(1, 1, 8, 12), (2.0, 0.0, 10.0, 8.0)).frame
        (2.0, 0.0, 10.0, 8.0)
    """

    attributions: Tensor
    frame: Frame


def on_original(
    image: Image.Image,
    attributions: Tensor | Array,
    preprocessing: Mapping[str, Any] | None,
) -> OnOriginal:
    """Returns a map on the original photograph, at the photograph's own resolution.

    It undoes torchvision's usual transform: the photograph is resized, then the centre
    is cropped, and padded where it is smaller than the crop. Sizes are rounded
    as torchvision rounds them. The map is interpolated linearly, as `upsample` does.

    Args:
        image (PIL.Image.Image): The photograph as the transform received it. Its size
            alone is read.
        attributions (Tensor or numpy.ndarray): The map, `(h, w)`, `(1, h, w)` or
            `(1, C, h, w)`, at any size, of the input that the transform made.
        preprocessing (Mapping or None): `preprocessing` of a
            `captum_iscam.networks.Network`: "resize" is the length of the shorter side,
            or height and width, or None for a photograph that is not resized; "crop" is
            the side of the square crop, or height and width. All in pixels, at least 1.
            timm's `crop / crop_pct` is rounded down, as timm does.

    Returns:
        *OnOriginal*: The map `(1, C, H, W)`, 0 outside the crop, and the frame of the
        crop.

    Raises:
        ValueError: If the preprocessing is None, has no "resize" or "crop", or does
            not say what it does ("crop" is None), or the map has another shape.
        TypeError: If the image or the map is of another type.

    Examples::

        >>> import torch
        >>> photograph = Image.new("RGB", (640, 480))
        >>> preprocessing = {"resize": 256, "crop": 224}
        >>> maps = torch.rand(1, 1, 7, 7)
        >>> back = on_original(photograph, maps, preprocessing)
        >>> back.attributions.shape, back.frame  # doctest: +ELLIPSIS
        (torch.Size([1, 1, 480, 640]), (108.85..., 30.0, 529.26..., 450.0))
        >>> from captum_iscam.visualization import visualize
        >>> maps = {"IS-CAM": back.attributions}
        >>> figure = visualize(photograph, maps, frame=back.frame)
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"image must be a PIL image, got {type(image).__name__}. Pass the "
            "photograph as the transform received it."
        )
    if not isinstance(attributions, (Tensor, np.ndarray)):
        raise TypeError(
            "attributions must be a tensor or an array, got "
            f"{type(attributions).__name__}. Convert it with torch.as_tensor."
        )
    values = as_values("attributions", attributions).double()
    while values.dim() < 4:
        values = values.unsqueeze(0)
    if values.dim() != 4 or values.shape[0] != 1:
        raise ValueError(
            "attributions must have the shape (h, w), (1, h, w) or (1, C, h, w), got "
            f"{tuple(attributions.shape)}. Map back one example at a time."
        )
    frame = crop_frame(image.size, preprocessing)
    left, top, right, bottom = frame
    width, height = image.size
    # Where the centre of each pixel lies in the crop, whose sides are -1 and 1.
    x = 2 * (torch.arange(width).double() + 0.5 - left) / (right - left) - 1
    y = 2 * (torch.arange(height).double() + 0.5 - top) / (bottom - top) - 1
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    grid = torch.stack([columns, rows], -1).unsqueeze(0)
    placed = F.grid_sample(values, grid, padding_mode="border", align_corners=False)
    return OnOriginal(placed * (grid.abs().amax(-1) <= 1), frame)


def crop_frame(size: tuple[int, int], preprocessing: Mapping[str, Any] | None) -> Frame:
    """Returns left, top, right and bottom of the crop in pixels of the photograph.

    Args:
        size (tuple[int, int]): Width and height of the photograph.
        preprocessing (Mapping or None): "resize" and "crop", as `on_original` has them.
    """
    sides = preprocessing if isinstance(preprocessing, Mapping) else {}
    crop, resize = _sides(sides.get("crop")), sides.get("resize", "unknown")
    resized = size[::-1] if resize is None else _sides(resize)
    if crop is None or resized is None:
        raise ValueError(
            'preprocessing must have the sizes "resize" and "crop", got '
            f"{preprocessing!r}. The transform is not known, so the map cannot be "
            "brought back: draw it over the image as the model saw it."
        )
    width, height = size
    down, across = resized
    if as_number(resize) is not None:
        # torchvision rounds the longer side down.
        across = down if width <= height else int(down * width / height)
        down = down if height <= width else int(down * height / width)
    left, right = _crop_of(across, crop[1], width)
    top, bottom = _crop_of(down, crop[0], height)
    return left, top, right, bottom


def _sides(size: Any) -> tuple[int, int] | None:
    """Returns height and width of a size, or None if it is none."""
    both = [as_number(size)] * 2
    if isinstance(size, list | tuple) and len(size) == 2:
        both = [as_number(side) for side in size]
    height, width = both
    if (
        height is None
        or width is None
        or not (min(height, width) >= 1 and isfinite(max(height, width)))
    ):
        return None
    return int(height), int(width)


def _crop_of(resized: int, crop: int, original: int) -> tuple[float, float]:
    """Returns where the crop begins and ends along one side of the photograph."""
    start = -((crop - resized) // 2) if crop > resized else round((resized - crop) / 2)
    scale = original / resized
    return start * scale, (start + crop) * scale
