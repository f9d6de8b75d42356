"""Hooks that see the passes of one thread only, and counts of passes.

A hook belongs to the module, so it runs in every thread that uses the model. Two
threads that explain one model would take each other's activations for their own.

1. `thread_local_layer` returns a stand-in for the layer. Captum registers its hooks
   through it.
2. The stand-in wraps each hook: in other threads the wrapper does nothing.
3. Registering is locked, since torch numbers hooks without a lock and two hooks of one
   number replace each other.

Hooks are removed by `with`: between the lines of `try` and `finally` Ctrl-C could come.

A lock around the whole attribution was the alternative. It would have made threads wait
for each other, and would not have helped against threads that use the model otherwise.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# Torch numbers its hooks without a lock, and two of one number replace each other.
REGISTERING = threading.Lock()
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def thread_local_layer(
    layer: nn.Module,
    device_ids: Sequence[int] | None,
    check: Callable[[Any], None] | None = None,
) -> nn.Module:
    """Returns the layer as Captum should see it, with hooks for this thread alone.

    A hook sits on the module, so it sees the passes of every thread: without this, two
    threads that explain one model would take each other's activations for their own.
    `DataParallel` over several devices runs in threads of its own, where nothing tells
    whose pass it is; its layers are returned as they are.

    Args:
        layer (torch.nn.Module): The layer.
        device_ids (Sequence[int] or None): The devices of a `DataParallel` model.
        check (Callable, optional): Takes what a hook is about to keep. Default: None
    """
    several = device_ids and len(device_ids) > 1
    return layer if several else _ThreadLocalLayer(layer, check)


class _EagerPasses:
    """Lets compiled code run as it was written, in a `with` block.

    A graph of Dynamo runs no hook that came after it; and a hook that came before is
    compiled with it, which takes seconds and makes Dynamo warn. The stance of the
    compiler is that of all threads: the first one that enters sets it, the last one
    that leaves resets it. Without Dynamo nothing is compiled. Before torch 2.6 there is
    no stance; then a layer in compiled code may be one that did not run. A block holds
    no other of the same thread. So threads are noted, not counted: what Ctrl-C leaves
    inside is gone when its thread has left the next block.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[int] = set()
        self._stance: Any = None

    def __enter__(self) -> None:
        here = threading.get_ident()
        with self._lock:
            if not self._inside - {here}:
                self._reset()
            known = hasattr(torch.compiler, "set_stance")
            if known and self._stance is None and "torch._dynamo" in sys.modules:
                # Inside of code that is being compiled it cannot be set.
                with suppress(RuntimeError):
                    self._stance = torch.compiler.set_stance("force_eager")
            self._inside.add(here)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside.discard(threading.get_ident())
            if not self._inside:
                self._reset()

    def _reset(self) -> None:
        # Forgotten only after it was reset: Ctrl-C in between would leave it forever.
        if self._stance is not None:
            self._stance.__exit__(None, None, None)
            self._stance = None


eager_passes = _EagerPasses()
"""Runs what `torch.compile` made eagerly, so that hooks are called."""


@contextmanager
def record_conv_outputs(model: object) -> Iterator[list[int]]:
    """Records how many bytes each convolution gives, in this thread's passes.

    Args:
        model (object): The model; a callable that is no module is not recorded, nor is
            what `torch.compile` or `torch.jit` made, which would be compiled again.

    Yields:
        *list* of the sizes so far.
    """
    sizes: list[int] = []
    here = threading.get_ident()

    def record(_: nn.Module, __: object, output: object) -> None:
        # A compiled function may call modules that are none; it is to stay as it is.
        if torch.compiler.is_compiling() or threading.get_ident() != here:
            return
        if isinstance(output, Tensor):
            sizes.append(output.numel() * output.element_size())

    with ExitStack() as hooks:
        for module in _convolutions(model):
            with REGISTERING:
                hooks.enter_context(module.register_forward_hook(record))
        yield sizes


@dataclass
class Taken:
    """What the first module with a number of channels takes in a pass.

    Attributes:
        name (str): The type of the module; "" before one has run.
        channels (int): The size of the axis that it reads as channels.
        positions (tuple[int, ...]): The sizes of the others but the first, in order.
        tokens (set[tuple[int, int]]): The first two sizes of what linear layers take,
            `(N, tokens, features)`.
    """

    name: str = ""
    channels: int = 0
    positions: tuple[int, ...] = ()
    tokens: set[tuple[int, int]] = field(default_factory=set)


@contextmanager
def record_first_taken(models: Sequence[nn.Module]) -> Iterator[Taken]:
    """Records what the first convolution or linear layer takes, and tokens.

    In this thread alone.

    Args:
        models (Sequence[torch.nn.Module]): Where they are looked for.

    Yields:
        *Taken*, filled in by the pass.
    """
    taken, here = Taken(), threading.get_ident()

    def record(module: nn.Module, values: tuple[Any, ...]) -> None:
        if torch.compiler.is_compiling():
            return
        tensor = values[0] if values else None
        if threading.get_ident() != here or not isinstance(tensor, Tensor):
            return
        if isinstance(module, nn.Linear) and tensor.dim() == 3:
            taken.tokens.add((tensor.shape[0], tensor.shape[1]))
        if taken.name:
            return
        taken.name = type(module).__name__
        sizes = tuple(tensor.shape[1:])
        if len(sizes) > 1:
            axis = len(sizes) - 1 if isinstance(module, nn.Linear) else 0
            taken.channels = sizes[axis]
            taken.positions = sizes[:axis] + sizes[axis + 1 :]

    kinds = (*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear)
    with ExitStack() as hooks:
        for module in (m for model in models for m in _written(model, kinds)):
            with REGISTERING:
                hooks.enter_context(module.register_forward_pre_hook(record))
        yield taken


def _convolutions(model: object) -> list[nn.Module]:
    return _written(model, (*_CONVOLUTIONS, *_TRANSPOSED))


def _written(model: object, kinds: tuple[type[nn.Module], ...]) -> list[nn.Module]:
    """Returns the modules of some types that do not run compiled."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    compiled = {
        part
        for module in modules
        if _runs_compiled(module)
        for part in module.modules()
    }
    return [m for m in modules if isinstance(m, kinds) and m not in compiled]


def is_compiled(function: object) -> bool:
    """Whether a module, in any part of it, or a function is torch.compile's."""
    if isinstance(function, nn.Module):
        return any(map(_runs_compiled, function.modules()))
    orig = "_torchdynamo_orig_callable"
    return inspect.isfunction(function) and hasattr(function, orig)


def _runs_compiled(module: nn.Module) -> bool:
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    return compiled or hasattr(module, "_orig_mod")


class _ThreadLocalLayer(nn.Module):
    """Stands for a layer where hooks are registered, and does nothing else.

    Attributes:
        calls (int): How often the hooks ran.
    """

    def __init__(
        self, layer: nn.Module, check: Callable[[Any], None] | None = None
    ) -> None:
        super().__init__()
        self.calls = 0
        self._layer = layer
        self._check = check
        self._thread = threading.get_ident()

    def register_forward_hook(
        self, hook: Callable[..., Any], **options: Any
    ) -> RemovableHandle:
        """Registers a hook of the layer that other threads do not call."""
        with REGISTERING:
            return self._layer.register_forward_hook(self._only_here(hook), **options)

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], **options: Any
    ) -> RemovableHandle:
        """Registers a hook of the layer's input that other threads do not call."""
        with REGISTERING:
            return self._layer.register_forward_pre_hook(
                self._only_here(hook), **options
            )

    def _only_here(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        def only_here(*arguments: Any) -> Any:
            if threading.get_ident() != self._thread:
                return None
            self.calls += 1
            if self._check is not None:
                self._check(arguments[-1])
            return hook(*arguments)

        return only_here


@dataclass
class Passes:
    """Passes through a model so far.

    Attributes:
        calls (int): How often the model ran.
        rows (int): How many inputs it saw in all.
        backward_rows (int): For how many of them a gradient came back.
    """

    calls: int = 0
    rows: int = 0
    backward_rows: int = 0


@contextmanager
def count_passes(model: nn.Module) -> Iterator[Passes]:
    """Counts the passes through a model, whoever causes them.

    Args:
        model (torch.nn.Module): The model; not one that was compiled or scripted,
            which runs no hooks. Gradients are counted where the model returns a tensor.

    Yields:
        *Passes*, which goes on counting until the block ends.

    Examples::

        >>> import torch
        >>> model = nn.Linear(2, 3)
        >>> with count_passes(model) as passes:
        ...     model(torch.rand(5, 2)).sum().backward()
        >>> passes
        Passes(calls=1, rows=5, backward_rows=5)
    """
    passes = Passes()
    counting = True

    def count(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = (x for x in (*args, *kwargs.values()) if isinstance(x, Tensor))
        passes.calls += 1
        passes.rows += _rows(next(tensors, None))

    def watch(_: nn.Module, args: object, output: object) -> None:
        # A hook of the tensor, since a backward hook of the module wraps its inputs,
        # which forbids layers that work in place.
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(count_back)

    def count_back(gradient: Tensor) -> None:
        if counting:
            passes.backward_rows += _rows(gradient)

    with (
        model.register_forward_pre_hook(count, with_kwargs=True),
        model.register_forward_hook(watch),
    ):
        try:
            yield passes
        finally:
            counting = False


def _rows(tensor: Tensor | None) -> int:
    return len(tensor) if tensor is not None and tensor.dim() else 1
