"""Masks of where an object is, checked against the maps that should lie on it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam.metrics._maps import Attributions, check_count, check_maps, finite


def maps_and_masks(
    attributions: Attributions, masks: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns maps, masks `(N, 1, *size)` as bool, and which maps are finite."""
    maps = check_maps(attributions)
    if not isinstance(masks, Tensor):
        raise TypeError(
            f"masks must be a tensor, got {type(masks).__name__}. "
            "Convert them with torch.as_tensor, or boxes with boxes_to_masks."
        )
    if masks.dim() == maps.dim() - 1:
        masks = masks.unsqueeze(1)
    shape = tuple(masks.shape)
    if masks.dim() != maps.dim() or shape[1] != 1:
        raise ValueError(
            "masks must have the shape (N, 1, ...) or (N, ...) with as many spatial "
            f"dimensions as the maps, got {shape} for maps of {tuple(maps.shape)}. "
            "Pass one mask per example, at the size of the input."
        )
    check_count(maps, shape[0], masks.device)
    if any(have < need for have, need in zip(shape[2:], maps.shape[2:], strict=True)):
        raise ValueError(
            f"masks must be at the size of the input, got {shape[2:]} for maps of size "
            f"{tuple(maps.shape[2:])}. Pass them as large as the image."
        )
    inside = masks.bool()
    if not bool((inside == masks).all().item()):
        raise ValueError(
            "masks must hold nothing but 0 and 1, got "
            f"{masks[inside != masks][0].item()}. Compare them with a threshold first."
        )
    empty = ~inside.flatten(1).any(1)
    if bool(empty.any().item()):
        raise ValueError(
            "masks must mark at least one pixel of each example, got an empty mask for "
            f"example {int(empty.nonzero()[0, 0])}. Leave such examples out."
        )
    return maps, inside, finite(maps)


def widened(inside: Tensor, tolerance: float) -> Tensor:
    """Returns the masks with all pixels at most `tolerance` away from them."""
    reach = math.floor(tolerance)
    if reach == 0:
        return inside
    sizes = inside.shape[2:]
    # Beyond the image there is nothing to reach.
    steps = [
        torch.arange(1 - min(reach + 1, n), min(reach + 1, n), device="cpu")
        for n in sizes
    ]
    offsets = torch.cartesian_prod(*steps).view(-1, len(sizes))
    near = offsets.square().sum(1) <= tolerance**2
    wide = inside.clone()
    whole = (slice(None), slice(None))
    for offset in offsets[near].tolist():
        moves = list(zip(offset, sizes, strict=True))
        target = tuple(slice(max(d, 0), n + min(d, 0)) for d, n in moves)
        source = tuple(slice(max(-d, 0), n + min(-d, 0)) for d, n in moves)
        wide[whole + target] |= inside[whole + source]
    return wide


def boxes_to_masks(
    boxes: Sequence[Tensor | Sequence[Sequence[int]]], size: Sequence[int]
) -> Tensor:
    r"""Returns masks that are true inside boxes, for the localisation metrics.

    Args:
        boxes (sequence of Tensor or of sequences): For each of the `N` examples its
            boxes `(B, 4)` as `x0, y0, x1, y1` in pixels: columns from `x0` to before
            `x1`, rows from `y0` to before `y1`. Several boxes are united.
        size (sequence of int): `H, W` of the image the boxes refer to.

    Returns:
        *Tensor* `(N, 1, H, W)` of bool, on torch's default device.

    Raises:
        ValueError: If an example has no box, or a box is empty or outside the image.

    Examples::

        >>> boxes_to_masks([[[0, 0, 2, 1]]], (2, 3)).int()
        tensor([[[[1, 1, 0],
                  [0, 0, 0]]]], dtype=torch.int32)
    """
    height, width = size
    shape = (len(boxes), 1, height, width)
    masks = torch.zeros(shape, dtype=torch.bool, device="cpu")
    for example, of_example in enumerate(boxes):
        corners = torch.as_tensor(of_example, device="cpu")
        if corners.dim() != 2 or corners.shape[1] != 4 or len(corners) == 0:
            raise ValueError(
                "boxes must hold at least one box (x0, y0, x1, y1) per example, got "
                f"shape {tuple(corners.shape)} for example {example}. "
                "Leave examples without a box out."
            )
        for x0, y0, x1, y1 in corners.tolist():
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                raise ValueError(
                    "boxes must be inside the image and not empty, got "
                    f"{(x0, y0, x1, y1)} for an image {width} wide and {height} high. "
                    "Pass x0, y0, x1, y1 in pixels of this image."
                )
            rows, columns = slice(int(y0), int(y1)), slice(int(x0), int(x1))
            masks[example, 0, rows, columns] = True
        if not masks[example].any():
            raise ValueError(
                "boxes must cover at least one pixel, got "
                f"{corners.tolist()} for example {example}. Pass pixels, not shares "
                "of the image's sides."
            )
    return masks.to(torch.get_default_device())
