"""Watchers: how often a model is called, and how many bytes are alive at once."""

import weakref

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Calls:
    """Counts the calls of a model and the rows it is shown."""

    def __init__(self, model):
        self.model = model
        self.rows = []
        self.shown = []

    def __call__(self, *args):
        self.rows.append(len(args[0]))
        self.shown.append(args[0].detach().clone())
        return self.model(*args)


class LiveBytes(TorchDispatchMode):
    """Keeps the most bytes of tensors, made while it is on, that lived at one time."""

    def __init__(self):
        super().__init__()
        self._tensors = []
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, Tensor):
                self._tensors.append(weakref.ref(tensor))
        self._measure()
        return out

    def _measure(self):
        alive = [(ref, ref()) for ref in self._tensors]
        self._tensors = [ref for ref, tensor in alive if tensor is not None]
        storages = {
            tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
            for _, tensor in alive
            if tensor is not None
        }
        self.peak = max(self.peak, sum(storages.values()))
