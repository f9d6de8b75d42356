"""The bundled images: a few drawn scenes, kept as files so that they never change."""

from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from captum_iscam.demo.scenes import CLASSES, Scene, draw_scene

# (seed, classes) of each image; `write_scenes` draws them.
RECIPES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (70, ("star", "crescent")),
    (61, ("flower", "heart")),
    (92, ("arrow", "die", "ring")),
    (13, ("chessboard", "triangle")),
    (64, ("cross", "flower", "star")),
    (75, ("crescent", "heart", "triangle")),
    (16, ("die",)),
    (27, ("ring", "chessboard")),
)


def _drawn(number: int) -> Scene:
    seed, names = RECIPES[number]
    return draw_scene(seed, [CLASSES.index(name) for name in sorted(names)])


def write_scenes(folder: Path) -> None:
    """Draw `RECIPES` into files `scene_<i>.png` and `scene_<i>_masks.png`."""
    for i in range(len(RECIPES)):
        scene = _drawn(i)
        pixels = (scene.image * 255).round().byte().permute(1, 2, 0)
        numbers = torch.tensor(scene.labels).view(-1, 1, 1) + 1
        owners = (scene.masks * numbers).sum(0).byte()
        Image.fromarray(pixels.numpy()).save(folder / f"scene_{i}.png", optimize=True)
        Image.fromarray(owners.numpy()).save(folder / f"scene_{i}_masks.png")


def _read(name: str) -> torch.Tensor:
    source = resources.files("captum_iscam.demo") / "data" / name
    with source.open("rb") as file, Image.open(file) as picture:
        return torch.from_numpy(np.array(picture))


def load_scenes() -> list[Scene]:
    """The bundled images, most of which hold two or three objects.

    Returns:
        *list* of *Scene*: Eight images of 96 x 96 pixels, labels in ascending order.

    Examples::

        >>> scene = load_scenes()[0]
        >>> [CLASSES[label] for label in scene.labels], scene.image.shape
        (['crescent', 'star'], torch.Size([3, 96, 96]))
    """
    scenes = []
    for i in range(len(RECIPES)):
        image = _read(f"scene_{i}.png").permute(2, 0, 1).float() / 255
        # A mask file holds 0 where no object is and 1 + class index elsewhere.
        owners = _read(f"scene_{i}_masks.png")
        present = owners.unique()[1:]
        masks = owners == present.view(-1, 1, 1)
        labels = tuple(int(n) - 1 for n in present)
        scenes.append(Scene(image, labels, masks, _without(_drawn(i), image)))
    return scenes


def _without(drawn: Scene, image: torch.Tensor) -> torch.Tensor:
    """The image in the file without each object: drawn anew where that object was."""
    if (drawn.image - image).abs().max() > 0.01:
        raise RuntimeError(
            "scenes must be drawn as they are in the files, got another drawing. "
            "Install a release of NumPy whose default_rng gives the same numbers."
        )
    kept = (drawn.without == drawn.image).all(1, keepdim=True)
    return torch.where(kept, image, (drawn.without * 255).round() / 255)
