"""Gain and win rate: what the drop in confidence leaves unsaid."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines, Score, Target
from captum_iscam.metrics._case import Case, Inputs, whole
from captum_iscam.metrics._declare import metric
from captum_iscam.metrics._explanation import before_and_after, explanation_view
from captum_iscam.metrics._maps import Attributions


@metric(higher_is_better=True, unit="percent")
def average_gain(
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
    r"""Average gain: how much of the room above the score the map's share fills.

    .. math:: 100 \cdot \frac{\max(0, O - Y)}{1 - Y}

    for one example, with `Y` and `O` of :func:`average_drop`; the mean over examples is
    the published number. Where `Y` is 1 nothing can be gained and the value is 0.

    H. Zhang, F. Torres, R. Sicre, Y. Avrithis, S. Ayache, "Opti-CAM: Optimizing
    saliency maps for interpretability", 2023, https://arxiv.org/abs/2301.07002. The
    increase in confidence counts rises; this also counts their size.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`; the scores must be
            probabilities.
        baselines (Tensor, int, float or tuple, optional): See :func:`average_drop`.
        keep (float, optional): See :func:`average_drop`.
        binary (bool, optional): See :func:`average_drop`.
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)`: percent in [0, 100], higher is better, NaN where the map holds
        NaN or infinity.

    Raises:
        ValueError: If a score is below 0 or above 1, and as in :func:`average_drop`.
        TypeError: As in :func:`average_drop`.
        AssertionError: As in :func:`average_drop`.
        RuntimeError: As in :func:`average_drop`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[0.25, 0.5], [-0.25, 0.0]]]])
        >>> attributions = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
        >>> average_gain(model, image, attributions, score="identity")
        tensor([50.])
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
    both = torch.stack([before, after])
    # A softmax in single precision may end a rounding error above 1.
    outside = (both < -1e-6) | (both > 1 + 1e-6)
    if bool(outside.any().item()):
        raise ValueError(
            "score must be a probability for a gain, got "
            f'{both[outside][0].item():g}. Use score="softmax" or score="sigmoid".'
        )
    room = 1 - before
    gain = (after - before).clamp_min(0) / torch.where(room > 0, room, torch.inf)
    return torch.where(before.isnan(), before, 100 * gain)


@metric(higher_is_better=True, unit="percent")
def win_rate(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    rival: Attributions,
    score: Score = "softmax",
    baselines: Baselines = None,
    keep: float | None = None,
    binary: bool = False,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Win rate: whether a map loses less of the score than a rival's map.

    .. math:: 100 \cdot \big([D < D'] + \tfrac12 [D = D']\big), \qquad
        D = \max(0, Y - O)

    for one example, `D'` with the rival's map, `Y` and `O` of :func:`average_drop`; the
    mean over examples is the published "win %". The score's sign does not matter, as
    dividing both drops by `Y` would not change their order.

    The source is that of :func:`average_drop` (Grad-CAM++,
    https://arxiv.org/abs/1710.11063), which does not say what a tie is. Two maps under
    both of which the score rises tie often; here a tie counts half for each, so that a
    method and its rival together have 100.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        rival (Tensor): The other method's maps, in the forms of `attributions`.
        score (str or Callable, optional): See :func:`average_drop`.
        baselines (Tensor, int, float or tuple, optional): See :func:`average_drop`.
        keep (float, optional): See :func:`average_drop`.
        binary (bool, optional): See :func:`average_drop`.
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)`: 0, 50 or 100 percent, higher is better, NaN where either map
        holds NaN or infinity.

    Raises:
        ValueError: As in :func:`average_drop`, but for any sign of `Y`.
        TypeError: As in :func:`average_drop`.
        AssertionError: As in :func:`average_drop`.
        RuntimeError: As in :func:`average_drop`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[1.0, 3.0], [4.0, 2.0]]]])
        >>> good = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
        >>> win_rate(model, image, good, rival=1 - good, score="identity")
        tensor([100.])
    """
    ours, theirs = (
        Case(
            forward_func,
            inputs,
            attributed,
            target,
            additional_forward_args,
            score,
            baselines,
            internal_batch_size,
        )
        for attributed in (attributions, rival)
    )
    ours.valid &= theirs.valid
    views = (explanation_view(case, keep, binary) for case in (ours, theirs))
    before, *after = ours.scores(1, whole, *views)
    drop, rivals = ((before - score).clamp_min(0).squeeze(1) for score in after)
    half = (drop < rivals).to(drop.dtype) + 0.5 * (drop == rivals)
    return torch.where(ours.valid, 100 * half, torch.nan)
