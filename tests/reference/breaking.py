"""Ways to break an attribution: in a pass, in an operation, in a line."""

import linecache
import sys
import threading
import weakref

import torch
from reference.judging import PACKAGE
from torch.utils._python_dispatch import TorchDispatchMode


class BreaksAtPass:
    """A model whose output in one pass, counted from 0, is made into something else."""

    def __init__(self, model, at, fault):
        self._model, self._at, self._fault = model, at, fault
        self.passes = 0

    def __call__(self, *args):
        self.passes += 1
        out = self._model(*args)
        return self._fault(out) if self.passes == self._at + 1 else out


class OutOfMemoryAbove:
    """A model that has memory for so many rows, and with gradients for half of them."""

    def __init__(self, model, rows):
        self._model, self._rows = model, rows

    def __call__(self, *args):
        room = self._rows // 2 if torch.is_grad_enabled() else self._rows
        if len(args[0]) > room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return self._model(*args)


class BreaksAtOperation(TorchDispatchMode):
    """Raises in an operation of torch, counted from 0, and knows what is alive.

    Operations that write in place ask for no memory, so none is refused to them, and
    the engine of the backward pass looks for no signal.

    Attributes:
        operations (int): How many there were that may be broken.
        backward (bool): Whether it was in a backward pass. Torch itself then keeps what
            a Python exception on its way through C++ refers to.
    """

    def __init__(self, at=None, error=KeyboardInterrupt):
        super().__init__()
        self._at, self._error = at, error
        self._made = []
        self.operations = 0
        self.backward = False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        backward = torch._C._current_graph_task_id() != -1
        interrupt = self._error is KeyboardInterrupt
        exempt = backward if interrupt else func._schema.is_mutable
        self.operations += not exempt
        if not exempt and self.operations - 1 == self._at:
            self.backward = backward
            raise self._error
        out = func(*args, **(kwargs or {}))
        tensors = out if isinstance(out, (tuple, list)) else (out,)
        self._made += [weakref.ref(x) for x in tensors if isinstance(x, torch.Tensor)]
        return out

    def alive(self):
        """How many tensors that were made meanwhile still live."""
        return sum(reference() is not None for reference in self._made)


class BreaksAtLine:
    """Interrupts at a line of the package, counted from 0, as Ctrl-C would.

    Not at the line of a `with`: a trace sees it once more just before its end, where
    Python itself looks for no signal.
    """

    def __init__(self, at=None):
        self._at = at
        self.lines = 0

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._enter_frame)
        return self

    def __exit__(self, *error):
        sys.settrace(self._before)

    def _enter_frame(self, frame, event, argument):
        mine = frame.f_code.co_filename.startswith(PACKAGE)
        return self._at_line if mine else None

    def _at_line(self, frame, event, argument):
        code = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not code.lstrip().startswith("with "):
            self.lines += 1
            if self.lines - 1 == self._at:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._at_line


def hooks_of(model):
    """How many hooks of any kind a model has, and how many threads run."""
    kinds = [name for name in vars(model) if name.endswith("_hooks")]
    hooks = sum(len(getattr(m, kind)) for m in model.modules() for kind in kinds)
    return hooks, threading.active_count()
