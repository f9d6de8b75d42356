"""Whether scores depend on the inputs alone, which a metric asks each model once.

A metric compares scores of different passes. They say nothing of the map where a score
changes from call to call, as with dropout that is always on, or with the other rows of
a pass, as with batch statistics. So the brighter of two rows of a metric's first pass
is scored once more, next to a faint copy of itself. That one is scored alone too: it
shows what brighter inputs of a pass do to one.

A metric may be called for each image of thousands, and some score two inputs per image.
A model is therefore asked once: one whose scores were steady is not asked again, unless
its first pass was of a single row, which says nothing of the other rows of a pass.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from captum_iscam._utils.forward import TargetScore
from captum_iscam._utils.inputs import Batch
from captum_iscam._utils.steadiness import FADED, differ, warn_of_unsteady

# Models, and whether their steady pass was of several rows.
_STEADY: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


class SteadinessCheck:
    """Scores rows of a metric's first pass once more, if the model needs it.

    Args:
        forward_func (Callable): The model, as the caller gave it.
        score (TargetScore): Scores it.
        batch (Batch): The examples.
    """

    def __init__(
        self, forward_func: Callable[..., Any], score: TargetScore, batch: Batch
    ) -> None:
        self._forward_func, self._score, self._batch = forward_func, score, batch
        self._needed = True
        self._several = False
        self._rows: tuple[tuple[Tensor, ...], Tensor] | None = None
        self._found: Tensor | None = None

    def before(self, inputs: tuple[Tensor, ...], examples: Tensor) -> None:
        """Keeps rows of the first pass, since a model may write to its inputs."""
        if not self._needed or self._rows is not None:
            return
        self._several = len(examples) > 1
        self._needed = not self._is_known()
        if self._needed:
            self._rows = tuple(map(self._ends, inputs)), self._ends(examples)

    def after(self, scores: Tensor) -> None:
        """Keeps the scores of these rows."""
        if self._needed and self._found is None:
            self._found = self._ends(scores)

    def finish(self) -> None:
        """Scores the rows once more, and warns where their scores are others."""
        if not self._needed or self._rows is None or self._found is None:
            return
        self._needed = False
        inputs, examples, found = self._brightest(*self._rows, self._found)
        with torch.no_grad():
            # Copies, since a model may return the same memory in every pass.
            again = self._score(tuple(x.clone() for x in inputs), examples).clone()
            if self._several:
                # Two copies of it: compiled code is compiled anew for one row.
                faint = tuple(x[[1, 1]] for x in inputs)
                found = torch.cat([found, self._score(faint, examples)[:1]])
        size = found.nan_to_num(posinf=0, neginf=0).abs().amax().expand_as(found)
        changed = differ(again, found, size, self._batch)
        unsteady = changed & ~(again.isnan() & found.isnan())
        if not bool(unsteady.any().item()):
            with suppress(TypeError):
                _STEADY[self._forward_func] = self._several
            return
        which = torch.zeros(self._batch.num_examples, dtype=torch.bool, device="cpu")
        which[examples.cpu()] = True
        warn_of_unsteady(self._score, which, "the value of the metric")

    def _brightest(
        self, inputs: tuple[Tensor, ...], examples: Tensor, found: Tensor
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """Returns the brighter of two rows and a faint copy of it, and its score.

        Integers, such as indices, are the same in both.
        """
        if not self._several:
            return inputs, examples, found
        first = next((x for x in inputs if x.is_floating_point()), inputs[0])
        row = int(first.abs().flatten(1).amax(1).argmax().item())
        both = [x[[row, row]] for x in inputs]
        for x in both:
            if x.is_floating_point():
                x[1:] *= FADED
        return tuple(both), examples[[row, row]], found[row : row + 1]

    def _ends(self, rows: Tensor) -> Tensor:
        """Returns a copy of the last row and the first one, in this order."""
        return torch.cat([rows[-1:], rows[:1]]) if self._several else rows.clone()

    def _is_known(self) -> bool:
        try:
            steady = _STEADY.get(self._forward_func)
        except TypeError:  # it has no hash or no weak references
            return False
        return steady is not None and steady >= self._several
