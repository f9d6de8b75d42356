"""Pictures of any kind as RGB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")

LONGEST = 100
"""How many times as long as wide a picture may be.

Networks are shown a picture whose shorter side has some 256 pixels, so a line of a
million pixels, small as it is, would take 200 gigabytes on its way to the network.
"""


class UnreadableImageError(ValueError):
    """A file that is no picture; the command goes on with the next one."""


@contextmanager
def picture_in(file: str | Path) -> Iterator[Image.Image]:
    """Opens a picture for the block, whatever may be wrong with it.

    Only common formats of pictures are read. Others that Pillow knows start programs
    (EPS), and a file's name says nothing of what is in it.

    Raises:
        UnreadableImageError: If the file is missing or no such picture, or what the
            block does with it fails.
    """
    try:
        # A pipe would be waited for without end.
        if Path(file).exists() and not Path(file).is_file():
            raise UnreadableImageError("not a file")
        with Image.open(file, formats=_formats()) as opened:
            yield opened
    except (UnreadableImageError, MemoryError):
        raise
    # Pillow's decoders raise whatever the file makes them raise.
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(said.partition(" '")[0]) from error


@cache
def _formats() -> tuple[str, ...]:
    """Returns those of the formats that this Pillow reads."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def read_image(file: str | Path) -> Image.Image:
    """Returns a picture as RGB, turned as its EXIF entry says.

    What is transparent becomes white. 16-bit grey keeps its range. Of several frames
    the first is taken.

    Raises:
        UnreadableImageError: If the file is missing, no picture, cut short, or larger
            than Pillow's limit or :data:`LONGEST` allow.
    """
    with picture_in(file) as opened:
        check_shape(opened.size)
        opened.getexif()  # old versions of Pillow find none after loading a TIFF
        opened.load()
        return _as_rgb(ImageOps.exif_transpose(opened))


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
