"""Drawn scenes whose objects, and so whose right explanation, are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Array = npt.NDArray[np.float64]


def colours(
    rng: np.random.Generator,
    count: int,
    saturation: tuple[float, float],
    value: tuple[float, float],
) -> Array:
    """Random RGB colours of any hue, shape (count, 3)."""
    hues = rng.uniform(0.0, 6.0, (count, 1))
    chroma = rng.uniform(*saturation, (count, 1))
    values = rng.uniform(*value, (count, 1))
    sector = (np.array([5.0, 3.0, 1.0]) + hues) % 6.0
    rgb: Array = values * (
        1.0 - chroma * np.clip(np.minimum(sector, 4.0 - sector), 0.0, 1.0)
    )
    return rgb


def _linear_weights(cells: int, size: int) -> Array:
    """Matrix (size, cells) that interpolates `cells` values linearly to `size`."""
    position = np.linspace(0.0, cells - 1.0, size)
    return np.clip(1.0 - np.abs(position[:, None] - np.arange(cells)), 0.0, 1.0)


def smooth_noise(rng: np.random.Generator, cells: int, size: int) -> Array:
    """Uniform noise on a coarse grid, enlarged linearly to (size, size)."""
    weights = _linear_weights(cells, size)
    noise: Array = weights @ rng.random((cells, cells)) @ weights.T
    return noise


def _rotated(rng: np.random.Generator, size: int) -> tuple[Array, Array]:
    """Pixel coordinates turned by a random angle about the centre."""
    angle = rng.uniform(0.0, 2 * np.pi)
    axis = np.arange(size) - (size - 1) / 2
    x, y = axis[None, :], axis[:, None]
    return (
        x * np.cos(angle) + y * np.sin(angle),
        y * np.cos(angle) - x * np.sin(angle),
    )


def _clouds(rng: np.random.Generator, size: int) -> Array:
    octaves = [
        smooth_noise(rng, cells, size) * 0.6**i
        for i, cells in enumerate((int(rng.integers(3, 7)), 10, 20, 40))
    ]
    return np.clip(sum(octaves, np.zeros((size, size))) / 2.2, 0.0, 1.0)


def _grain(rng: np.random.Generator, size: int) -> Array:
    return smooth_noise(rng, int(rng.integers(size // 4, size // 2)), size)


def _stripes(rng: np.random.Generator, size: int) -> Array:
    x, y = _rotated(rng, size)
    wobble = rng.uniform(0.0, 3.0) * np.sin(y * 2 * np.pi / rng.uniform(30.0, 70.0))
    wave = np.sin((x + wobble) * 2 * np.pi / rng.uniform(5.0, 22.0))
    return np.clip(0.5 + wave * rng.uniform(0.5, 1.5), 0.0, 1.0)


def _checks(rng: np.random.Generator, size: int) -> Array:
    x, y = _rotated(rng, size)
    period = rng.uniform(10.0, 36.0)
    wave = np.sin(x * 2 * np.pi / period) * np.sin(y * 2 * np.pi / period)
    return np.clip(0.5 + wave * rng.uniform(0.5, 3.0), 0.0, 1.0)


def _gradient(rng: np.random.Generator, size: int) -> Array:
    x, y = _rotated(rng, size)
    if rng.random() < 0.5:
        return np.clip(0.5 + x / size, 0.0, 1.0)
    return np.clip(np.hypot(x - rng.uniform(-size / 2, size / 2), y) / size, 0.0, 1.0)


_TEXTURES = (_clouds, _grain, _stripes, _checks, _gradient)


def background(rng: np.random.Generator, size: int) -> Array:
    """A textured background between two related colours, (size, size, 3) in [0, 1]."""
    texture = _TEXTURES[rng.integers(len(_TEXTURES))](rng, size)
    first = colours(rng, 1, (0.0, 0.45), (0.25, 0.85))[0]
    # The second colour stays near: texture has less contrast than objects.
    second = np.clip(first + rng.uniform(-0.25, 0.25, 3), 0.05, 0.95)
    picture = first + texture[..., None] * (second - first)
    grain = rng.normal(0.0, rng.uniform(0.005, 0.03), (size, size, 1))
    textured: Array = np.clip(picture + grain, 0.0, 1.0)
    return textured


def add_clutter(rng: np.random.Generator, picture: Array) -> None:
    """Draw up to eight thin strokes and small dots, in place."""
    size = picture.shape[0]
    count = int(rng.integers(0, 9))
    paints = colours(rng, count, (0.1, 0.9), (0.15, 1.0))
    for paint in paints:
        x0, y0 = rng.uniform(0.0, size, 2)
        length, angle = rng.uniform(6.0, 22.0), rng.uniform(0.0, 2 * np.pi)
        radius = rng.uniform(0.6, 1.3)
        if rng.random() < 0.5:
            length, radius = 0.0, rng.uniform(1.2, 3.0)
        reach = length + radius + 1.0
        rows, columns = (
            slice(max(int(c - reach), 0), int(c + reach) + 2) for c in (y0, x0)
        )
        view = picture[rows, columns]
        y, x = (np.arange(n)[:, None] for n in view.shape[:2])
        y, x = y + rows.start - y0, x.T + columns.start - x0
        dx, dy = np.cos(angle), np.sin(angle)
        along = np.clip(x * dx + y * dy, 0.0, length)
        distance = np.hypot(x - along * dx, y - along * dy) - radius
        alpha = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
        view += alpha * rng.uniform(0.5, 1.0) * (paint - view)


# The outlines of the object classes, as signed distances. A shape fills the unit circle
# of its own coordinates (x to the right, y down). Distances are in the same unit,
# negative inside, so that any size can be anti-aliased.
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


def _fields(x: Array, y: Array) -> Array:
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
    "chessboard": (_from(_SQUARE), _fields),
    "crescent": (_crescent, _no_pattern),
    "cross": (_from(_CROSS), _no_pattern),
    "die": (_from(_SQUARE), _pips),
    "flower": (_flower, _core),
    "heart": (_from(_HEART), _no_pattern),
    "ring": (_ring, _no_pattern),
    "star": (_from(_STAR), _no_pattern),
    "triangle": (_from(_TRIANGLE), _no_pattern),
}


CLASSES: tuple[str, ...] = tuple(SHAPES)
"""Names of the object classes; a class index is a position in this tuple."""

SIZE = 96
"""Height and width of every scene in pixels."""

MAX_OBJECTS = 3
"""Most objects in one scene."""

# Largest radius in pixels for 0, 1, 2 and 3 objects; the smallest is the same for all.
_MAX_RADIUS = (26.0, 26.0, 22.0, 19.0)
_MIN_RADIUS = 14.0
_MIN_CONTRAST = 0.38


@dataclass(frozen=True)
class Scene:
    """One image and the objects in it.

    Attributes:
        image (Tensor): RGB image `(3, H, W)`, float32 in [0, 1].
        labels (tuple[int, ...]): Class index of each object, all different.
        masks (Tensor): The pixels of each object, bool `(objects, H, W)`; no pixel
            belongs to two objects.
        without (Tensor): The image drawn without each object, `(objects, 3, H, W)`:
            what is behind the object is in its place, all else is the same.

    Examples::

        >>> scene = draw_scene(3, n_objects=2)
        >>> scene.image.shape, len(scene.labels), scene.masks.shape
        (torch.Size([3, 96, 96]), 2, torch.Size([2, 96, 96]))
        >>> (scene.without[0] != scene.image).any(0)[scene.masks[1]].any()
        tensor(False)
    """

    image: torch.Tensor
    labels: tuple[int, ...]
    masks: torch.Tensor
    without: torch.Tensor


def _radii_and_centres(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Circles that lie inside the image and do not touch."""
    radii = rng.uniform(_MIN_RADIUS, _MAX_RADIUS[count], count)
    while True:
        for _ in range(50):
            low, high = radii + 1.0, SIZE - 2.0 - radii
            centres = rng.uniform(low[:, None], high[:, None], (count, 2))
            gaps = np.hypot(*(centres[:, None] - centres).T) - radii - radii[:, None]
            if (gaps[np.triu_indices(count, 1)] > 2.0).all():
                return radii, centres
        # Large circles may not fit: shrink them until they do.
        radii = np.maximum(radii * 0.93, _MIN_RADIUS)


def _object_colours(rng: np.random.Generator, behind: Array) -> tuple[Array, Array]:
    """A colour unlike what is behind it, and a second one unlike the first."""

    def distinct(others: Array) -> Array:
        # The best of 12 if none is far enough: a background may leave no such colour.
        candidates = colours(rng, 12, (0.1, 0.95), (0.25, 1.0))
        apart = np.linalg.norm(candidates[:, None] - others, axis=2).min(1)
        far = np.flatnonzero(apart > _MIN_CONTRAST)
        chosen: Array = candidates[far[0] if len(far) else apart.argmax()]
        return chosen

    first = distinct(behind)
    return first, distinct(np.stack([first]))


@dataclass(frozen=True)
class _Layer:
    """An object as it is painted: colours, and how much of each pixel they cover."""

    place: tuple[slice, slice]
    paint: Array
    coverage: Array

    def paint_into(self, picture: Array) -> None:
        """Paint the object into the image, in place."""
        view = picture[self.place]
        view += self.coverage[..., None] * (self.paint - view)

    def mask(self) -> npt.NDArray[np.bool_]:
        """The pixels that the object covers by more than half."""
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        mask[self.place] = self.coverage > 0.5
        return mask


def _object_layer(
    rng: np.random.Generator, picture: Array, name: str, radius: float, centre: Array
) -> _Layer:
    """One object, in colours that differ from what is behind it."""
    outline, pattern = SHAPES[name]
    rows, columns = (
        slice(int(c - radius) - 1, int(c + radius) + 3) for c in (centre[1], centre[0])
    )
    view = picture[rows, columns]
    angle = rng.uniform(0.0, 2 * np.pi)
    y, x = np.mgrid[rows, columns]
    x, y = (x - centre[0]) / radius, (y - centre[1]) / radius
    turned_x = x * np.cos(angle) + y * np.sin(angle)
    turned_y = y * np.cos(angle) - x * np.sin(angle)
    distance = outline(turned_x, turned_y) * radius  # in pixels from here on

    behind = np.quantile(view.reshape(-1, 3), (0.1, 0.5, 0.9), axis=0)
    first, second = _object_colours(rng, behind)
    painted = np.clip(0.5 - pattern(turned_x, turned_y) * radius, 0.0, 1.0)[..., None]
    paint = first + painted * (second - first)
    light = 1.0 - rng.uniform(0.0, 0.22) * (x + y)  # light from the upper left
    rim = np.clip(distance + 2.2, 0.0, 1.0) * rng.uniform(0.1, 0.6)
    paint = np.clip(paint * (light * (1.0 - rim))[..., None], 0.0, 1.0)
    return _Layer((rows, columns), paint, np.clip(0.5 - distance, 0.0, 1.0))


def _checked_labels(
    rng: np.random.Generator, labels: Sequence[int] | None, n_objects: int | None
) -> tuple[int, ...]:
    """The classes to draw: those asked for, or random different ones."""
    if labels is None:
        if n_objects is None:
            n_objects = int(rng.integers(1, MAX_OBJECTS + 1))
        if not 0 <= n_objects <= MAX_OBJECTS:
            raise ValueError(
                f"n_objects must be from 0 to {MAX_OBJECTS}, got {n_objects}. "
                "Draw several scenes for more objects."
            )
        return tuple(int(i) for i in rng.permutation(len(CLASSES))[:n_objects])
    labels = tuple(int(label) for label in labels)
    if n_objects not in (None, len(labels)):
        raise ValueError(
            f"n_objects must equal the number of labels, got {n_objects} for "
            f"{len(labels)} labels. Leave n_objects out."
        )
    known = all(0 <= label < len(CLASSES) for label in labels)
    if len(labels) > MAX_OBJECTS or len(set(labels)) < len(labels) or not known:
        raise ValueError(
            f"labels must be at most {MAX_OBJECTS} different class indices from 0 to "
            f"{len(CLASSES) - 1}, got {labels}. The names are in CLASSES."
        )
    return labels


def draw_scene(
    seed: int | np.random.Generator,
    labels: Sequence[int] | None = None,
    n_objects: int | None = None,
    *,
    clutter: bool = True,
) -> Scene:
    """Draw one scene: a textured background and objects of different classes on it.

    Position, size, rotation and colours are random; only the form depends on the class.
    The same seed and arguments give the same image, bit for bit.

    Args:
        seed (int or numpy.random.Generator): Seed of the random numbers, or their
            generator, which the call advances.
        labels (Sequence[int], optional): The classes to draw, at most three different
            indices into :data:`CLASSES`. Default: None, that is random classes
        n_objects (int, optional): Number of objects in a scene, from 0 to 3.
            Default: None, that is the number of `labels`, or one to three at random
            without them
        clutter (bool, optional): Draw thin strokes and dots behind the objects.
            Default: True

    Returns:
        *Scene*: An image of 96 x 96 pixels, its labels, the objects' masks, and the
        image without each object.

    Raises:
        ValueError: If `labels` or `n_objects` is out of range, or the two disagree.

    Examples::

        >>> scene = draw_scene(0, labels=[CLASSES.index("star"), CLASSES.index("ring")])
        >>> [CLASSES[label] for label in scene.labels]
        ['star', 'ring']
        >>> scene.image.shape, scene.masks.shape
        (torch.Size([3, 96, 96]), torch.Size([2, 96, 96]))
    """
    rng = np.random.default_rng(seed)
    labels = _checked_labels(rng, labels, n_objects)
    picture = background(rng, SIZE)
    if clutter:
        add_clutter(rng, picture)
    # The last of these copies shows every object, copy i all but object i. Objects do
    # not touch, so that each looks the same in all copies.
    copies = np.stack([picture] * (len(labels) + 1))
    masks = np.zeros((len(labels), SIZE, SIZE), dtype=bool)
    radii, centres = _radii_and_centres(rng, len(labels))
    for i, label in enumerate(labels):
        layer = _object_layer(rng, copies[-1], CLASSES[label], radii[i], centres[i])
        masks[i] = layer.mask()
        for shown in (j for j in range(len(copies)) if j != i):
            layer.paint_into(copies[shown])
    pixels = np.ascontiguousarray(copies.transpose(0, 3, 1, 2), dtype=np.float32)
    images = torch.from_numpy(pixels)
    return Scene(images[-1], labels, torch.from_numpy(masks), images[:-1])


def draw_scenes(
    n_scenes: int,
    seed: int = 0,
    *,
    n_objects: int | None = None,
    clutter: bool = True,
) -> list[Scene]:
    """Draw several scenes; scene i depends on `seed` and i, not on `n_scenes`.

    Args:
        n_scenes (int): Number of scenes, at least 0.
        seed (int, optional): Seed of the whole list. Default: 0
        n_objects (int, optional): Number of objects in a scene, from 0 to 3.
            Default: None, that is one to three at random
        clutter (bool, optional): Draw thin strokes and dots behind the objects.
            Default: True

    Returns:
        *list* of *Scene*: The scenes.

    Raises:
        ValueError: If `n_scenes` or `n_objects` is out of range.

    Examples::

        >>> [len(scene.labels) for scene in draw_scenes(3, seed=1, n_objects=2)]
        [2, 2, 2]
    """
    if n_scenes < 0:
        raise ValueError(
            f"n_scenes must be at least 0, got {n_scenes}. Ask for one scene or more."
        )
    return [
        draw_scene(np.random.default_rng([seed, i]), None, n_objects, clutter=clutter)
        for i in range(n_scenes)
    ]
