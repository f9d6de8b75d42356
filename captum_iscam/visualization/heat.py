"""One map in colour over an image: Captum scales it, opacity follows it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import matplotlib
import numpy as np
from captum.attr import visualization
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from captum_iscam._utils.validation import as_number, require_choice
from captum_iscam.visualization.arrays import Array

CMAP = "inferno"
DIVERGING = "coolwarm"
ALPHA = 0.8
_SIGNS = ("positive", "negative", "absolute_value", "all")
# Captum finds the largest value by a sum that rounding can push past its own total when
# no outlier at all is cut; this cuts none that matters.
_NO_OUTLIERS = 1e-9


def colours(cmap: str = "inferno", n: int = 256) -> Array:
    """Returns a colour map as a table, the same that figures are drawn with.

    For pages and programs that colour maps themselves. A value `v` of a map scaled to
    [0, 1] is drawn with the opacity `alpha_overlay * |v|`.

    Args:
        cmap (str, optional): Name of matplotlib's colour map, such as "inferno",
            "turbo", "jet" or, for values of both signs, "coolwarm". Default: "inferno"
        n (int, optional): Number of colours, at least 2. Default: 256

    Returns:
        *numpy.ndarray* `(n, 3)`, red, green and blue in [0, 1], from the lowest value
        to the highest.

    Raises:
        ValueError: If the name is unknown.

    Examples::

        >>> [[round(float(v), 2) for v in colour] for colour in colours(n=2)]
        [[0.0, 0.0, 0.01], [0.99, 1.0, 0.64]]
    """
    table: Array = _colour_map(cmap)(np.linspace(0, 1, n))[:, :3]
    return table


def _colour_map(cmap: str | Colormap) -> Colormap:
    known = isinstance(cmap, Colormap) or cmap in list(matplotlib.colormaps)
    if not known:
        raise ValueError(
            f"cmap must be the name of a colour map of matplotlib, got {cmap!r}. Names "
            'are "inferno", "turbo", "jet" and those in matplotlib.colormaps.'
        )
    return matplotlib.colormaps.get_cmap(cmap)


@dataclass(frozen=True)
class Style:
    """How all maps of a figure are drawn, by the arguments of `visualize_rows`."""

    sign: str = "positive"
    vmin: float | None = None
    vmax: float | None = None
    outlier_perc: float = 2.0
    cmap: str | None = None
    alpha_overlay: float = ALPHA

    def __post_init__(self) -> None:
        """Raises for arguments that cannot be drawn."""
        require_choice(
            "sign", self.sign, _SIGNS, '"positive" is what supports the target.'
        )
        alpha = as_number(self.alpha_overlay)
        if alpha is None or not 0 <= alpha <= 1:
            raise ValueError(
                f"alpha_overlay must be from 0 to 1, got {self.alpha_overlay!r}. "
                f"The default is {ALPHA}."
            )
        share = as_number(self.outlier_perc)
        if share is None or not 0 <= share <= 100:
            raise ValueError(
                f"outlier_perc must be from 0 to 100, got {self.outlier_perc!r}. "
                "The default is 2.0."
            )
        _colour_map(self._cmap)
        if self.vmin is None and self.vmax is None:
            return
        for name, value in (("vmin", self.vmin), ("vmax", self.vmax)):
            number = as_number(value)
            if value is not None and (number is None or not isfinite(number)):
                raise ValueError(
                    f"{name} must be a finite number, got {value!r}. Omit it to scale "
                    "each map separately."
                )
        low, high = self._low, self.vmax
        # Their difference may overflow, and it is what values are divided by.
        if low is None or high is None or not 0 < high - low < inf:
            raise ValueError(
                f"vmax must be above vmin, got vmin {low} and vmax {high}. "
                "Omit both to scale each map separately."
            )

    @property
    def limits(self) -> tuple[float, float] | None:
        """The values of the lowest and the highest colour, if they are given."""
        if self._low is None or self.vmax is None:
            return None
        return self._low, self.vmax

    @property
    def _low(self) -> float | None:
        if self.vmin is None and self.vmax is not None:
            return -self.vmax if self.sign == "all" else 0.0
        return self.vmin

    @property
    def _cmap(self) -> str:
        return self.cmap or (DIVERGING if self.sign == "all" else CMAP)

    @property
    def label(self) -> str:
        """What the values of a colour bar are."""
        what = {
            "negative": "negative attribution",
            "absolute_value": "|attribution|",
        }.get(self.sign, "attribution")
        return what if self.limits else f"{what} (relative)"

    def nothing_in(self, values: Array) -> str:
        """Returns what a title says of a map without a value to draw, or ""."""
        if self._of_sign(values).any():
            return ""
        nothing = "zero" if not values.any() else f"nothing {self.sign}"
        return f" ({nothing} everywhere)"

    def _of_sign(self, values: Array) -> Array:
        if self.sign == "positive":
            return np.maximum(values, 0)
        if self.sign == "negative":
            return np.maximum(-values, 0)
        return np.abs(values) if self.sign == "absolute_value" else values

    def draw_image(self, figure: Figure, panel: Axes, image: Array) -> None:
        """Draws the image `(H, W, 3)` alone."""
        # Captum scales a map also where it draws none.
        self._captum(figure, panel, _ones(image), image, "original_image", "all")

    def draw_map(
        self, figure: Figure, panel: Axes, image: Array | None, values: Array
    ) -> AxesImage:
        """Draws a map `(H, W)` over the image `(H, W, 3)`, or alone; returns the map.

        Captum blends it with a grey image and one opacity. Its image gets the colours
        back, its map an opacity that follows the values.
        """
        wanted = self._of_sign(values)
        peak = float(np.abs(wanted).max())
        # Scaled to 1 beforehand, since Captum takes values below 1e-5 for a mistake. It
        # cannot scale zeros, and gets ones instead.
        scaled, sign = (values / peak, self.sign) if peak else (_ones(values), "all")
        method = "heat_map" if image is None else "blended_heat_map"
        self._captum(figure, panel, scaled, image, method, sign)
        heat = panel.images[-1]
        if image is not None:
            panel.images[0].set_data(as_bytes(image))
        if not peak:
            heat.set_data(wanted)
            heat.set_clim(-1.0 if self.sign == "all" else 0.0, 1.0)
        if self.limits:
            # What is beyond has the last colour; scaled, it might overflow.
            heat.set_data(np.clip(wanted, *self.limits))
            heat.set_clim(*self.limits)
        heat.set_alpha(self._opacity_of(heat))
        return heat

    def _opacity_of(self, heat: AxesImage) -> Array:
        """Returns the opacity of each value: where the map is 0, the image is seen."""
        low, high = heat.get_clim()
        values = np.asarray(heat.get_array())
        if self.sign == "all":
            strength = np.abs(values) / max(abs(low), abs(high))
        else:
            strength = (values - low) / (high - low)
        faded: Array = self.alpha_overlay * np.clip(strength, 0, 1)
        return faded

    def _captum(
        self,
        figure: Figure,
        panel: Axes,
        values: Array,
        image: Array | None,
        method: str,
        sign: str,
    ) -> None:
        visualization.visualize_image_attr(
            values[..., None],  # older versions want the channels
            image,
            method=method,
            sign=sign,
            plt_fig_axis=(figure, panel),
            outlier_perc=_NO_OUTLIERS
            if self.limits
            # Captum's scale is the smallest outlier, 0 if all values are outliers.
            else min(max(self.outlier_perc, _NO_OUTLIERS), 100 - _NO_OUTLIERS),
            cmap=self._cmap,
            use_pyplot=False,
        )


def _ones(values: Array) -> Array:
    return np.ones(values.shape[:2])


def blend(image: Array, heat: AxesImage) -> Array:
    """Returns the pixels `(H, W, 3)` of uint8 that a drawn map has over its image."""
    pixels = rgba(heat)
    return as_bytes(image + pixels[..., 3:] * (pixels[..., :3] - image))


def rgba(heat: AxesImage) -> Array:
    """Returns colour and opacity `(H, W, 4)` in [0, 1] of a drawn map alone."""
    pixels = np.array(heat.to_rgba(np.asarray(heat.get_array()), alpha=1.0))
    pixels[..., 3] = np.asarray(heat.get_alpha())
    return pixels


def as_bytes(image: Array) -> Array:
    """Returns values in [0, 1] as uint8."""
    rounded: Array = np.rint(image * 255).astype(np.uint8)
    return rounded
