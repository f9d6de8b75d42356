"""Qualities of a map by itself: how much it covers, and how peaked it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._utils.interpolate import scale
from captum_iscam.metrics._base import metric
from captum_iscam.metrics._maps import (
    Attributions,
    check_maps,
    finite,
    fit,
    only_finite,
)


@metric(higher_is_better=False, unit="share")
def complexity(
    attributions: Attributions, *, size: Sequence[int] | None = None
) -> Tensor:
    r"""Complexity: how much of the image the map covers.

    .. math:: \frac{1}{P} \sum_p M_p

    `M` is the map brought to `size` by linear interpolation (align_corners=False) and
    min-max scaled to [0, 1], `P` its number of pixels: the L1 norm, divided by the
    pixels. A constant map is scaled to zero and has the value 0, so that this metric
    alone praises a map that says nothing.

    S. Poppi, M. Cornia, L. Baraldi, R. Cucchiara, "Revisiting The Evaluation of Class
    Activation Mapping for Explainability: A Novel Metric and Experimental Analysis",
    CVPR Workshops 2021, https://arxiv.org/abs/2104.10252.

    Args:
        attributions (Tensor): Maps `(N, 1, h, w)`, or with one or three spatial
            dimensions.
        size (sequence of int, optional): `H, W` of the input, at which the authors
            measure. Default: None, the size of the map

    Returns:
        *Tensor* `(N,)`: share in [0, 1], lower is better, NaN where the map holds NaN
        or infinity.

    Raises:
        ValueError: If the shape of the maps or `size` does not fit.
        TypeError: If the maps are no floating point tensor.

    Examples::

        >>> import torch
        >>> complexity(torch.tensor([[[[1.0, 3.0], [1.0, 1.0]]]]))
        tensor([0.2500])
    """
    maps = check_maps(attributions)
    scaled = scale(fit(maps, maps.shape[2:] if size is None else size))
    return only_finite(scaled.flatten(1).mean(1), finite(maps))


@metric(higher_is_better=True, unit="share")
def sparseness(
    attributions: Attributions, *, size: Sequence[int] | None = None
) -> Tensor:
    r"""Sparseness: the Gini index of the map's absolute values.

    .. math::
        \frac{\sum_{i=1}^{P} (2 i - P - 1)\, a_{(i)}}{P \sum_i a_{(i)}}

    :math:`a_{(1)} \le \dots \le a_{(P)}` are the absolute values in order. Equal values
    everywhere have 0, a single pixel that is not zero :math:`1 - 1/P`. An all-zero map
    has 0: nothing stands out of it.

    P. Chalasani, J. Chen, A. Chowdhury, S. Jha, X. Wu, "Concise Explanations of Neural
    Networks using Adversarial Training", ICML 2020, https://arxiv.org/abs/1810.06583.

    Args:
        attributions (Tensor): See :func:`complexity`.
        size (sequence of int, optional): See :func:`complexity`.

    Returns:
        *Tensor* `(N,)`: share in [0, 1), higher is better, NaN where the map holds NaN
        or infinity.

    Raises:
        ValueError: As in :func:`complexity`.
        TypeError: As in :func:`complexity`.

    Examples::

        >>> import torch
        >>> sparseness(torch.tensor([[[[0.0, 3.0], [0.0, 0.0]]]]))
        tensor([0.7500])
    """
    maps = check_maps(attributions)
    values = fit(maps, maps.shape[2:] if size is None else size).flatten(1).abs()
    largest = values.amax(1, keepdim=True)
    ordered = (values / torch.where(largest > 0, largest, 1)).sort(1).values
    count = ordered.shape[1]
    # The i-th lowest and the i-th highest value have opposite weights. Their
    # differences are never negative, so nothing cancels in single precision.
    weights = torch.arange(count - 1, 0, -2, device=maps.device, dtype=ordered.dtype)
    spread = (ordered.flip(1) - ordered)[:, : len(weights)]
    total = ordered.sum(1)
    gini = (spread * weights).sum(1) / (count * torch.where(total > 0, total, 1))
    return only_finite(gini, finite(maps))
