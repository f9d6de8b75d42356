"""Networks that a function of the user returns."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256 as digest
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_iscam._utils.files import kind_in_place_of_file
from captum_iscam._utils.hooks import is_compiled
from captum_iscam._utils.importing import code_files, code_sha256, import_file
from captum_iscam._utils.user_code import user_code
from captum_iscam._utils.warn import warn_user
from captum_iscam.networks.parts import Parts, Request, about_weights
from captum_iscam.networks.preprocessing import USUAL
from captum_iscam.networks.weights import find_file, fit_model, read_state

_FORMS = (
    "Write FILE.py:function or package.module:function, where function() returns the "
    "model or (model, transform)."
)


def load(request: Request) -> Parts:
    """Returns the network of a function."""
    where, _, function = request.inside.rpartition(":")
    if not (where and function):
        raise ValueError(f"model must name a function, got {request.name!r}. {_FORMS}")
    if where.endswith(".py") and not os.path.isfile(where):
        raise FileNotFoundError(
            f"model must name an existing file, got {request.name!r}"
            f"{kind_in_place_of_file(where)}. {_FORMS}"
        )
    folder = Path(where).resolve().parent if where.endswith(".py") else Path.cwd()
    with _also_from(folder):
        module = _module(where, request.name)
        model, transform = _call(module, function, request.name)
    file: Path | None = None
    if not request.is_default:
        file = find_file(request.weights)
        model = fit_model(request.name, read_state(file), file, lambda _: model)
    name, sha = about_weights(model, file, "as returned by its function")
    return Parts(model, transform or USUAL, None, name, sha, _source(module, model))


@contextmanager
def _also_from(folder: Path) -> Iterator[None]:
    """Lets code import what is next to it, where no installed module has the name."""
    _forget_namesakes(folder)
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _forget_namesakes(folder: Path) -> None:
    """Has modules imported anew that were next to other code and are next to this."""
    for name, module in list(sys.modules.items()):
        near = (folder / f"{name}.py").is_file() or (folder / name).is_dir()
        if "." in name or not near:
            continue
        where = next(iter(getattr(module, "__path__", ())), None)
        where = where or getattr(module, "__file__", None)
        if where is None or Path(where).is_relative_to(folder) or _is_found(name):
            continue
        for inner in [x for x in sys.modules if x.partition(".")[0] == name]:
            del sys.modules[inner]


def _is_found(name: str) -> bool:
    # Not importlib.util.find_spec, which finds what is loaded.
    finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
    return any(find(name, None) is not None for find in finders if find)


def _module(where: str, name: str) -> ModuleType:
    try:
        with user_code():
            if not where.endswith(".py"):
                return importlib.import_module(where)
            # Two files of one name may be different networks.
            path = str(Path(where).resolve()).encode("utf-8", "surrogateescape")
            prefix = f"captum_iscam_network_{digest(path).hexdigest()[:8]}_"
            return import_file(Path(where), prefix)
    # Importing runs the user's code, which may raise anything.
    except Exception as error:
        # Neither a module of that name nor a library: then it was no module's name.
        if getattr(error, "name", None) == where.partition(".")[0]:
            raise ValueError(
                f"model must begin with timm:, hf:, FILE.py: or the name of a module, "
                f"got {name!r}, and there is no module {where!r}. {_FORMS}"
            ) from error
        raise ValueError(
            f"model must be code that can be imported, got {name!r} "
            f"({_said(error)}). Correct it, or install what it needs."
        ) from error


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400].rstrip(".")


def _call(
    module: ModuleType, function: str, name: str
) -> tuple[nn.Module, Callable[[Any], Tensor] | None]:
    maker = getattr(module, function, None)
    if maker is None or isinstance(maker, nn.Module) or not callable(maker):
        own = [n for n, v in vars(module).items() if callable(v) and n[0] != "_"]
        near = difflib.get_close_matches(function, own, n=5) or own[-5:]
        close = f"Functions there: {', '.join(near)}. " if near else ""
        raise ValueError(
            f"model must name a function of its module, got {name!r}. {close}{_FORMS}"
        )
    try:
        with user_code():
            returned = maker()
    # The user's code, which may raise anything.
    except Exception as error:
        raise ValueError(
            f"model must be a function that returns a model when it is called without "
            f"arguments, got {name!r}, which raised {_said(error)}. Correct it."
        ) from error
    pair = returned if isinstance(returned, tuple) else (returned, None)
    if len(pair) == 2 and isinstance(pair[0], nn.Module):
        model, transform = pair
        _check_model(model, name)
        if transform is None or callable(transform):
            return _uncompiled(model, name), transform
    kinds = ", ".join(type(part).__name__ for part in pair if part is not None)
    raise ValueError(
        f"model must be a function that returns a model or (model, transform), got "
        f"{name!r}, which returns {kinds or None}. {_FORMS}"
    )


def _check_model(model: nn.Module, name: str) -> None:
    """Raises for a model whose layers cannot be looked at."""
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(
            f"model must be a module of Python, got a scripted one from {name!r}, "
            "whose layers cannot be hooked. Return it before torch.jit.script or trace."
        )
    if any(map(is_lazy, model.parameters())):
        raise ValueError(
            f"model must have parameters of known shapes, got lazy ones from {name!r}. "
            "Show it one input before it is returned."
        )
    if any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        raise ValueError(
            f"model must have parameters with values, got some on the device meta from "
            f"{name!r}. Build it on the CPU."
        )
    try:
        model.eval()
    # Exported programs, and the user's code, which may raise anything.
    except Exception as error:
        raise ValueError(
            f"model must be a module that can be set to evaluation mode, got {name!r}, "
            f"which raised {_said(error)}. Return the module before it is exported."
        ) from error


def _uncompiled(model: nn.Module, name: str) -> nn.Module:
    """Returns the model without torch.compile, whose code runs no hooks of layers."""
    if not is_compiled(model):
        return model
    warn_user(
        f"{name} is run without torch.compile, since compiled code runs no hooks of "
        "layers."
    )
    inner = _unwrapped(model)
    for module in list(inner.modules()):
        module._compiled_call_impl = None
        for child_name, child in list(module.named_children()):
            setattr(module, child_name, _unwrapped(child))
    return inner


def _unwrapped(module: nn.Module) -> nn.Module:
    """Returns what torch.compile has wrapped, by whose name its layers begin."""
    wrapped = module._modules.get("_orig_mod")
    return module if wrapped is None else _unwrapped(wrapped)


def _source(module: ModuleType, model: nn.Module) -> str:
    classes = [type(part).__module__ for part in model.modules()]
    files = code_files(module, *classes)
    if not files:
        return module.__name__
    names = [files[0].name, *sorted(file.name for file in files[1:])]
    if len(names) > 5:
        names[5:] = [f"{len(names) - 5} more"]
    return f"{' + '.join(names)}, SHA-256 {code_sha256(module, *classes)}"
