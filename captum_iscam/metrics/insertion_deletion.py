"""Insertion and deletion: the score along the map's ranking of the pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, cast, overload

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_iscam._utils.forward import Baselines, Score, at_least_single
from captum_iscam._utils.inputs import check_baseline, rows_of
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_integer
from captum_iscam.metrics._base import Inputs, MetricInputs, metric
from captum_iscam.metrics._maps import Attributions, fit, ranks


class Curves(NamedTuple):
    """Scores along a ranking, and the areas under them.

    Attributes:
        auc (Tensor): `(N,)`, trapezoid over `fractions`.
        fractions (Tensor): `(steps + 1,)`, share of the pixels changed, from 0 to 1.
        scores (Tensor): `(N, steps + 1)`.

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
    """A metric that gives whole curves on request; see :class:`Metric`.

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
    """Declares a curve metric; see :func:`metric`. Its unit is that of the score."""

    def declare(function: Callable[..., Tensor | Curves]) -> CurveMetric:
        declared = metric(higher_is_better=higher_is_better, unit="score")(function)
        return cast(CurveMetric, declared)

    return declare


class Steps(NamedTuple):
    """How many pixels change when: an even spread, or RISE's fixed number."""

    steps: int
    pixels_per_step: int | None

    def counts(self, total: int) -> list[int]:
        """Returns how many pixels are changed after each step, from 0 to `total`."""
        per_step = self.pixels_per_step
        name, value = (
            ("steps", self.steps) if per_step is None else ("pixels_per_step", per_step)
        )
        number = as_integer(value)
        if number is None or not 1 <= number <= total:
            raise ValueError(
                f"{name} must be an integer between 1 and the number of pixels, "
                f"{total}, got {value}. Pass a smaller number."
            )
        if per_step is None:
            return [i * total // number for i in range(number + 1)]
        return [*range(0, total, number), total]


def trace(
    given: MetricInputs, substrate: str | Baselines, steps: Steps, *, inserting: bool
) -> Curves:
    """Returns the scores along the ranking, and the area under them."""
    size = common_size(given)
    counts = torch.tensor(steps.counts(size.numel()), device=given.batch.device)
    order = ranks(fit(given.maps, size)).view(-1, 1, *size)
    fills = dict(zip(given.positions, substrates(substrate, given.masked), strict=True))

    def perturb(examples: Tensor, index: Tensor) -> Mapping[int, Tensor]:
        first = counts[index].view(-1, *[1] * (order.dim() - 1))
        shown = (order[examples] < first) == inserting
        return {
            i: torch.where(
                shown, given.batch.inputs[i][examples], rows_of(fill, examples)
            )
            for i, fill in fills.items()
        }

    (scores,) = given.scores(len(counts), perturb)
    fractions = counts.to(scores.dtype) / size.numel()
    return Curves(torch.trapezoid(scores, fractions, dim=1), fractions, scores)


def common_size(given: MetricInputs) -> torch.Size:
    """Returns the spatial size that all masked inputs share."""
    sizes = {x.shape[2:] for x in given.masked}
    if len(sizes) > 1:
        raise ValueError(
            "inputs must share their spatial size where pixels are ranked, got "
            f"{sorted(tuple(size) for size in sizes)}. Pass the others as "
            "additional_forward_args."
        )
    return sizes.pop()


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
    r"""Deletion: area under the score while the map's best pixels are removed.

    .. math::
        \sum_{i=1}^{n} (p_i - p_{i-1}) \frac{s(x_{i-1}) + s(x_i)}{2}

    `x_i` is the input in which the `p_i P` pixels of highest map value show the
    substrate, in all channels, `P` the number of pixels, `p_0 = 0` and `p_n = 1`. The
    map is brought to the input's size by linear interpolation (align_corners=False);
    only its order counts. Among equal values the first in row order goes first, so a
    constant map removes the pixels row by row from the top.

    V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized Input Sampling for Explanation of
    Black-box Models", BMVC 2018, https://arxiv.org/abs/1806.07421. Their code removes
    a fixed number of pixels per step (`pixels_per_step`: 224 or 1792 of 224 x 224),
    leaves the order of equal values open, and weighs a shorter last step as a whole
    one; where `pixels_per_step` divides `P` the areas are the same.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`; of several
            inputs those that are changed must share their spatial size.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        substrate (str, Tensor, int, float or tuple, optional): What a removed pixel
            shows: "zero" (for normalised images the mean colour), "blur" (the input
            under RISE's 11 x 11 kernel of sigma 5), a number, or a tensor like the
            input or with one example. Default: "zero"
        steps (int, optional): Number of steps, spread evenly: after step i
            `i * P // steps` pixels are changed. `steps + 1` forward passes per example.
            Default: 28, as many as RISE takes with 1792 of 224 x 224
        pixels_per_step (int, optional): RISE's rule instead of `steps`: so many pixels
            in each step, the rest in the last. Default: None
        return_curves (bool, optional): Return :class:`Curves`. Default: False
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)` in the unit of the score (in [0, 1] for probabilities), lower is
        better, or :class:`Curves` on request. NaN where the map holds NaN or infinity.

    Raises:
        ValueError: If `steps` or `pixels_per_step` is not between 1 and `P`, the
            substrate or a shape does not fit, or the target is out of range.
        TypeError: If inputs or maps are no floating point tensors, or `target` holds
            no integers.
        AssertionError: From Captum, if the form of `target` does not fit.
        RuntimeError: If the model gives NaN or infinity.

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
    curves = trace(given, substrate, Steps(steps, pixels_per_step), inserting=False)
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
    r"""Insertion: area under the score while the map's best pixels are shown.

    The formula of :func:`deletion`, where `x_i` is the substrate in which the `p_i P`
    pixels of highest map value show the input. RISE (V. Petsiuk, A. Das, K. Saenko,
    2018, https://arxiv.org/abs/1806.07421) starts from `substrate="blur"`; the curves
    of Score-CAM and IS-CAM start from "zero".

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`deletion`.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        substrate (str, Tensor, int, float or tuple, optional): See :func:`deletion`.
        steps (int, optional): See :func:`deletion`.
        pixels_per_step (int, optional): See :func:`deletion`.
        return_curves (bool, optional): See :func:`deletion`.
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)` in the unit of the score (in [0, 1] for probabilities), higher
        is better, or :class:`Curves` on request. NaN where the map holds NaN or
        infinity.

    Raises:
        ValueError: As in :func:`deletion`.
        TypeError: As in :func:`deletion`.
        AssertionError: As in :func:`deletion`.
        RuntimeError: As in :func:`deletion`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.tensor([[[[4.0, 0.0], [2.0, 2.0]]]])
        >>> insertion(model, image, image, score="identity", steps=4)
        tensor([5.5000])
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
    curves = trace(given, substrate, Steps(steps, pixels_per_step), inserting=True)
    return curves if return_curves else curves.auc


_WIDTH, _SIGMA = 11, 5.0


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


def blur_kernel() -> Tensor:
    """Returns RISE's kernel along one dimension, `(11,)`.

    RISE blurs a single point in an 11 x 11 picture with SciPy's Gaussian filter of
    sigma 5, which reaches 20 pixels and folds back at the edges what leaves the
    picture. So the kernel is nearly flat, far from a Gaussian that is cut and rescaled.
    """
    reach = torch.arange(-20, 21, device="cpu")
    gaussian = torch.exp(-0.5 * (reach.double() / _SIGMA).square())
    place = torch.remainder(_WIDTH // 2 + reach, 2 * _WIDTH)
    folded = torch.minimum(place, 2 * _WIDTH - 1 - place)
    kernel = torch.zeros(_WIDTH, dtype=torch.float64, device="cpu")
    return kernel.index_add_(0, folded, gaussian / gaussian.sum())


def blur(inputs: Tensor) -> Tensor:
    """Returns the inputs blurred by RISE's kernel; outside an input there is zero."""
    blurred = at_least_single(inputs)
    kernel = blur_kernel().to(blurred)
    for dim in range(2, inputs.dim()):
        lines = blurred.movedim(dim, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        flat = F.conv1d(flat, kernel.view(1, 1, -1), padding=_WIDTH // 2)
        blurred = flat.view(lines.shape).movedim(-1, dim)
    return blurred.to(inputs.dtype)
