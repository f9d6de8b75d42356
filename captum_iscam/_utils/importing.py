"""Imports of the user's own modules, by dotted name or file."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def import_file(file: Path, prefix: str) -> ModuleType:
    """Returns the module in a file, the same each time.

    Args:
        file (Path): The file.
        prefix (str): What the module's name begins with, since the file's own name may
            be that of an installed module.
    """
    file = file.resolve(strict=True)
    if not file.is_file():
        raise ValueError("not a file")  # reading a pipe would wait for a writer
    name = prefix + file.stem
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(file):
        return known
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"no loader for {file}")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class's module up here.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
