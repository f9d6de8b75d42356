"""What code that was given a model may have changed in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Traces = dict[str, object]

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks"),
    *("_backward_hooks", "_backward_pre_hooks"),
)
# Values of a parameter. Reading all of a VGG's would take as long as a pass.
_SAMPLE = 10_000


def traces_of(model: nn.Module) -> Traces:
    """Returns what tells whether a model was changed, by what it is of.

    These are the mode and the hooks of each module; and of each parameter which tensor
    it is, and a sample of its values. How often a tensor was written says nothing: what
    is written by `.data` is not counted, and weights may be put back.
    """
    found: Traces = {}
    for name, module in model.named_modules():
        where = f"module {name!r}" if name else "model"
        found[f"the mode of the {where}"] = module.training
        hooks = [tuple(getattr(module, kind)) for kind in _HOOKS]
        found[f"the hooks of the {where}"] = hooks
    for name, parameter in model.named_parameters():
        found[f"the parameter {name!r}"] = id(parameter), _sample(parameter)
    return found


def difference(before: Traces, after: Traces) -> str:
    """Returns the first thing that has changed, "" where nothing has."""
    names = dict.fromkeys([*before, *after])
    return next((n for n in names if before.get(n) != after.get(n)), "")


def _sample(tensor: Tensor) -> bytes:
    values = tensor.detach().flatten()
    values = values[:: max(1, len(values) // _SAMPLE)].contiguous()
    return values.cpu().view(torch.uint8).numpy().tobytes()
