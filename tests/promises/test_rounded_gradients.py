"""Gradients of probabilities that are 1 but for their last digits."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn

from captum_iscam.attr import (
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerIntegratedGradCAM,
    LayerSmoothGradCAMPlusPlus,
    LayerXGradCAM,
)

METHODS = (
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerIntegratedGradCAM,
    LayerSmoothGradCAMPlusPlus,
    LayerXGradCAM,
)


def sure(distance, *ends):
    """A network whose probability of class 0 is 1 but for this, on an input of 0.5."""
    torch.manual_seed(3)
    head = nn.Linear(4, 3)
    layers = nn.Conv2d(3, 4, 3), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    net = nn.Sequential(*layers, head, *ends).eval()
    head.bias.data.zero_()
    head.weight.data = torch.tensor([[1.0], [-0.1], [-0.2]]) * head.weight.data.abs()
    with torch.no_grad():
        head.bias.data -= net[:5](torch.full((1, 3, 8, 8), 0.5))[0]
    head.bias.data[0] -= math.log(distance)
    head.bias.data[1] -= 0.3
    return net


def map_of(method, net, score, kind=torch.float):
    inputs = torch.full((1, 3, 8, 8), 0.5).to(kind)
    net = copy.deepcopy(net).to(kind)
    options = {}
    if method is LayerSmoothGradCAMPlusPlus:
        options = {"generator": torch.Generator().manual_seed(0), "stdevs": 1e-3}
    cam = method(net, net[1], score=score)
    return cam.attribute(inputs, target=0, relu_attributions=False, **options).double()


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_probabilities_close_to_1_are_no_rounding(method, score):
    net = sure(1e-9)

    found = map_of(method, net, score)

    expected = map_of(method, net, score, torch.double)
    assert expected.any()
    assert (found - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.Sigmoid()])
@pytest.mark.parametrize("method", METHODS)
def test_gradients_that_are_rounding_are_noticed(method, end):
    if method is LayerIntegratedGradCAM:
        return  # its path begins where the model is less sure

    with pytest.warns(UserWarning, match="example 0 is a probability .*last digit"):
        map_of(method, sure(2e-7, end), "identity")


def test_gradients_that_are_rounding_are_noticed_in_a_score_of_the_caller():
    with pytest.warns(UserWarning, match="example 0 is a probability .*last digit"):
        map_of(LayerCAM, sure(1e-8), lambda output: output.softmax(1))


@pytest.mark.parametrize(
    ("distance", "score", "ends"),
    [
        (1e-8, "softmax", ()),
        (1e-8, "identity", ()),
        (1e-4, "identity", (nn.Softmax(1),)),
        (1e-4, lambda output: output.softmax(1), ()),
    ],
)
@pytest.mark.parametrize("method", METHODS)
def test_gradients_of_sure_models_are_not_warned_of(method, distance, score, ends):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        map_of(method, sure(distance, *ends), score)
