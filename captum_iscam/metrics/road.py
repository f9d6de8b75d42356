"""ROAD: removing pixels without a trace that the model could see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_iscam._utils.forward import Score, at_least_single
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number, check_generator
from captum_iscam.metrics._base import Inputs, MetricInputs, home_of, metric
from captum_iscam.metrics._maps import Attributions, fit, ranks
from captum_iscam.metrics.insertion_deletion import common_size

PERCENTILES = (20, 40, 60, 80)


def removed(
    given: MetricInputs,
    percentiles: Sequence[float],
    noise: float,
    generator: torch.Generator | None,
    orders: Sequence[bool],
) -> list[Tensor]:
    """Returns the mean score over the removals in each order, `True` for MoRF."""
    check_generator(generator)
    size = common_size(given)
    device = given.batch.device
    total = size.numel()
    counts = torch.tensor(_counts(percentiles, size), device=device)
    most_first = torch.tensor(orders, device=device)
    deviation = _deviation(noise)
    place = ranks(fit(given.maps, size)).view(-1, 1, *size)
    fields = {
        i: deviation * _field(given.batch.inputs[i], generator) for i in given.positions
    }

    def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
        count = counts[index % len(counts)].view(-1, 1, 1, 1)
        rank = place[examples]
        first = most_first[index // len(counts)].view(-1, 1, 1, 1)
        # The last of the ranking go first in the other order.
        known = torch.where(first, rank >= count, rank < total - count)
        return {
            i: _remove(given.batch.inputs[i][examples], known, fields[i])
            for i in fields
        }

    (scores,) = given.scores(len(orders) * len(counts), perturb)
    means = scores.view(len(scores), len(orders), -1).mean(2)
    return list(means.unbind(1))


def _field(inputs: Tensor, generator: torch.Generator | None) -> Tensor:
    """Returns standard normal noise that all examples share, `(1, C, H, W)`."""
    dtype = at_least_single(inputs[:0]).dtype
    shape = (1, *inputs.shape[1:])
    home = home_of(generator)
    field = torch.randn(shape, generator=generator, device=home, dtype=dtype)
    return field.to(inputs.device)


def _remove(images: Tensor, known: Tensor, field: Tensor) -> Tensor:
    imputed = impute(at_least_single(images), known) + field
    return torch.where(known, images, imputed.to(images.dtype))


def _deviation(noise: float) -> float:
    """Returns the standard deviation of the noise, or raises what is wrong with it."""
    deviation = as_number(noise)
    if deviation is None or not 0 <= deviation < torch.inf:
        raise ValueError(
            f"noise must be a standard deviation of 0 or more, got {noise!r}. "
            "Leave it out for the authors' 0.01."
        )
    return deviation


def _counts(percentiles: Sequence[float], size: torch.Size) -> list[int]:
    """Returns how many pixels each percentile removes."""
    if len(size) != 2:
        raise ValueError(
            "attributions must have two spatial dimensions, as ROAD's weights are "
            f"those of images, got {len(size)}. Use deletion or insertion instead."
        )
    total = size.numel()
    counts = [round(percentile / 100 * total) for percentile in percentiles]
    if not counts or not all(0 < count < total for count in counts):
        raise ValueError(
            "percentiles must each remove at least one pixel and leave one, got "
            f"{tuple(percentiles)} for {total} pixels. Leave them out for "
            f"{PERCENTILES}."
        )
    return counts


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
    r"""ROAD, both orders combined: how much more the best pixels carry than the worst.

    .. math::
        \frac{1}{2 |Q|} \sum_{q \in Q} s(x^{\mathrm{LeRF}}_q) - s(x^{\mathrm{MoRF}}_q)

    In :math:`x^{\mathrm{MoRF}}_q` the q percent of the pixels of highest map value are
    removed (most relevant first), in :math:`x^{\mathrm{LeRF}}_q` those of lowest
    (least relevant first): each is replaced by the weighted mean of its neighbours,
    removed ones included, which is a linear system, plus Gaussian noise. The map is
    brought to the input's size by linear interpolation (align_corners=False); only its
    order counts, equal values in row order, so that a constant map removes rows from
    the top or from the bottom.

    Y. Rong, T. Leemann, V. Borisov, G. Kasneci, E. Kasneci, "A Consistent and Efficient
    Evaluation Strategy for Attribution Methods", ICML 2022,
    https://arxiv.org/abs/2202.00449, weights and noise as in their code, which reports
    the accuracy over a data set; the mean score and the combination of both orders
    follow grad-cam's ROADCombined. All examples and removals share one noise field, so
    that a value does not depend on the rest of the batch.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): Images `(N, C, H, W)`; of several inputs
            those with as many dimensions as the maps, which must share their size.
        attributions (Tensor): Maps `(N, 1, h, w)` of the layer's or the input's size.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        percentiles (sequence of float, optional): `Q`, each above 0 and below 100.
            Default: (20, 40, 60, 80)
        noise (float, optional): Standard deviation of the noise, in the unit of the
            inputs. Default: 0.01
        generator (torch.Generator, optional): Where the noise comes from.
            Default: None, torch's global random state on the CPU
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)` in the unit of the score (in [-0.5, 0.5] for probabilities),
        higher is better, NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If the maps are not two-dimensional, a percentile removes nothing
            or everything, `noise` is negative, or as in :func:`deletion`.
        TypeError: As in :func:`deletion`.
        AssertionError: As in :func:`deletion`.
        RuntimeError: As in :func:`deletion`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road(model, image, image, score="identity", noise=0.0)
        tensor([0.5000])
    """
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        None,
        internal_batch_size,
    )
    most, least = removed(given, percentiles, noise, generator, (True, False))
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
    r"""ROAD, most relevant first (MoRF): what is left without the best pixels.

    .. math:: \frac{1}{|Q|} \sum_{q \in Q} s(x^{\mathrm{MoRF}}_q)

    See :func:`road` for the removal, the source and the arguments.

    Args:
        forward_func (Callable): See :func:`road`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`road`.
        attributions (Tensor): See :func:`road`.
        target (int, tuple, Tensor or list, optional): See :func:`road`.
        additional_forward_args (Any, optional): See :func:`road`.
        score (str or Callable, optional): See :func:`road`.
        percentiles (sequence of float, optional): See :func:`road`.
        noise (float, optional): See :func:`road`.
        generator (torch.Generator, optional): See :func:`road`.
        internal_batch_size (int, optional): See :func:`road`.

    Returns:
        *Tensor* `(N,)` in the unit of the score, lower is better, NaN where the map
        holds NaN or infinity.

    Raises:
        ValueError: As in :func:`road`.
        TypeError: As in :func:`road`.
        AssertionError: As in :func:`road`.
        RuntimeError: As in :func:`road`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road_most_relevant_first(model, image, image, score="identity", noise=0.0)
        tensor([0.])
    """
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        None,
        internal_batch_size,
    )
    (most,) = removed(given, percentiles, noise, generator, (True,))
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
    r"""ROAD, least relevant first (LeRF): what is left without the worst pixels.

    .. math:: \frac{1}{|Q|} \sum_{q \in Q} s(x^{\mathrm{LeRF}}_q)

    See :func:`road` for the removal, the source and the arguments.

    Args:
        forward_func (Callable): See :func:`road`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`road`.
        attributions (Tensor): See :func:`road`.
        target (int, tuple, Tensor or list, optional): See :func:`road`.
        additional_forward_args (Any, optional): See :func:`road`.
        score (str or Callable, optional): See :func:`road`.
        percentiles (sequence of float, optional): See :func:`road`.
        noise (float, optional): See :func:`road`.
        generator (torch.Generator, optional): See :func:`road`.
        internal_batch_size (int, optional): See :func:`road`.

    Returns:
        *Tensor* `(N,)` in the unit of the score, higher is better, NaN where the map
        holds NaN or infinity.

    Raises:
        ValueError: As in :func:`road`.
        TypeError: As in :func:`road`.
        AssertionError: As in :func:`road`.
        RuntimeError: As in :func:`road`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x[:, 0, 0, 0]
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, 0, 0] = 1
        >>> road_least_relevant_first(model, image, image, score="identity", noise=0.0)
        tensor([1.])
    """
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        None,
        internal_batch_size,
    )
    (least,) = removed(given, percentiles, noise, generator, (False,))
    return least


# Of the largest known pixel. On photographs the solution then is off by about a
# ten-thousandth of it, far below the noise.
_TOLERANCE = 1e-5

# Below 1, at which the smoothing would not be positive definite on images one pixel
# wide; any value from 0.8 to 1 needs about as many iterations.
_DAMPING = 0.9

# Images up to so many times as long as wide have needed at most 19 iterations,
# whatever was removed. Longer ones may need more.
_LONG, _ENOUGH = 16, 24


def impute(images: Tensor, known: Tensor) -> Tensor:
    """Returns images whose unknown pixels solve ROAD's linear system.

    Each unknown pixel is the weighted mean of its up to eight neighbours, 1/6 for the
    four beside it and 1/12 for the four across, rescaled at the image's border. The
    system is symmetric and positive definite as long as one pixel is known, and is
    solved by conjugate gradients for all images and channels at once; each stops by
    itself, so that a result does not depend on the others.

    By itself an iteration carries a value by one pixel, and removed regions are large.
    So a cycle over ever coarser grids preconditions the system (A. McAdams, E. Sifakis,
    J. Teran, "A parallel multigrid Poisson solver for fluids simulation on large
    grids", SCA 2010): some 15 iterations at any size, instead of several hundred.

    Args:
        images (Tensor): `(N, C, H, W)`.
        known (Tensor): Which pixels are known, `(N, 1, H, W)`, at least one each.
    """
    grids = _grids(known, images.dtype)
    given = torch.where(known, images, 0)
    over = (-2, -1)
    limit = 12 * _TOLERANCE * given.abs().amax(over, keepdim=True)
    solution = torch.zeros_like(given)
    residual = torch.where(known, 0, _around(given))
    step = cycled = _cycle(residual, grids)
    energy = (residual * cycled).sum(over, keepdim=True)
    # A look at the residual waits for an accelerator; solved images stay as they are.
    short, long = sorted(images.shape[-2:])
    blind = images.device.type != "cpu" and long <= _LONG * short
    for _ in range(_ENOUGH if blind else known[0].numel()):
        active = residual.abs().amax(over, keepdim=True) > limit
        if not (blind or bool(active.any().item())):
            break
        image = torch.where(known, 0, _difference(step, grids[0][0]))
        curvature = (step * image).sum(over, keepdim=True)
        length = torch.where(active, energy / curvature, 0)
        solution += length * step
        residual -= length * image
        cycled = _cycle(residual, grids)
        previous, energy = energy, (residual * cycled).sum(over, keepdim=True)
        step = cycled + torch.where(active, energy / previous, 0) * step
    return given + solution


def _around(images: Tensor) -> Tensor:
    """Returns the neighbours in the image, weighted in twelfths, and 4 of the pixel.

    So the weights are the product of 1 2 1 down and 1 2 1 across. Sums of shifted
    images are faster than a convolution, which some devices round to fewer digits.
    """
    padded = F.pad(images, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    rows.add_(padded[..., 1:-1, :], alpha=2)
    return (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2)


def _difference(images: Tensor, weights: Tensor) -> Tensor:
    """Returns the system's left side: pixels times their weight, less neighbours."""
    return (weights * images).sub_(_around(images))


def _grids(known: Tensor, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Returns each grid's weights of a pixel, and its steps, 0 where it is known.

    Four pixels become one, known if one of them is. So what a coarser grid corrects
    is unknown on the finer ones, and the steps are all that keeps known pixels known.
    """
    grids = []
    fixed = known.to(dtype)
    while True:
        weights = _around(torch.ones_like(fixed[:1]))
        steps = _DAMPING * (1 - fixed) / (weights - 4).clamp_min(1)
        grids.append((weights, steps))
        if max(fixed.shape[-2:]) <= 2:
            return grids
        fixed = F.max_pool2d(fixed, 2, ceil_mode=True)


def _cycle(residual: Tensor, grids: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Returns a rough solution: smoothed, corrected on the coarser grids, smoothed.

    Symmetric and positive definite in the residual, as conjugate gradients need it:
    the second smoothing mirrors the first, and copying a value to four pixels is the
    transpose of adding four values up.
    """
    (weights, steps), *coarser = grids
    solution = steps * residual
    if coarser:
        left = residual - _difference(solution, weights)
        height, width = residual.shape[-2:]
        added = F.avg_pool2d(left, 2, ceil_mode=True, divisor_override=1)
        copied = F.interpolate(_cycle(added, coarser), scale_factor=2.0)
        solution += copied[..., :height, :width]
        left = residual - _difference(solution, weights)
        solution.addcmul_(steps.expand_as(left), left)
    return solution
