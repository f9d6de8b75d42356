"""Warnings of a score that does not suit the model's output."""

import warnings

import pytest
import torch
from torch import nn

from captum_iscam import RISE, LayerScoreCAM
from captum_iscam.metrics import insertion


class TwoLabels(nn.Module):
    """Says by a function, not a module, which half of the image is bright."""

    def __init__(self, sigmoid, scale=40.0, shift=-4.0):
        super().__init__()
        self.features = nn.Conv2d(1, 40, 1)
        self.features.weight.data.copy_(torch.linspace(0.5, 2, 40).view(-1, 1, 1, 1))
        self.features.bias.data.zero_()
        self.sigmoid, self.scale, self.shift = sigmoid, scale, shift
        self.eval()

    def forward(self, x):
        bright = self.features(x).relu().mean((1, 2)).unflatten(1, (2, -1)).mean(2)
        logits = self.scale * bright + self.shift
        return logits.sigmoid() if self.sigmoid else logits


@pytest.fixture
def x():
    return torch.cat([torch.ones(1, 1, 8, 4), torch.zeros(1, 1, 8, 4)], 3)


CALLS = {
    "LayerScoreCAM": lambda net, x: LayerScoreCAM(net, net.features).attribute(x, 0),
    "RISE": lambda net, x: RISE(net).attribute(x, 0, n_masks=40),
    "insertion": lambda net, x: insertion(net, x, torch.rand(1, 1, 8, 8), 0),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_sigmoid_of_few_outputs_is_told_by_their_range(x, call):
    with pytest.warns(UserWarning, match="all lie between 0 and 1"):
        call(TwoLabels(sigmoid=True), x)


@pytest.mark.parametrize("scale", [0.3, 1.0, 40.0])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_logits_are_no_sigmoids(x, call, scale):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call(TwoLabels(sigmoid=False, scale=scale, shift=0.01), x)
