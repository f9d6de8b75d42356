"""The random masks of RISE, and their sum weighted by scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum_iscam._batching import Chunks
from captum_iscam._inputs import Batch
from captum_iscam._maps import upsample
from captum_iscam._scoring import TargetScore, at_least_single


class RandomMasks:
    """Coarse random grids, brought to the size of an input when they are asked for.

    What is random is drawn at once, a few numbers per mask, so neither the batch nor
    the chunks matter.

    Args:
        count (int): How many masks.
        grid (tuple[int, ...]): Cells in each spatial direction.
        keep_probability (float): Probability of a cell to be 1.
        generator (torch.Generator or None): Where the numbers come from.
    """

    def __init__(
        self,
        count: int,
        grid: tuple[int, ...],
        keep_probability: float,
        generator: torch.Generator | None,
    ) -> None:
        device = generator.device if generator else None
        # Always in single precision: a seed means the same masks for every type.
        kind: dict[str, Any] = {"dtype": torch.float32, "device": device}
        cells = torch.rand((count, *grid), generator=generator, **kind)
        shifts = torch.rand((count, len(grid)), generator=generator, **kind)
        self._cells = cells < keep_probability
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
        wide = upsample(cells.to(like.device, at_least_single(like[:0]).dtype), whole)
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
    chunks: Chunks,
    update: Callable[[int], Any],
) -> list[Tensor]:
    """Returns `sum_i s_i M_i` for each input, `(N, 1, *spatial)`."""
    count = batch.num_examples
    sums = [at_least_single(x).new_zeros(count, 1, *x.shape[2:]) for x in batch.inputs]

    def body(start: int, stop: int) -> None:
        first = start // count
        order = torch.arange(start, stop, device=batch.device)
        owners, which = order % count, order // count - first
        made = [masks.make(first, -(-stop // count), x) for x in batch.inputs]
        shown = []
        for x, b, mask in zip(batch.inputs, batch.baselines, made, strict=True):
            below = at_least_single(b if len(b) == 1 else b[owners])
            seen = below + mask[which] * (at_least_single(x[owners]) - below)
            shown.append(seen.to(x.dtype))
        scores = score(tuple(shown), owners.cpu()).to(batch.device)
        _check_finite(scores, start, count)
        table = scores.new_zeros(count, len(made[0]))
        table[owners, which] = scores
        # Autocast would round the product to half precision.
        with torch.autocast(batch.device.type, enabled=False):
            shares = [
                (table.to(mask.dtype) @ mask.flatten(1)).view(total.shape)
                for total, mask in zip(sums, made, strict=True)
            ]
        # Memory that runs out has done so by now: what is tried again counts once.
        for total, share in zip(sums, shares, strict=True):
            total += share
        update(stop - start)

    chunks.run(count * len(masks), body)
    return sums


def _check_finite(scores: Tensor, start: int, count: int) -> None:
    for (row,) in (~torch.isfinite(scores)).nonzero().tolist():
        mask, example = divmod(start + row, count)
        raise RuntimeError(
            f"forward_func must return finite scores, got {scores[row].item()} in the "
            f"pass of example {example} with mask {mask}. Check the model, and use "
            "float32 or bfloat16 where float16 overflows."
        )
