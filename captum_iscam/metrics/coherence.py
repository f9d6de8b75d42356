"""Coherency, ADCC and ARCC: whether a masked input gives the same map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam.metrics._base import (
    ExplanationFunc,
    Inputs,
    MetricInputs,
    ScoredModel,
    check_batch_and_maps,
    explain,
    metric,
    unperturbed,
)
from captum_iscam.metrics._draws import WatchedDraws
from captum_iscam.metrics._maps import (
    Attributions,
    correlation,
    is_finite,
    nan_if_invalid,
    resize,
)
from captum_iscam.metrics.complexity import complexity
from captum_iscam.metrics.faithfulness import (
    apply_mask,
    explanation_mask,
    input_and_masked_scores,
    relative_drop,
    require_probabilities,
)
from captum_iscam.metrics.road import PERCENTILES, road


@metric(higher_is_better=True, unit="share")
def coherency(
    explanation_func: ExplanationFunc,
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    baselines: Baselines = None,
) -> Tensor:
    r"""Coherency: how similar the maps of the input and of the masked input are.

    Higher is better. Unit: share, from 0 to 1.

    .. math::
        \frac{1 + \rho\big(L(x),\, L(b + M \odot (x - b))\big)}{2}

    `x` is the example and `b + M * (x - b)` its masked input. The mask `M` is the map,
    resized to the input's size by linear interpolation (align_corners=False) and then
    min-max scaled to [0, 1] per example; a constant map has the mask 0 everywhere. Of
    several inputs, those with as many dimensions as the maps are masked, each at its
    own size; the others are passed unchanged.

    `L(.)` is the map that `explanation_func` returns, resized to the size of the first
    masked input by linear interpolation (align_corners=False), `ρ` Pearson's
    correlation of two maps. Where one of the two maps is constant, the value is 0.

    S. Poppi, M. Cornia, L. Baraldi, R. Cucchiara, "Revisiting The Evaluation of Class
    Activation Mapping for Explainability: A Novel Metric and Experimental Analysis",
    CVPR Workshops 2021, https://arxiv.org/abs/2104.10252. As in the authors' code, the
    maps are correlated at the input's size, and the correlation is rescaled from
    [-1, 1].

    Args:
        explanation_func (Callable): The attribution method, for example
            `LayerScoreCAM(model, layer).attribute`. It is called as
            `explanation_func(inputs, target=target)`, with the keyword
            `additional_forward_args` if there are any, and must return one map per
            example, `(N, 1, *spatial)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size. The maps must be those that `explanation_func` returns for
            `inputs`.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example. It
            is passed on to `explanation_func`. Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. They are passed on to `explanation_func`. Default: None
        baselines (Tensor, int, float or tuple, optional): `b`, what replaces a removed
            pixel, in the unit of the inputs: a number, a tensor of the input's shape or
            with one example, `(1, C, *spatial)`, or a tuple with one of these per
            input. Default: None, that is 0

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where one of the two maps holds NaN or
        infinity.

    Raises:
        ValueError: If a shape does not fit, `target` holds several classes per example,
            or `explanation_func` returns maps of another shape than `attributions`.
        TypeError: If `inputs`, `attributions` or the maps of `explanation_func` are not
            floating point tensors, or `baselines` holds something other than numbers
            and tensors.

    Examples::

        >>> import torch
        >>> def method(inputs, target):
        ...     return inputs.sum(1, keepdim=True)
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> coherency(method, image, method(image, target=None))
        tensor([1.])
    """
    batch, maps, indices = check_batch_and_maps(inputs, attributions, baselines)
    valid = is_finite(maps)
    # The method may refuse NaN: the mask of a map that is not finite is 0 everywhere.
    finite_maps = torch.where(valid.view(-1, *[1] * (maps.dim() - 1)), maps, 0)
    tensors = list(batch.inputs)
    for i in indices:
        x = batch.inputs[i]
        masks = explanation_mask(finite_maps, tuple(x.shape[2:]), None, False)
        tensors[i] = apply_mask(x, batch.baselines[i], masks)
    masked = tuple(tensors) if isinstance(inputs, tuple) else tensors[0]
    with WatchedDraws(explanation_func):
        masked_maps = explain(explanation_func, masked, target, additional_forward_args)
    if masked_maps.shape != maps.shape:
        raise ValueError(
            f"explanation_func must return maps of the shape {tuple(maps.shape)} of "
            f"attributions, got {tuple(masked_maps.shape)}. Pass the maps that it "
            "returned."
        )
    size = batch.inputs[indices[0]].shape[2:]
    values = (1 + correlation(resize(maps, size), resize(masked_maps, size))) / 2
    constant = _is_constant(maps) | _is_constant(masked_maps)
    values = torch.where(constant, 0, values)
    return nan_if_invalid(values, valid & is_finite(masked_maps))


@metric(higher_is_better=True, unit="share")
def adcc(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    explanation_func: ExplanationFunc,
    score: Score = "softmax",
    baselines: Baselines = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ADCC: the harmonic mean of average drop, coherency and complexity.

    Higher is better. Unit: share, from 0 to 1.

    .. math::
        3 \left( \frac{1}{\text{coherency}} + \frac{1}{1 - \text{complexity}}
        + \frac{1}{1 - \text{drop}} \right)^{-1}

    The three parts of one example are:

    - coherency (:func:`coherency`): `(1 + ρ) / 2`, where `ρ` is Pearson's correlation
      of the maps of the input and of the masked input, at the input's size;
    - complexity (:func:`complexity`): the mean of the mask `M` over the pixels;
    - drop (:func:`average_drop`): `max(0, Y - O) / Y`, at most 1, where `Y` is the
      score of the target for the input and `O` that for the masked input.

    They use the masked input `b + M * (x - b)`. The mask `M` is the map, resized to the
    input's size by linear interpolation (align_corners=False) and then min-max scaled
    to [0, 1] per example; a constant map has the mask 0 everywhere. Of several inputs,
    those with as many dimensions as the maps are masked, each at its own size; the
    others are passed unchanged.

    Where `1 - drop`, `1 - complexity` or the coherency is 0, so is the value. Where `Y`
    is 0 the drop is undefined, and the value is NaN unless the coherency is 0.

    S. Poppi, M. Cornia, L. Baraldi, R. Cucchiara, "Revisiting The Evaluation of Class
    Activation Mapping for Explainability: A Novel Metric and Experimental Analysis",
    CVPR Workshops 2021, https://arxiv.org/abs/2104.10252. As in the authors' code, the
    harmonic mean is taken per example.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs. Complexity and
            coherency are measured at the size of the first masked one.
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size. The maps must be those that `explanation_func` returns for
            `inputs`.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        explanation_func (Callable): The attribution method, for example
            `LayerScoreCAM(model, layer).attribute`. It is called as
            `explanation_func(inputs, target=target)`, with the keyword
            `additional_forward_args` if there are any, and must return one map per
            example, `(N, 1, *spatial)`.
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. Default: "softmax"
        baselines (Tensor, int, float or tuple, optional): `b`, what replaces a removed
            pixel, in the unit of the inputs: a number, a tensor of the input's shape or
            with one example, `(1, C, *spatial)`, or a tuple with one of these per
            input. Default: None, that is 0
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory. It
            applies to the drop; `explanation_func` is called once, with all examples.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where a map holds NaN or infinity, and
        where `Y` is 0 and the coherency is not.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or `internal_batch_size`
            is invalid, a score `Y` is negative, or `explanation_func` returns maps of
            another shape than `attributions`.
        TypeError: If `inputs`, `attributions` or the maps of `explanation_func` are not
            floating point tensors, `target` does not hold integers, `baselines` holds
            something other than numbers and tensors, or the model does not return a
            tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def method(inputs, target):
        ...     return inputs.sum(1, keepdim=True)
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
        >>> maps = method(image, target=None)
        >>> adcc(model, image, maps, explanation_func=method, score="identity")
        tensor([0.7500])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size, baselines)
    scores = input_and_masked_scores(data, keep=None, binary=False)
    repair = 'Use score="softmax" or score="sigmoid", which give probabilities.'
    drop = relative_drop(*scores, repair).clamp_max(1)
    coherencies = coherency(
        explanation_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        baselines=baselines,
    )
    complexities = complexity(data.maps, size=data.perturbed[0].shape[2:])
    mean = _harmonic_mean(coherencies, 1 - complexities, 1 - drop)
    # The drop may be NaN where the coherency is 0.
    return torch.where(coherencies == 0, 0, mean)


@metric(higher_is_better=True, unit="share")
def arcc(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    explanation_func: ExplanationFunc,
    score: Score = "softmax",
    baselines: Baselines = None,
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ARCC: the harmonic mean of ROAD, coherency and complexity.

    Higher is better. Unit: share, from 0 to 1.

    .. math::
        3 \left( \frac{1}{\text{coherency}} + \frac{1}{1 - \text{complexity}}
        + \frac{1}{\min(1, \max(0, 2 \cdot \text{ROAD}))} \right)^{-1}

    The three parts of one example are:

    - coherency (:func:`coherency`): `(1 + ρ) / 2`, where `ρ` is Pearson's correlation
      of the maps of the input and of the masked input, at the input's size;
    - complexity (:func:`complexity`): the mean of the mask `M` over the pixels;
    - ROAD (:func:`road`): half of what the score of the target is higher without the
      lowest pixels of the map than without the highest, averaged over percentages.

    The masked input is `b + M * (x - b)`. The mask `M` is the map, resized to the
    input's size by linear interpolation (align_corners=False) and then min-max scaled
    to [0, 1] per example; a constant map has the mask 0 everywhere. Where one of the
    three terms is 0, so is the value: a map by which the score falls no faster than in
    the opposite order has ARCC 0.

    L. Domeniconi, A. Stramiglio, M. Lombardi, S. Salti, "How to Evaluate and Refine
    your CAM", ICPR 2026, https://arxiv.org/abs/2605.14641. All of it follows the code
    that they gave to grad-cam, `pytorch_grad_cam.metrics.arcc` of version 1.5.7: the
    harmonic mean per example (its docstring says geometric), the percentages, and ROAD
    times 2, limited to [0, 1]. It adds 1e-8 to each term, and here nothing is added.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs.
            Only images: those that change must have two spatial dimensions, of the same
            size.
        attributions (Tensor): One map per example, floating point, `(N, 1, *spatial)`:
            for images `(N, 1, h, w)` at the layer's size or `(N, 1, H, W)` at the
            input's size. The maps must be those that `explanation_func` returns for
            `inputs`.
        target (int, tuple, Tensor or list, optional): The output that is explained, in
            Captum's forms: an integer for all examples, a tensor or list of `N`
            integers, or, for outputs with more than two dimensions, a tuple of indices
            or a list of `N` tuples. None suits a model with one number per example.
            Default: None
        additional_forward_args (Any, optional): Further positional arguments of the
            model, one or a tuple of them. A tensor whose first dimension is `N` has a
            row per example, in a list, tuple or dict too; anything else is passed
            unchanged. Default: None
        explanation_func (Callable): The attribution method, for example
            `LayerScoreCAM(model, layer).attribute`. It is called as
            `explanation_func(inputs, target=target)`, with the keyword
            `additional_forward_args` if there are any, and must return one map per
            example, `(N, 1, *spatial)`.
        score (str or Callable, optional): `s`, the transform of the model's output from
            which `target` is selected: "softmax" (over dimension 1, a probability),
            "sigmoid", "identity" (the output itself), or a function that takes the
            output and returns a tensor. The scores must be probabilities, in [0, 1].
            Default: "softmax"
        baselines (Tensor, int, float or tuple, optional): `b`, what replaces a removed
            pixel, in the unit of the inputs: a number, a tensor of the input's shape or
            with one example, `(1, C, *spatial)`, or a tuple with one of these per
            input. Default: None, that is 0
        percentiles (sequence of float, optional): `Q`, the percentages of the pixels to
            remove, each above 0 and below 100. Each must remove at least one pixel and
            leave one. Default: (20, 40, 60, 80)
        noise (float, optional): Standard deviation of the Gaussian noise that is added
            to replaced pixels, in the unit of the inputs, at least 0. Default: 0.01
        generator (torch.Generator, optional): Source of the random numbers; pass a
            seeded one for a reproducible value. Default: None, torch's global random
            state on the CPU
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where a map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, the maps do not have two spatial
            dimensions, a percentage removes no pixel or all, `noise` is negative,
            `target`, `score` or `internal_batch_size` is invalid, a score is no
            probability, or `explanation_func` returns maps of another shape than
            `attributions`.
        TypeError: If `inputs`, `attributions` or the maps of `explanation_func` are not
            floating point tensors, `target` does not hold integers, `baselines` holds
            something other than numbers and tensors, the model does not return a
            tensor, or `generator` is not a generator.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def method(inputs, target):
        ...     return inputs
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> own = {"explanation_func": method, "score": "identity", "noise": 0.0}
        >>> arcc(model, image, image, **own)
        tensor([0.9783])
    """
    faithfulness = road(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score=score,
        percentiles=percentiles,
        noise=noise,
        generator=generator,
        internal_batch_size=internal_batch_size,
    )
    if score not in ("softmax", "sigmoid"):
        # With a logit the term would be 1 for most maps, however bad.
        model = ScoredModel(forward_func, target, additional_forward_args, score)
        data = MetricInputs(model, inputs, attributions, internal_batch_size, baselines)
        require_probabilities(data.scores(1, unperturbed)[0], "ARCC")
        require_probabilities((2 * faithfulness).abs(), "ARCC")
    coherencies = coherency(
        explanation_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        baselines=baselines,
    )
    batch, maps, indices = check_batch_and_maps(inputs, attributions, baselines)
    complexities = complexity(maps, size=batch.inputs[indices[0]].shape[2:])
    return _harmonic_mean(coherencies, 1 - complexities, (2 * faithfulness).clamp(0, 1))


def _harmonic_mean(*parts: Tensor) -> Tensor:
    """Returns the harmonic mean, 0 where a part is 0 and its inverse infinite."""
    return len(parts) / (1 / torch.stack(parts)).sum(0)


def _is_constant(maps: Tensor) -> Tensor:
    """Returns which maps hold one value everywhere, `(N,)`."""
    values = maps.flatten(1)
    return (values == values[:, :1]).all(1)
