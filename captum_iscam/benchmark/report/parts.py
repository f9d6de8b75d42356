"""What pages are made of: files of this folder, data as JSON, and colours of maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files

import numpy as np

from captum_iscam.visualization import colours
from captum_iscam.visualization.arrays import Array
from captum_iscam.visualization.heat import CMAP, DIVERGING

_COLOURS = 33


def read_part(name: str, package: str = "captum_iscam.benchmark.report") -> str:
    """Returns the text of a file of a package."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def fill(template: str, fills: Mapping[str, str]) -> str:
    """Returns a page, with a text for each `{{name}}` of its template."""
    # Split once and join, so that braces in the data are never replaced.
    pieces = template.split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [fills[name], rest]
    return "".join(filled)


def as_script(content: object) -> str:
    """Returns JSON in ASCII, without characters that an HTML parser reads as a tag."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def colour_filters(cmap: str | None = None) -> str:
    """Returns SVG filters that colour grey maps, and the styles of their scales.

    A map is coloured as `visualize` colours it, and as opaque as it is strong. A
    difference of two maps is grey where they agree, before the filter, and has its full
    colour from half of the scale on. Filters do what a canvas could not: scripts may
    not read the pixels of local files.

    Args:
        cmap (str, optional): Name of matplotlib's colour map. Default: None, that is
            the one of `visualize`
    """
    heat = colours(cmap or CMAP, _COLOURS)
    # Methods seldom differ by more than half of the scale, where the colour is full.
    steep = np.clip(2 * np.arange(_COLOURS) - _COLOURS // 2, 0, _COLOURS - 1)
    difference = colours(DIVERGING, _COLOURS)[steep]
    # Red becomes the opacity as well. A difference is transparent where it is grey, and
    # small ones are seen.
    opaque = '<feColorMatrix values="1 0 0 0 0 0 1 0 0 0 0 0 1 0 0 1 0 0 0 0"/>'
    strength = '<feFuncA type="table" tableValues="1 1 1 .8 0 .8 1 1 1"/>'
    filters = (
        _filter("heat-over", opaque, _functions(heat)),
        _filter("heat-alone", "", _functions(heat)),
        _filter("difference-over", opaque, _functions(difference) + strength),
        _filter("difference-alone", "", _functions(difference)),
    )
    return (
        f"<style>:root{{--heat:{_gradient(heat)};--difference:{_gradient(difference)}}}"
        '</style>\n<svg class="filters" width="0" height="0" aria-hidden="true" '
        f'focusable="false">{"".join(filters)}</svg>'
    )


def _filter(name: str, before: str, functions: str) -> str:
    return (
        f'<filter id="{name}" x="0" y="0" width="1" height="1" '
        f'color-interpolation-filters="sRGB">{before}'
        f"<feComponentTransfer>{functions}</feComponentTransfer></filter>"
    )


def _functions(table: Array) -> str:
    """Returns a function of red, of green and of blue."""
    parts = []
    for channel, values in zip("RGB", table.T, strict=True):
        numbers = " ".join(f"{value:.3f}" for value in values)
        parts.append(f'<feFunc{channel} type="table" tableValues="{numbers}"/>')
    return "".join(parts)


def _gradient(table: Array) -> str:
    stops = (
        f"rgb({red:.0f} {green:.0f} {blue:.0f})" for red, green, blue in table * 255
    )
    return f"linear-gradient(to right,{','.join(stops)})"
