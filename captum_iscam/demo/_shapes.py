"""The outlines of the object classes, as signed distances.

A shape fills the unit circle of its own coordinates (x to the right, y down). Distances
are in the same unit, negative inside, so that any size can be anti-aliased.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Shape = Callable[[Array, Array], Array]


def polygon(vertices: Array, x: Array, y: Array, rounding: float = 0.05) -> Array:
    """Exact signed distance to a closed polygon with rounded corners."""
    squared = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, dtype=bool)
    ends = np.roll(vertices, -1, axis=0)
    for (ax, ay), (bx, by) in zip(vertices, ends, strict=True):
        ex, ey = bx - ax, by - ay
        along = np.clip(((x - ax) * ex + (y - ay) * ey) / (ex * ex + ey * ey), 0.0, 1.0)
        squared = np.minimum(
            squared, (x - ax - along * ex) ** 2 + (y - ay - along * ey) ** 2
        )
        if ay != by:
            # Even-odd rule: count the edges crossed by a ray to the right.
            crosses = ((ay > y) != (by > y)) & (x < ax + (y - ay) * ex / ey)
            inside ^= crosses
    signed: Array = np.where(inside, -1.0, 1.0) * np.sqrt(squared) - rounding
    return signed


def _polar(radii: Array, start: float = -np.pi / 2) -> Array:
    """Vertices at equal angles with the given distances from the centre."""
    angles = start + 2 * np.pi * np.arange(len(radii)) / len(radii)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


_SQUARE = _polar(np.full(4, 0.92), start=np.pi / 4)
_TRIANGLE = _polar(np.full(3, 0.92))
_STAR = _polar(np.tile([0.95, 0.38], 5))
_CROSS = np.array(
    # A quarter of the outline, three corners, turned four times.
    [
        (x * c - y * s, x * s + y * c)
        for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))
        for x, y in ((-0.26, -0.9), (0.26, -0.9), (0.26, -0.26))
    ]
)
_ARROW = np.array(
    [
        (0.0, -0.93),
        (0.72, -0.12),
        (0.24, -0.12),
        (0.24, 0.88),
        (-0.24, 0.88),
        (-0.24, -0.12),
        (-0.72, -0.12),
    ]
)
_T = np.linspace(0.0, 2 * np.pi, 28, endpoint=False)
_HEART = np.stack(
    [
        np.sin(_T) ** 3 * 0.92,
        -(13 * np.cos(_T) - 5 * np.cos(2 * _T) - 2 * np.cos(3 * _T) - np.cos(4 * _T))
        / 17.5
        - 0.08,
    ],
    axis=1,
)


def _ring(x: Array, y: Array) -> Array:
    distance: Array = np.abs(np.hypot(x, y) - 0.7) - 0.26
    return distance


def _crescent(x: Array, y: Array) -> Array:
    return np.maximum(np.hypot(x, y) - 0.97, 0.7 - np.hypot(x - 0.5, y))


def _flower(x: Array, y: Array) -> Array:
    # Not a true distance; the factor keeps the slope near 1 at the petals' sides.
    reach = 0.74 + 0.22 * np.cos(6 * np.arctan2(y, x))
    distance: Array = (np.hypot(x, y) - reach) * 0.7
    return distance


def _no_pattern(x: Array, y: Array) -> Array:
    return np.ones_like(x)


def _core(x: Array, y: Array) -> Array:
    return np.hypot(x, y) - 0.3


def _checks(x: Array, y: Array) -> Array:
    # The square of half-width 0.7 holds 4 x 4 fields.
    wave = np.sin(x * np.pi / 0.35) * np.sin(y * np.pi / 0.35)
    return wave * 0.12


def _pips(x: Array, y: Array) -> Array:
    corners = np.hypot(np.abs(x) - 0.38, np.abs(y) - 0.38)
    return np.minimum(corners, np.hypot(x, y)) - 0.16


def _from(vertices: Array) -> Shape:
    def distance(x: Array, y: Array) -> Array:
        return polygon(vertices, x, y)

    return distance


# name: (outline, pattern); a second colour is painted where the pattern is negative.
SHAPES: dict[str, tuple[Shape, Shape]] = {
    "arrow": (_from(_ARROW), _no_pattern),
    "chessboard": (_from(_SQUARE), _checks),
    "crescent": (_crescent, _no_pattern),
    "cross": (_from(_CROSS), _no_pattern),
    "die": (_from(_SQUARE), _pips),
    "flower": (_flower, _core),
    "heart": (_from(_HEART), _no_pattern),
    "ring": (_ring, _no_pattern),
    "star": (_from(_STAR), _no_pattern),
    "triangle": (_from(_TRIANGLE), _no_pattern),
}
