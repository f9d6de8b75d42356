"""Interventions: the map's share on each object, and what the object is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number, require_floating
from captum_iscam.metrics._base import Inputs, MetricInputs, ScoredModel, metric
from captum_iscam.metrics._maps import Attributions, resize
from captum_iscam.metrics.localisation import energy_pointing_game
from captum_iscam.metrics.patches import rounded_drops


@metric(higher_is_better=True, unit="share")
def object_order(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    interventions: Tensor,
    object_masks: Tensor,
    score: Score = "softmax",
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Order of objects: whether the map orders objects as their removal does.

    Higher is better. Unit: share, from 0 to 1.

    .. math::
        \frac{|\{(j, k) : w_j > w_k,\ e_j > e_k\}|
              + \tfrac12 |\{(j, k) : w_j > w_k,\ e_j = e_k\}|}
             {|\{(j, k) : w_j > w_k\}|}, \qquad w_k = s(x) - s(x_{-k})

    The importance of an object is what the score of the target loses when the object is
    not there, `s(x) - s(x_{-k})`: the input `x` is compared with `x_{-k}`, the same
    scene drawn without object `k`. Nothing is approximated, and the model sees no input
    unlike those it knows. Importances are rounded to a millionth of the largest score.

    :math:`e_k` is the share of the map on object `k`, as the energy-based pointing game
    takes it: the sum of `max(0, L)` over the object, divided by that over all pixels.
    The map `L` is resized to the input's size by linear interpolation
    (align_corners=False). The value is the share of the pairs of objects of different
    importance that the map puts in the right order; two equal shares count half. It
    takes one forward pass for each object and one for the input.

    The idea is that of R. Hesse, S. Schaub-Meyer, S. Roth, "FunnyBirds: A Synthetic
    Vision Dataset for a Part-Based Analysis of Explainable AI Methods", ICCV 2023,
    https://arxiv.org/abs/2308.06248, who remove parts of drawn
    birds and correlate the ranks.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
            Exactly one of them must have as many dimensions as the maps: that which
            `interventions` replace.
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
        interventions (Tensor): The input without each of its `K` objects,
            `(N, K, C, *spatial)`: what is behind the object in its place, all else
            unchanged.
        object_masks (Tensor): Where each object is, at the input's size,
            `(N, K, *spatial)`, bool or numbers, true or 1 on the object and false or 0
            elsewhere. Each mask must mark at least one pixel.
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. Default: "softmax"
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity, and
        where no two objects differ in importance, as with one object.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or
            `internal_batch_size` is invalid, a mask is empty or holds values other than
            0 and 1.
        TypeError: If `inputs`, `attributions` or `interventions` are not floating point
            tensors, `object_masks` is not a tensor, `target` does not hold integers, or
            the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[3.0, 1.0], [0.0, 0.0]]]])
        >>> object_masks = torch.tensor([[[[1, 0], [0, 0]], [[0, 1], [0, 0]]]])
        >>> interventions = image.unsqueeze(1) * (1 - object_masks.unsqueeze(2))
        >>> objects = {"interventions": interventions, "object_masks": object_masks}
        >>> object_order(model, image, image, score="identity", **objects)
        tensor([1.])
        >>> object_order(model, image, image.flip(3), score="identity", **objects)
        tensor([0.])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    importance, shares = _importance_and_shares(data, interventions, object_masks)
    more = importance.unsqueeze(2) > importance.unsqueeze(1)
    difference = shares.unsqueeze(2) - shares.unsqueeze(1)
    right = (difference > 0).to(shares.dtype) + 0.5 * (difference == 0)
    pairs = more.flatten(1).sum(1)
    found = (right * more).flatten(1).sum(1) / pairs.clamp_min(1)
    return torch.where(data.valid & (pairs > 0), found, torch.nan)


@metric(higher_is_better=False, unit="share")
def irrelevant_object_share(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    interventions: Tensor,
    object_masks: Tensor,
    negligible: float = 0.05,
    score: Score = "softmax",
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Share of irrelevant objects: how much of the map is on objects not worth it.

    Lower is better. Unit: share, from 0 to 1.

    .. math::
        \sum_{k : w_k \le \tau \max_j w_j} e_k, \qquad w_k = s(x) - s(x_{-k})

    The importance of an object is what the score of the target loses when the object is
    not there, `s(x) - s(x_{-k})`: the input `x` is compared with `x_{-k}`, the same
    scene drawn without object `k`. Nothing is approximated, and the model sees no input
    unlike those it knows. Importances are rounded to a millionth of the largest score.

    :math:`e_k` is the share of the map on object `k`, as the energy-based pointing game
    takes it: the sum of `max(0, L)` over the object, divided by that over all pixels.
    The map `L` is resized to the input's size by linear interpolation
    (align_corners=False). An object does not matter if its removal lowers the score by
    at most `negligible`, :math:`\tau`, times what the most important object does. One
    whose removal raises the score is among them. It takes one forward pass for each
    object and one for the input.

    The idea is that of R. Hesse, S. Schaub-Meyer, S. Roth, "FunnyBirds: A Synthetic
    Vision Dataset for a Part-Based Analysis of Explainable AI Methods", ICCV 2023,
    https://arxiv.org/abs/2308.06248, whose distractibility
    counts parts of the background that matter neither to the model nor to the map.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
            Exactly one of them must have as many dimensions as the maps: that which
            `interventions` replace.
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
        interventions (Tensor): The input without each of its `K` objects,
            `(N, K, C, *spatial)`: what is behind the object in its place, all else
            unchanged.
        object_masks (Tensor): Where each object is, at the input's size,
            `(N, K, *spatial)`, bool or numbers, true or 1 on the object and false or 0
            elsewhere. Each mask must mark at least one pixel.
        negligible (float, optional): Largest importance of an object that does not
            matter, as a share of that of the most important object, at least 0 and
            below 1. Default: 0.05
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. Default: "softmax"
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity or has
        no positive value, where every object matters, and where none does.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or
            `internal_batch_size` is invalid, a mask is empty or holds values other than
            0 and 1, or
            `negligible` is out of range.
        TypeError: If `inputs`, `attributions` or `interventions` are not floating point
            tensors, `object_masks` is not a tensor, `target` does not hold integers, or
            the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.tensor([[[[3.0, 1.0], [0.0, 0.0]]]])
        >>> object_masks = torch.tensor([[[[1, 0], [0, 0]], [[0, 1], [0, 0]]]])
        >>> interventions = image.unsqueeze(1) * (1 - object_masks.unsqueeze(2))
        >>> objects = {"interventions": interventions, "object_masks": object_masks}
        >>> irrelevant_object_share(model, image, image, score="identity", **objects)
        tensor([0.2500])
    """
    limit = as_number(negligible)
    if limit is None or not 0 <= limit < 1:
        raise ValueError(
            f"negligible must be at least 0 and below 1, got {negligible!r}. "
            "Omit it for the default, 0.05."
        )
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    importance, shares = _importance_and_shares(data, interventions, object_masks)
    largest = importance.amax(1, keepdim=True)
    irrelevant = importance <= limit * largest
    found = torch.where(irrelevant, shares, 0).sum(1)
    defined = (largest.squeeze(1) > 0) & irrelevant.any(1)
    defined &= (data.maps > 0).flatten(1).any(1)
    return torch.where(data.valid & defined, found, torch.nan)


def _importance_and_shares(
    data: MetricInputs, interventions: Tensor, object_masks: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the importance of each object and its share of the map, `(N, K)`."""
    index = _check_objects(data, interventions, object_masks)
    maps = resize(data.maps, object_masks.shape[2:])
    images = torch.cat([interventions, data.batch.inputs[index].unsqueeze(1)], 1)

    def perturb(examples: Tensor, number: Tensor) -> Mapping[int, Tensor]:
        return {index: images[examples, number]}

    count = object_masks.shape[1]
    (scores,) = data.scores(count + 1, perturb)
    shares = torch.stack(
        [energy_pointing_game(maps, object_masks[:, [k]]) for k in range(count)], 1
    )
    importance = rounded_drops(scores).to(scores.dtype).to(scores.device)
    return importance, shares.to(scores.dtype)


def _check_objects(
    data: MetricInputs, interventions: Tensor, object_masks: Tensor
) -> int:
    """Returns the index of the input that interventions replace, or raises."""
    if len(data.indices) > 1:
        raise ValueError(
            "inputs must hold one tensor of as many dimensions as the maps, got "
            f"{len(data.indices)}. Pass the others as additional_forward_args."
        )
    index = data.indices[0]
    x = data.batch.inputs[index]
    for name, value in (
        ("interventions", interventions),
        ("object_masks", object_masks),
    ):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"{name} must be a tensor, got {type(value).__name__}. Stack what "
                "belongs to each object along dimension 1."
            )
    require_floating(
        "interventions", interventions, "Convert them with interventions.float()."
    )
    count = object_masks.shape[1] if object_masks.dim() > 1 else 0
    expected = (len(x), count, *x.shape[1:])
    if count == 0 or tuple(interventions.shape) != expected:
        raise ValueError(
            "interventions must hold the input without each object, (N, K, C, ...), "
            f"got {tuple(interventions.shape)} for inputs of {tuple(x.shape)} and "
            f"object_masks of {tuple(object_masks.shape)}. Pass one image per mask."
        )
    if tuple(object_masks.shape[2:]) != tuple(x.shape[2:]):
        raise ValueError(
            "object_masks must be at the size of the input, (N, K, ...), got "
            f"{tuple(object_masks.shape)} for inputs of {tuple(x.shape)}. Resize them."
        )
    return index
