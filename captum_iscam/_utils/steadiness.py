"""Whether the score of an input depends on anything but the input.

Scores of masked inputs are compared with `s(b)` and `s(x)`, which is of no use where a
score changes with the other rows of a forward pass, from call to call, or with the
layout of the input in memory. So the inputs are scored twice: in a pass of their own,
and in one in which they alternate with the baselines. That does not show what only
brighter inputs beside it do to one, as a division by the largest value of a pass, or
dynamic quantisation. So the first example is scored at a quarter of its strength too:
next to the whole one, and alone. What is shown stays the same for all scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import TargetScore, at_least_single
from captum_iscam._utils.inputs import Batch, rows_of
from captum_iscam._utils.validation import require_finite
from captum_iscam._utils.warn import warn_of_examples

# What rounding may change a score by, as a share of it. Kernels, and so their rounding,
# change with the number of rows: logits by 1e-6 to 1e-5 of their size on a CPU, by 1e-3
# in an accelerator's TensorFloat-32 and by percents in half precision, and
# probabilities by some ten times as much.
_ROUNDING = 0.001
_ROUNDING_OF_ACCELERATORS = 0.02
_ROUNDING_OF_HALF = 0.25


ALONE = 0.02
"""Share of the largest score by which one row alone may differ from it among others.

In single precision: kernels round otherwise for other numbers of rows, and a deep
network without training amplifies that, EfficientNet-B0 on twelve random inputs to up
to 0.8 % of its largest logit. Batch statistics or dropout change far more."""
FADED = 0.25
"""Strength of the input that is scored among brighter ones and alone."""


class Ends:
    """Scores of baselines and inputs in passes that hold rows of both.

    Args:
        batch (Batch): The inputs and baselines.
        score (TargetScore): Scores them.
        chunks (Chunks): How many rows go into one forward pass.
        input_score (Tensor): `s(x)` of the pass of the inputs alone, `(N, T)`.
        positions (Sequence[int]): Which of the inputs are masked; the others are passed
            on as they are.
        layout (torch.memory_format, optional): The layout of masked inputs in memory.
            Default: torch.contiguous_format

    Attributes:
        baselines (Tensor): `s(b)`, `(N, T)`.
        inputs (Tensor): `s(x)`, `(N, T)`.
    """

    def __init__(
        self,
        batch: Batch,
        score: TargetScore,
        chunks: Chunks,
        input_score: Tensor,
        positions: Sequence[int],
        layout: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self._batch, self._score = batch, score
        self._input_score = input_score
        self._positions, self._layout = positions, layout
        count = len(input_score)
        # Filled in place: a model may write every output to the same memory.
        scores = input_score.new_empty(2 * count + 1, input_score.shape[1])

        def body(start: int, stop: int) -> None:
            rows = torch.arange(start, stop, device=batch.device)
            scores[start:stop] = self._score_rows(rows, int(start == 0))

        chunks.run(len(scores), body)
        self._has_neighbours = chunks.size > 2
        self.baselines, self.inputs = scores[1:].view(count, 2, -1).unbind(1)
        self._faded = scores[:1]

    def unsteady(self) -> Tensor:
        """Returns which `s(x)` are others next to the baseline than alone, `(N, T)`.

        Raises:
            RuntimeError: With the pass whose score is NaN or infinite.
        """
        self._require_finite()
        ends = self.inputs, self._input_score, self.baselines, self._batch
        # A map is made of differences of scores. Where these are small, so is a change
        # that spoils it.
        change = (self.inputs - self._input_score).abs()
        spoils = change > 0.1 * (self._input_score - self.baselines).abs()
        return differ(*ends) | (spoils & differ(*ends, part=0.2))

    def warn_of_unsteady(self) -> None:
        """Warns of scores that are not of their input alone, of this and one pass."""
        which = self.unsteady()
        if self._has_neighbours and is_asked(self._score) and not which.any():
            # Two copies of it, unless a single input was passed before: compiled code
            # is compiled anew for one row.
            copies = min(2, len(which))
            rows = torch.zeros(copies, dtype=torch.long, device=self._batch.device)
            alone = self._score_rows(rows, copies)[:1]
            sizes = torch.cat([self.baselines, self.inputs]).abs()
            largest = sizes.amax(0, keepdim=True)
            changed = differ(alone, self._faded, largest, self._batch, ALONE)
            # NaN both times says nothing: no input of a map need be as faint.
            which[0] = (changed & ~(alone.isnan() & self._faded.isnan()))[0]
        warn_of_unsteady(self._score, which)

    def _score_rows(self, rows: Tensor, faint: int) -> Tensor:
        """Returns the scores of some of the rows, of which the first few are faint.

        Row 0 is the faint input, then come `s(b)` and `s(x)` in turn. So the whole one
        is beside it in any pass of three rows or more.
        """
        batch = self._batch
        examples = (rows - 1).clamp(min=0) // 2
        ends = [x[examples] for x in batch.inputs]
        for i in self._positions:
            baseline = rows_of(batch.baselines[i], examples)
            column = (-1, *[1] * (baseline.dim() - 1))
            whole = (rows > 0) & (rows % 2 == 0)
            end = torch.where(whole.view(column), ends[i], baseline)
            low = at_least_single(baseline[:1])
            end[:faint] = torch.lerp(low, at_least_single(ends[i][:faint]), FADED)
            ends[i] = end.contiguous(memory_format=self._layout)
        return self._score(tuple(ends), examples).view(len(rows), -1).clone()

    def _require_finite(self) -> None:
        count = len(self.baselines)

        def name_of(row: int) -> str:
            if row < count:
                return f"the baseline pass of example {row}"
            return f"the pass of example {row - count} next to its baseline"

        require_finite(torch.cat([self.baselines, self.inputs]), name_of)


def differ(
    first: Tensor,
    second: Tensor,
    scale: Tensor,
    batch: Batch,
    at_least: float = 0.0,
    part: float = 1.0,
) -> Tensor:
    """Returns which scores differ by more than rounding, bool, NaN always.

    Args:
        first (Tensor): Scores of any shape.
        second (Tensor): The same scores again.
        scale (Tensor): Further scores, whose size counts as well.
        batch (Batch): The inputs.
        at_least (float, optional): What rounding may change a score by at least, as a
            share of it, but in double precision. Default: 0
        part (float, optional): What part of that is taken where rounding is known to
            be small: on a CPU, and not in half precision. Default: 1
    """
    share = part * _ROUNDING
    if batch.device.type != "cpu":
        share = _ROUNDING_OF_ACCELERATORS
    kinds = {x.dtype for x in batch.inputs if x.is_floating_point()}
    if autocasts(batch.device) or any(torch.finfo(kind).bits < 32 for kind in kinds):
        share = _ROUNDING_OF_HALF
    if kinds != {torch.double}:
        share = max(share, at_least)
    sizes = torch.stack([first.abs(), second.abs(), scale.abs()]).amax(0)
    return ~((first - second).abs() <= share * sizes)


def warn_of_unsteady(score: TargetScore, which: Tensor, what: str = "the map") -> None:
    """Warns once per call of the examples `(N, T)` whose score is not theirs alone.

    A model in training mode has been warned of.

    Args:
        score (TargetScore): Scores them.
        which (Tensor): Of which examples, of bool.
        what (str, optional): What changes with their scores. Default: "the map"
    """
    if not is_asked(score):
        return
    score.warned = bool(which.any())
    warn_of_examples(
        which,
        "The score of {} changes from call to call, with the inputs beside it in a "
        f"forward pass, or with the layout of the input in memory, and so does {what}. "
        "Without dropout, random numbers and batch statistics in forward_func it does "
        "not: give functions such as torch.nn.functional.dropout and batch_norm "
        "training=False. Where only the inputs beside it matter, pass one input with "
        "internal_batch_size=1.",
    )


def is_asked(score: TargetScore) -> bool:
    """Returns whether no warning has said yet that scores are unsteady."""
    training = getattr(score.forward_func, "in_training_mode", False)
    return not (score.warned or training)


def autocasts(device: torch.device) -> bool:
    """Returns whether torch.autocast is on for a device."""
    try:
        return torch.is_autocast_enabled(device.type)
    except TypeError:  # torch 2.3 asks for each device by a function of its own
        on_cpu = device.type == "cpu"
        asked = torch.is_autocast_cpu_enabled if on_cpu else torch.is_autocast_enabled
        return asked()
