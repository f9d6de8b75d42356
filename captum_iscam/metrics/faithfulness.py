"""Drop, increase and gain: what the model makes of what the map lets through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines, Score, Target
from captum_iscam.metrics._case import Case, Inputs
from captum_iscam.metrics._declare import metric
from captum_iscam.metrics._explanation import (
    before_and_after,
    relative_drop,
)
from captum_iscam.metrics._maps import Attributions


@metric(higher_is_better=False, unit="percent")
def average_drop(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    baselines: Baselines = None,
    keep: float | None = None,
    binary: bool = False,
    absolute: bool = False,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Average drop: the share of the score that is lost where only the map shows.

    .. math::
        100 \cdot \frac{\max(0, Y - O)}{Y}, \qquad
        Y = s(x), \quad O = s(b + M \odot (x - b))

    for one example; the mean over examples is the published number. `M` is the map
    brought to the input's size by linear interpolation (align_corners=False) and then
    min-max scaled to [0, 1]; a constant map has the mask zero and shows the baseline. A
    gain counts as no drop. With scores of zero or above the mean never exceeds
    100 minus :func:`average_increase`.

    The definition is that of A. Chattopadhay, A. Sarkar, P. Howlader, V. N.
    Balasubramanian, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional
    Networks", WACV 2018, https://arxiv.org/abs/1710.11063, section 4.1, whose target is
    the class the model predicts. `absolute=True` does not divide by `Y`, as grad-cam's
    DropInConfidence. `keep=0.5` mutes half of the pixels, as H. Wang et al.,
    "Score-CAM", CVPR Workshops 2020, https://arxiv.org/abs/1910.01279.

    Args:
        forward_func (Callable): The model, or any function Captum accepts.
        inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, or with one or
            three spatial dimensions. Of several inputs, each with as many dimensions
            as the maps is masked, at its own size.
        attributions (Tensor): Maps `(N, 1, h, w)` of the layer's or the input's size.
        target (int, tuple, Tensor or list, optional): The output in question, in
            Captum's forms. Default: None
        additional_forward_args (Any, optional): Further arguments of the model; a
            tensor whose first dimension is `N` follows its example. Default: None
        score (str or Callable, optional): `s`: "softmax", "sigmoid", "identity" or a
            function of the output, from which `target` is selected. Default: "softmax"
        baselines (Tensor, int, float or tuple, optional): `b`, what a hidden place
            shows. Default: None, that is 0
        keep (float, optional): Share of pixels that stay, those of the highest map
            values; the others get the mask 0. Of equal values the first in row order
            stay. Default: None, which cuts nothing
        binary (bool, optional): Whether kept pixels get the mask 1 instead of their
            scaled map value. Default: False
        absolute (bool, optional): Return `100 * max(0, Y - O)`. Default: False
        internal_batch_size (int, optional): Inputs per forward pass. None picks a
            number and halves it when memory runs out. Default: None

    Returns:
        *Tensor* `(N,)`: percent in [0, 100] for scores that are not negative, lower is
        better. With `absolute=True`, hundredths of the score's unit. NaN where the map
        holds NaN or infinity, and where a relative drop is asked and `Y` is 0.

    Raises:
        ValueError: If shapes, `keep` or `target` do not fit, or `Y` is negative and a
            relative drop is asked.
        TypeError: If inputs or maps are no floating point tensors, or `target` holds
            no integers.
        AssertionError: From Captum, if the form of `target` does not fit.
        RuntimeError: If the model gives NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[1.0, 3.0], [3.0, 1.0]]]])
        >>> attributions = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
        >>> average_drop(model, image, attributions, score="identity")
        tensor([25.])
        >>> average_drop.unit, average_drop.higher_is_better
        ('percent', False)
    """
    case = Case(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        baselines,
        internal_batch_size,
    )
    before, after = before_and_after(case, keep, binary)
    if absolute:
        return 100 * (before - after).clamp_min(0)
    return 100 * relative_drop(before, after)


@metric(higher_is_better=True, unit="percent")
def average_increase(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    baselines: Baselines = None,
    keep: float | None = None,
    binary: bool = False,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Increase in confidence: whether the score rises where only the map shows.

    .. math:: 100 \cdot [O > Y]

    for one example, with `Y` and `O` of :func:`average_drop`; the mean over examples is
    the published "% increase in confidence". An equal score is no increase. The source
    is that of :func:`average_drop` (Grad-CAM++, https://arxiv.org/abs/1710.11063).

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        baselines (Tensor, int, float or tuple, optional): See :func:`average_drop`.
        keep (float, optional): See :func:`average_drop`.
        binary (bool, optional): See :func:`average_drop`.
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)`: 0 or 100 percent, higher is better, NaN where the map holds NaN
        or infinity.

    Raises:
        ValueError: As in :func:`average_drop`, but for any sign of `Y`.
        TypeError: As in :func:`average_drop`.
        AssertionError: As in :func:`average_drop`.
        RuntimeError: As in :func:`average_drop`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[1.0, 3.0], [-4.0, 2.0]]]])
        >>> attributions = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> average_increase(model, image, attributions, score="identity")
        tensor([100.])
    """
    case = Case(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        baselines,
        internal_batch_size,
    )
    before, after = before_and_after(case, keep, binary)
    rises = 100 * (after > before).to(before.dtype)
    return torch.where(before.isnan(), before, rises)
