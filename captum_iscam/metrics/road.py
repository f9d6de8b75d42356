"""ROAD: the score while pixels are removed and imputed from their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number, as_sequence, check_generator
from captum_iscam._utils.warn import warn_user
from captum_iscam.metrics._base import (
    Inputs,
    MetricInputs,
    ScoredModel,
    generator_device,
    metric,
)
from captum_iscam.metrics._maps import Attributions, ranks, resize
from captum_iscam.metrics.insertion_deletion import common_size

PERCENTILES = (20, 40, 60, 80)


@metric(higher_is_better=True, unit="score")
def road(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ROAD: how much more the highest pixels contribute than the lowest.

    Higher is better. Unit: that of the score, for probabilities from -0.5 to 0.5.

    .. math::
        \frac{1}{2 |Q|} \sum_{q \in Q} s(x^{\mathrm{LeRF}}_q) - s(x^{\mathrm{MoRF}}_q)

    `s(.)` is the score of the target. In :math:`x^{\mathrm{MoRF}}_q` the q percent of
    the pixels with the highest map values are removed (most relevant first), in
    :math:`x^{\mathrm{LeRF}}_q` those with the lowest (least relevant first). The map is
    resized to the input's size by linear interpolation (align_corners=False); only its
    ranking counts. Equal values are ranked in row order, so a constant map removes rows
    from the top or from the bottom. Of several inputs, those with as many dimensions as
    the maps change; the others are passed unchanged.

    A removed pixel is replaced by the weighted mean of its neighbours: 1/6 for each of
    the four direct ones, 1/12 for each of the four diagonal ones, rescaled at the
    border of the image. Removed neighbours take part, so this is a linear system. Then
    Gaussian noise is added. Both are meant to hide from the model which pixels are
    missing. All examples and percentages share one noise field, so that a value does
    not depend on the rest of the batch.

    Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, "A Consistent and Efficient
    Evaluation Strategy for Attribution Methods", ICML 2022,
    https://arxiv.org/abs/2202.00449. Weights and noise are those of their code, which
    reports the accuracy over a data set; here the value is the mean score, and both
    orders are combined, as in grad-cam's ROADCombined.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs. Only images: those
            that change must have two spatial dimensions, of the same size.
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
        *Tensor* `(N,)` in the unit of the score, in [-0.5, 0.5] for probabilities. NaN
        where the map holds NaN or infinity.

    Raises:
        ValueError: If a shape does not fit, the maps do not have two spatial
            dimensions, a percentage removes no pixel or all, `noise` is negative, or
            `target`, `score` or `internal_batch_size` is invalid.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, the model does not return a tensor, or
            `generator` is not a generator.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road(model, image, image, score="identity", noise=0.0)
        tensor([0.5000])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    most, least = _mean_scores(data, percentiles, noise, generator, (True, False))
    return (least - most) / 2


@metric(higher_is_better=False, unit="score")
def road_most_relevant_first(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ROAD, most relevant first (MoRF): the score without the highest pixels.

    Lower is better. Unit: that of the score, by default a probability in [0, 1].

    .. math:: \frac{1}{|Q|} \sum_{q \in Q} s(x^{\mathrm{MoRF}}_q)

    `s(.)` is the score of the target. In :math:`x^{\mathrm{MoRF}}_q` the q percent of
    the pixels with the highest map values are removed. The map is resized to the
    input's size by linear interpolation (align_corners=False); only its ranking counts.
    Equal values are ranked in row order, so a constant map removes rows from the top.
    Of several inputs, those with as many dimensions as the maps change; the others are
    passed unchanged.

    A removed pixel is replaced by the weighted mean of its neighbours: 1/6 for each of
    the four direct ones, 1/12 for each of the four diagonal ones, rescaled at the
    border of the image. Removed neighbours take part, so this is a linear system. Then
    Gaussian noise is added. Both are meant to hide from the model which pixels are
    missing. All examples and percentages share one noise field, so that a value does
    not depend on the rest of the batch.

    Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, "A Consistent and Efficient
    Evaluation Strategy for Attribution Methods", ICML 2022,
    https://arxiv.org/abs/2202.00449. Weights and noise are those of their code, which
    reports the accuracy over a data set; here the value is the mean score.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs. Only images: those
            that change must have two spatial dimensions, of the same size.
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
        *Tensor* `(N,)` in the unit of the score. NaN where the map holds NaN or
        infinity.

    Raises:
        ValueError: If a shape does not fit, the maps do not have two spatial
            dimensions, a percentage removes no pixel or all, `noise` is negative, or
            `target`, `score` or `internal_batch_size` is invalid.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, the model does not return a tensor, or
            `generator` is not a generator.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road_most_relevant_first(model, image, image, score="identity", noise=0.0)
        tensor([0.])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    (most,) = _mean_scores(data, percentiles, noise, generator, (True,))
    return most


@metric(higher_is_better=True, unit="score")
def road_least_relevant_first(
    forward_func: Callable[..., Any],
    inputs: Inputs,
    attributions: Attributions,
    target: Target = None,
    additional_forward_args: object = None,
    *,
    score: Score = "softmax",
    percentiles: Sequence[float] = PERCENTILES,
    noise: float = 0.01,
    generator: torch.Generator | None = None,
    internal_batch_size: int | None = None,
) -> Tensor:
    r"""ROAD, least relevant first (LeRF): the score without the lowest pixels.

    Higher is better. Unit: that of the score, by default a probability in [0, 1].

    .. math:: \frac{1}{|Q|} \sum_{q \in Q} s(x^{\mathrm{LeRF}}_q)

    `s(.)` is the score of the target. In :math:`x^{\mathrm{LeRF}}_q` the q percent of
    the pixels with the lowest map values are removed. The map is resized to the input's
    size by linear interpolation (align_corners=False); only its ranking counts. Equal
    values are ranked in row order, so a constant map removes rows from the bottom. Of
    several inputs, those with as many dimensions as the maps change; the others are
    passed unchanged.

    A removed pixel is replaced by the weighted mean of its neighbours: 1/6 for each of
    the four direct ones, 1/12 for each of the four diagonal ones, rescaled at the
    border of the image. Removed neighbours take part, so this is a linear system. Then
    Gaussian noise is added. Both are meant to hide from the model which pixels are
    missing. All examples and percentages share one noise field, so that a value does
    not depend on the rest of the batch.

    Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, "A Consistent and Efficient
    Evaluation Strategy for Attribution Methods", ICML 2022,
    https://arxiv.org/abs/2202.00449. Weights and noise are those of their code, which
    reports the accuracy over a data set; here the value is the mean score.

    Args:
        forward_func (Callable): The model, or any function Captum accepts: called with
            the inputs and then `additional_forward_args`, it returns a tensor with one
            row per example, for example logits `(N, classes)`.
        inputs (Tensor or tuple[Tensor, ...]): The `N` examples, floating point:
            `(N, C, *spatial)` with one to three spatial dimensions, for example images
            `(N, C, H, W)`. A tuple for a model with several inputs. Only images: those
            that change must have two spatial dimensions, of the same size.
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
        *Tensor* `(N,)` in the unit of the score. NaN where the map holds NaN or
        infinity.

    Raises:
        ValueError: If a shape does not fit, the maps do not have two spatial
            dimensions, a percentage removes no pixel or all, `noise` is negative, or
            `target`, `score` or `internal_batch_size` is invalid.
        TypeError: If `inputs` or `attributions` are not floating point tensors,
            `target` does not hold integers, the model does not return a tensor, or
            `generator` is not a generator.
        AssertionError: If the form of `target` does not fit the examples or the model's
            output.
        RuntimeError: If the model returns NaN or infinity.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road_least_relevant_first(model, image, image, score="identity", noise=0.0)
        tensor([1.])
    """
    model = ScoredModel(forward_func, target, additional_forward_args, score)
    data = MetricInputs(model, inputs, attributions, internal_batch_size)
    (least,) = _mean_scores(data, percentiles, noise, generator, (False,))
    return least


def _mean_scores(
    data: MetricInputs,
    percentiles: Sequence[float],
    noise: float,
    generator: torch.Generator | None,
    most_relevant_first: Sequence[bool],
) -> list[Tensor]:
    """Returns the mean score over the percentages, for each order of removal.

    1. Draw one noise field per input, which all examples and removals share.
    2. In each pass, find the known pixels of each row from the ranks of its map. A
       row's index counts through the percentages, order by order.
    3. Impute the removed pixels from the known ones, and add the noise to them.
    """
    check_generator(generator)
    size = common_size(data)
    device = data.batch.device
    total = size.numel()
    counts = torch.tensor(_removed_counts(percentiles, size), device=device)
    most_first = torch.tensor(most_relevant_first, device=device)
    deviation = _check_noise(noise)
    ranking = ranks(resize(data.maps, size)).view(-1, 1, *size)
    fields = {
        i: deviation * _noise_field(data.batch.inputs[i], generator)
        for i in data.indices
    }

    def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
        count = counts[index % len(counts)].view(-1, 1, 1, 1)
        rank = ranking[examples]
        first = most_first[index // len(counts)].view(-1, 1, 1, 1)
        # Least relevant first removes from the end of the ranking.
        known = torch.where(first, rank >= count, rank < total - count)
        return {
            i: _replace_unknown(data.batch.inputs[i][examples], known, fields[i])
            for i in fields
        }

    (scores,) = data.scores(len(most_first) * len(counts), perturb)
    means = scores.view(len(scores), len(most_first), -1).mean(2)
    return list(means.unbind(1))


def _removed_counts(percentiles: Sequence[float], size: torch.Size) -> list[int]:
    """Returns how many pixels each percentage removes."""
    if len(size) != 2:
        raise ValueError(
            "attributions must have two spatial dimensions, as ROAD's weights are "
            f"those of images, got {len(size)}. Use deletion or insertion instead."
        )
    total = size.numel()
    numbers = as_sequence(
        "percentiles", percentiles, as_number, "numbers", "Pass (20,) for one alone."
    )
    if numbers and all(0 < number < 1 for number in numbers):
        warn_user(
            f"percentiles {tuple(percentiles)} are percentages, below 1 % of the "
            "pixels. If shares are meant, multiply them by 100."
        )
    counts = [round(number / 100 * total) for number in numbers]
    if not counts or not all(0 < count < total for count in counts):
        raise ValueError(
            "percentiles must each remove at least one pixel and leave one, got "
            f"{tuple(percentiles)} for {total} pixels. Omit them for the default, "
            f"{PERCENTILES}."
        )
    return counts


def _check_noise(noise: float) -> float:
    """Returns the standard deviation of the noise, or raises if it is not one."""
    deviation = as_number(noise)
    if deviation is None or not 0 <= deviation < torch.inf:
        raise ValueError(
            f"noise must be a standard deviation of 0 or more, got {noise!r}. "
            "Omit it for the default, 0.01."
        )
    return deviation


def _noise_field(inputs: Tensor, generator: torch.Generator | None) -> Tensor:
    """Returns standard normal noise that all examples share, `(1, C, H, W)`."""
    dtype = at_least_single(inputs[:0]).dtype
    shape = (1, *inputs.shape[1:])
    device = generator_device(generator)
    field = torch.randn(shape, generator=generator, device=device, dtype=dtype)
    return field.to(inputs.device)


def _replace_unknown(images: Tensor, known: Tensor, field: Tensor) -> Tensor:
    """Returns images whose unknown pixels are imputed, with noise; others are equal."""
    imputed = impute(at_least_single(images), known) + field
    return torch.where(known, images, imputed.to(images.dtype))


# The largest residual, as a share of the largest known pixel. On photographs the error
# of the solution then is about a ten-thousandth of that pixel, far below the noise.
_TOLERANCE = 1e-5

# Of the smoothing. It must be below 1: at 1 the smoothing is not positive definite on
# images one pixel wide. Any value from 0.8 to 1 needs about as many iterations.
_DAMPING = 0.9

# Images whose longer side is at most this many times the shorter one have needed at
# most 19 iterations, whatever was removed. Others may need more.
_MAX_ASPECT_RATIO = 16
_FIXED_ITERATIONS = 24


def impute(images: Tensor, known: Tensor) -> Tensor:
    """Returns images whose unknown pixels solve ROAD's linear system.

    Each unknown pixel is the weighted mean of its up to eight neighbours: 1/6 for each
    direct one, 1/12 for each diagonal one, rescaled at the border of the image. In
    twelfths, with `w` the sum of the weights of the neighbours inside the image:

        w * pixel - (weighted sum of unknown neighbours)
            = (weighted sum of known neighbours)

    The system is symmetric, and positive definite if at least one pixel is known. It is
    solved by preconditioned conjugate gradients, for all images and channels at once:

    1. Start from 0 at the unknown pixels. The residual is the right side.
    2. Precondition the residual by a multigrid cycle (`_cycle`). Without it an
       iteration carries a value by one pixel only, while removed regions are large:
       several hundred iterations for a photograph, instead of about 15 at any size.
    3. Take the step along the search direction that minimises the error, and make the
       next direction conjugate to it.
    4. Stop each image and channel by itself, when its residual is below the tolerance:
       its steps become 0. So a result does not depend on the rest of the batch.

    A check of the residual makes an accelerator wait for the host. There the number of
    iterations is fixed instead, at more than any image of usual shape needs. The result
    is the same, since solved images no longer change.

    The multigrid cycle as a preconditioner is that of A. McAdams, E. Sifakis, J. Teran,
    "A parallel multigrid Poisson solver for fluids simulation on large grids", SCA
    2010.

    Args:
        images (Tensor): The images, `(N, C, H, W)`.
        known (Tensor): Which pixels are known, `(N, 1, H, W)` of bool, at least one in
            each image.

    Returns:
        *Tensor* `(N, C, H, W)`: the known pixels of the images, unchanged, and the
        solution at the others.
    """
    grids = _grids(known, images.dtype)
    given = torch.where(known, images, 0)
    dims = (-2, -1)
    # 12, as the system is in twelfths.
    limit = 12 * _TOLERANCE * given.abs().amax(dims, keepdim=True)
    solution = torch.zeros_like(given)
    residual = torch.where(known, 0, _weighted_neighbours(given))
    direction = preconditioned = _cycle(residual, grids)
    energy = (residual * preconditioned).sum(dims, keepdim=True)
    short, long = sorted(images.shape[-2:])
    unchecked = images.device.type != "cpu" and long <= _MAX_ASPECT_RATIO * short
    for _ in range(_FIXED_ITERATIONS if unchecked else known[0].numel()):
        active = residual.abs().amax(dims, keepdim=True) > limit
        if not (unchecked or bool(active.any().item())):
            break
        applied = torch.where(known, 0, _left_side(direction, grids[0][0]))
        curvature = (direction * applied).sum(dims, keepdim=True)
        length = torch.where(active, energy / curvature, 0)
        solution += length * direction
        residual -= length * applied
        preconditioned = _cycle(residual, grids)
        previous, energy = energy, (residual * preconditioned).sum(dims, keepdim=True)
        factor = torch.where(active, energy / previous, 0)
        direction = preconditioned + factor * direction
    return given + solution


def _weighted_neighbours(images: Tensor) -> Tensor:
    """Returns the sum of the neighbours, weighted in twelfths, plus 4 times the pixel.

    So the weights are the product of 1 2 1 down and 1 2 1 across: 2 for a direct
    neighbour, 1 for a diagonal one, 4 for the pixel. `_left_side` cancels the 4.
    Outside the image there is 0. Sums of shifted images are faster than a convolution,
    which some devices round to fewer digits.
    """
    padded = F.pad(images, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    rows.add_(padded[..., 1:-1, :], alpha=2)
    return (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2)


def _left_side(images: Tensor, weights: Tensor) -> Tensor:
    """Returns the left side of the system: weighted pixels minus their neighbours.

    `weights` are `_weighted_neighbours` of an image of ones, with the pixel's own 4.
    """
    return (weights * images).sub_(_weighted_neighbours(images))


def _grids(known: Tensor, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Returns the weights and the smoothing steps of each grid, the finest first.

    The weights are those of a pixel in `_left_side`, smaller at the border. A step is
    the factor that a Jacobi iteration applies to the residual: the damping over the
    pixel's own coefficient, and 0 where the pixel is known.

    1. The finest grid has the pixels of the image.
    2. On the next grid four pixels become one, which is known if one of the four is.
       So a coarser grid only corrects pixels that are unknown on all finer ones, and
       the steps alone keep known pixels unchanged.
    3. Stop at a grid of at most 2 x 2.
    """
    grids = []
    known_pixels = known.to(dtype)
    while True:
        weights = _weighted_neighbours(torch.ones_like(known_pixels[:1]))
        steps = _DAMPING * (1 - known_pixels) / (weights - 4).clamp_min(1)
        grids.append((weights, steps))
        if max(known_pixels.shape[-2:]) <= 2:
            return grids
        known_pixels = F.max_pool2d(known_pixels, 2, ceil_mode=True)


def _cycle(residual: Tensor, grids: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Returns an approximate solution for a residual, by one multigrid V-cycle.

    1. Smooth: one damped Jacobi iteration from 0, which removes the part of the error
       that varies from pixel to pixel.
    2. Correct: what remains varies slowly, so it is solved on the next grid. The
       residual of four pixels is added up, and the coarser solution copied to the four.
    3. Smooth again.

    Conjugate gradients need a preconditioner that is symmetric and positive definite.
    That is why the second smoothing mirrors the first, and why values are copied rather
    than interpolated: copying to four pixels is the transpose of adding four up.
    """
    (weights, steps), *coarser = grids
    solution = steps * residual
    if coarser:
        remaining = residual - _left_side(solution, weights)
        height, width = residual.shape[-2:]
        added = F.avg_pool2d(remaining, 2, ceil_mode=True, divisor_override=1)
        copied = F.interpolate(_cycle(added, coarser), scale_factor=2.0)
        solution += copied[..., :height, :width]
        remaining = residual - _left_side(solution, weights)
        solution.addcmul_(steps.expand_as(remaining), remaining)
    return solution
