"""Warnings that point at the user's line, however deep in the package they arise."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from torch import Tensor

_MOST_NAMED = 10
_PACKAGE = str(Path(__file__).parents[1])


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns as if the first caller outside this package and Captum had."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(_PACKAGE)
        or frame.f_globals.get("__name__", "").partition(".")[0] == "captum"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)


def warn_of_examples(which: Tensor, text: str) -> None:
    """Warns once, naming the examples, where there are any.

    Args:
        which (Tensor): Of which examples, `(N,)` or `(N, T)` of bool. An example is
            named with its targets where there are several.
        text (str): The warning, with {} where the examples go.
    """
    found = which.nonzero().tolist()
    if not found:
        return
    # An example is named once, with all of its columns.
    columns: dict[int, list[str]] = {}
    for n, *column in found[:_MOST_NAMED]:
        columns.setdefault(n, []).extend(map(str, column))
    several = which.dim() > 1 and which.shape[1] > 1
    names = [
        f"{n} (column{'s' * (len(of) > 1)} {', '.join(of)} of target)"
        if several
        else str(n)
        for n, of in columns.items()
    ]
    left = len(found) - _MOST_NAMED
    more = f" and {left} more" if left > 0 else ""
    plural = "s" if len(names) > 1 else ""
    warn_user(text.format(f"example{plural} {', '.join(names)}{more}"))
