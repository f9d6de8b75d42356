"""Warnings that point at the user's line, however deep in the package they arise."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


def warn_user(text: str, category: type[Warning] = UserWarning) -> None:
    """Warns as if the first caller outside this package and Captum had."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and (
        frame.f_code.co_filename.startswith(_PACKAGE)
        or frame.f_globals.get("__name__", "").partition(".")[0] == "captum"
    ):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, category, stacklevel=level)
