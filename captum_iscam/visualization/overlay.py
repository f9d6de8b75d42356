"""A single map over its image, exactly as large as the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image, ImageDraw
from torch import Tensor

from captum_iscam.visualization.arrays import Array, ImageLike
from captum_iscam.visualization.heat import ALPHA, Style, blend
from captum_iscam.visualization.rows import Frame, Row, check_frame, prepare


def overlay(
    image: ImageLike,
    attributions: Tensor | Array,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    sign: str = "positive",
    vmin: float | None = None,
    vmax: float | None = None,
    outlier_perc: float = 2.0,
    cmap: str | None = None,
    alpha_overlay: float = ALPHA,
    frame: Frame | None = None,
) -> Array:
    """Returns the pixels of a map over its image, without a margin or a title.

    The colours are those of `visualize`. `PIL.Image.fromarray` makes an image of it.

    Args:
        image (Tensor, numpy.ndarray or PIL.Image.Image): The image: a tensor
            `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3, an array `(H, W)` or `(H, W, 3)`,
            or a PIL image; of uint8, or in [0, 1], or, with `mean` and `std`,
            normalised by them.
        attributions (Tensor or numpy.ndarray): The map, `(h, w)`, `(1, h, w)` or
            `(1, 1, h, w)`, at any size. A map of the image's shape is summed over its
            channels.
        mean (Sequence[float], optional): Mean of each channel that the image was
            normalised with, in the units of its pixels. Default: None, that is 0
        std (Sequence[float], optional): Standard deviation of each channel that the
            image was normalised with, in the same units. Default: None, that is 1
        sign (str, optional): What to draw: "positive", "negative", "absolute_value" or
            "all" values, Captum's names. Default: "positive"
        vmin (float, optional): Value of the lowest colour, in the units of the maps;
            needs `vmax`. Default: None, that is 0, or `-vmax` for "all"
        vmax (float, optional): Value of the highest colour, in the units of the maps.
            Default: None, that is the largest value of each map, without outliers
        outlier_perc (float, optional): Without `vmax`, the percentage of the map's sum,
            from 0 to 100, whose largest values all have the highest colour.
            Default: 2.0
        cmap (str, optional): Name of matplotlib's colour map. Default: None, that is
            "inferno", or "coolwarm" for "all"
        alpha_overlay (float, optional): Opacity of the largest values, from 0 to 1;
            smaller values are more transparent, and 0 is not drawn. Default: 0.8
        frame (tuple[float, float, float, float], optional): A rectangle that is marked,
            such as the crop that the model saw: left, top, right and bottom in pixels
            of the image. Default: None

    Returns:
        *numpy.ndarray* `(H, W, 3)` of uint8, of the image's size.

    Raises:
        ValueError: If `sign` or `cmap` is unknown, `alpha_overlay` is not in [0, 1],
            `vmin` is not below `vmax`, the map has several channels or holds NaN or
            infinity, `image` is no image in [0, 1], `mean` or `std` does not fit it, or
            `frame` marks no part of it.
        TypeError: If the image or the map is of another type.

    Examples::

        >>> import torch
        >>> pixels = overlay(torch.rand(3, 48, 64), torch.rand(1, 1, 3, 4))
        >>> pixels.shape, pixels.dtype
        ((48, 64, 3), dtype('uint8'))
        >>> Image.fromarray(pixels).size
        (64, 48)
    """
    style = Style(sign, vmin, vmax, outlier_perc, cmap, alpha_overlay)
    pixels = blend(*drawn(Row("", image, {"": attributions}, frame), style, mean, std))
    checked = check_frame(frame, pixels.shape[:2])
    return pixels if checked is None else _framed(pixels, checked)


def drawn(
    row: Row,
    style: Style,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> tuple[Array, AxesImage]:
    """Returns the image `(H, W, 3)` of a row with one map, and the drawn map."""
    prepared = prepare(row, mean, std, 0, None)
    if prepared.image is None:
        raise ValueError(
            "image must be an image, got a signal. Draw it with visualize."
        )
    (values,) = prepared.maps.values()
    figure = Figure()
    heat = style.draw_map(figure, figure.subplots(), prepared.image, values)
    return prepared.image, heat


def _framed(pixels: Array, frame: Frame) -> Array:
    """Returns the pixels with a white line between two black ones on the frame."""
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    thick = max(1, round(min(picture.size) / 300))
    left, top, right, bottom = (round(edge) for edge in frame)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    box = (left - thick, top - thick, right - 1 + thick, bottom - 1 + thick)
    draw.rectangle(box, outline="black", width=3 * thick)
    draw.rectangle((left, top, right - 1, bottom - 1), outline="white", width=thick)
    return np.asarray(picture)
