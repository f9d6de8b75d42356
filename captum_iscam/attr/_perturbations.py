"""The perturbed inputs of gradient methods, cut into chunks, and sums over them.

A method says how each example is perturbed (`Perturbations`) and what becomes of the
gradients (`GradientAccumulator`). A `Chunk` is the rows of one pass. When memory runs
out, a chunk is tried again in halves. So an accumulator changes nothing before all that
needs memory is done, and `Totals` remembers how far each output is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from captum_iscam._utils.inputs import Batch
from captum_iscam.attr._base import rectified
from captum_iscam.attr._weightings import GradientWeighting, WeightedMap


class GradientAccumulator(Protocol):
    """What becomes of the gradients of one target at one output of the layer."""

    def add(self, index: int, rows: slice, grads: Tensor, values: Tensor) -> None:
        """Adds what one perturbation of some examples gives; nothing if it raises.

        Whatever needs memory comes before the first change, so that rows that are
        tried again in a smaller chunk count once.

        Args:
            index (int): Which perturbation.
            rows (slice): Which examples.
            grads (Tensor): Their gradients `(rows, K, *spatial)`.
            values (Tensor): Their activations, of the same shape.
        """

    def maps(self) -> Tensor:
        """Returns the maps `(N, 1, *spatial)`."""


class Perturbations(Protocol):
    """The perturbed inputs of each example, one perturbation after the other.

    Attributes:
        shows_first (bool): Whether the only perturbation shows what the first pass did.
    """

    shows_first: bool

    @property
    def first(self) -> tuple[Tensor, ...]:
        """What the pass without gradients shows, which checks model and target."""

    def __len__(self) -> int:
        """How many perturbations there are."""

    def make(self, index: int, rows: slice) -> tuple[Tensor, ...]:
        """Returns the inputs under one perturbation, for the examples in `rows`."""

    def name(self, index: int) -> str:
        """Returns the perturbation in words that follow "the pass of example 3"."""

    def accumulator(self, activations: Tensor) -> GradientAccumulator:
        """Returns a place for the gradients, given what the first pass gave."""

    def finish(self, maps: Tensor) -> Tensor:
        """Returns the maps `(N, T, *spatial)` of all targets, rectified on request."""


class IdentityPerturbation:
    """The inputs as they are: one perturbation, the identity.

    Args:
        batch (Batch): The inputs.
        weighting (GradientWeighting): What becomes of the gradients.
        relu (bool): Whether the maps are rectified.
    """

    shows_first = True

    def __init__(self, batch: Batch, weighting: GradientWeighting, relu: bool) -> None:
        self._batch = batch
        self._weighting = weighting
        self._relu = relu

    @property
    def first(self) -> tuple[Tensor, ...]:
        """The inputs."""
        return self._batch.inputs

    def __len__(self) -> int:
        """One."""
        return 1

    def make(self, index: int, rows: slice) -> tuple[Tensor, ...]:
        """Returns the inputs of the examples."""
        return tuple(x[rows] for x in self._batch.inputs)

    def name(self, index: int) -> str:
        """Returns how the pass differs from the one without gradients."""
        return "with gradients"

    def accumulator(self, activations: Tensor) -> GradientAccumulator:
        """Returns the maps, still zero."""
        return WeightedMap(activations, self._weighting)

    def finish(self, maps: Tensor) -> Tensor:
        """Returns the maps, rectified on request."""
        return rectified(maps, self._relu, self._weighting.zero)


class Chunk:
    """The rows of one pass: perturbations of examples, examples varying fastest.

    Args:
        perturbations (Perturbations): All perturbations.
        start (int): The first row of all `N * len(perturbations)`.
        stop (int): The row after the last.
        count (int): `N`.
    """

    def __init__(
        self, perturbations: Perturbations, start: int, stop: int, count: int
    ) -> None:
        self._perturbations = perturbations
        self.start = start
        self.stop = stop
        self._count = count

    def examples(self, device: torch.device) -> Tensor:
        """Returns the example of each row."""
        return torch.arange(self.start, self.stop, device=device) % self._count

    def inputs(self) -> tuple[Tensor, ...]:
        """Returns what the model is shown."""
        shown = [
            self._perturbations.make(index, rows) for index, rows, _ in self.runs(0)
        ]
        return tuple(torch.cat(column) for column in zip(*shown, strict=True))

    def runs(self, begin: int) -> Iterator[tuple[int, slice, slice]]:
        """Yields perturbation, examples and their place, from row `begin` on."""
        first, count = max(begin, self.start), self._count
        while first < self.stop:
            index, example = divmod(first, count)
            last = min(self.stop, (index + 1) * count)
            rows = slice(example, example + last - first)
            yield index, rows, slice(first - self.start, last - self.start)
            first = last


class Totals:
    """The sums of all targets at all outputs of the layer.

    Every row is added once, even when memory runs out after the first targets and the
    chunk is tried again in halves.

    Args:
        perturbations (Perturbations): All perturbations.
        outputs (Sequence[Tensor]): What the first pass gave, for `N` examples.
        num_targets (int): `T`.
    """

    def __init__(
        self, perturbations: Perturbations, outputs: Sequence[Tensor], num_targets: int
    ) -> None:
        self._perturbations = perturbations
        self._count = len(outputs[0])
        self._sums = [
            [perturbations.accumulator(output) for output in outputs]
            for _ in range(num_targets)
        ]
        self._done = [[0] * len(outputs) for _ in range(num_targets)]
        # Asked at the end, so that no pass waits for an answer of the one before.
        self._first_finite = torch.stack([torch.isfinite(o).all() for o in outputs])
        self._finite = torch.ones(
            self._count * len(perturbations), dtype=torch.bool, device=outputs[0].device
        )

    def watch(self, chunk: Chunk, values: Tensor) -> None:
        """Notes which rows of a chunk are finite."""
        finite = torch.isfinite(values.detach()).reshape(len(values), -1).all(1)
        self._finite[chunk.start : chunk.stop] &= finite.to(self._finite.device)

    def add(
        self, chunk: Chunk, target: int, grads: list[Tensor], values: list[Tensor]
    ) -> None:
        """Adds gradients and activations of a chunk, one of each for each output."""
        done = self._done[target]
        for output, total in enumerate(self._sums[target]):
            self.watch(chunk, grads[output])
            for index, rows, place in chunk.runs(done[output]):
                total.add(index, rows, grads[output][place], values[output][place])
                done[output] = chunk.start + place.stop

    def maps(self) -> tuple[Tensor, ...]:
        """Returns the maps of each output, if all that was seen is finite."""
        self._check()
        return tuple(
            self._perturbations.finish(torch.cat([total.maps() for total in totals], 1))
            for totals in zip(*self._sums, strict=True)
        )

    def _check(self) -> None:
        """Raises for the first pass that was not finite."""
        if not bool(self._first_finite.all().item()):
            raise RuntimeError(
                "forward_func must give finite activations, got NaN or infinity from "
                "the layer in the first pass, of the inputs or of the baselines. Check "
                "them, and use float32 or bfloat16 where float16 overflows."
            )
        for row in (~self._finite).nonzero()[:1].reshape(-1).tolist():
            index, example = divmod(row, self._count)
            raise RuntimeError(
                "forward_func must give finite scores and gradients, got NaN or "
                f"infinity in the pass of example {example} "
                f"{self._perturbations.name(index)}. "
                "Check the model, and use float32 or bfloat16 where float16 overflows."
            )
