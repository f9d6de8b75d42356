"""Insertion and deletion: the score while pixels change in the map's ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_iscam._utils.forward import Baselines, at_least_single
from captum_iscam._utils.inputs import check_baseline, rows_of
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_integer, require_flags
from captum_iscam.metrics._base import Inputs, MetricInputs, ScoredModel, metric
from captum_iscam.metrics._maps import Attributions, ranks, resize


class Curves(NamedTuple):
    """Scores while pixels change step by step, and the areas under them.

    Attributes:
        auc (Tensor): The area under the scores over `fractions` by the trapezoidal
            rule, `(N,)`, in the unit of the score.
        fractions (Tensor): The share of the pixels that have changed after each step,
            from 0 to 1, `(steps + 1,)`.
        scores (Tensor): The score of each example after each step, `(N, steps + 1)`.

    Examples::

        >>> import torch
        >>> from captum_iscam.metrics import deletion
        >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5))
        >>> images, maps = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
        >>> found = deletion(
        ...     model.eval(), images, maps, target=1, steps=8, return_curves=True
        ... )
        >>> found.auc.shape, found.fractions.shape, found.scores.shape
        (torch.Size([2]), torch.Size([9]), torch.Size([2, 9]))
    """

    auc: Tensor
    fractions: Tensor
    scores: Tensor


class CurveMetric(Protocol):
    """A metric that returns :class:`Curves` with `return_curves=True`.

    Attributes:
        higher_is_better (bool): Whether a larger area means a better map.
        unit (str): "score", the unit of the metric's `score`.

    Examples::

        >>> from captum_iscam.metrics import deletion, insertion
        >>> insertion.higher_is_better, deletion.higher_is_better, insertion.unit
        (True, False, 'score')
    """

    higher_is_better: bool
    unit: str

    @overload
    def __call__(
        self,
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
        return_curves: Literal[False] = False,
        internal_batch_size: int | None = None,
    ) -> Tensor: ...

    @overload
    def __call__(
        self,
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
        return_curves: Literal[True],
        internal_batch_size: int | None = None,
    ) -> Curves: ...


def curve_metric(
    *, higher_is_better: bool
) -> Callable[[Callable[..., Tensor | Curves]], CurveMetric]:
    """Sets the direction of a curve metric, whose unit is that of the score."""

    def declare(function: Callable[..., Tensor | Curves]) -> CurveMetric:
        declared = metric(higher_is_better=higher_is_better, unit="score")(function)
        return cast(CurveMetric, declared)

    return declare


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
    r"""Deletion: area under the score while the map's highest pixels are removed.

    Lower is better. Unit: that of the score, by default a probability in [0, 1].

    .. math::
        \sum_{i=1}^{n} (p_i - p_{i-1}) \frac{s(x_{i-1}) + s(x_i)}{2}

    `s(x_i)` is the score of the target for the input `x_i`, in which the `p_i P` pixels
    with the highest map values hold the substrate, in all channels. `P` is the number
    of pixels, `p_0 = 0` and `p_n = 1`. The map is resized to the input's size by linear
    interpolation (align_corners=False); only its ranking counts. Of equal values the
    first in row order comes first, so a constant map removes the pixels row by row from
    the top. Of several inputs, those with as many dimensions as the maps change and
    must share their spatial size; the others are passed unchanged.

    V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
    Black-box Models", BMVC 2018, https://arxiv.org/abs/1806.07421, who delete to zeros.
    Their code changes a fixed number of pixels per step (`pixels_per_step`: 224 or 1792
    of 224 x 224), does not define the order of equal values, and weighs a shorter last
    step as a whole one; where `pixels_per_step` divides `P`, our area equals that of
    their code.

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
        steps (int, optional): Number of steps, from 1 to the number of pixels `P`,
            spread evenly: after step i `i * P // steps` pixels have changed. A curve
            takes `steps + 1` forward passes per example. Default: 28, as many as RISE
            takes with 1792 of 224 x 224 pixels
        pixels_per_step (int, optional): RISE's rule, which replaces `steps`: the number
            of pixels that change in each step, from 1 to `P`; the last step changes the
            rest. Default: None, which uses `steps`
        return_curves (bool, optional): Whether to return :class:`Curves`, the scores
            with their areas, instead of the areas alone. Default: False
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)` in the unit of the score, or :class:`Curves` with
        `return_curves=True`. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, `target`, `score`, `substrate` or
            `internal_batch_size` is invalid, or `steps` or `pixels_per_step` is not
            from 1 to `P`.
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
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 2.0]]]])
        >>> curves = deletion(
        ...     model, image, image, score="identity", steps=4, return_curves=True
        ... )
        >>> curves.scores
        tensor([[8., 4., 2., 0., 0.]])
        >>> curves.auc
        tensor([2.5000])
    """
    require_flags(return_curves=return_curves)
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    curves = score_curves(data, substrate, steps, pixels_per_step, inserting=False)
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
    r"""Insertion: area under the score while the map's highest pixels are added.

    Higher is better. Unit: that of the score, by default a probability in [0, 1].

    .. math::
        \sum_{i=1}^{n} (p_i - p_{i-1}) \frac{s(x_{i-1}) + s(x_i)}{2}

    `s(x_i)` is the score of the target for the input `x_i`: the substrate, with its
    `p_i P` pixels of highest map value replaced by the image's, in all channels. `P` is
    the number of pixels, `p_0 = 0` and `p_n = 1`. The map is resized to the input's
    size by linear interpolation (align_corners=False); only its ranking counts. Of
    equal values the first in row order comes first, so a constant map adds the pixels
    row by row from the top. Of several inputs, those with as many dimensions as the
    maps change and must share their spatial size; the others are passed unchanged.

    V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
    Black-box Models", BMVC 2018, https://arxiv.org/abs/1806.07421, who start from
    `substrate="blur"`; the curves of Score-CAM and IS-CAM start from "zero". Their code
    changes a fixed number of pixels per step (`pixels_per_step`: 224 or 1792 of 224 x
    224), does not define the order of equal values, and weighs a shorter last step as a
    whole one; where `pixels_per_step` divides `P`, our area equals that of their code.

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
        steps (int, optional): Number of steps, from 1 to the number of pixels `P`,
            spread evenly: after step i `i * P // steps` pixels have changed. A curve
            takes `steps + 1` forward passes per example. Default: 28, as many as RISE
            takes with 1792 of 224 x 224 pixels
        pixels_per_step (int, optional): RISE's rule, which replaces `steps`: the number
            of pixels that change in each step, from 1 to `P`; the last step changes the
            rest. Default: None, which uses `steps`
        return_curves (bool, optional): Whether to return :class:`Curves`, the scores
            with their areas, instead of the areas alone. Default: False
        internal_batch_size (int, optional): Largest number of perturbed inputs
            evaluated at once, at least 1; a smaller number needs less memory.
            Default: None, which picks a number for the device and halves it when memory
            runs out

    Returns:
        *Tensor* `(N,)` in the unit of the score, or :class:`Curves` with
        `return_curves=True`. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, `target`, `score`, `substrate` or
            `internal_batch_size` is invalid, or `steps` or `pixels_per_step` is not
            from 1 to `P`.
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
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 2.0]]]])
        >>> insertion(model, image, image, score="identity", steps=4)
        tensor([5.5000])
    """
    require_flags(return_curves=return_curves)
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    curves = score_curves(data, substrate, steps, pixels_per_step, inserting=True)
    return curves if return_curves else curves.auc


def score_curves(
    data: MetricInputs,
    substrate: str | Baselines,
    steps: int,
    pixels_per_step: int | None,
    *,
    inserting: bool,
) -> Curves:
    """Returns the scores while pixels change in the map's ranking, and their areas."""
    size = common_size(data)
    counts = torch.tensor(
        changed_pixels(steps, pixels_per_step, size.numel()), device=data.batch.device
    )
    rank = ranks(resize(data.maps, size)).view(-1, 1, *size)
    fills = dict(zip(data.indices, substrates(substrate, data.perturbed), strict=True))

    def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
        count = counts[index].view(-1, *[1] * (rank.dim() - 1))
        from_input = (rank[examples] < count) == inserting
        return {
            i: torch.where(
                from_input, data.batch.inputs[i][examples], rows_of(fill, examples)
            )
            for i, fill in fills.items()
        }

    (scores,) = data.scores(len(counts), perturb)
    fractions = counts.to(scores.dtype) / size.numel()
    return Curves(torch.trapezoid(scores, fractions, dim=1), fractions, scores)


def changed_pixels(steps: int, pixels_per_step: int | None, total: int) -> list[int]:
    """Returns how many of `total` pixels have changed after each step, from 0 on."""
    name, value = (
        ("steps", steps)
        if pixels_per_step is None
        else ("pixels_per_step", pixels_per_step)
    )
    number = as_integer(value)
    if number is None or not 1 <= number <= total:
        raise ValueError(
            f"{name} must be an integer between 1 and the number of pixels, "
            f"{total}, got {value}. Pass a number in this range."
        )
    if pixels_per_step is None:
        return [i * total // number for i in range(number + 1)]
    return [*range(0, total, number), total]


def common_size(data: MetricInputs) -> torch.Size:
    """Returns the spatial size that all perturbed inputs share."""
    sizes = {x.shape[2:] for x in data.perturbed}
    if len(sizes) > 1:
        raise ValueError(
            "inputs must share their spatial size where pixels are ranked, got "
            f"{sorted(tuple(size) for size in sizes)}. Pass the others as "
            "additional_forward_args."
        )
    return sizes.pop()


def substrates(substrate: str | Baselines, inputs: list[Tensor]) -> list[Tensor]:
    """Returns one substrate per input, which broadcasts to it."""
    if isinstance(substrate, str):
        if substrate == "blur":
            return [blur(x) for x in inputs]
        if substrate != "zero":
            raise ValueError(
                f'substrate must be "zero", "blur", a number or a tensor, got '
                f"{substrate!r}. Pass a tensor for any other substrate."
            )
        substrate = 0
    values = substrate if isinstance(substrate, tuple) else (substrate,) * len(inputs)
    if len(values) != len(inputs):
        raise ValueError(
            f"substrate must hold one entry per masked input, got {len(values)} for "
            f"{len(inputs)} inputs. Pass a tuple in their order."
        )
    pairs = zip(values, inputs, strict=True)
    return [check_baseline(value, x, "substrate") for value, x in pairs]


_BLUR_WIDTH, _BLUR_SIGMA = 11, 5.0


def blur(inputs: Tensor) -> Tensor:
    """Returns the inputs blurred by RISE's kernel, padded with zeros."""
    blurred = at_least_single(inputs)
    kernel = blur_kernel().to(blurred)
    for dim in range(2, inputs.dim()):
        lines = blurred.movedim(dim, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        flat = F.conv1d(flat, kernel.view(1, 1, -1), padding=_BLUR_WIDTH // 2)
        blurred = flat.view(lines.shape).movedim(-1, dim)
    return blurred.to(inputs.dtype)


def blur_kernel() -> Tensor:
    """Returns RISE's kernel along one dimension, `(11,)`.

    RISE makes it by blurring a single point in an 11 x 11 image with SciPy's Gaussian
    filter of sigma 5:

    1. The Gaussian reaches 20 pixels to either side of the point, beyond the image.
    2. SciPy reflects at the image's borders: what falls outside is added to the pixels
       inside, back and forth with a period of 22.

    So the kernel is nearly flat, unlike a Gaussian that is cut to 11 pixels.
    """
    offsets = torch.arange(-20, 21, device="cpu")
    gaussian = torch.exp(-0.5 * (offsets.double() / _BLUR_SIGMA).square())
    position = torch.remainder(_BLUR_WIDTH // 2 + offsets, 2 * _BLUR_WIDTH)
    reflected = torch.minimum(position, 2 * _BLUR_WIDTH - 1 - position)
    kernel = torch.zeros(_BLUR_WIDTH, dtype=torch.float64, device="cpu")
    return kernel.index_add_(0, reflected, gaussian / gaussian.sum())
