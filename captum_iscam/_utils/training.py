"""Modules in training mode: found and warned of. Buffers of all modules: restored.

In training mode dropout and batch statistics change the scores, and running statistics
move with every pass. The mode of a child counts as much as that of the model. Observers
of quantisation, counters and caches write to their buffers in evaluation mode too.

1. A `Module` is walked through. If nothing in it has buffers, it is used as it is.
2. Any other callable may run modules that nobody can list. A hook of all modules finds
   them in its first pass, before they run. Compiled code would be compiled again under
   that hook, so where a callable refers to some, the modules it refers to are walked
   through instead.
3. After each pass all buffers are what they were. They are written in any case, 0.2 ms
   for the 159 of a ResNet-50: neither the version of a tensor nor its values after the
   first pass tell of all that write to it.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.nn.parameter import is_lazy

from captum_iscam._utils.further_arguments import copied
from captum_iscam._utils.hooks import REGISTERING, is_compiled
from captum_iscam._utils.warn import warn_user

_RANDOM = re.compile("drop|stochasticdepth|rrelu|spectralnorm", re.IGNORECASE)
_ADVICE = (
    "in training mode{}, so dropout and batch statistics may change its scores. Call "
    "model.eval() first."
)
# A function that calls an object that holds the model.
_DEPTH = 2


def keeping_buffers(
    forward_func: Callable[..., Any], by_flag: bool = True
) -> Callable[..., Any]:
    """Returns the model with passes that leave its buffers as they are.

    Warns of modules in training mode, those of a function after its first pass. A
    `Module` without buffers to be restored is returned as it is.

    Args:
        forward_func (Callable): The model, or any function Captum accepts.
        by_flag (bool, optional): Warn of a model that is in training mode itself even
            where no known module in it computes differently then. Default: True
    """
    modules = _Modules()
    model = getattr(forward_func, "_orig_mod", forward_func)
    if isinstance(model, nn.DataParallel):
        model = model.module
    if isinstance(model, nn.Module):
        modules.add(model)
        modules.warn("The model is " if by_flag and model.training else None)
        keeps = modules.buffers or modules.in_training_mode
        return _Keeping(forward_func, modules) if keeps else forward_func
    behind = list(_modules_behind(forward_func, _DEPTH))
    modules.discovering = not any(map(is_compiled, behind))
    if not modules.discovering:
        for module in behind:
            if isinstance(module, nn.Module):
                modules.add(module)
        modules.warn(None)
    return _Keeping(forward_func, modules)


def without_traces(model: nn.Module) -> Callable[..., Any]:
    """Returns a model whose passes change neither their inputs nor its buffers.

    For methods of other libraries, which pass the caller's tensors on.
    """
    kept = keeping_buffers(model)
    return lambda *args: kept(*map(copied, args))


def check_training_mode(forward_func: Callable[..., Any]) -> None:
    """Warns of a model in training mode, whose scores are not those of its use."""
    if isinstance(forward_func, nn.Module):
        keeping_buffers(forward_func)


@contextmanager
def restoring_buffers(model: nn.Module) -> Iterator[None]:
    """Restores what a model's buffers were before the block."""
    modules = _Modules()
    modules.add(model)
    with modules.one_pass():
        yield


class _Keeping:
    """A model whose passes leave its buffers as they are."""

    def __init__(self, forward_func: Callable[..., Any], modules: _Modules) -> None:
        self._forward_func = forward_func
        self._modules = modules

    def __call__(self, *args: Any) -> Any:
        """Returns what the model does."""
        first = self._modules.discovering
        with self._modules.one_pass():
            output = self._forward_func(*args)
        if first:
            self._modules.warn(None)
        return output

    @property
    def in_training_mode(self) -> bool:
        """Whether a module that matters is in training mode."""
        return self._modules.in_training_mode

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._forward_func, name)
        return _Keeping(found, self._modules) if name == "_orig_mod" else found


@dataclass(frozen=True)
class _Buffer:
    """A buffer of a module, as it was before any pass; None for one without a tensor.

    Attributes:
        data (Tensor or None): The tensor under a version of its own: a graph of the
            caller may hold it, and would take the same values written again for a
            change.
        kept (Tensor or None): A copy of it.
    """

    module: nn.Module
    name: str
    tensor: Tensor | None
    data: Tensor | None
    kept: Tensor | None

    @classmethod
    def of(cls, module: nn.Module, name: str, tensor: Tensor | None) -> _Buffer:
        """Returns the buffer with a copy of its values, unless nothing can write it."""
        data = None if tensor is None else tensor.data
        if data is not None and _repeats(data):
            data = None
        kept = None if data is None else data.clone()
        return cls(module, name, tensor, data, kept)


class _Modules:
    """The modules of a model: which are in training mode, and what their buffers were.

    Attributes:
        buffers (list): All buffers before any pass.
        discovering (bool): Whether the next pass may run modules not seen so far.
    """

    def __init__(self) -> None:
        self.buffers: list[_Buffer] = []
        self.discovering = False
        self._seen: set[nn.Module] = set()
        self._names: list[str] = []
        self._thread = threading.get_ident()

    def add(self, root: nn.Module) -> None:
        """Notes the modules of a model, unless it was seen before."""
        if root in self._seen:
            return
        for name, module in root.named_modules():
            if module in self._seen:
                continue
            self._seen.add(module)
            if module.training and _matters(module):
                self._names.append(f"{type(module).__name__} {name!r}")
            self.buffers += [
                _Buffer.of(module, key, tensor)
                for key, tensor in module._buffers.items()
                if not is_lazy(tensor)
            ]

    @property
    def in_training_mode(self) -> bool:
        """Whether a module that matters is in training mode."""
        return bool(self._names)

    def warn(self, root: str | None) -> None:
        """Warns of a root in training mode, or else of the modules that matter."""
        if root is not None:
            warn_user(root + _ADVICE.format(""))
        elif self._names:
            more = ", ..." if len(self._names) > 3 else ""
            listed = f" ({', '.join(self._names[:3])}{more})"
            warn_user("Modules of the model are " + _ADVICE.format(listed))

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Runs one pass, after which the buffers are what they were."""
        try:
            with self._adding_modules() if self.discovering else nullcontext():
                yield
        finally:
            self._restore()
        self.discovering = False

    @contextmanager
    def _adding_modules(self) -> Iterator[None]:
        def add(module: nn.Module, _: object) -> None:
            compiling = torch.compiler.is_compiling()
            if not compiling and threading.get_ident() == self._thread:
                self.add(module)

        with REGISTERING:
            handle = register_module_forward_pre_hook(add)
        with handle:
            yield

    def _restore(self) -> None:
        written, kept = [], []
        for buffer in self.buffers:
            holder = buffer.module
            replaced = holder._buffers.get(buffer.name) is not buffer.tensor
            if replaced and not isinstance(holder, torch.jit.ScriptModule):
                holder._buffers[buffer.name] = buffer.tensor
            if buffer.tensor is None or buffer.data is None or buffer.kept is None:
                continue
            if buffer.tensor.shape != buffer.kept.shape:  # observers resize theirs
                buffer.tensor.data = buffer.data
            written.append(buffer.data)
            kept.append(buffer.kept)
        if written:
            # Buffers made in inference mode are written in it alone.
            with torch.inference_mode():
                torch._foreach_copy_(written, kept)


def _repeats(tensor: Tensor) -> bool:
    """Whether several values are one in memory, which torch refuses to write to."""
    if tensor.layout != torch.strided:
        return False
    pairs = zip(tensor.shape, tensor.stride(), strict=True)
    return any(size > 1 and stride == 0 for size, stride in pairs)


def _matters(module: nn.Module) -> bool:
    """Whether a module gives other outputs in training mode, or changes in a pass."""
    if isinstance(module, _NormBase):
        return module.running_mean is not None
    hooks = [type(hook).__name__ for hook in module._forward_pre_hooks.values()]
    shares = [getattr(module, name, None) for name in ("p", "drop_prob", "prob")]
    if any(map(_RANDOM.search, (type(module).__name__, *hooks))):
        return not any(isinstance(share, Real) and share == 0 for share in shares)
    # Recurrent layers and attention.
    share = getattr(module, "dropout", 0)
    return isinstance(share, Real) and float(share) > 0


def models_of(forward_func: Callable[..., Any]) -> list[nn.Module]:
    """Returns the model, or those that a function refers to."""
    if isinstance(forward_func, _Keeping):
        forward_func = forward_func._forward_func
    behind = _modules_behind(forward_func, _DEPTH)
    return [found for found in behind if isinstance(found, nn.Module)]


def runs_compiled(forward_func: Callable[..., Any]) -> bool:
    """Returns whether a model, or what a function refers to, is torch.compile's."""
    if isinstance(forward_func, _Keeping):
        forward_func = forward_func._forward_func
    return any(map(is_compiled, _modules_behind(forward_func, _DEPTH)))


def _modules_behind(function: Any, depth: int) -> Iterator[Any]:
    """Yields a callable and what it refers to, modules among it."""
    yield function
    stops = depth == 0 or not callable(function)
    if stops or isinstance(function, (type, nn.Module)):
        return
    # The function that torch.compile was given, and what an object holds.
    function = getattr(function, "_torchdynamo_orig_callable", function)
    found = [*getattr(function, "__dict__", {}).values()]
    found += [getattr(function, name, None) for name in ("__self__", "func")]
    with suppress(TypeError, ValueError):
        body = function if inspect.isroutine(function) else function.__call__
        names = inspect.getclosurevars(body)
        found += [*names.nonlocals.values(), *names.globals.values()]
    for value in found:
        yield from _modules_behind(value, depth - 1)
