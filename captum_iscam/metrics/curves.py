"""Insertion and deletion: the score along the map's ranking of the pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from captum_iscam._utils.forward import Baselines, Score, Target
from captum_iscam.metrics._case import Case, Inputs
from captum_iscam.metrics._curves import Curves, Steps, curve_metric, trace
from captum_iscam.metrics._maps import Attributions


@curve_metric(higher_is_better=False)
def deletion(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    substrate: str | Baselines = "zero",
    steps: int = 28,
    pixels_per_step: int | None = None,
    return_curves: bool = False,
    internal_batch_size: int | None = None,
) -> Tensor | Curves:
    r"""Deletion: area under the score while the map's best pixels are removed.

    .. math::
        \sum_{i=1}^{n} (p_i - p_{i-1}) \frac{s(x_{i-1}) + s(x_i)}{2}

    `x_i` is the input in which the `p_i P` pixels of highest map value show the
    substrate, in all channels, `P` the number of pixels, `p_0 = 0` and `p_n = 1`. The
    map is brought to the input's size by linear interpolation (align_corners=False);
    only its order counts. Among equal values the first in row order goes first, so a
    constant map removes the pixels row by row from the top.

    V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
    Black-box Models", BMVC 2018, https://arxiv.org/abs/1806.07421. Their code removes
    a fixed number of pixels per step (`pixels_per_step`: 224 or 1792 of 224 x 224),
    leaves the order of equal values open, and weighs a shorter last step as a whole
    one; where `pixels_per_step` divides `P` the areas are the same.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`; of several
            inputs those that are changed must share their spatial size.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        substrate (str, Tensor, int, float or tuple, optional): What a removed pixel
            shows: "zero" (for normalised images the mean colour), "blur" (the input
            under RISE's 11 x 11 kernel of sigma 5), a number, or a tensor like the
            input or with one example. Default: "zero"
        steps (int, optional): Number of steps, spread evenly: after step i
            `i * P // steps` pixels are changed. `steps + 1` forward passes per example.
            Default: 28, as many as RISE takes with 1792 of 224 x 224
        pixels_per_step (int, optional): RISE's rule instead of `steps`: so many pixels
            in each step, the rest in the last. Default: None
        return_curves (bool, optional): Return :class:`Curves`. Default: False
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)` in the unit of the score (in [0, 1] for probabilities), lower is
        better, or :class:`Curves` on request. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If `steps` or `pixels_per_step` is not between 1 and `P`, the
            substrate or a shape does not fit, or the target is out of range.
        TypeError: If inputs or maps are no floating point tensors, or `target` holds
            no integers.
        AssertionError: From Captum, if the form of `target` does not fit.
        RuntimeError: If the model gives NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 2.0]]]])
        >>> curves = deletion(
        ...     model, image, image, score="identity", steps=4, return_curves=True
        ... )
        >>> curves.scores
        tensor([[8., 4., 2., 0., 0.]])
        >>> curves.auc
        tensor([2.5000])
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
    curves = trace(case, substrate, Steps(steps, pixels_per_step), inserting=False)
    return curves if return_curves else curves.auc


@curve_metric(higher_is_better=True)
def insertion(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    substrate: str | Baselines = "zero",
    steps: int = 28,
    pixels_per_step: int | None = None,
    return_curves: bool = False,
    internal_batch_size: int | None = None,
) -> Tensor | Curves:
    r"""Insertion: area under the score while the map's best pixels are shown.

    The formula of :func:`deletion`, where `x_i` is the substrate in which the `p_i P`
    pixels of highest map value show the input. RISE (V. Petsiuk, A. Das, K. Saenko,
    2018, https://arxiv.org/abs/1806.07421) starts from `substrate="blur"`; the curves
    of Score-CAM and IS-CAM start from "zero".

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`deletion`.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        substrate (str, Tensor, int, float or tuple, optional): See :func:`deletion`.
        steps (int, optional): See :func:`deletion`.
        pixels_per_step (int, optional): See :func:`deletion`.
        return_curves (bool, optional): See :func:`deletion`.
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)` in the unit of the score (in [0, 1] for probabilities), higher
        is better, or :class:`Curves` on request. NaN where the map holds NaN or
        infinity.

    Raises:
        ValueError: As in :func:`deletion`.
        TypeError: As in :func:`deletion`.
        AssertionError: As in :func:`deletion`.
        RuntimeError: As in :func:`deletion`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 2.0]]]])
        >>> insertion(model, image, image, score="identity", steps=4)
        tensor([5.5000])
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
    curves = trace(case, substrate, Steps(steps, pixels_per_step), inserting=True)
    return curves if return_curves else curves.auc
