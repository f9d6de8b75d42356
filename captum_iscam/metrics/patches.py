"""Single deletion: the score without each patch, compared with the map's sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_integer
from captum_iscam.metrics._base import Inputs, MetricInputs, ScoredModel, metric
from captum_iscam.metrics._maps import (
    Attributions,
    correlation,
    mean_ranks,
    resize,
    unit_factor,
)
from captum_iscam.metrics.insertion_deletion import common_size


@metric(higher_is_better=True, unit="correlation")
def single_deletion(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    baselines: Baselines = None,
    patches: int = 4,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""Single deletion: whether patches with more of the map cost more of the score.

    Higher is better. Unit: correlation, from -1 to 1.

    .. math::
        \rho_{\mathrm{Spearman}}\Big(s(x) - s(x_{-i}),\ \sum_{p \in i} L_p\Big)

    The input is divided into `n` patches along each dimension, 4 x 4 for an image.
    `x_{-i}` is the input with patch `i` replaced by the baseline `b`, in all channels;
    `s(.)` is the score of the target. The drop of the score is correlated with the sum
    of the map `L` over the patch. The map is resized to the input's size by linear
    interpolation (align_corners=False). Equal values share their mean rank. Drops are
    rounded to a millionth of the largest score, so that rounding errors of the model
    make no order. Position `p` of `P` along a dimension belongs to patch `p n // P`.
    Of several inputs, those with as many dimensions as the maps change and must share
    their spatial size; the others are passed unchanged.

    An image takes 17 forward passes: one for each patch, and one for the input itself.

    After R. Hesse, S. Schaub-Meyer, S. Roth, "Benchmarking the Attribution Quality of
    Vision Models", NeurIPS 2024, https://arxiv.org/abs/2407.11910. They train the model
    further on images without patches, so that such images are in its domain. Here the
    model stays as it is, which their code has as the single deletion score.

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
        patches (int, optional): `n`, the number of patches along each dimension, from 2
            to the input's shortest side. Default: 4
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)`: correlation in [-1, 1]. NaN where the map holds NaN or
        infinity, has the same sum in every patch, or every patch costs the same.

    Raises:
        ValueError: If a shape does not fit, `target`, `score` or
            `internal_batch_size` is invalid, or `patches` is out of range.
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
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 1.0]]]])
        >>> single_deletion(model, image, image, score="identity", patches=2)
        tensor([1.])
        >>> single_deletion(model, image, -image, score="identity", patches=2)
        tensor([-1.])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size, baselines)
    patch = patch_of_pixel(common_size(data), patches).to(data.batch.device)
    count = patches ** patch.dim()

    def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
        # The last index is that of no patch: the input itself.
        hidden = patch == index.view(-1, 1, *[1] * patch.dim())
        return {
            i: torch.where(
                hidden,
                rows_of(data.batch.baselines[i], examples),
                data.batch.inputs[i][examples],
            )
            for i in data.indices
        }

    (scores,) = data.scores(count + 1, perturb)
    drops, sums = rounded_drops(scores), patch_sums(data.maps, patch)
    found = correlation(mean_ranks(drops), mean_ranks(sums))
    undefined = _is_constant(drops) | _is_constant(sums)
    found = torch.where(undefined, torch.nan, found).to(scores.dtype)
    return torch.where(data.valid, found.to(scores.device), torch.nan)


def patch_of_pixel(size: torch.Size, patches: int) -> Tensor:
    """Returns the number of the patch that each position belongs to, in row order."""
    number = as_integer(patches)
    if number is None or not 2 <= number <= min(size):
        raise ValueError(
            "patches must be an integer between 2 and the shortest side of the input, "
            f"{min(size)}, got {patches!r}. Pass a number in this range."
        )
    patch = torch.zeros(size, dtype=torch.long, device="cpu")
    for dim, length in enumerate(size):
        along = torch.arange(length, device="cpu") * number // length
        patch = patch * number + along.view(-1, *[1] * (len(size) - dim - 1))
    return patch


def patch_sums(maps: Tensor, patch: Tensor) -> Tensor:
    """Returns the map's sum over each patch, `(N, patches)`, up to a factor per map.

    The sums are integers, on the CPU: sums that are equal by the formula are equal,
    whatever the order of the summands.
    """
    values = resize(maps, patch.shape).cpu().double()
    # A value below 8, times the number of all pixels, is below 2 ** 62.
    bits = 59 - patch.numel().bit_length()
    whole = (values * unit_factor(values) * 2.0**bits).round().long().flatten(1)
    owner = patch.cpu().flatten()
    sums = whole.new_zeros(len(whole), int(owner[-1]) + 1)
    return sums.index_add_(1, owner, whole)


def rounded_drops(scores: Tensor) -> Tensor:
    """Returns what the last score exceeds each of the others by, on the CPU.

    The unit is a millionth of the largest absolute score: less is rounding.
    """
    scores = scores.cpu().double()
    unit = 1e-6 * scores.abs().amax(1, keepdim=True)
    drops = scores[:, -1:] - scores[:, :-1]
    return (drops / torch.where(unit > 0, unit, 1)).round()


def _is_constant(values: Tensor) -> Tensor:
    return (values == values[:, :1]).all(1)
