"""Insertion and deletion by patches, as a share of what an order can attain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam.metrics._base import (
    Inputs,
    MetricInputs,
    Perturbation,
    ScoredModel,
    metric,
)
from captum_iscam.metrics._maps import Attributions, ranks
from captum_iscam.metrics.insertion_deletion import common_size, substrates
from captum_iscam.metrics.patches import patch_of_pixel, patch_sums


@metric(higher_is_better=True, unit="share")
def attainable_insertion(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    substrate: str | Baselines = "zero",
    patches: int = 7,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Attainable insertion: the map's order of patches against a greedy order.

    Higher is better. Unit: share, from 0 to 1.

    .. math::
        \frac{A_{\mathrm{map}} - s(b)}
             {A_{\mathrm{greedy}} - s(b)}

    The input is divided into `n` patches along each dimension, 7 x 7 for an image,
    which are added to the substrate `b` one after the other. :math:`A` is the
    area under the score `s(.)` of the target over the share of patches that have
    changed, by the trapezoidal rule. :math:`A_{\mathrm{map}}` is that in the order of
    the map's sums over the patches, the highest first; :math:`A_{\mathrm{greedy}}` that
    in a greedy order, which takes at each step the patch that raises the score most. Of
    equal patches the first in row order comes first.

    So 0 means no change of the score on average, or one in the wrong direction, and 1
    the mean change of the greedy order or more: the greedy order is the best one if the
    patches contribute to the score independently of each other, and close to it
    otherwise. The value is limited to [0, 1]. A factor of the score, or a number added
    to it, do not matter. The map is resized to the input's size by linear interpolation
    (align_corners=False). Position `p` of `P` along a dimension belongs to patch
    `p n // P`. Of several inputs, those with as many dimensions as the maps change and
    must share their spatial size; the others are passed unchanged.

    With `m` patches, :math:`n^2` for images, it takes `m (m + 1) / 2` forward passes
    for the greedy order and `m + 1` for the map's: 1275 for 7 x 7.

    The idea that the best order bounds what any map can reach is that of TRACE: Y.
    Wang, X. Wang, "Benchmarking Deletion Metrics with the Principled Explanations",
    ICML 2024, which also searches beyond the greedy order. The curve is that of V.
    Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
    Black-box Models", BMVC 2018, https://arxiv.org/abs/1806.07421, by patches.

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
        substrate (str, Tensor, int, float or tuple, optional): What a pixel holds where
            the input is removed, in the unit of the inputs: "zero" (the mean colour of
            normalised images), "blur" (the input blurred by RISE's 11 x 11 kernel of
            sigma 5), a number, a tensor of the input's shape or with one example,
            `(1, C, *spatial)`, or a tuple with one number or tensor per changed input.
            Default: "zero"
        patches (int, optional): `n`, the number of patches along each dimension, from 2
            to the input's shortest side. Default: 7
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity, and
        where the greedy order does not raise the score by more than rounding.

    Raises:
        ValueError: If a shape does not fit, `target`, `score`, `substrate` or
            `internal_batch_size` is invalid, or `patches` is out of range.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, `substrate` holds something other than
            numbers and tensors, or the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 1.0]]]])
        >>> attributions = torch.tensor([[[[2.0, 0.0], [1.0, 3.0]]]])
        >>> attainable_insertion(
        ...     model, image, attributions, score="identity", patches=2
        ... )
        tensor([0.8049])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    return _share(data, substrate, patches, inserting=True)


@metric(higher_is_better=True, unit="share")
def attainable_deletion(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    substrate: str | Baselines = "zero",
    patches: int = 7,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Attainable deletion: the map's order of patches against a greedy order.

    Higher is better. Unit: share, from 0 to 1.

    .. math::
        \frac{s(x) - A_{\mathrm{map}}}
             {s(x) - A_{\mathrm{greedy}}}

    The input is divided into `n` patches along each dimension, 7 x 7 for an image,
    which are replaced by the substrate one after the other. :math:`A` is the
    area under the score `s(.)` of the target over the share of patches that have
    changed, by the trapezoidal rule. :math:`A_{\mathrm{map}}` is that in the order of
    the map's sums over the patches, the highest first; :math:`A_{\mathrm{greedy}}` that
    in a greedy order, which takes at each step the patch that lowers the score most. Of
    equal patches the first in row order comes first.

    So 0 means no change of the score on average, or one in the wrong direction, and 1
    the mean change of the greedy order or more: the greedy order is the best one if the
    patches contribute to the score independently of each other, and close to it
    otherwise. The value is limited to [0, 1]. A factor of the score, or a number added
    to it, do not matter. The map is resized to the input's size by linear interpolation
    (align_corners=False). Position `p` of `P` along a dimension belongs to patch
    `p n // P`. Of several inputs, those with as many dimensions as the maps change and
    must share their spatial size; the others are passed unchanged.

    With `m` patches, :math:`n^2` for images, it takes `m (m + 1) / 2` forward passes
    for the greedy order and `m + 1` for the map's: 1275 for 7 x 7.

    The idea that the best order bounds what any map can reach is that of TRACE: Y.
    Wang, X. Wang, "Benchmarking Deletion Metrics with the Principled Explanations",
    ICML 2024, which also searches beyond the greedy order. The curve is that of V.
    Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
    Black-box Models", BMVC 2018, https://arxiv.org/abs/1806.07421, by patches.

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
        substrate (str, Tensor, int, float or tuple, optional): What a pixel holds where
            the input is removed, in the unit of the inputs: "zero" (the mean colour of
            normalised images), "blur" (the input blurred by RISE's 11 x 11 kernel of
            sigma 5), a number, a tensor of the input's shape or with one example,
            `(1, C, *spatial)`, or a tuple with one number or tensor per changed input.
            Default: "zero"
        patches (int, optional): `n`, the number of patches along each dimension, from 2
            to the input's shortest side. Default: 7
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: share in [0, 1]. NaN where the map holds NaN or infinity, and
        where the greedy order does not lower the score by more than rounding.

    Raises:
        ValueError: If a shape does not fit, `target`, `score`, `substrate` or
            `internal_batch_size` is invalid, or `patches` is out of range.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, `substrate` holds something other than
            numbers and tensors, or the model does not return a tensor.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 1.0]]]])
        >>> attributions = torch.tensor([[[[2.0, 0.0], [1.0, 3.0]]]])
        >>> attainable_deletion(
        ...     model, image, attributions, score="identity", patches=2
        ... )
        tensor([0.8049])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    return _share(data, substrate, patches, inserting=False)


def _share(
    data: MetricInputs, substrate: str | Baselines, patches: int, *, inserting: bool
) -> Tensor:
    """Returns the change of the score in the map's order, over the greedy order's."""
    changes = _PatchChanges(data, substrate, patches, inserting=inserting)
    rank = ranks(patch_sums(data.maps, changes.patch)).to(data.batch.device)
    steps = torch.arange(changes.count + 1, device=rank.device).view(-1, 1)
    (own,) = data.scores(len(steps), changes(rank.unsqueeze(1) < steps))
    start, sign = own[:, :1], 1 if inserting else -1
    greedy = torch.cat([start, _greedy_scores(data, changes, sign)], 1)
    gain, attained = (
        sign * torch.trapezoid(scores - start, dim=1) / changes.count
        for scores in (own, greedy)
    )
    rounding = 1e-6 * greedy.abs().amax(1)
    share = (gain / attained).clamp(0, 1)
    return torch.where(attained > rounding, share, torch.nan)


class _PatchChanges:
    """Changes patches of the inputs: inserts or deletes them.

    Attributes:
        patch (Tensor): The patch of each position.
        count (int): The number of patches.
    """

    def __init__(
        self,
        data: MetricInputs,
        substrate: str | Baselines,
        patches: int,
        *,
        inserting: bool,
    ) -> None:
        self._inputs, self._inserting = data.batch.inputs, inserting
        self.patch = patch_of_pixel(common_size(data), patches).to(data.batch.device)
        self.count = patches ** self.patch.dim()
        fills = substrates(substrate, data.perturbed)
        self._fills = dict(zip(data.indices, fills, strict=True))

    def __call__(self, changed: Tensor) -> Perturbation:
        """Returns the perturbations of a table of changed patches, `(N, rows, m)`."""

        def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
            from_input = changed[examples, index] == self._inserting
            from_input = from_input[:, self.patch].unsqueeze(1)
            return {
                i: torch.where(
                    from_input, self._inputs[i][examples], rows_of(fill, examples)
                )
                for i, fill in self._fills.items()
            }

        return perturb


def _greedy_scores(data: MetricInputs, changes: _PatchChanges, sign: int) -> Tensor:
    """Returns the scores after each step of the greedy order, `(N, m)`.

    Each step tries every patch that is left, and keeps the one after whose change the
    score, times the sign, is largest. Of equal ones `max` returns the first.
    """
    examples = data.batch.num_examples
    changed = torch.zeros(
        examples, changes.count, dtype=torch.bool, device=data.batch.device
    )
    found = []
    for left in range(changes.count, 0, -1):
        candidates = (~changed).nonzero()[:, 1].view(examples, left)
        tried = changed.unsqueeze(1).repeat(1, left, 1)
        tried.scatter_(2, candidates.unsqueeze(2), True)
        (scores,) = data.scores(left, changes(tried))
        best, index = (sign * scores).max(1, keepdim=True)
        changed.scatter_(1, candidates.gather(1, index), True)
        found.append(sign * best)
    return torch.cat(found, 1)
