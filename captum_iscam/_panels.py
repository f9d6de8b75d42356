"""Panels of a figure: one image or one map over it, drawn by Captum."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from captum.attr import visualization
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

Array = npt.NDArray[np.float64]

_LINE = 28  # characters of a title that fit over a panel
_SIGNS = ("positive", "negative", "absolute_value", "all")
# Captum finds the largest value by a sum that rounding can push past its own total when
# no outlier at all is cut; this cuts none that matters.
_NO_OUTLIERS = 1e-9


class Style:
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
        if sign not in _SIGNS:
            known = ", ".join(f'"{name}"' for name in _SIGNS)
            raise ValueError(
                f'sign must be one of {known}, got {sign!r}. "positive" shows what '
                "speaks for the target."
            )
        self._limits: tuple[float, float] | None = None
        if vmin is not None or vmax is not None:
            if vmin is None and vmax is not None:
                vmin = -vmax if sign == "all" else 0.0
            if vmin is None or vmax is None or not vmin < vmax:
                raise ValueError(
                    f"vmax must be above vmin, got vmin {vmin} and vmax {vmax}. "
                    "Leave both out to scale each map by itself."
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
        title = wrap(title)
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


def checked_map(values: Tensor, image: Tensor, title: str) -> Tensor:
    """Returns a finite map `(1, 1, h, w)`; one of the image's shape is summed."""
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
    values = values.detach().cpu().double().sum(1, keepdim=True)
    if not torch.isfinite(values).all():
        raise ValueError(
            f'maps must be finite, got NaN or infinity in "{title}". '
            "Look for them in the model's output first."
        )
    return values


def wrap(title: str) -> str:
    lines = [textwrap.wrap(line, _LINE) or [""] for line in title.split("\n")]
    return "\n".join(line for wrapped in lines for line in wrapped)
