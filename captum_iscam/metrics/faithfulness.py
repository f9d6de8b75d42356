"""Faithfulness: how the score changes when the map masks the input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines, at_least_single
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number, require_flags
from captum_iscam.metrics._base import (
    Inputs,
    MetricInputs,
    Perturbation,
    ScoredModel,
    metric,
    unperturbed,
)
from captum_iscam.metrics._maps import Attributions, min_max, ranks, resize


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
    r"""Average drop: the share of the score that is lost under the map's mask.

    Lower is better. Unit: percent, from 0 to 100.

    .. math::
        100 \cdot \frac{\max(0, Y - O)}{Y}, \qquad
        Y = s(x), \quad O = s(b + M \odot (x - b))

    `Y` is the score of the target for the input `x`, `O` that for the masked input. The
    mask `M` is the map, resized to the input's size by linear interpolation
    (align_corners=False) and then min-max scaled to [0, 1] per example. A constant map
    has the mask 0 everywhere, so that the masked input is the baseline `b`. Of several
    inputs, those with as many dimensions as the maps are masked, each at its own size;
    the others are passed unchanged.

    This is the value of one example; the mean over examples is the published number. A
    score that rises counts as a drop of 0. For scores of zero or above, the mean is at
    most 100 minus the mean of :func:`average_increase`.

    The definition is that of A. Chattopadhay, A. Sarkar, P. Howlader, V. N.
    Balasubramanian, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional
    Networks", WACV 2018, https://arxiv.org/abs/1710.11063, section 4.1, for the class
    that the model predicts. `absolute=True` does not divide by `Y`, as grad-cam's
    DropInConfidence. `keep=0.5` mutes half of the pixels, as in H. Wang et al.,
    "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
    CVPR Workshops 2020, https://arxiv.org/abs/1910.01279.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. Default: "softmax"
        baselines (Tensor, int, float or tuple, optional): `b`, what replaces a removed
            pixel, in the unit of the inputs: a number, a tensor of the input's shape or
            with one example, `(1, C, *spatial)`, or a tuple with one of these per
            input. Default: None, that is 0
        keep (float, optional): Share of the pixels that stay, above 0 and at most 1:
            those with the highest map values, at least one; the others get the mask 0.
            Of equal values the first in row order stay. Default: None, which keeps the
            mask of every pixel
        binary (bool, optional): Whether the pixels that stay get the mask 1 instead of
            their scaled map value; it needs `keep`. Default: False
        absolute (bool, optional): Whether to return `100 * max(0, Y - O)`, hundredths
            of the score, which is defined for every score. Default: False
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: percent in [0, 100] for scores of zero or above. With
        `absolute=True`, hundredths of the unit of the score. NaN where the map holds
        NaN or infinity, and where `Y` is 0 unless `absolute=True`.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or `internal_batch_size`
            is invalid, `keep` is out of range, `binary` comes without `keep`, or `Y` is
            negative and `absolute` is False.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, `baselines` holds something other than
            numbers and tensors, or the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

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
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size, baselines)
    require_flags(absolute=absolute)
    input_score, masked_score = input_and_masked_scores(data, keep, binary)
    if absolute:
        return 100 * (input_score - masked_score).clamp_min(0)
    repair = 'Use score="softmax" for a probability, or absolute=True.'
    return 100 * relative_drop(input_score, masked_score, repair)


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
    r"""Increase in confidence: whether the score rises under the map's mask.

    Higher is better. Unit: percent, 0 or 100 for each example.

    .. math::
        100 \cdot [O > Y], \qquad Y = s(x), \quad O = s(b + M \odot (x - b))

    `Y` is the score of the target for the input `x`, `O` that for the masked input. The
    mask `M` is the map, resized to the input's size by linear interpolation
    (align_corners=False) and then min-max scaled to [0, 1] per example. A constant map
    has the mask 0 everywhere, so that the masked input is the baseline `b`. Of several
    inputs, those with as many dimensions as the maps are masked, each at its own size;
    the others are passed unchanged.

    This is the value of one example; the mean over examples is the published "%
    increase in confidence". An equal score is no increase, nor is one that is higher by
    1e-5 of itself or less, which is rounding.

    The definition is that of A. Chattopadhay, A. Sarkar, P. Howlader, V. N.
    Balasubramanian, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional
    Networks", WACV 2018, https://arxiv.org/abs/1710.11063, section 4.1, for the class
    that the model predicts. `keep=0.5` mutes half of the pixels, as in H. Wang et al.,
    "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
    CVPR Workshops 2020, https://arxiv.org/abs/1910.01279.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. Default: "softmax"
        baselines (Tensor, int, float or tuple, optional): `b`, what replaces a removed
            pixel, in the unit of the inputs: a number, a tensor of the input's shape or
            with one example, `(1, C, *spatial)`, or a tuple with one of these per
            input. Default: None, that is 0
        keep (float, optional): Share of the pixels that stay, above 0 and at most 1:
            those with the highest map values, at least one; the others get the mask 0.
            Of equal values the first in row order stay. Default: None, which keeps the
            mask of every pixel
        binary (bool, optional): Whether the pixels that stay get the mask 1 instead of
            their scaled map value; it needs `keep`. Default: False
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: 0 or 100 percent. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or `internal_batch_size`
            is invalid, `keep` is out of range, or `binary` comes without `keep`.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, `baselines` holds something other than
            numbers and tensors, or the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[1.0, 3.0], [-4.0, 2.0]]]])
        >>> attributions = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> average_increase(model, image, attributions, score="identity")
        tensor([100.])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size, baselines)
    input_score, masked_score = input_and_masked_scores(data, keep, binary)
    largest = torch.maximum(input_score.abs(), masked_score.abs())
    increase = 100 * _exceeds(masked_score, input_score, largest).to(input_score.dtype)
    return torch.where(input_score.isnan(), input_score, increase)


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
    r"""Average gain: the share of the missing score that is gained under the mask.

    Higher is better. Unit: percent, from 0 to 100.

    .. math::
        100 \cdot \frac{\max(0, O - Y)}{1 - Y}, \qquad
        Y = s(x), \quad O = s(b + M \odot (x - b))

    `Y` is the score of the target for the input `x`, `O` that for the masked input. The
    mask `M` is the map, resized to the input's size by linear interpolation
    (align_corners=False) and then min-max scaled to [0, 1] per example. A constant map
    has the mask 0 everywhere, so that the masked input is the baseline `b`. Of several
    inputs, those with as many dimensions as the maps are masked, each at its own size;
    the others are passed unchanged.

    This is the value of one example; the mean over examples is the published number. A
    score that drops counts as a gain of 0. Where `Y` is 1 nothing can be gained, and
    the value is 0.

    H. Zhang, F. Torres, R. Sicre, Y. Avrithis, S. Ayache, "Opti-CAM: Optimizing
    saliency maps for interpretability", 2023, https://arxiv.org/abs/2301.07002.
    :func:`average_increase` counts how often the score rises; this metric also counts
    by how much. `keep=0.5` mutes half of the pixels, as in H. Wang et al., "Score-CAM:
    Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR
    Workshops 2020, https://arxiv.org/abs/1910.01279.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. The scores must be probabilities, in [0, 1].
            Default: "softmax"
        baselines (Tensor, int, float or tuple, optional): `b`, what replaces a removed
            pixel, in the unit of the inputs: a number, a tensor of the input's shape or
            with one example, `(1, C, *spatial)`, or a tuple with one of these per
            input. Default: None, that is 0
        keep (float, optional): Share of the pixels that stay, above 0 and at most 1:
            those with the highest map values, at least one; the others get the mask 0.
            Of equal values the first in row order stay. Default: None, which keeps the
            mask of every pixel
        binary (bool, optional): Whether the pixels that stay get the mask 1 instead of
            their scaled map value; it needs `keep`. Default: False
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: percent in [0, 100]. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or `internal_batch_size`
            is invalid, `keep` is out of range, `binary` comes without `keep`, or a
            score is below 0 or above 1.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, `baselines` holds something other than
            numbers and tensors, or the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[0.25, 0.5], [-0.25, 0.0]]]])
        >>> attributions = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
        >>> average_gain(model, image, attributions, score="identity")
        tensor([50.])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size, baselines)
    input_score, masked_score = input_and_masked_scores(data, keep, binary)
    require_probabilities(torch.stack([input_score, masked_score]), "a gain")
    missing = 1 - input_score
    gain = (masked_score - input_score).clamp_min(0)
    gain = 100 * (gain / torch.where(missing > 0, missing, torch.inf))
    return torch.where(input_score.isnan(), input_score, gain)


def require_probabilities(scores: Tensor, what: str) -> None:
    """Raises unless all scores are from 0 to 1, or NaN."""
    # A softmax in single precision may exceed 1 by a rounding error.
    outside = (scores < -1e-6) | (scores > 1 + 1e-6)
    if bool(outside.any().item()):
        raise ValueError(
            f"score must be a probability for {what}, got "
            f'{scores[outside][0].item():g}. Use score="softmax" or score="sigmoid".'
        )


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
    r"""Win rate: whether the score drops less under a map than under a rival's map.

    Higher is better. Unit: percent, 0, 50 or 100 for each example.

    .. math::
        100 \cdot \big([D < D'] + \tfrac12 [D = D']\big), \qquad
        D = \max(0, Y - O), \quad Y = s(x), \quad O = s(b + M \odot (x - b))

    `Y` is the score of the target for the input `x`, `O` that for the masked input. The
    mask `M` is the map, resized to the input's size by linear interpolation
    (align_corners=False) and then min-max scaled to [0, 1] per example. A constant map
    has the mask 0 everywhere, so that the masked input is the baseline `b`. Of several
    inputs, those with as many dimensions as the maps are masked, each at its own size;
    the others are passed unchanged.

    `D` is the drop under the map, `D'` that under the rival's map. This is the value of
    one example; the mean over examples is the published "win %". The score may be
    negative: dividing both drops by `Y` would not change their order.

    The definition is that of A. Chattopadhay, A. Sarkar, P. Howlader, V. N.
    Balasubramanian, "Grad-CAM++: Improved Visual Explanations for Deep Convolutional
    Networks", WACV 2018, https://arxiv.org/abs/1710.11063, section 4.1, which does not
    say what a tie counts. Two maps under both of which the score rises tie often. Here
    a tie counts half for each, so that the win rates of a method and its rival add up
    to 100. Drops tie where they differ by 1e-5 of the largest score or less, which is
    rounding. `keep=0.5` mutes half of the pixels, as in H. Wang et al., "Score-CAM:
    Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR
    Workshops 2020, https://arxiv.org/abs/1910.01279.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        rival (Tensor): The maps of the method to compare with, one per example,
            floating point, `(N, 1, *spatial)`, at the layer's size or the input's size.
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. Default: "softmax"
        baselines (Tensor, int, float or tuple, optional): `b`, what replaces a removed
            pixel, in the unit of the inputs: a number, a tensor of the input's shape or
            with one example, `(1, C, *spatial)`, or a tuple with one of these per
            input. Default: None, that is 0
        keep (float, optional): Share of the pixels that stay, above 0 and at most 1:
            those with the highest map values, at least one; the others get the mask 0.
            Of equal values the first in row order stay. Default: None, which keeps the
            mask of every pixel
        binary (bool, optional): Whether the pixels that stay get the mask 1 instead of
            their scaled map value; it needs `keep`. Default: False
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: 0, 50 or 100 percent. NaN where one of the two maps holds NaN
        or infinity.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or `internal_batch_size`
            is invalid, `keep` is out of range, or `binary` comes without `keep`.
        TypeError: If `inputs`, `attributions` or `rival` are not floating point
            tensors, `target` does not hold integers, `baselines` holds something other
            than numbers and tensors, or the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[1.0, 3.0], [4.0, 2.0]]]])
        >>> good = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]]]])
        >>> win_rate(model, image, good, rival=1 - good, score="identity")
        tensor([100.])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    own, other = (
        MetricInputs(model, inputs, maps, internal_batch_size, baselines)
        for maps in (attributions, rival)
    )
    own.valid &= other.valid
    masks = (explanation_perturbation(data, keep, binary) for data in (own, other))
    input_score, *masked_scores = own.scores(1, unperturbed, *masks)
    largest = torch.stack([input_score, *masked_scores]).abs().amax(0).squeeze(1)
    drop, rival_drop = (
        (input_score - masked).clamp_min(0).squeeze(1) for masked in masked_scores
    )
    won, lost = (
        _exceeds(high, low, largest).to(drop.dtype)
        for high, low in ((rival_drop, drop), (drop, rival_drop))
    )
    return torch.where(own.valid, 50 * (1 + won - lost), torch.nan)


def explanation_mask(
    maps: Tensor, size: tuple[int, ...], keep: float | None, binary: bool
) -> Tensor:
    """Returns `M`, `(N, 1, *size)` in [0, 1]: scaled, and 0 where `keep` removes it."""
    resized = resize(maps, size)
    masks = min_max(resized)
    if keep is None:
        return masks
    total = resized[0].numel()
    kept = ranks(resized).view_as(resized) < max(1, round(float(keep) * total))
    return kept.to(masks.dtype) if binary else masks * kept


def apply_mask(inputs: Tensor, baselines: Tensor, masks: Tensor) -> Tensor:
    """Returns `b + M * (x - b)` in the dtype of the inputs."""
    x, b = at_least_single(inputs), at_least_single(baselines)
    return (b + masks * (x - b)).to(inputs.dtype)


def check_keep(keep: float | None, binary: bool) -> None:
    """Raises unless `keep` is None or a share, and `binary` comes with `keep`."""
    share = as_number(keep)
    if keep is not None and not (share is not None and 0 < share <= 1):
        raise ValueError(
            f"keep must be a share of the pixels above 0 and at most 1, got {keep!r}. "
            "Pass 0.5 to mute the lower half, or None to mute nothing."
        )
    require_flags(binary=binary)
    if binary and keep is None:
        raise ValueError(
            "binary must come with keep, got binary=True and keep=None. "
            "Pass the share of pixels to keep, for example keep=0.5."
        )


def explanation_perturbation(
    data: MetricInputs, keep: float | None, binary: bool
) -> Perturbation:
    """Returns the perturbation that masks each example by its map."""
    check_keep(keep, binary)
    inputs, baselines = data.batch.inputs, data.batch.baselines
    masks = {
        i: explanation_mask(data.maps, tuple(inputs[i].shape[2:]), keep, binary)
        for i in data.indices
    }

    def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
        return {
            i: apply_mask(
                inputs[i][examples], rows_of(baselines[i], examples), m[examples]
            )
            for i, m in masks.items()
        }

    return perturb


def input_and_masked_scores(
    data: MetricInputs, keep: float | None, binary: bool
) -> tuple[Tensor, Tensor]:
    """Returns `Y`, the scores of the inputs, and `O`, those of the masked inputs."""
    input_score, masked_score = data.scores(
        1, unperturbed, explanation_perturbation(data, keep, binary)
    )
    return input_score.squeeze(1), masked_score.squeeze(1)


ROUNDING = 1e-5
"""Share of the larger of two values up to which they are equal but for rounding: two
masks that differ by that of their scaling alone changed the scores of photographs by up
to 2e-6 of their size."""


def _exceeds(high: Tensor, low: Tensor, largest: Tensor) -> Tensor:
    """Returns where `high` exceeds `low` by more than the rounding of the scores."""
    return high - low > ROUNDING * largest


def relative_drop(input_score: Tensor, masked_score: Tensor, repair: str) -> Tensor:
    """Returns `max(0, Y - O) / Y`, NaN where `Y` is 0."""
    if bool((input_score < 0).any().item()):
        worst = int(input_score.nan_to_num(0.0).argmin())
        raise ValueError(
            "score must not be negative for a relative drop, got "
            f"{input_score[worst].item():g} for example {worst}. {repair}"
        )
    drop = (input_score - masked_score).clamp_min(0) / input_score
    return torch.where(input_score > 0, drop, torch.nan)
