"""Whether the score of an input depends on anything but the input.

Scores of masked inputs are compared with `s(b)` and `s(x)`, which is of no use where a
score changes with the other rows of a forward pass, from call to call, or with the
layout of the input in memory. So the inputs are scored twice: in a pass of their own,
and in one in which they alternate with the baselines.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import TargetScore
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


def score_ends(
    batch: Batch,
    score: TargetScore,
    chunks: Chunks,
    like: Tensor,
    positions: Sequence[int],
    layout: torch.memory_format = torch.contiguous_format,
) -> tuple[Tensor, Tensor]:
    """Returns `s(b)` and `s(x)`, `(N, T)` each, of passes that hold rows of both.

    Args:
        batch (Batch): The inputs and baselines.
        score (TargetScore): Scores them.
        chunks (Chunks): How many rows go into one forward pass.
        like (Tensor): `s(x)` of the pass of the inputs alone, `(N, T)`.
        positions (Sequence[int]): Which of the inputs are masked; the others are passed
            on as they are.
        layout (torch.memory_format, optional): The layout of masked inputs in memory.
            Default: torch.contiguous_format
    """
    # Filled in place: a model may write every output to the same memory.
    scores = like.new_empty(2 * len(like), like.shape[1])

    def body(start: int, stop: int) -> None:
        rows = torch.arange(start, stop, device=batch.device)
        examples = rows // 2
        ends = [x[examples] for x in batch.inputs]
        for i in positions:
            baseline = rows_of(batch.baselines[i], examples)
            full = (rows % 2 == 1).view(-1, *[1] * (baseline.dim() - 1))
            end = torch.where(full, ends[i], baseline)
            ends[i] = end.contiguous(memory_format=layout)
        scores[start:stop] = score(tuple(ends), examples).view(stop - start, -1)

    chunks.run(len(scores), body)
    baselines, inputs = scores.view(len(like), 2, -1).unbind(1)
    return baselines.clone(), inputs.clone()


def require_finite_ends(baselines: Tensor, inputs: Tensor) -> None:
    """Raises unless what `score_ends` returned is finite.

    Args:
        baselines (Tensor): `s(b)`, `(N, T)`.
        inputs (Tensor): `s(x)`, `(N, T)`.

    Raises:
        RuntimeError: With the pass whose score is NaN or infinite.
    """
    count = len(baselines)

    def name_of(row: int) -> str:
        if row < count:
            return f"the baseline pass of example {row}"
        return f"the pass of example {row - count} next to its baseline"

    require_finite(torch.cat([baselines, inputs]), name_of)


def differ(
    first: Tensor,
    second: Tensor,
    scale: Tensor,
    batch: Batch,
    at_least: float = 0.0,
) -> Tensor:
    """Returns which scores differ by more than rounding, bool, NaN always.

    Args:
        first (Tensor): Scores of any shape.
        second (Tensor): The same scores again.
        scale (Tensor): Further scores, whose size counts as well.
        batch (Batch): The inputs.
        at_least (float, optional): What rounding may change a score by at least, as a
            share of it, but in double precision. Default: 0
    """
    share = _ROUNDING
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
    if score.warned or getattr(score.forward_func, "in_training_mode", False):
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


def autocasts(device: torch.device) -> bool:
    """Returns whether torch.autocast is on for a device."""
    try:
        return torch.is_autocast_enabled(device.type)
    except TypeError:  # torch 2.3 asks for each device by a function of its own
        on_cpu = device.type == "cpu"
        asked = torch.is_autocast_cpu_enabled if on_cpu else torch.is_autocast_enabled
        return asked()
