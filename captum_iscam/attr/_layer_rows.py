"""Whether row `i` of a layer is that of input `i`, whatever other rows are beside it.

A map is made of row `i` of the layer's output and row `i` of the scores. A model that
sorts its inputs inside, by length for instance, and puts its outputs back in order,
takes them from different inputs without any change of a score. So what the layer gives
for the inputs is compared with what it gives in a pass that is there anyway and has
other rows: inputs and baselines in turn, or the last input alone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.forward import TargetScore
from captum_iscam._utils.hooks import REGISTERING, is_compiled
from captum_iscam._utils.warn import warn_of_examples

# Rounding moves a row by far less, also in half precision, another input by far more.
_ANOTHER = 0.25


class LayerRows:
    """What a layer gave for the inputs, to be compared with a later pass.

    One input has no others beside it, and its map is right in any order. Compiled
    models run no hooks, and replicas of `DataParallel` are other modules: with either,
    nothing is seen and nothing said.

    Args:
        score (TargetScore): Scores the inputs. Where it has warned of scores that
            change by chance, or of training mode, nothing more is said.
        layer (torch.nn.Module): The layer.
        of_input (bool): Whether the layer's input is explained.
    """

    def __init__(self, score: TargetScore, layer: nn.Module, of_input: bool) -> None:
        self._score = score
        self._layer = layer
        # A hook would have it compiled anew.
        self._silent = is_compiled(score.forward_func)
        self._of_input = of_input
        self._found: list[Tensor] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Keeps what the layer gives in this thread's passes."""
        if self._silent:
            yield
            return
        here = threading.get_ident()

        def keep(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            value = given if self._of_input else output
            if isinstance(value, tuple | list) and value:
                value = value[0]
            if threading.get_ident() == here and isinstance(value, Tensor):
                # A copy: the model may go on in the same memory.
                self._found.append(value.detach().clone())

        with REGISTERING:
            handle = self._layer.register_forward_hook(keep)
        try:
            yield
        finally:
            handle.remove()

    def warn(
        self, expected: Tensor, count: int, beside: int = 1, before: int = 0
    ) -> None:
        """Warns of the examples whose rows are others now.

        The last input alone, of gradient methods, shows an order in which it is not
        last. Any other order would need a pass of its own.

        Args:
            expected (Tensor): What the layer gave for the inputs of the watched passes,
                one row or several for each.
            count (int): How many inputs that are.
            beside (int, optional): How many inputs of the watched passes belong to each
                of them, itself the last. Default: 1
            before (int, optional): The number of its first example. Default: 0
        """
        training = getattr(self._score.forward_func, "in_training_mode", False)
        rows = sum(map(len, self._found))
        if (
            self._score.warned
            or training
            or rows != beside * len(expected)
            or rows % (beside * count)
        ):
            return  # the layer has not run, or several times in a pass
        found = torch.cat(self._found).to(expected)
        found = found.reshape(count, beside, -1)[:, -1]
        expected = expected.detach().reshape(count, -1)
        if found.shape != expected.shape:
            return
        size = torch.maximum(found.abs().amax(1), expected.abs().amax(1))
        other = (found - expected).abs().amax(1) > _ANOTHER * size
        warn_of_examples(
            torch.cat([other.new_zeros(before), other]),
            "What the layer gives for {} changes with the inputs beside it in a "
            "forward pass, as where a model sorts its inputs, so the map may be that "
            "of another one. Pass one input at a time.",
        )
