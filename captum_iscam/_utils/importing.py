"""Imports of the user's own modules, by dotted name or file."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
import sysconfig
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from captum_iscam._utils.files import sha256


class _AsItIs(SourceFileLoader):
    """Compiles a file as it is now: bytecode is kept by size and second alone."""

    digest = ""

    def get_code(self, fullname: str) -> CodeType:
        """Returns the code of the file."""
        source = self.get_data(self.path)
        self.digest = hashlib.sha256(source).hexdigest()
        return self.source_to_code(source, self.path)


def import_file(file: Path, prefix: str) -> ModuleType:
    """Returns the module in a file, the same until the file is changed.

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
    read = getattr(getattr(known, "__loader__", None), "digest", None)
    if known is not None and known.__file__ == str(file) and read == sha256(file):
        return known
    loader = _AsItIs(name, str(file))
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    if spec is None:
        raise ImportError(f"no loader for {file}")
    module = importlib.util.module_from_spec(spec)
    # Dataclasses and pickle look a class's module up here.
    sys.modules[name] = module
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def code_files(module: ModuleType, *others: str) -> list[Path]:
    """Returns the file of a module, then those of the code that it imports.

    Imports are followed through the package of the module and whatever is not
    installed, such as files next to it. Installed packages have versions. What is not
    loaded yet, or imported by a name that is put together, is not seen.

    Args:
        module (ModuleType): The module.
        *others (str): Names of further modules to begin from.
    """
    package = module.__name__.partition(".")[0]
    found: dict[Path, None] = {}
    seen, names = {module.__name__}, [module.__name__, *others]
    while names:
        name = names.pop()
        file = _file_of(sys.modules.get(name))
        if file is None or (name.partition(".")[0] != package and _is_installed(file)):
            continue
        found[file] = None
        new = _imported(sys.modules[name], file) - seen
        names += new
        seen |= new
    own = _file_of(module)
    return [] if own is None else [own, *sorted(found.keys() - {own})]


def _imported(module: ModuleType, file: Path) -> set[str]:
    """Returns the names that import statements of a file may mean."""
    names = {module.__name__}
    with suppress(SyntaxError, ValueError):  # no source, as of an extension
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                start = "." * node.level + (node.module or "")
                with suppress(ImportError):  # it leads out of the package
                    start = importlib.util.resolve_name(start, module.__package__)
                names |= {start, *(f"{start}.{alias.name}" for alias in node.names)}
    # Packages run before what is in them.
    parts = [name.split(".") for name in names]
    return {".".join(p[:end]) for p in parts for end in range(1, len(p) + 1)}


def _file_of(module: ModuleType | None) -> Path | None:
    # Modules may be anything, and torch has some with a file that does not exist.
    file = getattr(module, "__file__", None)
    if isinstance(file, str) and os.path.isabs(file) and os.path.isfile(file):
        return Path(file)
    return None


def _is_installed(file: Path) -> bool:
    if not {"site-packages", "dist-packages"}.isdisjoint(file.parts):
        return True
    standard = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")]
    this = str(Path(__file__).parents[1])
    return any(file.is_relative_to(folder) for folder in (*standard, this))


def code_sha256(module: ModuleType, *others: str) -> str | None:
    """Returns the digest of a module's code: of its file, or of all `code_files`.

    It does not depend on the folders, so code may be moved with all that it imports.
    """
    digests = [(file.name, sha256(file)) for file in code_files(module, *others)]
    if not digests:
        return None
    if len(digests) == 1:
        return digests[0][1]
    return hashlib.sha256(repr([digests[0], *sorted(digests[1:])]).encode()).hexdigest()
