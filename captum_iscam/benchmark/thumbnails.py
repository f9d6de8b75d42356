"""Small files of images and maps, for the report."""

from __future__ import annotations

import io

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

MAP_SIZE = 112
"""Longest side of a stored map in pixels."""

THUMBNAIL_SIZE = 160
"""Longest side of a stored image in pixels."""


def as_jpeg(image: Image.Image, side: int) -> bytes:
    """Returns an image of at most `side` pixels as the bytes of a JPEG file."""
    small = image.copy()
    small.thumbnail((side, side))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=80)
    return stream.getvalue()


OUTLIERS = 0.02
"""Share of a map's sum whose largest values are all white. It is the default of
`visualize`, so that a page and a figure of a map look alike."""


def as_png(maps: Tensor) -> bytes:
    """Returns a map `(1, 1, h, w)` as the bytes of a grey PNG; its maximum is white."""
    values = maps.detach().float().cpu().nan_to_num(0.0, 0.0, 0.0).clamp_min(0)
    height, width = values.shape[2:]
    scale = MAP_SIZE / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    # With antialiasing where the map shrinks, so that no peak is lost between pixels.
    small = F.interpolate(
        values, size, mode="bilinear", align_corners=False, antialias=scale < 1
    )[0, 0]
    ordered = small.double().flatten().sort().values
    sums = ordered.cumsum(0)
    at = int(torch.searchsorted(sums, (1 - OUTLIERS) * sums[-1]))
    largest = float(ordered[at])
    shares = (small.double() / largest).clamp(max=1) if largest > 0 else small
    levels = shares.mul(255).round().byte()
    stream = io.BytesIO()
    Image.fromarray(np.asarray(levels)).save(stream, "PNG")
    return stream.getvalue()
