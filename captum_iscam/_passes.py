"""How often a model runs, whoever makes it run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass
class Passes:
    """Passes through a model so far.

    Attributes:
        calls (int): How often the model ran.
        rows (int): How many inputs it saw in all.
        backward_rows (int): For how many of them a gradient came back.
    """

    calls: int = 0
    rows: int = 0
    backward_rows: int = 0


@contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Counts the passes through a model, whoever causes them.

    Args:
        model (torch.nn.Module): The model; not one that was compiled or scripted,
            which runs no hooks. Gradients are counted where the model returns a tensor.

    Yields:
        *Passes*, which goes on counting until the block ends.

    Examples::

        >>> import torch
        >>> model = nn.Linear(2, 3)
        >>> with count_passes(model) as passes:
        ...     model(torch.rand(5, 2)).sum().backward()
        >>> passes
        Passes(calls=1, rows=5, backward_rows=5)
    """
    passes = Passes()
    counting = True

    def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = (x for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        passes.calls += 1
        passes.rows += _rows(next(tensors, None))

    def watch(_: nn.Module, args: object, output: object) -> None:
        # A hook of the tensor, since a backward hook of the module wraps its inputs,
        # which forbids layers that work in place.
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(count_back)

    def count_back(gradient: Tensor) -> None:
        if counting:
            passes.backward_rows += _rows(gradient)

    handles = [
        model.register_forward_pre_hook(count, with_kwargs=True),
        model.register_forward_hook(watch),
    ]
    try:
        yield passes
    finally:
        counting = False
        for handle in handles:
            handle.remove()


def _rows(tensor: Tensor | None) -> int:
    return len(tensor) if tensor is not None and tensor.dim() else 1
