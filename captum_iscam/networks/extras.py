"""Libraries that come with an extra of the package."""

from __future__ import annotations

import importlib
from types import ModuleType


def import_extra(library: str, extra: str, name: str) -> ModuleType:
    """Returns a library that need not be installed.

    Raises:
        ValueError: If it is missing; the message names the extra.
    """
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ValueError(
            f"model must be of a library that is installed, got {name!r} without "
            f"{library} ({error}). Install it: pip install 'captum_iscam[{extra}]'."
        ) from error
