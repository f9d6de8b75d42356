"""The removal of ROAD: pixels imputed in the order of the map, or against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.validation import as_number, check_generator
from captum_iscam.metrics._case import Case
from captum_iscam.metrics._curves import common_size
from captum_iscam.metrics._imputation import impute
from captum_iscam.metrics._maps import fit, ranks
from captum_iscam.metrics._samples import home_of

PERCENTILES = (20, 40, 60, 80)


def removed(
    case: Case,
    percentiles: Sequence[float],
    noise: float,
    generator: torch.Generator | None,
    orders: Sequence[bool],
) -> list[Tensor]:
    """Returns the mean score over the removals in each order, `True` for MoRF."""
    check_generator(generator)
    size = common_size(case)
    device = case.batch.device
    total = size.numel()
    counts = torch.tensor(_counts(percentiles, size), device=device)
    most_first = torch.tensor(orders, device=device)
    deviation = _deviation(noise)
    place = ranks(fit(case.maps, size)).view(-1, 1, *size)
    fields = {
        i: deviation * _field(case.batch.inputs[i], generator) for i in case.positions
    }

    def view(examples: Tensor, turns: Tensor) -> Mapping[int, Tensor]:
        count = counts[turns % len(counts)].view(-1, 1, 1, 1)
        rank = place[examples]
        first = most_first[turns // len(counts)].view(-1, 1, 1, 1)
        # The last of the ranking go first in the other order.
        known = torch.where(first, rank >= count, rank < total - count)
        return {
            i: _remove(case.batch.inputs[i][examples], known, fields[i]) for i in fields
        }

    (scores,) = case.scores(len(orders) * len(counts), view)
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
