"""Drawn scenes whose objects, and so whose right explanation, are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from captum_iscam.demo._backgrounds import add_clutter, background, colours
from captum_iscam.demo._shapes import SHAPES

Array = npt.NDArray[np.float64]

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
    """One picture with the truth about it.

    Attributes:
        image (Tensor): RGB picture of shape (3, H, W), float32 in [0, 1].
        labels (tuple): Class index of each object, all different.
        masks (Tensor): The pixels of each object, bool of shape (objects, H, W); no
            pixel belongs to two objects.

    Examples::

        >>> scene = draw_scene(3, n_objects=2)
        >>> scene.image.shape, len(scene.labels), scene.masks.shape
        (torch.Size([3, 96, 96]), 2, torch.Size([2, 96, 96]))
    """

    image: torch.Tensor
    labels: tuple[int, ...]
    masks: torch.Tensor


def _radii_and_centres(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Circles that lie inside the picture and do not touch."""
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


def _draw_object(
    rng: np.random.Generator, picture: Array, name: str, radius: float, centre: Array
) -> npt.NDArray[np.bool_]:
    """Paint one object into the picture, in place, and return its mask."""
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
    coverage = np.clip(0.5 - distance, 0.0, 1.0)
    view += coverage[..., None] * (paint - view)

    mask = np.zeros(picture.shape[:2], dtype=bool)
    mask[rows, columns] = coverage > 0.5
    return mask


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
                "Draw several scenes to show more objects."
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

    Position, size, rotation and colours are random; the class shows only in the form.
    The same seed and arguments give the same picture, bit for bit.

    Args:
        seed (int or numpy.random.Generator): Where the randomness comes from. A
            generator is advanced by the call.
        labels (sequence of int, optional): The classes to draw, at most three different
            indices into :data:`CLASSES`. Default: None, random classes.
        n_objects (int, optional): Number of objects from 0 to 3 when `labels` is None.
            Default: None, one to three at random.
        clutter (bool, optional): Whether thin strokes and dots lie behind the objects.
            Default: True.

    Returns:
        *Scene*: A picture of 96 x 96 pixels, its labels and the objects' masks.

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
    masks = np.zeros((len(labels), SIZE, SIZE), dtype=bool)
    radii, centres = _radii_and_centres(rng, len(labels))
    for i, label in enumerate(labels):
        masks[i] = _draw_object(rng, picture, CLASSES[label], radii[i], centres[i])
    image = np.ascontiguousarray(picture.transpose(2, 0, 1), dtype=np.float32)
    return Scene(torch.from_numpy(image), labels, torch.from_numpy(masks))


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
        seed (int, optional): Seed of the whole list. Default: 0.
        n_objects (int, optional): See :func:`draw_scene`.
        clutter (bool, optional): See :func:`draw_scene`.

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
