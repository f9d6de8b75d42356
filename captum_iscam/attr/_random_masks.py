"""The random masks of RISE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single


class RandomMasks:
    """Coarse random grids, brought to the size of an input when they are asked for.

    What is random is drawn at once, a few numbers per mask, so neither the batch nor
    the chunks matter. The cells, a byte each, are brought to the device at once too: a
    copy in every pass would wait for the device. The shifts stay on the host, where
    they select windows.

    Args:
        count (int): Number of masks.
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
        """Returns the number of masks."""
        return len(self._shifts)

    def make(self, first: int, last: int, like: Tensor) -> Tensor:
        """Returns masks `first` to `last`, `(masks, 1, *spatial of the input)`."""
        size = like.shape[2:]
        grid = self._cells.shape[1:]
        pixels = [-(-side // cells) for side, cells in zip(size, grid, strict=True)]
        whole = [(n + 1) * p for n, p in zip(grid, pixels, strict=True)]
        cells = self._cells[first:last].unsqueeze(1)
        wide = _enlarge(cells.to(at_least_single(like[:0]).dtype), whole)
        cropped = []
        for mask, shifts in zip(wide, self._shifts[first:last], strict=True):
            starts = [int(u * p) for u, p in zip(shifts, pixels, strict=True)]
            window = [slice(i, i + n) for i, n in zip(starts, size, strict=True)]
            cropped.append(mask[(slice(None), *window)])
        return torch.stack(cropped)


def _enlarge(cells: Tensor, size: Sequence[int]) -> Tensor:
    """Returns cells `(masks, 1, *grid)` interpolated linearly to a larger size.

    Beyond the centre of an outermost cell its neighbours are mirrored at the centre, as
    in the authors' code (skimage's mode "reflect"). Where `interpolate` of torch goes
    on with the outermost cell alone, a twentieth of the pixels would differ.
    """
    # The last dimension first: what is copied last are whole rows then.
    for dim, places in reversed(list(enumerate(size, start=2))):
        last = cells.shape[dim] - 1
        index = torch.arange(places, device=cells.device)
        # Twice `places` times where the centre of each pixel is between the cells, in
        # integers, so that no rounding takes it to another cell.
        at = (2 * index + 1) * (last + 1) - places
        below = at.div(2 * places, rounding_mode="floor")
        share = (at - 2 * places * below).to(cells.dtype) / (2 * places)
        low, high = (
            cells.index_select(dim, (last - (last - i.abs()).abs()).clamp(min=0))
            for i in (below, below + 1)
        )
        line = [-1 if d == dim else 1 for d in range(cells.dim())]
        cells = torch.lerp(low, high, share.view(line))
    return cells
