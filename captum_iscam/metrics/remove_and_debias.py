"""ROAD: removing pixels without a trace that the model could see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Score, Target
from captum_iscam.metrics._case import Case, Inputs
from captum_iscam.metrics._declare import metric
from captum_iscam.metrics._maps import Attributions
from captum_iscam.metrics._removal import PERCENTILES, removed


@metric(higher_is_better=True, unit="score")
def road(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ROAD, both orders combined: how much more the best pixels carry than the worst.

    .. math::
        \frac{1}{2 |Q|} \sum_{q \in Q} s(x^{\mathrm{LeRF}}_q) - s(x^{\mathrm{MoRF}}_q)

    In :math:`x^{\mathrm{MoRF}}_q` the q percent of the pixels of highest map value are
    removed (most relevant first), in :math:`x^{\mathrm{LeRF}}_q` those of lowest
    (least relevant first): each is replaced by the weighted mean of its neighbours,
    removed ones included, which is a linear system, plus Gaussian noise. The map is
    brought to the input's size by linear interpolation (align_corners=False); only its
    order counts, equal values in row order, so that a constant map removes rows from
    the top or from the bottom.

    Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, "A Consistent and Efficient
    Evaluation Strategy for Attribution Methods", ICML 2022,
    https://arxiv.org/abs/2202.00449, weights and noise as in their code, which reports
    the accuracy over a data set; the mean score and the combination of both orders
    follow grad-cam's ROADCombined. All examples and removals share one noise field, so
    that a value does not depend on the rest of the batch.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): Images `(N, C, H, W)`; of several inputs
            those with as many dimensions as the maps, which must share their size.
        attributions (Tensor): Maps `(N, 1, h, w)` of the layer's or the input's size.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        percentiles (sequence of float, optional): `Q`, each above 0 and below 100.
            Default: (20, 40, 60, 80)
        noise (float, optional): Standard deviation of the noise, in the unit of the
            inputs. Default: 0.01
        generator (torch.Generator, optional): Where the noise comes from.
            Default: None, torch's global random state on the CPU
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)` in the unit of the score (in [-0.5, 0.5] for probabilities),
        higher is better, NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If the maps are not two-dimensional, a percentile removes nothing
            or everything, `noise` is negative, or as in :func:`deletion`.
        TypeError: As in :func:`deletion`.
        AssertionError: As in :func:`deletion`.
        RuntimeError: As in :func:`deletion`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road(model, image, image, score="identity", noise=0.0)
        tensor([0.5000])
    """
    case = Case(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        None,
        internal_batch_size,
    )
    most, least = removed(case, percentiles, noise, generator, (True, False))
    return (least - most) / 2


@metric(higher_is_better=False, unit="score")
def road_most_relevant_first(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ROAD, most relevant first (MoRF): what is left without the best pixels.

    .. math:: \frac{1}{|Q|} \sum_{q \in Q} s(x^{\mathrm{MoRF}}_q)

    See :func:`road` for the removal, the source and the arguments.

    Args:
        forward_func (Callable): See :func:`road`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`road`.
        attributions (Tensor): See :func:`road`.
        target (int, tuple, Tensor or list, optional): See :func:`road`.
        additional_forward_args (Any, optional): See :func:`road`.
        score (str or Callable, optional): See :func:`road`.
        percentiles (sequence of float, optional): See :func:`road`.
        noise (float, optional): See :func:`road`.
        generator (torch.Generator, optional): See :func:`road`.
        internal_batch_size (int, optional): See :func:`road`.

    Returns:
        *Tensor* `(N,)` in the unit of the score, lower is better, NaN where the map
        holds NaN or infinity.

    Raises:
        ValueError: As in :func:`road`.
        TypeError: As in :func:`road`.
        AssertionError: As in :func:`road`.
        RuntimeError: As in :func:`road`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road_most_relevant_first(model, image, image, score="identity", noise=0.0)
        tensor([0.])
    """
    case = Case(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        None,
        internal_batch_size,
    )
    (most,) = removed(case, percentiles, noise, generator, (True,))
    return most


@metric(higher_is_better=True, unit="score")
def road_least_relevant_first(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ROAD, least relevant first (LeRF): what is left without the worst pixels.

    .. math:: \frac{1}{|Q|} \sum_{q \in Q} s(x^{\mathrm{LeRF}}_q)

    See :func:`road` for the removal, the source and the arguments.

    Args:
        forward_func (Callable): See :func:`road`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`road`.
        attributions (Tensor): See :func:`road`.
        target (int, tuple, Tensor or list, optional): See :func:`road`.
        additional_forward_args (Any, optional): See :func:`road`.
        score (str or Callable, optional): See :func:`road`.
        percentiles (sequence of float, optional): See :func:`road`.
        noise (float, optional): See :func:`road`.
        generator (torch.Generator, optional): See :func:`road`.
        internal_batch_size (int, optional): See :func:`road`.

    Returns:
        *Tensor* `(N,)` in the unit of the score, higher is better, NaN where the map
        holds NaN or infinity.

    Raises:
        ValueError: As in :func:`road`.
        TypeError: As in :func:`road`.
        AssertionError: As in :func:`road`.
        RuntimeError: As in :func:`road`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road_least_relevant_first(model, image, image, score="identity", noise=0.0)
        tensor([1.])
    """
    case = Case(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        None,
        internal_batch_size,
    )
    (least,) = removed(case, percentiles, noise, generator, (False,))
    return least
