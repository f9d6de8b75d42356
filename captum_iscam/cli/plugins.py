"""`--plugin`: modules of the user that register methods, metrics and data."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from captum_iscam._utils.importing import code_sha256, import_file
from captum_iscam._utils.user_code import user_code


def load_plugins(names: Iterable[str]) -> dict[str, str | None]:
    """Imports plugins, which register what they define while they are imported.

    Args:
        names (Iterable[str]): Dotted names of modules, or paths that end with `.py`.

    Returns:
        *dict* with the SHA-256 of each plugin's code by its name: the dotted name, or
        the file's name without its folder. It is that of the file and of what it
        imports that is not installed, and None where a module has no file.

    Raises:
        ValueError: If a plugin cannot be imported, or two files have the same name.
    """
    digests: dict[str, str | None] = {}
    files: dict[str, str] = {}
    for name in dict.fromkeys(names):
        label = Path(name).name if name.endswith(".py") else name
        if label in digests:
            raise ValueError(
                f"plugin must be files of different names, got {files[label]!r} and "
                f"{name!r}. Rename one."
            )
        module = _import(name)
        digests[label], files[label] = code_sha256(module), name
    return digests


def _import(name: str) -> ModuleType:
    try:
        with user_code():
            if name.endswith(".py"):
                return import_file(Path(name), "captum_iscam_plugin_")
            return importlib.import_module(name)
    # Importing runs the user's code, which may raise anything.
    except Exception as error:
        raise ValueError(
            "plugin must be a module or a FILE.py that can be imported, got "
            f"{name!r} ({type(error).__name__}: {error}). Correct it, or install what "
            "it needs."
        ) from error
