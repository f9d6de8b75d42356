"""Watchers: calls of a model, what it and its caller hold, and live bytes."""

import weakref

import torch
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


def state_of(net, x):
    return {
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()
        ],
        "training": [m.training for m in net.modules()],
        "parameters": [p.detach().clone() for p in net.parameters()],
        "layouts": [(t.dtype, t.stride()) for t in net.state_dict().values()],
        "wants": [p.requires_grad for p in net.parameters()],
        "grads": [
            p.grad if p.grad is None else p.grad.clone() for p in net.parameters()
        ],
        "buffers": [b.clone() for b in net.buffers()],
        "inputs": x.detach().clone(),
        "input wants": (x.requires_grad, x.grad, x.is_leaf),
        "random": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def assert_same_state(before, after):
    for key, value in before.items():
        pairs = value if isinstance(value, list) else [value]
        others = after[key] if isinstance(value, list) else [after[key]]
        for one, other in zip(pairs, others, strict=True):
            assert _same(one, other), key


def _same(one, other):
    if not isinstance(one, Tensor):
        return one == other
    # An input may hold NaN, which is not equal to itself.
    return torch.equal(one.nan_to_num(), other.nan_to_num())
