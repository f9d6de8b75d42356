"""Images and maps of whatever kind, as the arrays that are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from captum_iscam._utils import interpolate
from captum_iscam._utils.validation import (
    as_integer,
    as_sequence,
    require_floating,
    require_values,
)
from captum_iscam._utils.warn import warn_user

Array: TypeAlias = npt.NDArray[Any]
ImageLike: TypeAlias = Tensor | Array | Image.Image


def upsample(attributions: Tensor, inputs: Tensor | Sequence[int]) -> Tensor:
    """Returns layer maps at the size of the input, interpolated linearly.

    Linear for one spatial dimension, bilinear for two, trilinear for three, with
    `align_corners=False`, as the methods enlarge their masks.

    Args:
        attributions (Tensor): Maps `(N, C, *spatial)`.
        inputs (Tensor or Sequence[int]): The input `(N, C, *spatial)`, or its spatial
            size alone.

    Returns:
        *Tensor* `(N, C, *spatial of the input)`, in the units of the maps. Maps that
        have this size already are returned as they are.

    Raises:
        ValueError: If maps and inputs differ in their number of spatial dimensions, or
            a side of the size is no integer above 0.
        TypeError: If the maps are no floating point tensor.

    Examples::

        >>> import torch
        >>> upsample(torch.rand(2, 1, 7, 7), torch.rand(2, 3, 64, 48)).shape
        torch.Size([2, 1, 64, 48])
        >>> upsample(torch.rand(1, 1, 9), [100]).shape
        torch.Size([1, 1, 100])
    """
    if not isinstance(attributions, Tensor):
        raise TypeError(
            f"attributions must be a tensor, got {type(attributions).__name__}. "
            "Convert it with torch.as_tensor."
        )
    require_floating("attributions", attributions, "Convert it with .float().")
    if isinstance(inputs, Tensor):
        size = tuple(inputs.shape[2:])
    else:
        repair = "Pass the input, or its spatial size."
        rule = "integers of at least 1"
        size = as_sequence("inputs", inputs, _as_side, rule, repair)
    rank = attributions.dim() - 2
    if rank != len(size) or rank not in interpolate.MODES:
        raise ValueError(
            "attributions must have the spatial dimensions of the inputs, one to "
            f"three, got shape {tuple(attributions.shape)} for size {size}. "
            "Keep the dimensions of examples and channels in front."
        )
    if tuple(attributions.shape[2:]) == size:
        return attributions
    return interpolate.upsample(attributions, size)


def _as_side(value: Any) -> int | None:
    side = as_integer(value)
    return None if side is None or side < 1 else side


def display_image(
    image: ImageLike,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Array:
    """Returns an image as an array that plotting functions take.

    Args:
        image (Tensor, numpy.ndarray or PIL.Image.Image): The image: a tensor
            `(C, H, W)` or `(1, C, H, W)`, C = 1 or 3, an array `(H, W)` or `(H, W, 3)`,
            or a PIL image; of uint8, or in [0, 1], or, with `mean` and `std`,
            normalised by them.
        mean (Sequence[float], optional): Mean of each channel that the image was
            normalised with, in the units of its pixels. Default: None, that is 0
        std (Sequence[float], optional): Standard deviation of each channel that the
            image was normalised with, in the same units. Default: None, that is 1

    Returns:
        *numpy.ndarray* `(H, W, 3)` in [0, 1].

    Raises:
        ValueError: If the image has another shape, or values outside [0, 1] after
            `mean` and `std` were taken back, or these are not a number per channel, or
            `std` is not above 0.
        TypeError: If it is of another type.

    Examples::

        >>> import torch
        >>> normalised = (torch.ones(3, 4, 6) - 0.45) / 0.25
        >>> image = display_image(normalised, mean=[0.45] * 3, std=[0.25] * 3)
        >>> image.shape, float(image.min().round(6))
        ((4, 6, 3), 1.0)
        >>> import numpy as np
        >>> float(display_image(np.full((4, 6, 3), 255, np.uint8)).max())
        1.0
    """
    pixels = as_tensor(image)
    if pixels.dim() == 4 and pixels.shape[0] == 1:
        pixels = pixels[0]
    if pixels.dim() == 2:
        pixels = pixels.unsqueeze(0)
    if pixels.dim() != 3 or pixels.shape[0] not in (1, 3):
        raise ValueError(
            "image must have the shape (3, H, W) or (1, H, W), got "
            f"{tuple(as_tensor(image).shape)}. {_repair_of_shape(pixels)}"
        )
    pixels = denormalize(pixels, mean, std)
    shown: Array = pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return shown


def denormalize(
    pixels: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Tensor:
    """Returns pixels `(C, *spatial)` in [0, 1]."""
    if pixels.dtype == torch.uint8:
        if mean is not None or std is not None:
            raise ValueError(
                "image must be floating point with mean and std, got uint8. Omit them: "
                "values from 0 to 255 are drawn as they are."
            )
        return pixels.double() / 255
    pixels = pixels.double()
    if std is not None:
        pixels = pixels * _per_channel("std", std, pixels)
    if mean is not None:
        pixels = pixels + _per_channel("mean", mean, pixels)
    low, high = pixels.min().item(), pixels.max().item()
    if not (low >= -0.01 and high <= 1.01):
        repair = "Pass the mean and std it was normalised with."
        if low >= 0 and 1.01 < high <= 255 and mean is None:
            repair = "Divide it by 255, or pass it as uint8."
        raise ValueError(
            f"image must lie in [0, 1], got values from {low:.3g} to {high:.3g}. "
            f"{repair}"
        )
    return pixels.clamp(0, 1)


def _per_channel(name: str, given: Sequence[float], pixels: Tensor) -> Tensor:
    """Returns a mean or std that multiplies or adds to pixels `(C, *spatial)`."""
    channels, rule = len(pixels), "" if name == "mean" else " above 0"
    try:
        values = torch.as_tensor(given, dtype=pixels.dtype).detach().cpu().flatten()
    except (TypeError, ValueError, RuntimeError):  # torch's for what are no numbers
        values = pixels.new_empty(0)
    # Equal numbers for three colours do for grey images too.
    if channels == 1 and len(values) == 3 and bool((values == values[0]).all()):
        values = values[:1]
    valid = values.isfinite() & ((values > 0) | (name == "mean"))
    if len(values) not in (1, channels) or not bool(valid.all()):
        raise ValueError(
            f"{name} must be one finite number{rule} for each channel of the image, "
            f"{channels} in all, got {given}. Pass the {name} that it was normalised "
            "with."
        )
    return values.view(-1, *[1] * (pixels.dim() - 1))


def as_tensor(image: ImageLike) -> Tensor:
    """Returns an image, signal or volume as a tensor, colours in front."""
    if isinstance(image, Image.Image):
        if image.mode[0] not in "IF":
            colours = from_array(np.asarray(image.convert("RGB")))
            return colours.permute(2, 0, 1)
        image = np.asarray(image)  # which `convert` would clip to 8 bits
    if isinstance(image, np.ndarray):
        values = as_values("image", image)
        if values.dim() == 3 and values.shape[-1] in (1, 3):
            if values.shape[0] in (1, 3):
                raise ValueError(
                    "image must have its colours first or last, got the array "
                    f"{tuple(values.shape)}, which may be either. Pass a tensor "
                    "(C, H, W)."
                )
            values = values.permute(2, 0, 1)
        return values
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image must be a tensor, an array or a PIL image, got "
            f"{type(image).__name__}. Pass what the model sees, cropped as it sees it."
        )
    return as_values("image", image)


def as_values(name: str, values: Tensor | Array) -> Tensor:
    """Returns the real numbers of a tensor or array as a tensor on the CPU."""
    if isinstance(values, np.ndarray):
        if np.ma.isMaskedArray(values):
            raise TypeError(
                f"{name} must be a plain array, got a masked one, whose mask would be "
                "lost. Fill it with array.filled(0)."
            )
        if values.dtype.kind not in "buif":
            raise TypeError(
                f"{name} must hold real numbers, got an array of {values.dtype}. "
                "Convert it with array.astype(float)."
            )
        values = from_array(values)
    require_values(name, values)
    if values.is_complex():
        raise TypeError(
            f"{name} must hold real numbers, got {values.dtype}. Pass their real part "
            "or absolute value."
        )
    if not values.numel():
        raise ValueError(
            f"{name} must have at least one value, got the shape "
            f"{tuple(values.shape)}. No side may be 0."
        )
    return values.detach().cpu()


def from_array(values: Array) -> Tensor:
    """Returns a tensor with a copy, since torch wants to write, and no flipped axes."""
    # Torch knows the byte order of this machine alone, and no long double.
    long = values.dtype.kind == "f" and values.dtype.itemsize > 8
    kind = np.dtype(float) if long else values.dtype.newbyteorder("=")
    return torch.from_numpy(np.array(values, kind, order="C"))


def _repair_of_shape(pixels: Tensor) -> str:
    """Returns what to do with an image that has another shape."""
    shape = tuple(pixels.shape)
    if len(shape) == 4 and shape[0] > 1:
        return "Draw one image at a time: image[0:1]."
    if len(shape) in (4, 5):
        return "Draw a volume with maps (1, 1, d, h, w), or one slice of it."
    if len(shape) == 3 and shape[0] == 4:
        return "Drop the channel of opacity: image[:3], or image[:, :3] of a batch."
    if len(shape) == 3 and shape[-1] == 4:
        return "Drop the channel of opacity: image[..., :3]."
    if len(shape) == 3 and shape[-1] in (1, 3):
        return "Bring its channels to the front: image.permute(2, 0, 1)."
    if len(shape) == 3:
        return "Choose one or three channels. A volume has maps (1, 1, d, h, w)."
    return "A signal (1, C, L) is drawn with maps (1, 1, l)."


def as_map(values: Tensor | Array, image: Tensor, title: str, rank: int) -> Tensor:
    """Returns a finite map `(1, 1, *spatial)`; one of the image's shape is summed.

    Args:
        values (Tensor or numpy.ndarray): The map, with or without examples and channels
            in front.
        image (Tensor): What it explains, `(C, *spatial)`.
        title (str): The map's title, for errors.
        rank (int): The number of spatial dimensions.
    """
    if isinstance(values, np.ndarray):
        last = (*image.shape[1:], image.shape[0]) == values.shape
        values = np.moveaxis(values, -1, 0) if last else values
    elif not isinstance(values, Tensor):
        raise TypeError(
            f"maps must be tensors or arrays, got {type(values).__name__} for "
            f"{title!r}. Convert it with torch.as_tensor."
        )
    given = as_values("maps", values).double()
    while given.dim() < 2 + rank:
        given = given.unsqueeze(0)
    shape = tuple(given.shape)
    spatial = ", ".join("dhw"[-rank:]) if rank > 1 else "l"
    if len(shape) != 2 + rank or shape[0] != 1:
        raise ValueError(
            f"maps must have the shape ({spatial}), (1, {spatial}) or (1, 1, {spatial})"
            f', got {shape} for "{title}". Draw one example at a time.'
        )
    if shape[1] != 1 and shape[1:] != tuple(image.shape):
        raise ValueError(
            "maps must have one channel, or the shape of the image, whose channels are "
            f'summed, got {shape} for "{title}". Pass maps[:, t:t+1] for one of '
            "several targets."
        )
    if shape[1] != 1 and bool((given >= 0).all()):
        # Maps of channels have both signs; maps of targets are rectified.
        warn_user(
            f"The {shape[1]} channels of the map {title!r} are summed. If they are the "
            "maps of several targets, pass maps[:, t:t+1].",
        )
    given = given.sum(1, keepdim=True)
    if not torch.isfinite(given).all():
        raise ValueError(
            f'maps must be finite, got NaN or infinity in "{title}". '
            "Look for them in the model's output first."
        )
    return given


def warn_of_stretching(values: Tensor, size: Sequence[int], title: str) -> None:
    """Warns where map and image cannot be of one shape."""
    height, width = values.shape[2:]
    high, wide = size
    if not interpolate.is_stretched((height, width), (high, wide)):
        return
    warn_user(
        f"The map {title!r} of {height} x {width} is stretched over an image of "
        f"{high} x {wide}, which has another shape. Pass the image as the model saw "
        "it, cropped by the preprocessing, or map it back with `on_original`.",
    )
