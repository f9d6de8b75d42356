"""From an image to a network's input, in steps that a record can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import (
    InterpolationMode,
    center_crop,
    convert_image_dtype,
    normalize,
    pil_to_tensor,
    resize,
)

from captum_iscam._utils.validation import as_count, as_number
from captum_iscam._utils.warn import warn_user

_Pixels = TypeVar("_Pixels", Image.Image, Tensor)

Size = int | tuple[int, int]


@dataclass(frozen=True)
class Preprocessing:
    """Resizes, crops the centre and normalises.

    Attributes:
        resize (int, tuple or None): Length of the shorter side, or height and width
            whatever the image's ratio, or None for the image as it is.
        crop (int or tuple): Side of the centred square, or its height and width.
        mean (tuple[float, ...]): Of each channel, for values from 0 to 1. One value
            makes the image grey.
        std (tuple[float, ...]): As many values.
        interpolation (str): "bilinear", "bicubic" or another of torchvision's names.
    """

    resize: Size | None
    crop: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __call__(self, image: Image.Image) -> Tensor:
        """Returns the input `(C, H, W)` of an image."""
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        cropped = resize_and_crop(image, self.in_words())
        values = convert_image_dtype(pil_to_tensor(cropped), torch.float32)
        result: Tensor = normalize(values, self.mean, self.std)
        return result

    def in_words(self) -> dict[str, Any]:
        """Returns the values by name, as they are recorded."""
        return {
            "resize": _as_list(self.resize),
            "crop": _as_list(self.crop),
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
        }


LARGEST = 10_000
"""Side of the largest crop: one of 10,000 x 10,000 pixels has a gigabyte of floats."""

USUAL = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""What most networks of ImageNet are evaluated with."""


def _as_list(size: Size | None) -> int | list[int] | None:
    return list(size) if isinstance(size, tuple) else size


def _as_sides(size: int | Sequence[int]) -> list[int]:
    return [size] if isinstance(size, int) else list(size)


def resize_and_crop(
    image: _Pixels, words: Mapping[str, Any], interpolation: str | None = None
) -> _Pixels:
    """Returns the part of an image, or of masks `(..., H, W)`, that a network is shown.

    Args:
        image (PIL.Image.Image or Tensor): The whole.
        words (Mapping): `Network.preprocessing`.
        interpolation (str, optional): Instead of the network's own. Default: None
    """
    if words["resize"] is not None:
        mode = InterpolationMode(interpolation or words["interpolation"])
        image = resize(image, _as_sides(words["resize"]), mode)
    cropped: _Pixels = center_crop(image, _as_sides(words["crop"]))
    return cropped


def settle(
    own: Preprocessing | Callable[[Any], Tensor],
    channels: int,
    size: int | None,
    mean: float | Sequence[float] | None,
    std: float | Sequence[float] | None,
) -> tuple[Callable[[Any], Tensor], dict[str, Any]]:
    """Returns a network's transform with the caller's values, and it in words.

    Args:
        own (Preprocessing or Callable): The network's own.
        channels (int): Number of channels of its input.
        size (int or None): Side of the crop. What the image is resized to before
            changes by the same factor.
        mean (float, Sequence[float] or None): Instead of its own.
        std (float, Sequence[float] or None): Instead of its own.

    Raises:
        ValueError: If they do not fit.
    """
    if not isinstance(own, Preprocessing):
        if (size, mean, std) != (None, None, None):
            raise ValueError(
                "size, mean and std must not be given for a model with a transform of "
                "its own. Set them in that transform."
            )
        return own, dict.fromkeys(USUAL.in_words())
    mean = _per_channel("mean", own.mean if mean is None else mean, channels)
    std = _per_channel("std", own.std if std is None else std, channels)
    if min(std) <= 0:
        raise ValueError(f"std must be above 0, got {min(std)}. Pass deviations.")
    changed = replace(own, mean=mean, std=std)
    if size is not None:
        changed = _resized(changed, size)
    return changed, changed.in_words()


def _per_channel(name: str, given: Any, channels: int) -> tuple[float, ...]:
    listed = given if isinstance(given, Sequence) else [given]
    values = [as_number(value) for value in listed]
    numbers = tuple(v for v in values if v is not None and np.isfinite(v))
    if len(numbers) == len(listed):
        if len(numbers) == channels:
            return numbers
        # Three equal ones do for grey images too.
        if len(numbers) in (1, 3) and len(set(numbers)) == 1:
            return numbers[:1] * channels
    raise ValueError(
        f"{name} must be one number or one for each channel of the model's input, "
        f"{channels} in all, got {given}. Pass the {name} that its images were "
        "normalised with."
    )


def as_size(size: int) -> int:
    """Returns the side of a crop, or raises."""
    repair = "Pass the crop's side in pixels, such as 224."
    side = as_count("size", size, repair)
    if side > LARGEST:
        raise ValueError(f"size must be at most {LARGEST}, got {side}. {repair}")
    return side


def _resized(own: Preprocessing, size: int) -> Preprocessing:
    """Returns the same with another crop, and its ratio of resize to crop."""
    if own.resize is None:
        return replace(own, crop=size)
    before, crop = _as_sides(own.resize), _as_sides(own.crop)
    scaled = [
        round(size * side / crop[min(i, len(crop) - 1)])
        for i, side in enumerate(before)
    ]
    resized = scaled[0] if len(scaled) == 1 else (scaled[0], scaled[1])
    return replace(own, resize=resized, crop=size)


def input_channels(model: nn.Module) -> int:
    """Returns the channels of a model's input, by its first convolution.

    Raises:
        ValueError: If it takes neither grey nor coloured images.
    """
    convolutions = (m for m in model.modules() if isinstance(m, nn.Conv2d))
    first = next(convolutions, None)
    channels = 3 if first is None else first.in_channels
    if channels not in (1, 3):
        raise ValueError(
            "model must take images of 1 or 3 channels, got a first convolution of "
            f"{channels} channels. Return a transform next to the model that makes its "
            "input."
        )
    return channels


def unless_other(
    described: Preprocessing | None, theirs: Callable[[Any], Tensor], name: str
) -> Preprocessing | Callable[[Any], Tensor]:
    """Returns a library's transform as a description, if that does the same.

    Args:
        described (Preprocessing or None): How its settings are understood.
        theirs (Callable): The library's own transform.
        name (str): The network, for the warning.

    Returns:
        The description; where it does something else, the library's own transform,
        with a warning.
    """
    images = [_slopes(*size) for size in ((300, 400), (400, 300), (300, 900))]
    if described is not None and all(
        _same(described(image), theirs(image), described.std) for image in images
    ):
        return described
    warn_user(
        f"The preprocessing of {name} is more than resizing, cropping and normalising. "
        "Its library's own transform is used, and the record cannot say which part of "
        "the image the network is shown."
    )
    return theirs


def _slopes(height: int, width: int) -> Image.Image:
    """Returns an image on which a shift by some pixels shows.

    It has no edges, at which every way of resizing has other values.
    """
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    slopes = np.stack([rows, columns, (rows + columns) / 2], 2)
    return Image.fromarray((255 * slopes).round().astype(np.uint8))


def _same(found: Tensor, expected: Tensor, std: Sequence[float]) -> bool:
    tolerance = 3 / 255 / min(std)  # grey levels: ways of rounding
    return found.shape == expected.shape and bool(
        ((found - expected).abs().max() <= tolerance).item()
    )


def sentence(words: Mapping[str, Any]) -> str:
    """Returns one line about a network's preprocessing.

    Examples::

        >>> sentence(USUAL.in_words())
        'shorter side to 256, centre 224 x 224, mean 0.485 0.456 0.406, std 0.229 ...'
    """
    if words["crop"] is None:
        return "a transform of its own, which does not say what it does to an image"
    sides, crop = words["resize"], _as_sides(words["crop"])
    height, width = crop if len(crop) == 2 else crop * 2
    first = "as it is"
    if isinstance(sides, int):
        first = f"shorter side to {sides}"
    elif sides is not None:
        first = f"resized to {sides[0]} x {sides[1]}"
    mean, std = (" ".join(f"{v:g}" for v in words[name]) for name in ("mean", "std"))
    return f"{first}, centre {height} x {width}, mean {mean}, std {std}"
