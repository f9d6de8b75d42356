"""Whether a method draws random numbers, which a metric that calls it would measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from captum_iscam._utils.warn import warn_user


class WatchedDraws:
    """Warns, once, if a method draws random numbers inside of a `with` block.

    A metric that compares maps of several calls cannot tell what the input, the
    parameters or the class have changed from what other draws have changed. The maps
    of two more calls would show it too, but at the price of these calls. So the states
    of random generators are compared: torch's and NumPy's own, and those that the
    method was given, by `functools.partial` or when it was constructed.

    Args:
        explanation_func (Callable): The method.
    """

    def __init__(self, explanation_func: Callable[..., Any]) -> None:
        self._own = list(_generators(explanation_func))
        self._said = False

    def __enter__(self) -> None:
        self._before = self._states()

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is None and not self._said and self._states() != self._before:
            self._said = True
            warn_user(
                "explanation_func draws other random numbers in every call, and the "
                "metric measures their effect as well. Seed each call: lambda inputs, "
                "target: method.attribute(inputs, target, "
                "generator=torch.Generator().manual_seed(0))."
            )

    def _states(self) -> list[bytes]:
        states = [torch.get_rng_state(), *(g.get_state() for g in self._own)]
        if torch.cuda.is_initialized():
            states += torch.cuda.get_rng_state_all()
        # The old generator of NumPy is the one that other people's methods draw from.
        _, keys, place, *_ = np.random.get_state()  # noqa: NPY002
        numpys = [np.asarray(keys).tobytes(), str(place).encode()]
        return numpys + [state.numpy().tobytes() for state in states]


def _generators(explanation_func: Callable[..., Any]) -> Iterator[torch.Generator]:
    values: list[object] = []
    while isinstance(explanation_func, partial):
        values += [*explanation_func.args, *explanation_func.keywords.values()]
        explanation_func = explanation_func.func
    owner = getattr(explanation_func, "__self__", explanation_func)
    values += getattr(owner, "__dict__", {}).values()
    yield from (value for value in values if isinstance(value, torch.Generator))
