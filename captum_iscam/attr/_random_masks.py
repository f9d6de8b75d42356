"""The random masks of RISE, and their sum weighted by scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import TargetScore, at_least_single
from captum_iscam._utils.inputs import Batch, rows_of
from captum_iscam._utils.interpolate import upsample


class RandomMasks:
    """Coarse random grids, brought to the size of an input when they are asked for.

    What is random is drawn at once, a few numbers per mask, so neither the batch nor
    the chunks matter. The cells, a byte each, are brought to the device at once too: a
    copy in every pass would wait for the device. The shifts stay on the host, where
    they select windows.

    Args:
        count (int): How many masks.
        grid (tuple[int, ...]): Cells in each spatial direction.
        keep_probability (float): Probability of a cell to be 1.
        generator (torch.Generator or None): Where the numbers come from. None takes
            torch's global one of the CPU, so a seed gives one map on every device.
        device (torch.device): Where the masks are made.
    """

    def __init__(
        self,
        count: int,
        grid: tuple[int, ...],
        keep_probability: float,
        generator: torch.Generator | None,
        device: torch.device,
    ) -> None:
        source = generator.device if generator else torch.device("cpu")
        # Always in single precision: a seed means the same masks for every type.
        kind: dict[str, Any] = {"dtype": torch.float32, "device": source}
        cells = torch.rand((count, *grid), generator=generator, **kind)
        shifts = torch.rand((count, len(grid)), generator=generator, **kind)
        self._cells = (cells < keep_probability).to(device)
        self._shifts: list[list[float]] = shifts.tolist()

    def __len__(self) -> int:
        """How many masks there are."""
        return len(self._shifts)

    def make(self, first: int, last: int, like: Tensor) -> Tensor:
        """Returns masks `first` to `last`, `(masks, 1, *spatial of the input)`."""
        size = like.shape[2:]
        grid = self._cells.shape[1:]
        pixels = [-(-side // cells) for side, cells in zip(size, grid, strict=True)]
        whole = [(n + 1) * p for n, p in zip(grid, pixels, strict=True)]
        cells = self._cells[first:last].unsqueeze(1)
        wide = upsample(cells.to(at_least_single(like[:0]).dtype), whole)
        cropped = []
        for mask, shifts in zip(wide, self._shifts[first:last], strict=True):
            starts = [int(u * p) for u, p in zip(shifts, pixels, strict=True)]
            window = [slice(i, i + n) for i, n in zip(starts, size, strict=True)]
            cropped.append(mask[(slice(None), *window)])
        return torch.stack(cropped)


def weighted_sums(
    batch: Batch,
    masks: RandomMasks,
    score: TargetScore,
    like: Tensor,
    chunks: Chunks,
    update: Callable[[int], Any],
) -> list[Tensor]:
    """Returns `sum_i s_i M_i` for each input and target, `(N, T, *spatial)`.

    Args:
        batch (Batch): The inputs.
        masks (RandomMasks): The masks, shared by all examples.
        score (TargetScore): Scores the masked inputs.
        like (Tensor): `s(x)`, `(N, T)`.
        chunks (Chunks): How many masked inputs go into one forward pass.
        update (Callable): Takes how many were done.

    Raises:
        RuntimeError: If a score is not finite. The scores are looked at after the last
            pass, so that no pass waits for the device.
    """
    count, several = like.shape
    scores = like.new_empty(count * len(masks), several)
    sums = [
        at_least_single(x).new_zeros(count, several, *x.shape[2:]) for x in batch.inputs
    ]

    def body(start: int, stop: int) -> None:
        # Rows go over examples first, so those of some masks follow each other.
        first, last = start // count, -(-stop // count)
        rows = slice(start - first * count, stop - first * count)
        order = torch.arange(start, stop, device=batch.device)
        owners, which = order % count, order // count - first
        made = [masks.make(first, last, x) for x in batch.inputs]
        shown = []
        for x, b, mask in zip(batch.inputs, batch.baselines, made, strict=True):
            below = at_least_single(rows_of(b, owners))
            seen = below + mask[which] * (at_least_single(rows_of(x, owners)) - below)
            shown.append(seen.to(x.dtype))
        found = score(tuple(shown), owners)
        scores[start:stop] = found.view(-1, several)
        weights = scores.new_zeros((last - first) * count, several)
        weights[rows] = scores[start:stop]
        weights = weights.view(last - first, -1)
        # Autocast would round the product to half precision.
        with torch.autocast(batch.device.type, enabled=False):
            shares = [
                (weights.to(mask.dtype).T @ mask.flatten(1)).view_as(total)
                for total, mask in zip(sums, made, strict=True)
            ]
        # Memory that runs out has done so by now: what is tried again counts once.
        for total, share in zip(sums, shares, strict=True):
            total += share
        update(stop - start)

    chunks.run(len(scores), body)
    check_finite(scores, lambda i: f"example {i % count} with mask {i // count}")
    return sums


def check_finite(scores: Tensor, pass_of: Callable[[int], str]) -> None:
    """Raises for the first of scores `(rows, T)` that is NaN or infinite."""
    finite = torch.isfinite(scores)
    if bool(finite.all().item()):
        return
    row, target = (~finite).nonzero()[0].tolist()
    raise RuntimeError(
        f"forward_func must return finite scores, got {scores[row, target].item()} in "
        f"the pass of {pass_of(row)}. Check the model, and use float32 or bfloat16 "
        "where float16 overflows."
    )
