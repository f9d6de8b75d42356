"""Maps brought to the size of an input and scaled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Interpolation by the number of spatial dimensions.
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def upsample(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Returns maps `(N, K, *spatial)` brought to `size` by linear interpolation."""
    mode = MODES[maps.dim() - 2]
    return F.interpolate(maps, size=tuple(size), mode=mode, align_corners=False)


def is_stretched(sizes: Sequence[int], onto: Sequence[int]) -> bool:
    """Returns whether a map `(h, w)` and an image `(H, W)` cannot be of one shape.

    A layer's side is the image's over its stride, except for rounding and padding: of
    a square map the image's sides differ by less than one stride.
    """
    (height, width), (high, wide) = sizes, onto
    spare = 0 if height == width else 1
    flat = (height - 1) * wide > high * (width + spare)
    return flat or (width - 1) * high > wide * (height + spare)


def scale(maps: Tensor) -> Tensor:
    """Returns maps min-max scaled to [0, 1] each; a constant map becomes zero."""
    over = tuple(range(2, maps.dim()))
    low, high = maps.amin(over, keepdim=True), maps.amax(over, keepdim=True)
    spread = high - low
    return (maps - low) / torch.where(spread > 0, spread, torch.ones_like(spread))
