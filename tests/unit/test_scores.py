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


ENDS = {
    "function": torch.sigmoid,
    "method": torch.Tensor.sigmoid,
    "in place": torch.Tensor.sigmoid_,
    "a part": lambda logits: torch.special.expit(logits.repeat(1, 2))[:, 1:3],
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("in_model", [True, False])
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.filterwarnings("ignore:The map is zero")
def test_a_sigmoid_of_logits_that_are_never_negative_is_seen(x, call, in_model, end):
    net = TwoLabels(sigmoid=False, scale=1.0, shift=0.01)
    logits = net.forward
    shown = net if in_model else lambda z: end(net(z))
    if in_model:
        net.forward = lambda z: end(logits(z))
    else:
        shown.features = net.features

    with pytest.warns(UserWarning, match="all lie between 0 and 1") as caught:
        call(shown, x)

    assert sum("between 0 and 1" in str(one.message) for one in caught) == 1


@pytest.mark.parametrize(
    "end",
    [
        lambda logits: logits * logits.sigmoid(),
        lambda logits: torch.vmap(lambda row: row.sigmoid() / 2)(logits),
    ],
    ids=["gate", "mapped"],
)
def test_a_sigmoid_that_is_not_the_last_function_is_no_reason_to_warn(x, end):
    net = TwoLabels(sigmoid=False, scale=0.3, shift=0.3)
    logits = net.forward
    net.forward = lambda z: end(logits(z))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LayerScoreCAM(net, net.features).attribute(x, 0)
        RISE(net).attribute(x, 0, n_masks=10)
