"""Layer maps over images, drawn by Captum's `visualize_image_attr`.

Captum's function wants a map as large as the image, channels last, that is nowhere NaN
and somewhere not zero. Maps of a layer are small, channels first, and rectified ones
can be zero everywhere. The functions here convert them. They build figures without
pyplot: nothing appears on a screen, and no figure stays open.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import visualization
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from captum_iscam._utils import interpolate
from captum_iscam._utils.validation import require_choice
from captum_iscam._utils.warn import warn_user

_PANEL = 2.5  # inches
_CAPTION = 0.2  # inches per line of a title


class Row(NamedTuple):
    """One line of panels: an image and maps over it.

    Attributes:
        title (str): The title above the image.
        image (Tensor): The image `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3, in [0, 1]
            or, with `mean` and `std`, normalised by them. `mean` and `std` are passed
            to the function that draws the row.
        maps (Mapping[str, Tensor]): A map for each title: `(h, w)`, `(1, h, w)` or
            `(1, 1, h, w)`, at any size. A map of the image's shape, as gradient methods
            give one, is summed over its channels. Of the maps of several targets,
            `(1, T, h, w)`, pass one: `maps[:, t:t+1]`. Each title stands above its map.

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
        image (Tensor): The image `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3, in [0, 1]
            or, with `mean` and `std`, normalised by them.
        mean (Sequence[float], optional): Mean of each channel that the image was
            normalised with, in the units of its pixels. Default: None, that is 0
        std (Sequence[float], optional): Standard deviation of each channel that the
            image was normalised with, in the same units. Default: None, that is 1

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
    """Returns a figure of the image and, next to it, each map over the image.

    Args:
        image (Tensor): The image `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3, in [0, 1]
            or, with `mean` and `std`, normalised by them.
        maps (Mapping[str, Tensor]): A map for each title: `(h, w)`, `(1, h, w)` or
            `(1, 1, h, w)`, at any size. A map of the image's shape, as gradient methods
            give one, is summed over its channels. Of the maps of several targets,
            `(1, T, h, w)`, pass one: `maps[:, t:t+1]`.
        title (str, optional): The title above the image. Default: "input"
        **options (Any): How to draw, the keyword arguments of :func:`visualize_rows`:
            `mean` and `std` (None), the mean and standard deviation of each channel
            that the image was normalised with; `sign` ("positive"), what to draw:
            "positive", "negative", "absolute_value" or "all"; `vmin` and `vmax` (None),
            the values of the lowest and the highest colour, which give all maps one
            scale; `outlier_perc` (2.0), without `vmax` the percentage of the map's sum
            whose largest values all have the highest colour; `cmap` (None),
            matplotlib's colour map; `alpha_overlay` (0.5), the opacity of the maps from
            0 to 1; `show_colorbar` (False), whether a scale is drawn under each map.

    Returns:
        *matplotlib.figure.Figure*, unknown to pyplot; `figure.savefig` writes it.

    Raises:
        ValueError: If there is nothing to draw, `sign` is unknown, `vmin` is not below
            `vmax`, a map has several channels or holds NaN or infinity, or `image` is
            no image in [0, 1].
        TypeError: If an image is no tensor, or the maps are no mapping.

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

    By default each map has its own scale, from 0 to its largest value without outliers.
    Colours then compare pixels of one map, not two maps. `vmin` and `vmax` give all
    maps one scale in their own units. A map without a value of the chosen sign is drawn
    in the colour of 0, and its title says so. A warning names a map that is stretched,
    such as the map of a cropped image that is drawn over the whole image.

    Args:
        rows (Sequence[Row]): One line of panels each: a title, an image and maps by
            title. Lines may have different numbers of maps.
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
            "jet", or "RdBu_r" for "all"
        alpha_overlay (float, optional): Opacity of the maps, from 0 to 1. Default: 0.5
        show_colorbar (bool, optional): Draw a scale under each map. Default: False

    Returns:
        *matplotlib.figure.Figure*, unknown to pyplot; `figure.savefig` writes it.

    Raises:
        ValueError: If there is nothing to draw, `sign` is unknown, `vmin` is not below
            `vmax`, a map has several channels or holds NaN or infinity, or `image` is
            no image in [0, 1].
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
    style = _Style(sign, vmin, vmax, outlier_perc, cmap, alpha_overlay, show_colorbar)
    columns = 1 + max(len(row.maps) for row in rows)
    titles = [[_wrap(row.title), *map(_wrap, row.maps)] for row in rows]
    lines = max(title.count("\n") + 1 for line in titles for title in line)
    height = _PANEL + _CAPTION * (lines + 1) + 0.35 * show_colorbar
    figure = Figure((_PANEL * columns, height * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a screen
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for row, panels in zip(rows, grid, strict=True):
        image = display_image(row.image, mean, std)
        style.draw_image(figure, panels[0], image, _wrap(row.title))
        # A row may be shorter than the longest.
        for panel in panels[1 + len(row.maps) :]:
            panel.remove()
        for panel, (title, values) in zip(panels[1:], row.maps.items(), strict=False):
            checked = _checked_map(values, row.image, title)
            _warn_of_stretching(checked, image, title)
            fitted = upsample(checked, image.shape[:2])
            style.draw_map(figure, panel, image, fitted[0, 0].numpy(), title)
    return figure


def _warn_of_stretching(values: Tensor, image: Array, title: str) -> None:
    """Warns where map and image cannot be of one shape.

    A layer's side is the image's over its stride, except for rounding and padding: of
    a square map the image's sides differ by less than one stride.
    """
    height, width = values.shape[2:]
    high, wide = image.shape[:2]
    spare = 0 if height == width else 1
    flat = (height - 1) * wide > high * (width + spare)
    if not (flat or (width - 1) * high > wide * (height + spare)):
        return
    warn_user(
        f"The map {title!r} of {height} x {width} is stretched over an image of "
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


Array = npt.NDArray[np.float64]

_LINE = 28  # characters of a title that fit over a panel
_SIGNS = ("positive", "negative", "absolute_value", "all")
# Captum finds the largest value by a sum that rounding can push past its own total when
# no outlier at all is cut; this cuts none that matters.
_NO_OUTLIERS = 1e-9


class _Style:
    """How all panels of a figure are drawn."""

    def __init__(
        self,
        sign: str,
        vmin: float | None,
        vmax: float | None,
        outlier_perc: float,
        cmap: str | None,
        alpha_overlay: float,
        show_colorbar: bool,
    ) -> None:
        require_choice("sign", sign, _SIGNS, '"positive" is what supports the target.')
        self._limits: tuple[float, float] | None = None
        if vmin is not None or vmax is not None:
            if vmin is None and vmax is not None:
                vmin = -vmax if sign == "all" else 0.0
            if vmin is None or vmax is None or not vmin < vmax:
                raise ValueError(
                    f"vmax must be above vmin, got vmin {vmin} and vmax {vmax}. "
                    "Omit both to scale each map separately."
                )
            self._limits = (vmin, vmax)
        self._sign = sign
        self._outlier_perc = _NO_OUTLIERS if self._limits else max(outlier_perc, 1e-9)
        self._look: dict[str, Any] = {
            "cmap": cmap or ("RdBu_r" if sign == "all" else "jet"),
            "alpha_overlay": alpha_overlay,
            "show_colorbar": show_colorbar,
            "use_pyplot": False,
        }

    def draw_image(self, figure: Figure, panel: Axes, image: Array, title: str) -> None:
        """Draws the image alone."""
        self._captum(figure, panel, image, None, title, "original_image")

    def draw_map(
        self, figure: Figure, panel: Axes, image: Array, values: Array, title: str
    ) -> None:
        """Draws a map `(H, W)` over the image."""
        wanted = self._of_sign(values)
        peak = float(np.abs(wanted).max())
        if not peak:
            nothing = "zero" if not values.any() else f"nothing {self._sign}"
            title = f"{title} ({nothing} everywhere)"
        # Scaled to 1 beforehand, since Captum takes values below 1e-5 for a mistake.
        scaled = values / peak if peak else None
        title = _wrap(title)
        self._captum(figure, panel, image, scaled, title, "blended_heat_map")
        grey, heat = panel.images
        grey.set_clim(0, 255)  # as bright as the image, not stretched to its extremes
        if not peak:
            heat.set_data(np.zeros_like(values))
        if self._limits is not None:
            heat.set_data(wanted)
            heat.set_clim(*self._limits)

    def _of_sign(self, values: Array) -> Array:
        if self._sign == "positive":
            return np.maximum(values, 0)
        if self._sign == "negative":
            return np.maximum(-values, 0)
        return np.abs(values) if self._sign == "absolute_value" else values

    def _captum(
        self,
        figure: Figure,
        panel: Axes,
        image: Array,
        values: Array | None,
        title: str,
        method: str,
    ) -> None:
        # Captum scales a map also where it draws none, and cannot scale zeros.
        shown = np.ones(image.shape[:2]) if values is None else values
        visualization.visualize_image_attr(
            shown[..., None],  # older versions want the channels
            image,
            method=method,
            sign="absolute_value" if values is None else self._sign,
            plt_fig_axis=(figure, panel),
            outlier_perc=self._outlier_perc,
            **self._look,
        )
        panel.set_title(title, fontsize=10)


def _checked_map(values: Tensor, image: Tensor, title: str) -> Tensor:
    """Returns a finite map `(1, 1, h, w)`; one of the image's shape is summed."""
    if not isinstance(values, Tensor):
        raise TypeError(
            f"maps must be tensors, got {type(values).__name__} for {title!r}. Convert "
            "it with torch.as_tensor."
        )
    while values.dim() < 4:
        values = values.unsqueeze(0)
    shape = tuple(values.shape)
    if len(shape) != 4 or shape[0] != 1:
        raise ValueError(
            "maps must have the shape (h, w), (1, h, w) or (1, 1, h, w), got "
            f'{shape} for "{title}". Draw one example at a time.'
        )
    if shape[1] != 1 and shape[1:] != tuple(image.shape[-3:]):
        raise ValueError(
            "maps must have one channel, or the shape of the image, whose channels are "
            f'summed, got {shape} for "{title}". Pass maps[:, t:t+1] for one of '
            "several targets."
        )
    values = values.detach().cpu().double()
    if shape[1] != 1 and bool((values >= 0).all()):
        # Maps of channels have both signs; maps of targets are rectified.
        warn_user(
            f"The {shape[1]} channels of the map {title!r} are summed. If they are the "
            "maps of several targets, pass maps[:, t:t+1].",
        )
    values = values.sum(1, keepdim=True)
    if not torch.isfinite(values).all():
        raise ValueError(
            f'maps must be finite, got NaN or infinity in "{title}". '
            "Look for them in the model's output first."
        )
    return values


def _wrap(title: str) -> str:
    """Returns the title in lines that fit over a panel."""
    lines = [textwrap.wrap(line, _LINE) or [""] for line in title.split("\n")]
    return "\n".join(line for wrapped in lines for line in wrapped)
