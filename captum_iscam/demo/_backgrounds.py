"""Textured backgrounds and clutter for the drawn scenes."""

import numpy as np
import numpy.typing as npt

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
