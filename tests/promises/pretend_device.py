"""A pretend accelerator, to check without a GPU what would go wrong on one.

A `PretendTensor` reports the device "pretend:0", but a tensor on the CPU holds its data
and does its work, so results are those of the CPU. `PretendDevice` makes the device
usable in a `with` block, and within it:

- operands on two devices are refused, as CUDA refuses them. Numbers without dimensions
  may stay on the CPU in pointwise operations, and so may indices into a tensor of the
  device, which torch copies there;
- a random generator must live where the numbers are drawn;
- `float64=False` refuses double precision, which MPS does not have;
- `capacity` limits the bytes in use: beyond it `torch.OutOfMemoryError` is raised;
- every wait of the host for the device is counted, with the line that caused it and how
  often the watched model had run by then.

What was refused stays in `PretendDevice.faults`, even if the caller caught the error.
In a backward pass it is written there without an error. The device knows nothing of
time, of rounding on a GPU, or of kernels that a GPU lacks.
"""

import sys
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.weak import WeakIdKeyDictionary

NAME = "pretend"
DEVICE = f"{NAME}:0"
TO_HOST, TO_DEVICE = "device to host", "host to device"
# The host needs a value, or the size of the result, before it can go on.
READING = {
    *("_local_scalar_dense", "equal", "nonzero", "masked_select", "bincount"),
    *("_unique", "_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
}
COPYING = {"copy_", "_to_copy"}
FILLING = {"fill", "fill_", "masked_fill", "masked_fill_"}
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
DOUBLE = (torch.float64, torch.complex128)
CPUGenerator = torch.Generator


class PretendTensor(Tensor):
    """A tensor that reports the pretend device; `inner` holds it on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        made = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, op, types, args=(), kwargs=None):
        return _current().run(op, args, kwargs or {})

    # torch lacks these three for tensors whose operations run in Python.

    def tolist(self):
        return self.cpu().tolist()

    def __format__(self, spec):
        return repr(self) if self.dim() else format(self.item(), spec)

    def __repr__(self):
        return f"{type(self).__name__}({self.inner})"


@dataclass(frozen=True)
class Wait:
    """One wait of the host for the device.

    Attributes:
        kind (str): Which way data goes, `TO_HOST` or `TO_DEVICE`.
        op (str): The operation.
        line (str): The line of the package that asked, such as "attr/rise.py:151".
        turn (int): How often the watched model had been called by then.
        inside (bool): Whether the model was running.
    """

    kind: str
    op: str
    line: str
    turn: int
    inside: bool

    def __str__(self):
        where = "in" if self.inside else "after"
        return f"{self.line} {self.op} ({self.kind}) {where} pass {self.turn}"


class PretendDevice(TorchDispatchMode):
    """The device, present while its `with` block runs.

    Args:
        package (str): The package whose lines are named.
        float64 (bool): Whether the device has double precision. Default: True
        capacity (int, optional): Bytes that it holds. Default: None, any number

    Attributes:
        faults (list[str]): What was refused, behind the line that asked for it.
        waits (list[Wait]): What the host waited for, in order.
        shown (list[Tensor]): The first input of each pass of the watched model.
    """

    def __init__(self, package, *, float64=True, capacity=None):
        super().__init__()
        self.faults, self.waits, self.shown = [], [], []
        self.generators = {}
        self._package = f"/{package}/"
        self._float64 = float64
        self._capacity = capacity
        self._held = WeakIdKeyDictionary()
        self._depth = 0

    def __enter__(self):
        _entered().append(self)
        torch.Generator = _Generator
        # Backward passes run in this thread, so that their lines are seen, and that it
        # does not matter how many devices torch counted before the first of them.
        self._one_thread = torch.autograd.set_multithreading_enabled(False)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._one_thread.__exit__(*error)
        _entered().remove(self)
        if not _entered():
            torch.Generator = CPUGenerator

    @contextmanager
    def watch(self, model):
        """Counts the passes of a model, and knows when it runs."""

        def begin(_, inputs):
            self._depth += 1
            if self._depth == 1:
                self.shown.append(getattr(inputs[0], "inner", inputs[0]))

        def end(*_):
            self._depth -= 1

        before = model.register_forward_pre_hook(begin)
        after = model.register_forward_hook(end, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        return self.run(op, args, kwargs or {})

    def run(self, op, args, kwargs):
        """Runs an operation on the CPU, by the rules of the device."""
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        here = touched = any(isinstance(x, PretendTensor) for x in tensors)
        if kwargs.get("device") is not None:
            here = torch.device(kwargs["device"]).type == NAME
        self._check_generators(op, leaves, here)
        if not (here or touched):
            return op(*args, **kwargs)
        self._check_places(op, args, tensors)
        self._count(op, args, here)
        args, kwargs = tree_map_only(PretendTensor, lambda x: x.inner, (args, kwargs))
        if "device" in kwargs:
            kwargs = {**kwargs, "device": "cpu"}
        result = op(*args, **kwargs)
        if not here:
            return result
        # What is written to stays the tensor that it was.
        known = {id(getattr(x, "inner", x)): x for x in tensors}
        return tree_map_only(
            Tensor, lambda x: known[id(x)] if id(x) in known else self._hold(x), result
        )

    def _check_generators(self, op, leaves, here):
        for leaf in leaves:
            # Operations are handed another object for the same generator.
            if isinstance(leaf, CPUGenerator):
                home = self.generators.get(leaf._cdata, leaf).device
                if (home.type == NAME) != here:
                    self._refuse(f"{op} got a generator of {home}")

    def _check_places(self, op, args, tensors):
        name = op.overloadpacket.__name__
        elsewhere = [x for x in tensors if not isinstance(x, PretendTensor)]
        if name in COPYING or len(elsewhere) in (0, len(tensors)):
            return
        numbers = name in FILLING or torch.Tag.pointwise in op.tags
        if name in INDEXING and isinstance(args[0], PretendTensor):
            # Indices may be anywhere; values that are written are operands.
            numbers = True
            elsewhere = [x for x in args[2:3] if not isinstance(x, PretendTensor)]
        if not (numbers and all(x.dim() == 0 for x in elsewhere)):
            found = ", ".join(f"{x.device.type} {tuple(x.shape)}" for x in tensors)
            self._refuse(f"{op} got operands on two devices: {found}")

    def _refuse(self, what, kind=RuntimeError):
        fault = f"{self._line()}: {what}"
        self.faults.append(fault)
        if not _in_backward():
            raise kind(fault)

    def _count(self, op, args, here):
        name = op.overloadpacket.__name__
        kind = TO_HOST if name in READING else None
        if name == "copy_":
            kind = _way(args[1], isinstance(args[0], PretendTensor))
        elif name == "_to_copy":
            kind = _way(args[0], here)
        elif name in INDEXING:
            kind = _way_of_indices(args)
        if kind:
            turn, inside = len(self.shown), self._depth > 0
            self.waits.append(Wait(kind, name, self._line(), turn, inside))

    def _line(self):
        """Returns the innermost line of the package that is running."""
        frame = sys._getframe(1)
        while frame is not None:
            _, package, file = frame.f_code.co_filename.rpartition(self._package)
            if package:
                return f"{file}:{frame.f_lineno}"
            frame = frame.f_back
        return "elsewhere"

    def _hold(self, inner):
        if not self._float64 and inner.dtype in DOUBLE:
            self._refuse("the device has no float64", TypeError)
        if self._capacity is not None:
            self._held[inner] = None
            storages = [x.untyped_storage() for x in list(self._held)]
            # Views share their storage.
            used = sum({s._cdata: s.nbytes() for s in storages}.values())
            if used > self._capacity and not _in_backward():
                del self._held[inner]
                raise torch.OutOfMemoryError(f"{DEVICE} is out of memory")
        return PretendTensor(inner)


def _in_backward():
    # An error of Python in a backward pass on this device would end the process.
    return torch._C._current_graph_task_id() != -1


def _way(source, here):
    """Returns which way a copy goes; a number is handed over without a wait."""
    if isinstance(source, PretendTensor):
        return None if here else TO_HOST
    return TO_DEVICE if here and source.dim() else None


def _way_of_indices(args):
    indices = [x for x in args[1] if x is not None]
    if not all(isinstance(x, PretendTensor) for x in indices):
        return TO_DEVICE
    # A single value is filled in where the mask says, without a look at it.
    filled = len(args) > 2 and args[2].numel() == 1 and not any(args[3:])
    masked = any(x.dtype in (torch.bool, torch.uint8) for x in indices)
    return TO_HOST if masked and not filled else None


class _AnyGenerator(type(CPUGenerator)):
    def __instancecheck__(cls, value):
        return isinstance(value, CPUGenerator)


class _Generator(CPUGenerator, metaclass=_AnyGenerator):
    """Stands for `torch.Generator`, which cannot make one for the device."""

    def __new__(cls, device="cpu"):
        if torch.device(device).type != NAME:
            return CPUGenerator(device)
        made = super().__new__(cls)
        # Kept, so that no other generator gets its address.
        _current().generators[made._cdata] = made
        return made

    def __init__(self, device="cpu"): ...

    @property
    def device(self):
        return torch.device(DEVICE)


class _Backend:
    """What torch knows as `torch.pretend`: no device is there until one is entered."""

    def __init__(self):
        self.entered = []

    def is_available(self):
        return bool(self.entered)

    def device_count(self):
        return int(self.is_available())

    def current_device(self):
        return 0

    def is_initialized(self):
        return True

    def _is_in_bad_fork(self):
        return False

    def manual_seed_all(self, seed): ...

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]


def _entered():
    return getattr(torch, NAME).entered


def _current():
    if not _entered():
        raise RuntimeError("tensors of the pretend device live in its with block")
    return _entered()[-1]


def _register():
    """Makes the device known to torch, once per process; returns why it cannot be."""
    if hasattr(torch, NAME):
        return None
    setup = "_setup_privateuseone_for_python_backend"
    if not hasattr(backend_registration, setup):
        return "this version of torch has no backends in Python"
    if torch.accelerator.is_available():
        return "torch knows one accelerator per process, and there is a real one"
    getattr(backend_registration, setup)(NAME, _Backend())
    aten = torch.ops.aten
    # torch.tensor and gradients made from nothing pass by the mode.
    for op in (aten.empty.memory_format, aten.empty_strided.default):
        LIBRARY.impl(op, lambda *a, _op=op, **k: _current().run(_op, a, k))
    copy = aten.copy_.default
    LIBRARY.impl("_copy_from", lambda a, b, *_: _current().run(copy, (b, a), {}))
    return None


LIBRARY = torch.library.Library("aten", "IMPL", "PrivateUse1")
MISSING = _register()
