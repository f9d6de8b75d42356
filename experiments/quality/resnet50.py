"""ResNet-50 with the weights of `photographs.py`, whose passes are compiled.

    captum-iscam benchmark --model experiments/quality/resnet50.py:compiled \\
        --layer network.layer4 --size 224 --mean 0.485,0.456,0.406 \\
        --std 0.229,0.224,0.225 --autocast

Score-CAM and IS-CAM take 5,000 passes for a photograph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from experiments.quality.compiled import Compiled
from experiments.quality.photographs import network


class _Network(nn.Module):
    """Runs compiled code, and the network itself where hooks or gradients need it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = model
        self._compiled = (Compiled(model),)  # a tuple, so that no module has two names

    def forward(self, images: Tensor) -> Tensor:
        modules = self.network.modules()
        hooked = any(m._forward_hooks or m._forward_pre_hooks for m in modules)
        if hooked or torch.is_grad_enabled():
            return self.network(images)
        return self._compiled[0](images)


def compiled() -> nn.Module:
    """Returns the network, of 1000 classes."""
    model, _ = network("resnet50")
    return _Network(model).eval()
