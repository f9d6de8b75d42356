"""Infidelity, computed by Captum, for maps of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.metrics
import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import (
    as_number,
    check_generator,
    require_flags,
)
from captum_iscam.metrics._base import (
    Inputs,
    MetricInputs,
    ScoredModel,
    check_samples,
    generator_device,
    metric,
)
from captum_iscam.metrics._maps import Attributions, resize, unit_factor


@metric(higher_is_better=False, unit="score squared")
def infidelity(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    baselines: Baselines = None,
    patch: float = 0.25,
    n_perturb_samples: int = 32,
    normalize: bool = True,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Infidelity: how badly the map predicts the score lost by hiding squares.

    Lower is better. Unit: that of the score squared, by default a squared probability.

    .. math::
        \frac{1}{S} \sum_{i=1}^{S} \Big(\beta \sum_p I^i_p \Phi_p
        - \big(s(x) - s(x \text{ without } I^i)\big)\Big)^2

    `I^i` is 1 in a square at a random position and 0 elsewhere. `x` without `I^i` is
    the input that holds the baseline in this square. `Φ` is the map, resized to the
    input's size by linear interpolation (align_corners=False). `β` is the factor with
    the smallest error, so that scaling the map, or reversing its sign, changes nothing;
    with `normalize=False` it is 1. An all-zero map predicts no change and has the mean
    squared change of the score.

    All examples share the squares, so that a value does not depend on the rest of the
    batch. Of several inputs, those with as many dimensions as the maps are perturbed:
    each loses the same part of its size, and they share the map evenly. The others are
    passed unchanged.

    The value is computed by :func:`captum.metrics.infidelity`, after C. Yeh, C. Hsieh,
    A. Suggala, D. Inouye, P. Ravikumar, "On the (In)fidelity and Sensitivity of
    Explanations", NeurIPS 2019, https://arxiv.org/abs/1901.09392, with their square
    removal. Captum needs maps of the input's shape and a perturbation function, and
    leaves the maps of a layer to the user. Here a map is divided evenly among the
    channels of the input, so that a hidden pixel counts once.

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
        patch (float, optional): Side of the square as a share of each side of the
            input, above 0 and at most 1. Default: 0.25
        n_perturb_samples (int, optional): `S`, the number of perturbed inputs per
            example, at least 1. Default: 32
        normalize (bool, optional): Whether to fit `β`; if False it is 1, and the map
            must be in the unit of the score. Default: True
        generator (torch.Generator, optional): Source of the random numbers; pass a
            seeded one for a reproducible value. Default: None, torch's global random
            state on the CPU
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)` in the unit of the score squared. NaN where the map holds NaN or
        infinity. With `normalize=False`, infinity where the value overflows.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or `internal_batch_size`
            is invalid, or `patch` or `n_perturb_samples` is out of range.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, `baselines` holds something other than
            numbers and tensors, the model does not return a tensor, or `generator` is
            not a generator.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
        >>> bool(infidelity(model, image, image, score="identity") < 1e-8)
        True
    """
    require_flags(normalize=normalize)
    side = as_number(patch)
    if side is None or not 0 < side <= 1:
        raise ValueError(
            f"patch must be a share of the side above 0 and at most 1, got {patch!r}. "
            "Omit it for the default, 0.25."
        )
    check_samples(n_perturb_samples)
    check_generator(generator)
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size, baselines)
    shape = (n_perturb_samples, data.maps.dim() - 2)
    device = generator_device(generator)
    positions = torch.rand(shape, generator=generator, device=device)
    positions = positions.to(data.maps.device)
    factor, score_factor = _factors(data.maps, normalize)
    maps = _maps_per_channel(data, data.maps * factor)
    examples = data.valid.nonzero().reshape(-1)
    found: list[Tensor] = []

    def forward(*args: Tensor) -> Tensor:
        *perturbed, example_index = args
        scores = data.score_of(tuple(perturbed), example_index)
        return scores * score_factor[example_index]

    def body(start: int, stop: int) -> None:
        part = examples[start:stop]
        found.append(
            captum.metrics.infidelity(
                forward,
                _HideSquares(data, positions, side, part),
                tuple(x[part] for x in data.batch.inputs),
                tuple(phi[part] for phi in maps),
                # Captum repeats it like the inputs, so each row knows its example.
                additional_forward_args=part,
                n_perturb_samples=n_perturb_samples,
                max_examples_per_batch=min(
                    data.chunks.size, len(part) * n_perturb_samples
                ),
                normalize=normalize,
            )
        )

    data.chunks.run(len(examples), body)
    data.check_scores()
    result = data.maps.new_full((data.batch.num_examples,), torch.nan)
    if found:
        values, factors = torch.cat(found), score_factor[examples]
        result[examples] = (values / factors / factors).to(result.dtype)
    return result


def _factors(maps: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Returns what to multiply the maps and the scores by, `(N, 1, ...)` and `(N,)`.

    With these factors no square of a map's sum overflows or underflows. With a fitted
    `β` the factor of the map is arbitrary. Without, both have the same, at most 1: a
    score would overflow next to a tiny map that is raised, which then predicts nothing.
    """
    factor = unit_factor(maps)
    if normalize:
        return factor, torch.ones_like(factor).view(-1)
    factor = factor.clamp_max(1)
    return factor, factor.view(-1)


def _maps_per_channel(data: MetricInputs, scaled: Tensor) -> list[Tensor]:
    """Returns maps of the inputs' shapes that add up to the map at each pixel."""
    maps = []
    for i, x in enumerate(data.batch.inputs):
        if i in data.indices:
            share = resize(scaled, x.shape[2:]) / (x.shape[1] * len(data.indices))
            maps.append(share.expand_as(x).contiguous())
        else:
            maps.append(torch.zeros_like(x))
    return maps


class _HideSquares:
    """The perturbation function that `captum.metrics.infidelity` calls.

    1. Captum processes the `S` samples in order, some at a time. For each part it
       repeats every example once per sample of the part, example by example, and calls
       this function with the repeated inputs.
    2. So the number of samples in the part is the number of rows divided by the number
       of examples. `self._done` counts the samples of earlier parts, and the part's
       squares are the next ones in the table of positions.
    3. The rows of one example take these squares in order, so the squares of the part
       are repeated as a whole, once per example.

    Captum knows nothing of positions: without the count, a second part would hide the
    squares of the first again, and values would depend on the batch size.
    """

    def __init__(
        self, data: MetricInputs, positions: Tensor, patch: float, examples: Tensor
    ) -> None:
        self._data, self._positions, self._patch = data, positions, patch
        self._examples = examples
        self._done = 0

    def __call__(
        self, inputs: Tensor | tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Returns the perturbations `I` and the inputs without what they hide."""
        repeated = inputs if isinstance(inputs, tuple) else (inputs,)
        count = len(repeated[0]) // len(self._examples)
        positions = self._positions[self._done : self._done + count]
        self._done += count
        example_index = self._examples.repeat_interleave(count)
        perturbations, hidden = [], []
        for i, x in enumerate(repeated):
            if i not in self._data.indices:
                perturbations.append(torch.zeros_like(x))
                hidden.append(x)
                continue
            squares = _square_masks(positions, self._patch, x.shape[2:])
            squares = squares.repeat(len(self._examples), *[1] * (x.dim() - 1))
            baseline = rows_of(self._data.batch.baselines[i], example_index)
            perturbations.append(squares.expand_as(x).to(self._data.maps.dtype))
            hidden.append(torch.where(squares, baseline, x))
        return tuple(perturbations), tuple(hidden)


def _square_masks(positions: Tensor, patch: float, size: torch.Size) -> Tensor:
    """Returns masks that are true in the squares, `(samples, 1, *size)`.

    A position in [0, 1) picks, along each dimension, one of the `length - side + 1`
    pixels at which a square that lies inside the image can start. So one table of
    positions serves inputs of different sizes. The mask of a square is the
    intersection of one interval per dimension.
    """
    count, dims = positions.shape
    masks = torch.ones(count, 1, *size, dtype=torch.bool, device=positions.device)
    for dim, length in enumerate(size):
        side = max(1, round(patch * length))
        start = (positions[:, dim] * (length - side + 1)).long().unsqueeze(1)
        index = torch.arange(length, device=positions.device)
        interval = (index >= start) & (index < start + side)
        shape = [-1 if d == dim else 1 for d in range(dims)]
        masks &= interval.view(count, 1, *shape)
    return masks
