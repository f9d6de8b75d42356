"""The explanation map: what is left of an input where its map lets it through."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.inputs import rows_of
from captum_iscam._utils.interpolate import scale
from captum_iscam._utils.validation import as_number
from captum_iscam.metrics._case import Case, View, whole
from captum_iscam.metrics._maps import fit, ranks


def masks_of(
    maps: Tensor, size: tuple[int, ...], keep: float | None, binary: bool
) -> Tensor:
    """Returns `M`, `(N, 1, *size)` in [0, 1]: scaled, and cut where `keep` says so."""
    brought = fit(maps, size)
    masks = scale(brought)
    if keep is None:
        return masks
    total = brought[0].numel()
    kept = ranks(brought).view_as(brought) < max(1, round(float(keep) * total))
    return kept.to(masks.dtype) if binary else masks * kept


def reveal(inputs: Tensor, baselines: Tensor, masks: Tensor) -> Tensor:
    """Returns `b + M * (x - b)` in the type of the inputs."""
    shown, hidden = at_least_single(inputs), at_least_single(baselines)
    return (hidden + masks * (shown - hidden)).to(inputs.dtype)


def check_keep(keep: float | None, binary: bool) -> None:
    """Raises what is wrong with the arguments that cut the map."""
    share = as_number(keep)
    if keep is not None and not (share is not None and 0 < share <= 1):
        raise ValueError(
            f"keep must be a share of the pixels above 0 and at most 1, got {keep!r}. "
            "Pass 0.5 to mute the lower half, or None to mute nothing."
        )
    if binary and keep is None:
        raise ValueError(
            "binary must come with keep, got binary=True and keep=None. "
            "Pass the share of pixels to keep, for example keep=0.5."
        )


def explanation_view(case: Case, keep: float | None, binary: bool) -> View:
    """Returns what shows the explanation map of each example."""
    check_keep(keep, binary)
    inputs, baselines = case.batch.inputs, case.batch.baselines
    masks = {
        i: masks_of(case.maps, tuple(inputs[i].shape[2:]), keep, binary)
        for i in case.positions
    }

    def view(examples: Tensor, turns: Tensor) -> Mapping[int, Tensor]:
        return {
            i: reveal(inputs[i][examples], rows_of(baselines[i], examples), m[examples])
            for i, m in masks.items()
        }

    return view


def before_and_after(
    case: Case, keep: float | None, binary: bool
) -> tuple[Tensor, Tensor]:
    """Returns `Y`, the scores of the examples, and `O`, those of what is left."""
    before, after = case.scores(1, whole, explanation_view(case, keep, binary))
    return before.squeeze(1), after.squeeze(1)


def relative_drop(before: Tensor, after: Tensor) -> Tensor:
    """Returns `max(0, Y - O) / Y`, NaN where `Y` is 0."""
    if bool((before < 0).any().item()):
        worst = int(before.nan_to_num(0.0).argmin())
        raise ValueError(
            "score must not be negative where a relative drop is asked, got "
            f'{before[worst].item():g} for example {worst}. Use score="softmax" for a '
            "probability, or absolute=True where the metric offers it."
        )
    drop = (before - after).clamp_min(0) / before
    return torch.where(before > 0, drop, torch.nan)
