"""Localisation: whether the map is high where the object is annotated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._utils.validation import as_integer, as_number, as_sequence
from captum_iscam.metrics._base import metric
from captum_iscam.metrics._maps import (
    Attributions,
    as_size,
    check_count,
    check_maps,
    is_finite,
    nan_if_invalid,
    resize,
    unit_factor,
)


@metric(higher_is_better=True, unit="share")
def energy_pointing_game(attributions: Attributions, masks: Tensor) -> Tensor:
    r"""Energy-based pointing game: the share of the map that lies on the object.

    Higher is better. Unit: share, from 0 to 1.

    .. math:: \frac{\sum_{p \in m} \max(0, L_p)}{\sum_p \max(0, L_p)}

    `L` is the map at the mask's size, `m` the mask. The map is resized to the mask's
    size by linear interpolation (align_corners=False); negative values count as 0. A
    map without a positive value has the value 0.

    H. Wang, Z. Wang, M. Du, F. Yang, Z. Zhang, S. Ding, P. Mardziel, X. Hu, "Score-CAM:
    Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR
    Workshops 2020, https://arxiv.org/abs/1910.01279, who use it for boxes that cover at
    most half of the image.

    Args:
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        masks (Tensor): Where the object is, at the input's size: `(N, 1, H, W)` or
            `(N, H, W)`, bool or numbers, true or 1 on the object and false or 0
            elsewhere. Each mask must mark at least one pixel. :func:`boxes_to_masks`
            makes masks from boxes.

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, or a mask is empty or holds values other
            than 0 and 1.
        TypeError: If `attributions` is not a floating point tensor, or `masks` is not a
            tensor.

    Examples::

        >>> import torch
        >>> attributions = torch.tensor([[[[3.0, 1.0], [0.0, -4.0]]]])
        >>> masks = torch.tensor([[[1, 0], [1, 1]]])
        >>> energy_pointing_game(attributions, masks)
        tensor([0.7500])
    """
    maps, inside, valid = maps_and_masks(attributions, masks)
    energy = resize(maps, inside.shape[2:]).clamp_min(0)
    # Divided by the largest value first, so that no sum overflows.
    largest = energy.flatten(1).amax(1).view(-1, *[1] * (energy.dim() - 1))
    energy = energy / torch.where(largest > 0, largest, 1)
    total = energy.flatten(1).sum(1)
    found = torch.where(inside, energy, 0).flatten(1).sum(1)
    return nan_if_invalid(found / torch.where(total > 0, total, 1), valid)


@metric(higher_is_better=True, unit="share")
def pointing_game(
    attributions: Attributions, masks: Tensor, *, tolerance: float = 0.0
) -> Tensor:
    r"""Pointing game: whether the maximum of the map lies on the object.

    Higher is better. Unit: share, from 0 to 1.

    .. math:: \frac{|\{p : L_p = \max L\} \cap m_\tau|}{|\{p : L_p = \max L\}|}

    `L` is the map at the mask's size, `m_τ` the mask together with all pixels at most
    `tolerance` away from it. The map is resized to the mask's size by linear
    interpolation (align_corners=False).

    With one maximum the value is 1 (a hit) or 0 (a miss). With several it is the
    probability that one of them, drawn at random, is a hit, so that a constant map has
    the area of the mask.

    J. Zhang, S. Bargal, Z. Lin, J. Brandt, X. Shen, S. Sclaroff, "Top-down Neural
    Attention by Excitation Backprop", IJCV 2018, https://arxiv.org/abs/1608.00507, who
    use a tolerance of 15 pixels, and count hits per class before they average them.

    Args:
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        masks (Tensor): Where the object is, at the input's size: `(N, 1, H, W)` or
            `(N, H, W)`, bool or numbers, true or 1 on the object and false or 0
            elsewhere. Each mask must mark at least one pixel. :func:`boxes_to_masks`
            makes masks from boxes.
        tolerance (float, optional): Distance from the mask that still counts as a hit,
            in pixels between pixel centres, at least 0. Default: 0.0

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, a mask is empty or holds values other than
            0 and 1, or `tolerance` is negative.
        TypeError: If `attributions` is not a floating point tensor, or `masks` is not a
            tensor.

    Examples::

        >>> import torch
        >>> attributions = torch.tensor([[[[1.0, 5.0, 0.0]]]])
        >>> masks = torch.tensor([[[1, 0, 0]]])
        >>> pointing_game(attributions, masks)
        tensor([0.])
        >>> pointing_game(attributions, masks, tolerance=1)
        tensor([1.])
    """
    distance = as_number(tolerance)
    if distance is None or not 0 <= distance < torch.inf:
        raise ValueError(
            f"tolerance must be a distance of 0 or more pixels, got {tolerance!r}. "
            "Pass 0 for the mask itself."
        )
    maps, inside, valid = maps_and_masks(attributions, masks)
    return nan_if_invalid(_top_share(maps, dilated(inside, distance), None), valid)


@metric(higher_is_better=True, unit="share")
def mask_iou(
    attributions: Attributions, masks: Tensor, *, threshold: float = 0.5
) -> Tensor:
    r"""Intersection over union of the mask and of the map above a threshold.

    Higher is better. Unit: share, from 0 to 1.

    .. math:: \frac{|B \cap m|}{|B \cup m|}, \qquad B = \{p : M_p > \delta\}

    `m` is the mask, `δ` the threshold. The map is resized to the mask's size by linear
    interpolation (align_corners=False) and then min-max scaled to [0, 1], which gives
    `M`. A constant map is scaled to 0, so that `B` is empty and the value 0. A value
    that exceeds `δ` by no more than rounding does not belong to `B`.

    A. Chattopadhay, A. Sarkar, P. Howlader, V. N. Balasubramanian, "Grad-CAM++:
    Improved Visual Explanations for Deep Convolutional Networks", WACV 2018,
    https://arxiv.org/abs/1710.11063, who use thresholds of 0, 0.25 and 0.5 and boxes as
    masks. They divide the area inside the box by the area of the box plus the area
    outside it, which is the same.

    Args:
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        masks (Tensor): Where the object is, at the input's size: `(N, 1, H, W)` or
            `(N, H, W)`, bool or numbers, true or 1 on the object and false or 0
            elsewhere. Each mask must mark at least one pixel. :func:`boxes_to_masks`
            makes masks from boxes.
        threshold (float, optional): `δ`, the scaled map value above which a pixel
            belongs to `B`, from 0 to below 1. Default: 0.5

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, a mask is empty or holds values other than
            0 and 1, or `threshold` is out of range.
        TypeError: If `attributions` is not a floating point tensor, or `masks` is not a
            tensor.

    Examples::

        >>> import torch
        >>> attributions = torch.tensor([[[[1.0, 5.0, 4.0, 0.0]]]])
        >>> masks = torch.tensor([[[1, 1, 0, 0]]])
        >>> mask_iou(attributions, masks)
        tensor([0.3333])
    """
    least = as_number(threshold)
    if least is None or not 0 <= least < 1:
        raise ValueError(
            f"threshold must be from 0 to below 1, got {threshold!r}. "
            "Pass a share of the map's range, for example 0.5."
        )
    maps, inside, valid = maps_and_masks(attributions, masks)
    above = _above_threshold(resize(maps, inside.shape[2:]), least)
    both = (above & inside).flatten(1).sum(1)
    either = (above | inside).flatten(1).sum(1)
    return nan_if_invalid(both.to(maps.dtype) / either, valid)


@metric(higher_is_better=True, unit="share")
def top_k_intersection(
    attributions: Attributions, masks: Tensor, *, k: int | None = None
) -> Tensor:
    r"""Top-k intersection: the share of the map's k highest pixels on the object.

    Higher is better. Unit: share, from 0 to 1.

    .. math:: \frac{|T_k \cap m|}{k}

    `T_k` are the k pixels with the highest values of the map at the mask's size, `m` is
    the mask. The map is resized to the mask's size by linear interpolation
    (align_corners=False). Where several pixels share the k-th highest value, the value
    is the expectation over a random choice among them, so that a constant map has the
    area of the mask.

    J. Theiner, E. Müller-Budack, R. Ewerth, "Interpretable Semantic Photo Geolocation",
    WACV 2022, https://arxiv.org/abs/2104.14995, for a fixed k. `k=None` takes the
    number of pixels of each mask, which is the relevance rank accuracy of L. Arras, A.
    Osman, W. Samek, "CLEVR-XAI", Information Fusion 2022,
    https://arxiv.org/abs/2003.07258.

    Args:
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        masks (Tensor): Where the object is, at the input's size: `(N, 1, H, W)` or
            `(N, H, W)`, bool or numbers, true or 1 on the object and false or 0
            elsewhere. Each mask must mark at least one pixel. :func:`boxes_to_masks`
            makes masks from boxes.
        k (int, optional): Number of pixels in `T_k`, from 1 to `H * W`. Default: None,
            as many as the mask of each example marks

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, a mask is empty or holds values other than
            0 and 1, or `k` is out of range.
        TypeError: If `attributions` is not a floating point tensor, or `masks` is not a
            tensor.

    Examples::

        >>> import torch
        >>> attributions = torch.tensor([[[[1.0, 5.0, 4.0, 0.0]]]])
        >>> masks = torch.tensor([[[1, 1, 0, 0]]])
        >>> top_k_intersection(attributions, masks, k=2)
        tensor([0.5000])
    """
    maps, inside, valid = maps_and_masks(attributions, masks)
    total = inside[0].numel()
    count = as_integer(k)
    if k is not None and not (count is not None and 1 <= count <= total):
        raise ValueError(
            "k must be an integer between 1 and the number of pixels, "
            f"{total}, got {k}. Omit it to take the size of each mask."
        )
    sizes = inside.flatten(1).sum(1)
    counts = sizes if count is None else torch.full_like(sizes, count)
    return nan_if_invalid(_top_share(maps, inside, counts), valid)


def boxes_to_masks(
    boxes: Sequence[Tensor | Sequence[Sequence[int]]], size: Sequence[int]
) -> Tensor:
    r"""Returns masks that are true inside boxes, for the localisation metrics.

    Args:
        boxes (sequence of Tensor or of sequences): For each of the `N` examples its
            boxes, `(B, 4)` with at least one box, as `x0, y0, x1, y1` in pixels:
            columns from `x0` to before `x1`, rows from `y0` to before `y1`, rounded
            where they are no whole numbers. The mask is their union. Boxes must lie
            inside the image.
        size (sequence of int): Spatial size of the image in pixels, `(H, W)`.

    Returns:
        *Tensor* `(N, 1, H, W)` of bool, on torch's default device.

    Raises:
        ValueError: If an example has no box, a box is empty or reaches outside the
            image, or `size` is no pair of integers.

    Examples::

        >>> boxes_to_masks([[[0, 0, 2, 1]]], (2, 3)).int()
        tensor([[[[1, 1, 0],
                  [0, 0, 0]]]], dtype=torch.int32)
    """
    sides = as_size(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ValueError(
            f"size must be the height and width of the image, got {size!r}. "
            "Pass (H, W) in pixels."
        )
    height, width = sides
    repair = "Pass a list of boxes (x0, y0, x1, y1) per example."
    each = as_sequence("boxes", boxes, _corners, "the boxes of each example", repair)
    shape = (len(each), 1, height, width)
    masks = torch.zeros(shape, dtype=torch.bool, device="cpu")
    for example, corners in enumerate(each):
        if corners.dim() != 2 or corners.shape[1] != 4 or len(corners) == 0:
            raise ValueError(
                "boxes must hold at least one box (x0, y0, x1, y1) per example, got "
                f"shape {tuple(corners.shape)} for example {example}. "
                "Exclude examples without a box."
            )
        for x0, y0, x1, y1 in corners.tolist():
            if max(x1, y1) <= 1 and any(edge % 1 for edge in (x0, y0, x1, y1)):
                raise ValueError(
                    f"boxes must be in pixels, got {(x0, y0, x1, y1)}, which look like "
                    "shares of the image's sides. Multiply them by its size."
                )
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                raise ValueError(
                    "boxes must be inside the image and not empty, got "
                    f"{(x0, y0, x1, y1)} for an image {width} wide and {height} high. "
                    "Pass x0, y0, x1, y1 in pixels of this image."
                )
            rows, columns = slice(round(y0), round(y1)), slice(round(x0), round(x1))
            masks[example, 0, rows, columns] = True
        if not masks[example].any():
            raise ValueError(
                "boxes must cover at least one pixel, got "
                f"{corners.tolist()} for example {example}. Their edges are rounded to "
                "whole pixels."
            )
    return masks.to(torch.get_default_device())


def _corners(boxes: object) -> Tensor | None:
    """Returns the boxes of an example as a tensor, or None if they are none."""
    try:
        return torch.as_tensor(boxes, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        return None


def _above_threshold(maps: Tensor, threshold: float) -> Tensor:
    """Returns where the min-max scaled map exceeds the threshold by more than rounding.

    Interpolation may round a value that equals the threshold up. The lowest value is
    exact, so the threshold 0 needs no tolerance.
    """
    values = maps * unit_factor(maps)
    over = tuple(range(2, maps.dim()))
    low, high = values.amin(over, keepdim=True), values.amax(over, keepdim=True)
    limit = threshold * (high - low)
    if threshold > 0:
        limit = limit + 2 * torch.finfo(maps.dtype).eps * torch.maximum(-low, high)
    return values - low > limit


def _top_share(maps: Tensor, inside: Tensor, counts: Tensor | None) -> Tensor:
    """Returns the share of the `counts` highest pixels inside, None for all maxima.

    1. The least value among the `counts` highest splits the pixels: those above it
       belong to them, those equal to it share the open positions that remain.
    2. A pixel above counts fully. The open positions count by the share of the equal
       pixels that are inside, which is the expectation over a random choice.
    """
    values = resize(maps, inside.shape[2:]).flatten(1)
    within = inside.flatten(1)
    if counts is None:
        least = values.amax(1, keepdim=True)
        counts = (values == least).sum(1)
    else:
        ordered = values.sort(1, descending=True).values
        least = ordered.gather(1, counts.unsqueeze(1) - 1)
    above, tied = values > least, values == least
    open_positions = counts - above.sum(1)
    # A map with NaN may have no tied pixel. Its value is replaced by NaN later.
    chance = (tied & within).sum(1) / tied.sum(1).clamp_min(1).to(values.dtype)
    hits = (above & within).sum(1) + open_positions * chance
    return hits / counts.clamp_min(1)


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
            f"example {int(empty.nonzero()[0, 0])}. Exclude such examples."
        )
    return maps, inside, is_finite(maps)


def dilated(inside: Tensor, tolerance: float) -> Tensor:
    """Returns the masks with all pixels at most `tolerance` away from them.

    It is the union of the masks shifted by every offset of at most that length.
    """
    reach = math.floor(tolerance)
    if reach == 0:
        return inside
    sizes = inside.shape[2:]
    # A shift by the image's side or more leaves nothing of the mask.
    ranges = [
        torch.arange(1 - min(reach + 1, n), min(reach + 1, n), device="cpu")
        for n in sizes
    ]
    offsets = torch.cartesian_prod(*ranges).view(-1, len(sizes))
    near = offsets.square().sum(1) <= tolerance**2
    result = inside.clone()
    whole = (slice(None), slice(None))
    for offset in offsets[near].tolist():
        shifts = list(zip(offset, sizes, strict=True))
        target = tuple(slice(max(d, 0), n + min(d, 0)) for d, n in shifts)
        source = tuple(slice(max(-d, 0), n + min(-d, 0)) for d, n in shifts)
        result[whole + target] |= inside[whole + source]
    return result
