"""Pictures of any kind as RGB."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

# Pillow's decoders raise what the file makes them raise.
DECODERS_RAISE = (
    Image.DecompressionBombError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    TypeError,
    struct.error,
    zlib.error,
)

LONGEST = 100
"""How many times as long as wide a picture may be.

Networks are shown a picture whose shorter side has some 256 pixels, so a line of a
million pixels, small as it is, would take 200 gigabytes on its way to the network.
"""


class UnreadableImageError(ValueError):
    """A file that is no picture; the command goes on with the next one."""


def read_image(file: str | Path) -> Image.Image:
    """Returns a picture as RGB, turned as its EXIF entry says.

    What is transparent becomes white. 16-bit grey keeps its range. Of several frames
    the first is taken.

    Raises:
        UnreadableImageError: If the file is missing, no picture, cut short, or larger
            than Pillow's limit or :data:`LONGEST` allow.
    """
    try:
        # A pipe would be waited for without end.
        if Path(file).exists() and not Path(file).is_file():
            raise UnreadableImageError("not a file")
        with Image.open(file) as opened:
            check_shape(opened.size)
            opened.load()
            return _as_rgb(ImageOps.exif_transpose(opened))
    except UnreadableImageError:
        raise
    except DECODERS_RAISE as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(said.partition(" '")[0]) from error


def check_shape(size: tuple[int, int]) -> None:
    """Raises for a picture that is a line.

    Raises:
        UnreadableImageError: If one side is more than :data:`LONGEST` times the other.
    """
    if max(size) > LONGEST * min(size):
        raise UnreadableImageError(
            f"{size[0]} x {size[1]} pixels; a picture may be up to {LONGEST} times as "
            "long as wide"
        )


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
