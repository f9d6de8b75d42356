"""Pictures of any kind as RGB."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")

_LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000", "AVIF", "LAB")

LONGEST = 100
"""How many times as long as wide a picture may be.

Networks are shown a picture whose shorter side has some 256 pixels, so a line of a
million pixels, small as it is, would take 200 gigabytes on its way to the network.
"""


class UnreadableImageError(ValueError):
    """A file that is no picture; the command goes on with the next one."""


@contextmanager
def picture_in(file: str | Path) -> Iterator[ImageFile.ImageFile]:
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
        # By its name, Pillow would map a file into memory, and misread turned TIFFs.
        with (
            open(file, "rb") as stream,
            Image.open(stream, formats=_formats()) as opened,
        ):
            yield opened
    except (UnreadableImageError, MemoryError):
        raise
    # Pillow's decoders raise whatever the file makes them raise.
    except Exception as error:
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableImageError(re.split(r" ['<]", said)[0]) from error


@cache
def image_suffixes() -> tuple[str, ...]:
    """Returns how the names of pictures end that this Pillow reads, such as ".png"."""
    # MPO is what cameras call a JPEG of several frames. Before the names are asked for:
    # Pillow registers more where it is asked which formats it reads.
    formats = (*_formats(), "MPO")
    known = Image.registered_extensions()
    return tuple(end for end, kind in known.items() if kind in formats)


@cache
def _formats() -> tuple[str, ...]:
    """Returns those of the formats that this Pillow reads."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def read_image(file: str | Path) -> Image.Image:
    """Returns a picture as RGB, turned as its EXIF entry says.

    What is transparent becomes white. Of several frames the first is taken.

    Grey values beyond 8 bits are scaled where it is certain which value is white: 1 for
    floats up to 1, 255 for floats whose largest value is 64 to 255 and for integers up
    to 255, 4095 for files of 12 bits, and 65535 for unsigned 16 bits whose largest
    value is at least 16384. A smaller one is often a camera's 10, 12 or 14 bits.

    Raises:
        UnreadableImageError: If the file is missing, no picture, cut short, or larger
            than Pillow's limit or :data:`LONGEST` allow, or if it is not certain which
            value is white.
    """
    with picture_in(file) as opened:
        check_shape(opened.size)
        stored = _how_stored(opened)
        return _as_rgb(_turned(opened), stored)


def not_black(opened: ImageFile.ImageFile) -> NDArray[np.bool_]:
    """Returns which pixels of a picture are not black, `(H, W)`, after its EXIF entry.

    Colours are those that one sees, whatever is stored for them: the index of a palette
    or shares of ink. Transparent pixels are black. Single values need no white.

    Raises:
        UnreadableImageError: If it is of a format that may make grey of black near
            edges, or has CIE colours, of which none becomes black.
    """
    kind = opened.mode if opened.mode == "LAB" else opened.format
    if kind in _LOSSY:
        raise UnreadableImageError(f"{kind} has no exact black; save it as PNG")
    image = _turned(opened)
    if image.mode[0] not in "IF":
        clear = "A" in image.mode or "transparency" in image.info
        values = np.asarray(image.convert("RGBA" if clear else "RGB"))
        # Without an alpha channel, all of none are above 0.
        values = values[..., :3].max(2) * values[..., 3:].all(2)
    else:
        values = np.asarray(image)
    marked: NDArray[np.bool_] = values != 0
    return marked


def _turned(opened: ImageFile.ImageFile) -> Image.Image:
    """Returns a picture turned as its EXIF entry says."""
    opened.load()
    # Loading turns a TIFF, of which Pillow up to 9.3 keeps the entry.
    return opened if opened.format == "TIFF" else ImageOps.exif_transpose(opened)


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


class _Stored(NamedTuple):
    """What a file says of its values, and Pillow's mode does not."""

    bits: int
    signed: bool = False
    zero_is_white: bool = False
    planar: bool = False
    scaled: bool = False
    """Whether Pillow has scaled values of more than 8 bits to 16."""


def _how_stored(opened: ImageFile.ImageFile) -> _Stored:
    if opened.format == "TIFF":
        # Only TIFF images have it, and Pillow types them all alike.
        tags = opened.tag_v2  # type: ignore[attr-defined]
        # Bits, sign, what zero is, and how colours are arranged.
        bits, signed = tags.get(258, (1,))[0], 2 in tags.get(339, (1,))
        return _Stored(bits, signed, tags.get(262) == 0, tags.get(284) == 2)
    if opened.format == "PNG":
        found = re.search(r";(\d+)", str(opened.tile))  # such as "RGB;16B"
        return _Stored(int(found[1]) if found else 8)
    return _Stored(8, scaled=True)


def _as_rgb(image: Image.Image, stored: _Stored) -> Image.Image:
    if image.mode[0] in "IF":
        return Image.fromarray(_grey(image, stored)).convert("RGB")
    _check_stored(image, stored)
    key = image.info.get("transparency")
    if image.mode == "L" and stored.bits in (2, 4) and key is not None:
        # Pillow scales the values, but not the one that is transparent.
        image.info["transparency"] = key * 255 // (2**stored.bits - 1)
    if "A" in image.mode or key is not None:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _grey(image: Image.Image, stored: _Stored) -> NDArray[np.uint8]:
    """Returns grey values of more than 8 bits as 8 bits."""
    values = np.asarray(image)
    if stored.bits == 32 and image.mode == "I" and not stored.signed:
        values = values.view(np.uint32)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnreadableImageError(
            "NaN or infinite values among its floats; save it with 8 bits per channel"
        )
    floats = image.mode == "F"
    white = _white_of_floats(high) if floats else _white_of_integers(high, stored)
    if low < 0 or white is None:
        kind = "floats" if floats else f"{stored.bits}-bit integers"
        raise UnreadableImageError(
            f"{kind} from {low:.10g} to {high:.10g}, so it is not certain which value "
            "is white; save it with 8 bits per channel"
        )
    grey = np.rint(values * (255 / white)).astype(np.uint8)
    if stored.zero_is_white:
        grey = 255 - grey
    if "transparency" in image.info:
        grey[values == image.info["transparency"]] = 255
    return grey


def _white_of_floats(high: float) -> int | None:
    if high <= 1:
        return 1
    return 255 if 64 <= high <= 255 else None


def _white_of_integers(high: float, stored: _Stored) -> int | None:
    if stored.scaled:
        return 65535
    if stored.bits == 12:
        return 4095
    if high <= 255:
        return 255
    # Darker than a quarter of white: rather a camera's 10, 12 or 14 bits.
    sixteen = stored.bits == 16 and not stored.signed and high >= 2**14
    return 65535 if sixteen else None


def _check_stored(image: Image.Image, stored: _Stored) -> None:
    """Raises for values of which Pillow made 8 bits that are wrong, or may be.

    Raises:
        UnreadableImageError: If they have a sign, or are 16-bit colours in separate
            planes, with a transparent colour, or darker than a quarter of white.
    """
    wrong = ""
    if stored.signed:
        wrong = "integers with a sign"
    elif stored.bits == 16:
        extrema = cast(tuple[tuple[int, int], ...], image.getextrema())
        bands = zip(image.getbands(), extrema, strict=True)
        high = max(high for name, (_, high) in bands if name != "A")
        if stored.planar:
            wrong = "16-bit colours in separate planes"
        elif "transparency" in image.info:
            wrong = "16-bit colours of which one is transparent"
        elif high < 64:
            wrong = (
                f"16-bit colours of at most {high * 256 + 255}, so it is not certain "
                "which value is white"
            )
    if wrong:
        raise UnreadableImageError(f"{wrong}; save it with 8 bits per channel")
