"""The walk along a map's ranking, shared by insertion and deletion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, cast, overload

import torch
from torch import Tensor

from captum_iscam._utils.forward import Baselines, Score, Target
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.validation import as_integer
from captum_iscam.metrics._case import Case, Inputs
from captum_iscam.metrics._declare import metric
from captum_iscam.metrics._maps import Attributions, fit, ranks
from captum_iscam.metrics._substrate import substrates


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
    case: Case, substrate: str | Baselines, steps: Steps, *, inserting: bool
) -> Curves:
    """Returns the scores along the ranking, and the area under them."""
    size = common_size(case)
    counts = torch.tensor(steps.counts(size.numel()), device=case.batch.device)
    order = ranks(fit(case.maps, size)).view(-1, 1, *size)
    fills = dict(zip(case.positions, substrates(substrate, case.masked), strict=True))

    def view(examples: Tensor, turns: Tensor) -> Mapping[int, Tensor]:
        first = counts[turns].view(-1, *[1] * (order.dim() - 1))
        shown = (order[examples] < first) == inserting
        return {
            i: torch.where(
                shown, case.batch.inputs[i][examples], rows_of(fill, examples)
            )
            for i, fill in fills.items()
        }

    (scores,) = case.scores(len(counts), view)
    fractions = counts.to(scores.dtype) / size.numel()
    return Curves(torch.trapezoid(scores, fractions, dim=1), fractions, scores)


def common_size(case: Case) -> torch.Size:
    """Returns the spatial size that all masked inputs share."""
    sizes = {x.shape[2:] for x in case.masked}
    if len(sizes) > 1:
        raise ValueError(
            "inputs must share their spatial size where pixels are ranked, got "
            f"{sorted(tuple(size) for size in sizes)}. Pass the others as "
            "additional_forward_args."
        )
    return sizes.pop()
