"""Infidelity by Captum, made right for the maps of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.metrics
import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import Baselines, Score
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_number, check_generator
from captum_iscam.metrics._base import (
    Inputs,
    MetricInputs,
    check_samples,
    home_of,
    metric,
)
from captum_iscam.metrics._maps import Attributions, fit


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
    r"""Infidelity: how badly the map predicts what hiding a square costs.

    .. math::
        \frac{1}{S} \sum_{i=1}^{S} \Big(\beta \sum_p I^i_p \Phi_p
        - \big(s(x) - s(x \text{ without } I^i)\big)\Big)^2

    `I^i` is a square at a random place, in which the input shows the baseline, `Φ` the
    map, brought to the input's size by linear interpolation (align_corners=False). `β`
    is the factor that fits best, so that a positive or negative scale of the map
    does not matter, or 1 with `normalize=False`. An all-zero map predicts no change
    and has the mean squared change of the score.

    Computed by :func:`captum.metrics.infidelity`, after C. Yeh, C. Hsieh, A. Suggala,
    D. Inouye, P. Ravikumar, "On the (In)fidelity and Sensitivity of Explanations",
    NeurIPS 2019, https://arxiv.org/abs/1901.09392, with their square removal. Captum
    asks for maps of the input's shape and a perturbation, and leaves a layer's maps to
    the user. A map here is shared out evenly over the channels of the input, so that a
    hidden pixel counts once. All examples share the squares, so that a value does not
    depend on the rest of the batch.

    Args:
        forward_func (Callable): See :func:`average_drop`.
        inputs (Tensor or tuple[Tensor, ...]): See :func:`average_drop`; of several
            inputs, those that the map fits lose the same part of their size and share
            the map evenly.
        attributions (Tensor): See :func:`average_drop`.
        target (int, tuple, Tensor or list, optional): See :func:`average_drop`.
        additional_forward_args (Any, optional): See :func:`average_drop`.
        score (str or Callable, optional): See :func:`average_drop`.
        baselines (Tensor, int, float or tuple, optional): See :func:`average_drop`.
        patch (float, optional): Side of the square as a share of each side of the
            input, above 0 and at most 1. Default: 0.25
        n_perturb_samples (int, optional): `S`, squares per example. Default: 32
        normalize (bool, optional): Whether to fit `β`. Default: True
        generator (torch.Generator, optional): Where the places come from.
            Default: None, torch's global random state on the CPU
        internal_batch_size (int, optional): See :func:`average_drop`.

    Returns:
        *Tensor* `(N,)` in the unit of the score squared, lower is better, NaN where the
        map holds NaN or infinity.

    Raises:
        ValueError: If `patch` or `n_perturb_samples` is out of range, and as in
            :func:`average_drop`.
        TypeError: As in :func:`average_drop`.
        AssertionError: As in :func:`average_drop`.
        RuntimeError: As in :func:`average_drop`.

    Examples::

        >>> import torch
        >>> def model(x):
        ...     return x.flatten(1).sum(1)
        >>> image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
        >>> bool(infidelity(model, image, image, score="identity") < 1e-8)
        True
    """
    side = as_number(patch)
    if side is None or not 0 < side <= 1:
        raise ValueError(
            f"patch must be a share of the side above 0 and at most 1, got {patch!r}. "
            "Leave it out for a quarter."
        )
    check_samples(n_perturb_samples)
    check_generator(generator)
    given = MetricInputs(
        forward_func,
        inputs,
        attributions,
        target,
        additional_forward_args,
        score,
        baselines,
        internal_batch_size,
    )
    home = home_of(generator)
    spatial = given.maps.dim() - 2
    shape = (n_perturb_samples, spatial)
    places = torch.rand(shape, generator=generator, device=home).to(given.maps.device)
    shared = _shared_out(given)
    examples = given.valid.nonzero().reshape(-1)
    chunks = Chunks(internal_batch_size, given.batch.inputs, forward_func=forward_func)
    found: list[Tensor] = []

    def forward(*args: Tensor) -> Tensor:
        *perturbed, example_index = args
        return given.score_of(tuple(perturbed), example_index)

    def body(start: int, stop: int) -> None:
        part = examples[start:stop]
        hide = _Squares(given, places, side, part)
        found.append(
            captum.metrics.infidelity(
                forward,
                hide,
                tuple(x[part] for x in given.batch.inputs),
                tuple(phi[part] for phi in shared),
                additional_forward_args=part,
                n_perturb_samples=n_perturb_samples,
                max_examples_per_batch=min(chunks.size, len(part) * n_perturb_samples),
                normalize=normalize,
            )
        )

    chunks.run(len(examples), body)
    given.check_scores()
    result = given.maps.new_full((given.batch.num_examples,), torch.nan)
    if found:
        result[examples] = torch.cat(found).to(result.dtype)
    return result


class _Squares:
    """Hides the next squares in repeated inputs, as `captum.metrics` asks for.

    Captum repeats each example once per sample of a chunk, example by example, and
    goes through the samples in order.
    """

    def __init__(
        self, given: MetricInputs, places: Tensor, patch: float, examples: Tensor
    ) -> None:
        self._given, self._places, self._patch = given, places, patch
        self._examples = examples
        self._done = 0

    def __call__(
        self, inputs: Tensor | tuple[Tensor, ...]
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Returns the perturbations `I` and the inputs without what they hide."""
        repeated = inputs if isinstance(inputs, tuple) else (inputs,)
        count = len(repeated[0]) // len(self._examples)
        places = self._places[self._done : self._done + count]
        self._done += count
        example_index = self._examples.repeat_interleave(count)
        perturbations, hidden = [], []
        for i, x in enumerate(repeated):
            if i not in self._given.positions:
                perturbations.append(torch.zeros_like(x))
                hidden.append(x)
                continue
            square = _inside(places, self._patch, x.shape[2:])
            square = square.repeat(len(self._examples), *[1] * (x.dim() - 1))
            baseline = rows_of(self._given.batch.baselines[i], example_index)
            perturbations.append(square.expand_as(x).to(self._given.maps.dtype))
            hidden.append(torch.where(square, baseline, x))
        return tuple(perturbations), tuple(hidden)


def _inside(places: Tensor, patch: float, size: torch.Size) -> Tensor:
    """Returns squares at the places, `(samples, 1, *size)` of bool."""
    square = torch.ones(len(places), 1, *size, dtype=torch.bool, device=places.device)
    for dim, length in enumerate(size):
        side = max(1, round(patch * length))
        start = (places[:, dim] * (length - side + 1)).long().unsqueeze(1)
        index = torch.arange(length, device=places.device)
        line = (index >= start) & (index < start + side)
        square &= line.view(
            len(places), 1, *[-1 if d == dim else 1 for d in range(len(size))]
        )
    return square


def _shared_out(given: MetricInputs) -> list[Tensor]:
    """Returns maps of the inputs' shapes that add up to the map at each pixel."""
    shared = []
    for i, x in enumerate(given.batch.inputs):
        if i in given.positions:
            whole = fit(given.maps, x.shape[2:]) / (x.shape[1] * len(given.positions))
            shared.append(whole.expand_as(x).contiguous())
        else:
            shared.append(torch.zeros_like(x))
    return shared
