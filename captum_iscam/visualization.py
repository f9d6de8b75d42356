"""Layer maps as pictures, drawn by Captum's `visualize_image_attr`.

Captum's function wants a map as large as the image, channels last, that is nowhere NaN
and somewhere not zero. Maps of a layer are small, channels first, and rectified ones
can be zero everywhere. The functions here stand in between. They build figures without
pyplot: nothing is shown, and no figure stays open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from captum_iscam._utils import interpolate
from captum_iscam._panels import Array, Style, checked_map, wrap
from captum_iscam._utils.warn import warn_user

_PANEL = 2.5  # inches
_CAPTION = 0.2  # inches per line of a title


class Row(NamedTuple):
    """One line of panels: an image and maps over it.

    Attributes:
        title (str): What stands over the image.
        image (Tensor): The image `(C, H, W)`, as for :func:`visualize`.
        maps (Mapping[str, Tensor]): Maps by the title that stands over each.

    Examples::

        >>> import torch
        >>> row = Row("a cat", torch.rand(3, 8, 8), {"IS-CAM": torch.rand(1, 1, 2, 2)})
        >>> list(row.maps)
        ['IS-CAM']
    """

    title: str
    image: Tensor
    maps: Mapping[str, Tensor]


def upsample(attributions: Tensor, inputs: Tensor | Sequence[int]) -> Tensor:
    """Returns layer maps at the size of the input, interpolated linearly.

    Linear for one spatial dimension, bilinear for two, trilinear for three, with
    `align_corners=False`, as the methods enlarge their masks.

    Args:
        attributions (Tensor): Maps `(N, C, *spatial)`.
        inputs (Tensor or Sequence[int]): The input `(N, C, *spatial)`, or its spatial
            size alone.

    Returns:
        *Tensor* `(N, C, *spatial of the input)`, in the units of the maps. Maps that
        have this size already are returned as they are.

    Raises:
        ValueError: If maps and inputs differ in their number of spatial dimensions.

    Examples::

        >>> import torch
        >>> upsample(torch.rand(2, 1, 7, 7), torch.rand(2, 3, 64, 48)).shape
        torch.Size([2, 1, 64, 48])
        >>> upsample(torch.rand(1, 1, 9), [100]).shape
        torch.Size([1, 1, 100])
    """
    size = tuple(inputs.shape[2:] if isinstance(inputs, Tensor) else inputs)
    rank = attributions.dim() - 2
    if rank != len(size) or rank not in interpolate.MODES:
        raise ValueError(
            "attributions must have the spatial dimensions of the inputs, one to "
            f"three, got shape {tuple(attributions.shape)} for size {size}. "
            "Keep the dimensions of examples and channels in front."
        )
    if tuple(attributions.shape[2:]) == size:
        return attributions
    return interpolate.upsample(attributions, size)


def display_image(
    image: Tensor,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Array:
    """Returns an image as an array that plotting functions take.

    Args:
        image (Tensor): The image `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3; in [0, 1]
            or, with `mean` and `std`, normalised by them.
        mean (Sequence[float], optional): Mean of each channel. Default: None, that is 0
        std (Sequence[float], optional): Deviation of each channel. Default: None,
            that is 1

    Returns:
        *numpy.ndarray* `(H, W, 3)` in [0, 1].

    Raises:
        ValueError: If the image has another shape, or values outside [0, 1] after
            `mean` and `std` were taken back.

    Examples::

        >>> import torch
        >>> normalised = (torch.ones(3, 4, 6) - 0.45) / 0.25
        >>> image = display_image(normalised, mean=[0.45] * 3, std=[0.25] * 3)
        >>> image.shape, float(image.min().round(6))
        ((4, 6, 3), 1.0)
    """
    pixels = image[0] if image.dim() == 4 and image.shape[0] == 1 else image
    if pixels.dim() != 3 or pixels.shape[0] not in (1, 3):
        raise ValueError(
            "image must have the shape (3, H, W) or (1, H, W), got "
            f"{tuple(image.shape)}. Draw one image at a time."
        )
    pixels = pixels.detach().cpu().double()
    if std is not None:
        pixels = pixels * pixels.new_tensor(std).view(-1, 1, 1)
    if mean is not None:
        pixels = pixels + pixels.new_tensor(mean).view(-1, 1, 1)
    low, high = pixels.min().item(), pixels.max().item()
    if not (low >= -0.01 and high <= 1.01):
        raise ValueError(
            f"image must lie in [0, 1], got values from {low:.3g} to {high:.3g}. "
            "Pass the mean and std it was normalised with."
        )
    shown: Array = pixels.clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0).numpy()
    return shown


def visualize(
    image: Tensor,
    maps: Mapping[str, Tensor],
    *,
    title: str = "input",
    **options: Any,
) -> Figure:
    """Returns a figure of the image and, beside it, each map over the image.

    Args:
        image (Tensor): The image, see :func:`display_image`.
        maps (Mapping[str, Tensor]): A map for each title: `(h, w)`, `(1, h, w)` or
            `(1, 1, h, w)`, at any size. A map of the image's shape, as gradient
            methods give one, is summed over its channels, as Captum does. Of the maps
            of several targets, `(1, T, h, w)`, pass one: `maps[:, t:t+1]`.
        title (str, optional): Stands over the image. Default: "input"
        **options: See :func:`visualize_rows`.

    Returns:
        *matplotlib.figure.Figure*, unknown to pyplot; `figure.savefig` writes it.

    Raises:
        ValueError: As :func:`visualize_rows`.
        TypeError: As :func:`visualize_rows`.

    Examples::

        >>> import torch
        >>> maps = {"IS-CAM": torch.rand(1, 1, 4, 4)}
        >>> figure = visualize(torch.rand(3, 32, 32), maps)
        >>> [panel.get_title() for panel in figure.axes]
        ['input', 'IS-CAM']
    """
    return visualize_rows([Row(title, image, maps)], **options)


def visualize_rows(
    rows: Sequence[Row],
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    sign: str = "positive",
    vmin: float | None = None,
    vmax: float | None = None,
    outlier_perc: float = 2.0,
    cmap: str | None = None,
    alpha_overlay: float = 0.5,
    show_colorbar: bool = False,
) -> Figure:
    """Returns a figure with a line of panels for each row.

    By default each map has its own scale, from 0 to its largest value but for outliers,
    so colours compare places in one map, not two maps. `vmin` and `vmax` give all maps
    one scale in their own units. A map without anything of the wanted sign is drawn in
    the colour of 0, and its title says so. A warning says where a map is stretched, as
    that of a cropped picture over the whole one would be.

    Args:
        rows (Sequence[Row]): The lines, of any lengths.
        mean (Sequence[float], optional): See :func:`display_image`.
        std (Sequence[float], optional): See :func:`display_image`.
        sign (str, optional): What to draw: "positive", "negative", "absolute_value" or
            "all", as in Captum. Default: "positive"
        vmin (float, optional): Value of the lowest colour; needs `vmax`. Default: None,
            that is 0, or `-vmax` for "all"
        vmax (float, optional): Value of the highest colour. Default: None
        outlier_perc (float, optional): Without `vmax`, the share of the map's sum, in
            percent, whose largest values all have the highest colour. Default: 2
        cmap (str, optional): matplotlib's colour map. Default: "jet", "RdBu_r" for
            "all"
        alpha_overlay (float, optional): How opaque the maps are. Default: 0.5
        show_colorbar (bool, optional): Draw a scale under each map. Default: False

    Returns:
        *matplotlib.figure.Figure*, unknown to pyplot; `figure.savefig` writes it.

    Raises:
        ValueError: If there is nothing to draw, `sign` is unknown, `vmin` is not below
            `vmax`, a map has several channels or holds NaN or infinity, or an image is
            none.
        TypeError: If an image is no tensor, or the maps are no mapping.

    Examples::

        >>> import torch
        >>> rows = [
        ...     Row(name, torch.rand(3, 8, 8), {"IS-CAM": torch.rand(1, 1, 2, 2)})
        ...     for name in ("a cat", "a cup")
        ... ]
        >>> figure = visualize_rows(rows, vmin=0.0, vmax=1.0, show_colorbar=True)
        >>> [panel.get_title() for panel in figure.axes[:4]]
        ['a cat', 'IS-CAM', 'a cup', 'IS-CAM']
    """
    if not rows:
        raise ValueError("rows must hold at least one row, got none. Add an image.")
    for row in rows:
        _check_kinds(row)
    style = Style(sign, vmin, vmax, outlier_perc, cmap, alpha_overlay, show_colorbar)
    columns = 1 + max(len(row.maps) for row in rows)
    titles = [[wrap(row.title), *map(wrap, row.maps)] for row in rows]
    lines = max(title.count("\n") + 1 for line in titles for title in line)
    height = _PANEL + _CAPTION * (lines + 1) + 0.35 * show_colorbar
    figure = Figure((_PANEL * columns, height * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, panels in zip(rows, grid, strict=True):
        image = display_image(row.image, mean, std)
        style.draw_image(figure, panels[0], image, wrap(row.title))
        # A row may be shorter than the longest.
        for panel in panels[1 + len(row.maps) :]:
            panel.remove()
        for panel, (title, values) in zip(panels[1:], row.maps.items(), strict=False):
            checked = checked_map(values, row.image, title)
            _warn_of_stretching(checked, image, title)
            fitted = upsample(checked, image.shape[:2])
            style.draw_map(figure, panel, image, fitted[0, 0].numpy(), title)
    return figure


def _warn_of_stretching(values: Tensor, image: Array, title: str) -> None:
    """Warns where map and image cannot be of one shape.

    A layer's side is the image's over its stride, but for what rounding and padding
    take or add: of a square map the image's sides differ by less than one stride.
    """
    height, width = values.shape[2:]
    high, wide = image.shape[:2]
    spare = 0 if height == width else 1
    flat = (height - 1) * wide > high * (width + spare)
    if not (flat or (width - 1) * high > wide * (height + spare)):
        return
    warn_user(
        f"The map {title!r} of {height} x {width} places is stretched over an image of "
        f"{high} x {wide}, which has another shape. Pass the image as the model saw "
        "it, cropped by the preprocessing.",
    )


def _check_kinds(row: Row) -> None:
    if not isinstance(row.image, Tensor):
        raise TypeError(
            f"image must be a tensor, got {type(row.image).__name__}. Pass what the "
            "model sees, cropped as it sees it."
        )
    if not isinstance(row.maps, Mapping):
        raise TypeError(
            f"maps must be a mapping of titles to maps, got {type(row.maps).__name__}. "
            'Name them, as in {"IS-CAM": attributions}.'
        )
