"""Drop, increase and gain: what the model makes of what the map lets through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines, Score, at_least_single
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.interpolate import scale
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number
from captum_iscam.metrics._base import (
    Inputs,
    MetricInputs,
    Perturbation,
    metric,
    unperturbed,
)
from captum_iscam.metrics._maps import Attributions, fit, ranks


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
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        baselines,
        internal_batch_size,
    )
    before, after = before_and_after(given, keep, binary)
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
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        baselines,
        internal_batch_size,
    )
    before, after = before_and_after(given, keep, binary)
    rises = 100 * (after > before).to(before.dtype)
    return torch.where(before.isnan(), before, rises)


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
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        baselines,
        internal_batch_size,
    )
    before, after = before_and_after(given, keep, binary)
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
        MetricInputs(
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
    perturbations = (
        explanation_perturbation(of, keep, binary) for of in (ours, theirs)
    )
    before, *after = ours.scores(1, unperturbed, *perturbations)
    drop, rivals = ((before - score).clamp_min(0).squeeze(1) for score in after)
    half = (drop < rivals).to(drop.dtype) + 0.5 * (drop == rivals)
    return torch.where(ours.valid, 100 * half, torch.nan)


def explanation_mask(
    maps: Tensor, size: tuple[int, ...], keep: float | None, binary: bool
) -> Tensor:
    """Returns `M`, `(N, 1, *size)` in [0, 1]: scaled, and cut where `keep` says so."""
    brought = fit(maps, size)
    masks = scale(brought)
    if keep is None:
        return masks
    total = brought[0].numel()
    kept = ranks(brought).view_as(brought) < max(1, round(float(keep) * total))
    return kept.to(masks.dtype) if binary else masks * kept


def apply_mask(inputs: Tensor, baselines: Tensor, masks: Tensor) -> Tensor:
    """Returns `b + M * (x - b)` in the type of the inputs."""
    shown, hidden = at_least_single(inputs), at_least_single(baselines)
    return (hidden + masks * (shown - hidden)).to(inputs.dtype)


def check_keep(keep: float | None, binary: bool) -> None:
    """Raises what is wrong with the arguments that cut the map."""
    share = as_number(keep)
    if keep is not None and not (share is not None and 0 < share <= 1):
        raise ValueError(
            f"keep must be a share of the pixels above 0 and at most 1, got {keep!r}. "
            "Pass 0.5 to mute the lower half, or None to mute nothing."
        )
    if binary and keep is None:
        raise ValueError(
            "binary must come with keep, got binary=True and keep=None. "
            "Pass the share of pixels to keep, for example keep=0.5."
        )


def explanation_perturbation(
    given: MetricInputs, keep: float | None, binary: bool
) -> Perturbation:
    """Returns what shows the explanation map of each example."""
    check_keep(keep, binary)
    inputs, baselines = given.batch.inputs, given.batch.baselines
    masks = {
        i: explanation_mask(given.maps, tuple(inputs[i].shape[2:]), keep, binary)
        for i in given.positions
    }

    def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
        return {
            i: apply_mask(
                inputs[i][examples], rows_of(baselines[i], examples), m[examples]
            )
            for i, m in masks.items()
        }

    return perturb


def before_and_after(
    given: MetricInputs, keep: float | None, binary: bool
) -> tuple[Tensor, Tensor]:
    """Returns `Y`, the scores of the examples, and `O`, those of what is left."""
    before, after = given.scores(
        1, unperturbed, explanation_perturbation(given, keep, binary)
    )
    return before.squeeze(1), after.squeeze(1)


def relative_drop(before: Tensor, after: Tensor) -> Tensor:
    """Returns `max(0, Y - O) / Y`, NaN where `Y` is 0."""
    if bool((before < 0).any().item()):
        worst = int(before.nan_to_num(0.0).argmin())
        raise ValueError(
            "score must not be negative where a relative drop is asked, got "
            f'{before[worst].item():g} for example {worst}. Use score="softmax" for a '
            "probability, or absolute=True where the metric offers it."
        )
    drop = (before - after).clamp_min(0) / before
    return torch.where(before > 0, drop, torch.nan)
