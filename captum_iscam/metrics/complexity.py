"""Complexity: how much of the image a map covers, and how sparse it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam.metrics._base import metric
from captum_iscam.metrics._maps import (
    Attributions,
    check_maps,
    is_finite,
    min_max,
    nan_if_invalid,
    resize,
)


@metric(higher_is_better=False, unit="share")
def complexity(
    attributions: Attributions, *, size: Sequence[int] | None = None
) -> Tensor:
    r"""Complexity: how much of the image the map covers, the mean of the scaled map.

    Lower is better. Unit: share, from 0 to 1.

    .. math:: \frac{1}{P} \sum_p M_p

    `M` is the map at `size`, min-max scaled to [0, 1] per example, `P` its number of
    pixels: the L1 norm divided by the number of pixels. A constant map is scaled to 0
    and has the value 0, so this metric alone prefers a map without information.

    S. Poppi, M. Cornia, L. Baraldi, R. Cucchiara, "Revisiting The Evaluation of Class
    Activation Mapping for Explainability: A Novel Metric and Experimental Analysis",
    CVPR Workshops 2021, https://arxiv.org/abs/2104.10252, who measure at the input's
    size.

    Args:
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        size (sequence of int, optional): Spatial size of the image in pixels, `(H, W)`.
            The map is resized to it by linear interpolation (align_corners=False)
            first; it must not be smaller than the map. Default: None, the size of the
            map

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If the shape of the maps is not `(N, 1, *spatial)`, or `size` does
            not fit it.
        TypeError: If `attributions` is not a floating point tensor.

    Examples::

        >>> import torch
        >>> complexity(torch.tensor([[[[1.0, 3.0], [1.0, 1.0]]]]))
        tensor([0.2500])
    """
    maps = check_maps(attributions)
    scaled = min_max(resize(maps, maps.shape[2:] if size is None else size))
    return nan_if_invalid(scaled.flatten(1).mean(1), is_finite(maps))


@metric(higher_is_better=True, unit="share")
def sparseness(
    attributions: Attributions, *, size: Sequence[int] | None = None
) -> Tensor:
    r"""Sparseness: the Gini index of the map's absolute values.

    Higher is better. Unit: share, from 0 to below 1.

    .. math::
        \frac{\sum_{i=1}^{P} (2 i - P - 1)\, a_{(i)}}{P \sum_i a_{(i)}}

    :math:`a_{(1)} \le \dots \le a_{(P)}` are the absolute values of the map at `size`
    in ascending order, `P` is its number of pixels. A map with the same absolute value
    everywhere has 0, a map with one pixel that is not zero :math:`1 - 1/P`, and an
    all-zero map 0.

    P. Chalasani, J. Chen, A. Chowdhury, S. Jha, X. Wu, "Concise Explanations of Neural
    Networks using Adversarial Training", ICML 2020, https://arxiv.org/abs/1810.06583.

    Args:
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        size (sequence of int, optional): Spatial size of the image in pixels, `(H, W)`.
            The map is resized to it by linear interpolation (align_corners=False)
            first; it must not be smaller than the map. Default: None, the size of the
            map

    Returns:
        *Tensor* `(N,)`: share in [0, 1). NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If the shape of the maps is not `(N, 1, *spatial)`, or `size` does
            not fit it.
        TypeError: If `attributions` is not a floating point tensor.

    Examples::

        >>> import torch
        >>> sparseness(torch.tensor([[[[0.0, 3.0], [0.0, 0.0]]]]))
        tensor([0.7500])
    """
    maps = check_maps(attributions)
    values = resize(maps, maps.shape[2:] if size is None else size).flatten(1).abs()
    largest = values.amax(1, keepdim=True)
    ordered = (values / torch.where(largest > 0, largest, 1)).sort(1).values
    count = ordered.shape[1]
    # The i-th lowest and the i-th highest value have opposite weights, so the sum runs
    # over their differences. These are never negative: no term cancels another, which
    # would cost digits in single precision.
    weights = torch.arange(count - 1, 0, -2, device=maps.device, dtype=ordered.dtype)
    spread = (ordered.flip(1) - ordered)[:, : len(weights)]
    total = ordered.sum(1)
    gini = (spread * weights).sum(1) / (count * torch.where(total > 0, total, 1))
    return nan_if_invalid(gini, is_finite(maps))
