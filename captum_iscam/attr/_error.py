"""How far a map may be off: the rounding of the scores, and delta.

A weight is a difference of two scores. Where the model is almost equally sure of
everything it is shown, or its output has a large offset, the difference is little more
than the last digit of the scores. The gradient of a probability `p` has the factor
`1 - p`, which a softmax or sigmoid in the model rounds to that digit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from captum_iscam._utils.forward import TargetScore
from captum_iscam._utils.steadiness import autocasts
from captum_iscam._utils.warn import warn_of_examples
from captum_iscam.attr._engine import Channels

COUNTS = 0.01
"""Share of the map from which rounding is part of delta. Below it, a map of which every
channel was scored is called exact."""
WARNED = 0.05
"""Share of the map above which a warning names the rounding."""


def squared_rounding(channels: Channels, weights: Tensor) -> Tensor:
    """Returns the squared norm of what rounding adds to each map, and warns of it.

    Each score is wrong by half of its last digit, or by as much as `s(x)` differs
    between its two passes, relative to its size. The error of `s(b)` moves all weights
    alike, the others each their own. Like other squared errors `(N, T)`, on the CPU in
    double precision; 0 below `COUNTS`, infinite where delta would be above 1.

    Args:
        channels (Channels): The channels and their scores.
        weights (Tensor): `a`, `(P, T)`.
    """
    inexact = torch.finfo(channels.baseline_score.dtype).eps / 2
    # One copy of each to the host, which waits for it.
    weights = weights.cpu().double()
    ends = (channels.baseline_score, channels.input_score, channels.repeated_score)
    baseline, first, again = torch.stack(ends).cpu().double()
    changed = (again - first).abs() / torch.maximum(baseline.abs(), first.abs())
    relative = changed.nan_to_num(nan=0.0).clamp(min=inexact)
    found, shares = channels.no_error(), channels.no_error()
    for example in channels.per_example:
        number, maps, values = example.number, example.maps, weights[example.rows]
        common = relative[number] * baseline[number].abs()
        own = common + relative[number] * values.abs()
        squared = own.square().T @ maps.square().sum(1)
        squared += common.square() * maps.sum(0).square().sum()
        shares[number] = 2 * (squared / example.squared_norm(values)).sqrt()
        found[number] = squared
    # Of the last digit alone: scores that change from call to call have a warning of
    # their own, as have maps of zeros.
    warn_of_rounding(shares * inexact / relative)
    found[shares > 1] = torch.inf
    # What is NaN is 0 over 0: scores without a digit to round.
    return torch.where(shares > COUNTS, found, 0)


def warn_of_rounding(shares: Tensor) -> None:
    """Warns of maps of which the last digit of the scores is so much, `(N, T)`."""
    warn_of_examples(
        shares.isfinite() & (shares > WARNED),
        "The scores of masked inputs differ by little more than their last digit for "
        "{}, so a good part of the map may be rounding. Pass model and inputs in "
        "double precision, or a score that varies more.",
    )


def warn_of_overflow(attributions: Tensor) -> Tensor:
    """Returns finished maps `(N, ...)`, and warns of those that are not finite.

    What they are made of has been checked, so it is their products and sums that left
    the range of the type.
    """
    warn_of_examples(
        ~attributions.isfinite().flatten(1).all(1),
        f"The map is not finite for {{}}: it left the range of {attributions.dtype}. "
        "Pass model and inputs in double precision, or smaller inputs.",
    )
    return attributions


class HalfPrecisionError(ValueError):
    """A delta was asked for in half precision, whose rounding is no part of it."""


def check_precision(
    parts: list[nn.Module], inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]
) -> None:
    """Raises where anything is rounded to half precision, which no delta knows of."""
    seen = [*inputs, *outputs, *(p for part in parts for p in part.parameters())]
    half = any(torch.finfo(x.dtype).bits < 32 for x in seen if x.is_floating_point())
    half |= autocasts(inputs[0].device)
    if half:
        raise HalfPrecisionError(
            "return_convergence_delta must be False for a model that runs in half "
            "precision, got True. Its rounding is no part of the estimate: convert "
            "model and inputs to float32, and leave torch.autocast."
        )


NEAR_ONE = 0.1
"""Rounding of `1 - p`, as a share of it, from which gradients are warned of. In single
precision the error was above 5 % for 80 % of the maps of small random networks with
more rounding, and for 4 % of those with less, down to 0.2 %."""


class NearOne:
    """Whether gradients are those of probabilities that are 1 but for their last digit.

    The scores "softmax" and "sigmoid" do not round them (`_utils/scores.py`), but what
    the model or a function of the caller makes of logits does.

    Args:
        score (TargetScore): Scores the inputs.
        passes (int): How many rows there are of each example.
    """

    def __init__(self, score: TargetScore, passes: int) -> None:
        self._score = score
        self._passes = passes

    def note_first(self, output: Tensor, scores: Tensor) -> None:
        """Keeps whether the scores `(N, T)` of the first pass are probabilities."""
        self._are_probabilities = self._score.gives_probabilities(output)
        self._digit = half_a_digit(scores, [output])
        self._gaps = torch.zeros_like(scores)

    def note(self, examples: Tensor, scores: Tensor) -> None:
        """Adds the distances from 1 of the scores `(rows, T)` of a pass."""
        self._gaps.index_add_(0, examples, (1 - scores).clamp(min=0).to(self._gaps))

    def warn(self) -> None:
        """Warns of the examples whose gradients are mostly rounding."""
        near = self._gaps / self._passes < self._digit / NEAR_ONE
        warn_of_examples(
            near & self._are_probabilities,
            "The model's output for {} is a probability that differs from 1 by little "
            "more than its last digit, so a good part of its gradient, and of the map, "
            'may be rounding. Return logits from the model and use score="softmax" '
            'or score="sigmoid", or pass model and inputs in double precision.',
        )


def half_a_digit(scores: Tensor, outputs: Sequence[Tensor]) -> float:
    """Returns how much rounding changes scores, as a share of them.

    Args:
        scores (Tensor): The scores.
        outputs (Sequence[Tensor]): What the layer gave: after a layer in half precision
            scores have few digits, whatever their own type is.
    """
    return max(torch.finfo(x.dtype).eps for x in (scores, *outputs)) / 2


def relative_error(squared_error: Tensor, attributions: Tensor) -> Tensor:
    """Returns an estimate of the relative error of each map, `(N, T)`.

    Twice the standard error over the norm of the map: 0 for a map that is exact,
    infinite where nothing is known, as of a map that left the range of its type. Warns
    where it is finite and above 1.

    Args:
        squared_error (Tensor): Of the map before ReLU, `(N, T)`, in double precision.
        attributions (Tensor): The maps `(N, T, *spatial)`.
    """
    # In double precision, where large scores do not overflow.
    norms = attributions.cpu().double().flatten(2).norm(dim=2)
    exact = torch.zeros_like(norms)
    found = torch.where(squared_error == 0, exact, 2 * squared_error.sqrt() / norms)
    # What is unknown must not pass for exact: a norm that overflowed, values near the
    # smallest ones, and squares of them in double precision.
    kind = torch.finfo(attributions.dtype)
    smallest = max(kind.tiny / kind.eps, 1e-140)
    known = norms.isfinite() & ((norms == 0) | (norms > smallest))
    found = torch.where(known, found, torch.inf)
    found = found.nan_to_num(nan=torch.inf, posinf=torch.inf)
    warn_of_examples(
        (found > 1) & found.isfinite(),
        "The error of the map is probably larger than the map for {}: delta is above "
        "1. Pass a larger n_steps, or screening=1 where weights are predicted; where "
        "ReLU leaves little of the map, pass relu_attributions=False.",
    )
    return found.to(attributions.dtype).to(attributions.device)
