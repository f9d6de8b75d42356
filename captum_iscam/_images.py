"""Pictures of any kind as RGB."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


class UnreadableImageError(ValueError):
    """A file that is no picture; the command goes on with the next one."""


def read_image(file: str | Path) -> Image.Image:
    """Returns a picture as RGB, turned as its EXIF entry says.

    What is transparent becomes white. 16-bit grey keeps its range. Of several frames
    the first is taken.

    Raises:
        UnreadableImageError: If the file is missing, no picture, or cut short.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            return _as_rgb(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(str(error)) from error
    # Pillow's decoders raise what the file makes them raise.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise UnreadableImageError(said.partition(" '")[0]) from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.float64)
        scale = 257 if levels.max(initial=0) > 255 else 1
        return Image.fromarray((levels / scale).clip(0, 255).astype(np.uint8)).convert(
            "RGB"
        )
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
