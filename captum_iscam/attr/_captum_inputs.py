"""The first passes of Captum's methods of the input, which check nothing themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import TargetScore
from captum_iscam._utils.further_arguments import copied
from captum_iscam._utils.inputs import Batch, batch_axis_named
from captum_iscam._utils.steadiness import Ends
from captum_iscam._utils.target import Target
from captum_iscam._utils.training import keeping_buffers
from captum_iscam.attr._layout import warn_of_inputs


def checked_model(
    forward_func: Callable[..., Any],
    batch: Batch,
    target: Target,
    internal_batch_size: int,
) -> Callable[..., Any]:
    """Returns the model for a method of Captum's, or raises what it would not name.

    A few passes show whether model, inputs and target fit, and whether
    the score depends on anything but the input. Later passes leave inputs and buffers
    as they are.

    Args:
        forward_func (Callable): The model.
        batch (Batch): The inputs and baselines.
        target (int, tuple, Tensor or list, optional): The output to explain.
        internal_batch_size (int): Rows of a forward pass.
    """
    kept = keeping_buffers(forward_func)
    count = batch.num_examples
    score = TargetScore(kept, "identity", target, None, count, batch.device)
    chunks = Chunks(internal_batch_size, batch.inputs, forward_func=forward_func)
    with torch.no_grad():
        axis_named = batch_axis_named(kept, batch.inputs, None)
        with axis_named as taken, score.first_pass():
            output = kept(*map(copied, batch.inputs))
            score.check(output, batch.inputs)
        warn_of_inputs(taken, batch.inputs)
        found = score.of_inputs(output).to(batch.device)
        every = range(len(batch.inputs))
        Ends(batch, score, chunks, found, every).warn_of_unsteady()
    return lambda *args: kept(*map(copied, args))
