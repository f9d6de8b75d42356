"""Figures of images and the maps over them.

They are built without pyplot: nothing appears on a screen, and no figure stays open.
All sizes are in inches, and every panel is placed by them, so that panels, titles and
colour bars have room of their own whatever the shape of the images.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage, BboxImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Normal, Stroke
from matplotlib.transforms import Bbox, Transform, TransformedBbox
from torch import Tensor

from captum_iscam._utils.validation import require_flags
from captum_iscam.visualization.arrays import Array, ImageLike
from captum_iscam.visualization.heat import ALPHA, Style
from captum_iscam.visualization.rows import Drawable, Frame, Row, in_lines, prepare


def visualize(
    image: ImageLike,
    maps: Mapping[str, Tensor | Array],
    *,
    title: str = "input",
    frame: Frame | None = None,
    **options: Any,
) -> Figure:
    """Returns a figure of the image and, next to it, each map over the image.

    The image keeps its colours. A map is the more opaque the larger its values are, and
    transparent where it is 0. Signals are drawn as lines over their maps, and volumes
    as one slice. A notebook shows the figure as the last line of a cell.

    Captum's `visualize_image_attr` scales every map. Called directly with the enlarged
    map, as the second example does, it colours the same values.

    Args:
        image (Tensor, numpy.ndarray or PIL.Image.Image): The image: a tensor
            `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3, an array `(H, W)` or `(H, W, 3)`,
            or a PIL image; of uint8, or in [0, 1], or, with `mean` and `std`,
            normalised by them. Or a signal `(C, L)` or `(1, C, L)`, or a volume
            `(C, D, H, W)` or `(1, C, D, H, W)`.
        maps (Mapping[str, Tensor or numpy.ndarray]): A map for each title: `(h, w)`,
            `(1, h, w)` or `(1, 1, h, w)`, at any size; `(1, 1, l)` for a signal and
            `(1, 1, d, h, w)` for a volume. A map of the image's shape, as gradient
            methods give one, is summed over its channels. Of the maps of several
            targets, `(1, T, h, w)`, pass one: `maps[:, t:t+1]`.
        title (str, optional): The title above the image. Default: "input"
        frame (tuple[float, float, float, float], optional): A rectangle that is marked
            in each panel, such as the crop that the model saw: left, top, right and
            bottom in pixels of the image. Default: None
        **options (Any): How to draw, the keyword arguments of :func:`visualize_rows`:
            `mean` and `std` (None), the mean and standard deviation of each channel
            that the image was normalised with; `sign` ("positive"), what to draw:
            "positive", "negative", "absolute_value" or "all"; `vmin` and `vmax` (None),
            the values of the lowest and the highest colour, which give all maps one
            scale; `outlier_perc` (2.0), without `vmax` the percentage of the map's sum
            whose largest values all have the highest colour; `cmap` (None),
            matplotlib's colour map; `alpha_overlay` (0.8), the opacity of the largest
            values from 0 to 1; `show_colorbar` (False), whether a scale is drawn under
            each map; `slice_axis` (0) and `slice_index` (None), the slice of a volume.

    Returns:
        *matplotlib.figure.Figure*, unknown to pyplot; `figure.savefig` writes it as
        PNG, SVG or PDF, at 150 dots per inch unless `dpi` is given.

    Raises:
        ValueError: If there is nothing to draw, `sign` or `cmap` is unknown,
            `alpha_overlay` is not in [0, 1], `vmin` is not below `vmax`, a map has
            several channels or holds NaN or infinity, the slice does not exist,
            `image` is no image in [0, 1], `mean` or `std` does not fit it, or a frame
            marks no part of it.
        TypeError: If an image or a map is of another type, the maps are no mapping, or
            a title is neither text nor a number.

    Examples::

        >>> import torch
        >>> image, maps = torch.rand(3, 32, 32), torch.rand(1, 1, 4, 4)
        >>> figure = visualize(image, {"IS-CAM": maps})
        >>> [panel.get_title() for panel in figure.axes]
        ['input', 'IS-CAM']

        >>> from captum.attr import visualization
        >>> from captum_iscam.visualization import display_image, upsample
        >>> enlarged = upsample(maps, image.shape[1:])
        >>> _, panel = visualization.visualize_image_attr(
        ...     enlarged[0].permute(1, 2, 0).numpy(),
        ...     display_image(image),
        ...     method="blended_heat_map",
        ...     sign="positive",
        ...     use_pyplot=False,
        ... )
        >>> ours = figure.axes[1].images[-1].get_array()
        >>> bool(np.allclose(panel.images[-1].get_array(), ours, atol=1e-5))
        True
    """
    return visualize_rows([Row(title, image, maps, frame)], **options)


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
    alpha_overlay: float = ALPHA,
    show_colorbar: bool = False,
    slice_axis: int = 0,
    slice_index: int | None = None,
) -> Figure:
    """Returns a figure with a line of panels for each row.

    A row of more than eight maps takes several lines, each with the image.

    By default each map has its own scale, from 0 to its largest value without outliers.
    Colours then compare pixels of one map, not two maps. `vmin` and `vmax` give all
    maps one scale in their own units. A map is the more opaque the larger its values
    are; where it is 0, the image is seen as it is. A map without a value of the chosen
    sign is transparent, and its title says so. A warning names a map that is stretched,
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
            "inferno", or "coolwarm" for "all"
        alpha_overlay (float, optional): Opacity of the largest values, from 0 to 1;
            smaller values are more transparent, and 0 is not drawn. Default: 0.8
        show_colorbar (bool, optional): Draw a scale under each map. Default: False
        slice_axis (int, optional): Along which axis a volume is cut: 0 is depth, 1
            height and 2 width. Default: 0
        slice_index (int, optional): Which slice of a volume is drawn, counted from 0;
            the title names it. Default: None, that is the one with the largest share
            of the maps' absolute values

    Returns:
        *matplotlib.figure.Figure*, unknown to pyplot; `figure.savefig` writes it as
        PNG, SVG or PDF, at 150 dots per inch unless `dpi` is given.

    Raises:
        ValueError: If there is nothing to draw, `sign` or `cmap` is unknown,
            `alpha_overlay` is not in [0, 1], `vmin` is not below `vmax`, a map has
            several channels or holds NaN or infinity, the slice does not exist,
            `image` is no image in [0, 1], `mean` or `std` does not fit it, or a frame
            marks no part of it.
        TypeError: If an image or a map is of another type, the maps are no mapping, or
            a title is neither text nor a number.

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
    require_flags(show_colorbar=show_colorbar)
    if isinstance(rows, Row) or not all(isinstance(row, Row) for row in rows):
        raise TypeError(
            f"rows must be a list of Row, got {type(rows).__name__} with something "
            "else. Pass [Row(title, image, maps)], or call visualize."
        )
    if not rows:
        raise ValueError("rows must hold at least one row, got none. Add an image.")
    style = Style(sign, vmin, vmax, outlier_perc, cmap, alpha_overlay)
    drawables = [
        line
        for row in rows
        for line in in_lines(prepare(row, mean, std, slice_axis, slice_index))
    ]
    layout = _Layout(drawables, style, show_colorbar)
    figure = MapFigure(layout.size, dpi=150)
    figure.set_layout_engine("none")  # whatever rcParams say: panels have their places
    FigureCanvasAgg(figure)  # draws without a screen
    heats = [
        heat
        for index, row in enumerate(drawables)
        for heat in _draw_row(figure, layout, style, row, index)
    ]
    if show_colorbar:
        for heat, box in heats:
            _draw_bar(figure, heat, box, style.label)
    return figure


_SIDE = 2.5  # of a square panel
_NARROWEST, _WIDEST, _TALLEST = 1.0, 5.0, 5.0
_GAP = 0.08  # between panels, and around all
_LINE = 0.165  # of a title
_FONT = 9.0  # points
_BAR = 0.5  # a colour bar, its numbers and its label
_BAR_HEIGHT = 0.08


class MapFigure(Figure):
    """A figure that notebooks show, and that writes text as text.

    pyplot does not know it, so nobody but the notebook shows it.
    """

    def savefig(self, fname: Any, **options: Any) -> None:
        """Writes the figure; `options` are those of matplotlib."""
        # Otherwise SVG and PDF have the outlines of the letters.
        with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        stream = io.BytesIO()
        self.savefig(stream, format="png", dpi=100)
        return stream.getvalue()


class _Layout:
    """Where each panel is, in inches from the upper left corner."""

    def __init__(self, rows: Sequence[Drawable], style: Style, bars: bool) -> None:
        # Panels of all rows are equally wide, and have the area of a square one.
        aspects = [row.aspect for row in rows]
        side = _SIDE * float(np.exp(np.mean(np.log(aspects)))) ** 0.5
        widest = min(_WIDEST, _TALLEST * max(aspects))
        self.width = max(_NARROWEST, min(side, widest))
        columns = 1 + max(len(row.maps) for row in rows)
        self.titles = [self._titles(row, style) for row in rows]
        self.heights = [min(self.width / row.aspect, _TALLEST) for row in rows]
        above = [
            _LINE * max(title.count("\n") + 1 for title in titles) + 0.06
            for titles in self.titles
        ]
        below = _GAP + (_BAR if bars else 0)
        parts = zip(above, self.heights, strict=True)
        ends = list(accumulate(a + height + below for a, height in parts))
        self.tops = [
            end - below - height for end, height in zip(ends, self.heights, strict=True)
        ]
        self.size = (columns * (self.width + _GAP) + _GAP, ends[-1])

    def place(self, row: int, column: int, aspect: float) -> Array:
        """Returns left, bottom, width and height of a panel."""
        height = self.heights[row]
        width = min(self.width, height * aspect)
        left = _GAP + column * (self.width + _GAP) + (self.width - width) / 2
        return np.array([left, self.size[1] - self.tops[row] - height, width, height])

    def _titles(self, row: Drawable, style: Style) -> list[str]:
        notes = (style.nothing_in(values) for values in row.maps.values())
        titles = [row.title, *map(str.__add__, row.maps, notes)]
        return [self._wrap(title) for title in titles]

    def _wrap(self, title: str) -> str:
        """Returns the title in lines that fit over a panel."""
        # Fonts have no letters for the bytes of file names that are no text.
        title = title.encode("utf-8", "replace").decode()
        lines = [self._fit(line) for line in title.split("\n")]
        return "\n".join(line for wrapped in lines for line in wrapped)

    def _fit(self, line: str) -> list[str]:
        room = self.width - _GAP
        if _length(line) <= room:
            return [line]
        # Few lines of twice as many letters fit, and each wrapping takes time.
        count = int(2 * len(line) * room / _length(line)) + 1
        lines = textwrap.wrap(line, count)
        while count > 1 and max(map(_length, lines)) > room:
            count -= 1
            lines = textwrap.wrap(line, count)
        # As even as the same number of lines allows, so that no word is left alone.
        for narrower in range(max(map(len, lines)) - 1, 0, -1):
            even = textwrap.wrap(line, narrower, break_long_words=False)
            if len(even) != len(lines) or max(map(len, even)) > narrower:
                break
            lines = even
        return lines


@lru_cache(maxsize=4096)
def _length(text: str) -> float:
    """Returns how long a title is."""
    renderer = RendererAgg(1, 1, 72)
    font = FontProperties(size=_FONT)
    points = renderer.get_text_width_height_descent(text, font, False)[0]
    return float(points) / 72


def _draw_row(
    figure: Figure, layout: _Layout, style: Style, row: Drawable, index: int
) -> list[tuple[AxesImage, Array]]:
    """Draws the panels of a row; returns its maps, and where they are."""
    heats = []
    contents = [None, *row.maps.values()]
    for column, (title, values) in enumerate(
        zip(layout.titles[index], contents, strict=True)
    ):
        box = layout.place(index, column, row.aspect)
        panel = figure.add_axes(_share(box, figure))
        # Before the ticks are made: they take time even where they are not seen.
        panel.set(xticks=[], yticks=[])
        panel.set_axis_off()
        heat = _draw_panel(figure, panel, style, row, values)
        # Without `y`, matplotlib looks for ticks that are in its way.
        panel.set_title(title, fontsize=_FONT, y=1.0, pad=3.5, parse_math=False)
        if heat is not None:
            heats.append((heat, box))
    return heats


def _share(box: Array, figure: Figure) -> tuple[float, float, float, float]:
    """Returns inches as shares of the figure."""
    width, height = figure.get_size_inches()
    left, bottom, across, up = box / np.array([width, height, width, height])
    return float(left), float(bottom), float(across), float(up)


def _draw_panel(
    figure: Figure, panel: Axes, style: Style, row: Drawable, values: Array | None
) -> AxesImage | None:
    """Draws an image or a signal, and a map over it if there is one."""
    heat = None
    if values is not None:
        heat = style.draw_map(figure, panel, row.image, values)
    elif row.image is not None:
        style.draw_image(figure, panel, row.image)
    if row.signal is not None:
        _draw_signal(panel, row.signal, heat)
    # Without a line, white images would have no edge.
    panel.add_artist(_edge((0, 0, 1, 1), panel.transAxes, "0.8", 0.5))
    if row.frame is not None:
        _draw_frame(panel, row.frame)
    return heat


def _edge(
    place: tuple[float, float, float, float],
    transform: Transform,
    colour: str,
    linewidth: float,
) -> Rectangle:
    x, y, across, up = place
    edge = Rectangle((x, y), across, up, fill=False, edgecolor=colour)
    edge.set(linewidth=linewidth, transform=transform, clip_on=False)
    return edge


def _draw_signal(panel: Axes, signal: Array, heat: AxesImage | None) -> None:
    """Draws channels one above the other, over the map as a strip."""
    # Captum's own function for signals asks matplotlib for what it no longer has, and
    # opens a figure of pyplot.
    channels, length = signal.shape
    low = signal.min(1, keepdims=True)
    spread = signal.max(1, keepdims=True) - low
    levels = (signal - low) / np.where(spread > 0, spread, 1) * 0.9 + 0.05
    levels = levels + np.arange(channels)[::-1, None]
    if heat is not None:
        heat.set_extent((-0.5, length - 0.5, 0, channels))
    panel.plot(levels.T, color="0.15", linewidth=0.9)
    panel.set(xlim=(-0.5, length - 0.5), ylim=(0, channels), aspect="auto")


def _draw_frame(panel: Axes, frame: Frame) -> None:
    left, top, right, bottom = frame
    panel.add_patch(
        Rectangle(
            (left - 0.5, top - 0.5),  # a pixel's centre is at whole numbers
            right - left,
            bottom - top,
            fill=False,
            edgecolor="white",
            linewidth=1.0,
            path_effects=[Stroke(linewidth=2.5, foreground="black"), Normal()],
        )
    )


def _draw_bar(figure: Figure, heat: AxesImage, box: Array, label: str) -> None:
    """Draws a scale under a panel, no wider than it."""
    # `figure.colorbar` makes axes with ticks, which take more time than a map.
    left, bottom, width, _ = box
    place = np.array([left, bottom - _GAP - _BAR_HEIGHT, width, _BAR_HEIGHT])
    x, y, across, _ = shares = _share(place, figure)
    bounds = TransformedBbox(Bbox.from_bounds(*shares), figure.transFigure)
    bar = BboxImage(bounds, cmap=heat.get_cmap())
    bar.set_data(np.linspace(0, 1, 256)[None])
    figure.add_artist(bar)
    figure.add_artist(_edge(shares, figure.transFigure, "black", 0.4))
    low, high = heat.get_clim()
    middle = low + (high - low) / 2
    # Points below the bar. The outer numbers end where the panel does.
    for share, below, text, alignment in (
        (0.0, 3.5, f"{low:.3g}", "left"),
        (0.5, 3.5, f"{middle:.3g}", "center"),
        (1.0, 3.5, f"{high:.3g}", "right"),
        (0.5, 14.0, label, "center"),
    ):
        top = y - below / 72 / figure.get_figheight()
        figure.text(x + share * across, top, text, size=7.5, ha=alignment, va="top")
