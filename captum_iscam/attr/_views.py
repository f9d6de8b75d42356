"""What a gradient method shows the model, and where the gradients go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

# A place in a sum, and what is to be added there.
Change = tuple[Tensor, Tensor]


class Sums(Protocol):
    """What becomes of the gradients at one output of the layer."""

    def changes(
        self, view: int, rows: slice, grads: Tensor, values: Tensor
    ) -> list[Change]:
        """Returns what a view of some examples adds, in new tensors, without adding it.

        Args:
            view (int): Which view.
            rows (slice): Which examples.
            grads (Tensor): Their gradients `(rows, K, *spatial)`.
            values (Tensor): Their activations, of the same shape.
        """

    def maps(self) -> Tensor:
        """Returns the maps `(N, 1, *spatial)`."""


class Views(Protocol):
    """What the model is shown of each example, one view after the other."""

    @property
    def first(self) -> tuple[Tensor, ...]:
        """What the pass without gradients shows, which checks model and target."""

    def __len__(self) -> int:
        """How many views there are."""

    def show(self, view: int, rows: slice) -> tuple[Tensor, ...]:
        """Returns the inputs of one view, for the examples in `rows`."""

    def name(self, view: int) -> str:
        """Returns the view in words, as they follow on "the pass of example 3"."""

    def sums(self, activations: Tensor) -> Sums:
        """Returns a place for the gradients, given what the first pass gave."""


class Part:
    """The views of some examples that go into one pass, examples varying fastest.

    Args:
        views (Views): All views.
        start (int): The first row of all `N * len(views)`.
        stop (int): The row after the last.
        count (int): `N`.
    """

    def __init__(self, views: Views, start: int, stop: int, count: int) -> None:
        self._views = views
        self._start = start
        self._stop = stop
        self._count = count
        self.examples = torch.arange(start, stop) % count

    def inputs(self) -> tuple[Tensor, ...]:
        """Returns what the model is shown."""
        shown = [self._views.show(view, rows) for view, rows, _ in self._runs()]
        return tuple(torch.cat(column) for column in zip(*shown, strict=True))

    def check(self, values: Tensor) -> Tensor:
        """Returns the values, a row per row of the part, if all are finite."""
        finite = torch.isfinite(values.detach()).reshape(len(values), -1).all(1)
        for (row,) in (~finite).nonzero().tolist():
            view, example = divmod(self._start + row, self._count)
            raise RuntimeError(
                "forward_func must give finite scores and gradients, got NaN or "
                f"infinity in the pass of example {example} {self._views.name(view)}. "
                "Check the model, and use float32 or bfloat16 where float16 overflows."
            )
        return values

    def changes(self, total: Sums, grads: Tensor, values: Tensor) -> list[Change]:
        """Returns what gradients and activations add to a sum.

        Views of the same examples are added up as they come, so that no more than one
        is held.
        """
        self.check(grads)
        self.check(values)
        found: dict[tuple[int, int, int], Change] = {}
        for view, rows, place in self._runs():
            changes = total.changes(view, rows, grads[place], values[place])
            for number, change in enumerate(changes):
                key = (rows.start, rows.stop, number)
                if key in found:
                    found[key][1].add_(change[1])
                else:
                    found[key] = change
        return list(found.values())

    def _runs(self) -> Iterator[tuple[int, slice, slice]]:
        """Yields each view, its examples, and their place in the part."""
        start, stop, count = self._start, self._stop, self._count
        for view in range(start // count, -(-stop // count)):
            first, last = max(start, view * count), min(stop, (view + 1) * count)
            rows = slice(first - view * count, last - view * count)
            yield view, rows, slice(first - start, last - start)
