"""Arguments that are True or False take nothing else for it."""

import inspect

import numpy as np
import pytest
import torch
from reference.networks import ConvNet, images

from captum_iscam import RISE, attr, metrics
from captum_iscam._utils.validation import flags_of
from captum_iscam.attr import fuse
from captum_iscam.attr.controls import CenterMap, ChannelMean, RandomMap
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.attr.occlusion import WindowOcclusion
from captum_iscam.visualization import visualize

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
    "ignore:channel_softmax makes",
)
CLASSES = [getattr(attr, name) for name in attr.__all__]
CLASSES = [c for c in CLASSES if inspect.isclass(c) and hasattr(c, "attribute")]
CLASSES += [GradCAM, CenterMap, ChannelMean, RandomMap, WindowOcclusion]
FLAGS = [(c, name) for c in dict.fromkeys(CLASSES) for name in flags_of(c.attribute)]
FUNCTIONS = [getattr(metrics, name) for name in metrics.__all__]
FUNCTIONS = [f for f in FUNCTIONS if callable(f) and not inspect.isclass(f)]
METRICS = [(f, name) for f in FUNCTIONS for name in flags_of(f)]
NO_FLAGS = ["no", "False", "", 0, 1, 0.5, None, [], np.zeros(3), torch.tensor(True)]
every_wrong = pytest.mark.parametrize("value", NO_FLAGS, ids=repr)


def attribute(method, **options):
    net, x = ConvNet().float().eval(), images(1).float()
    on_model = method in (RISE, WindowOcclusion)
    made = method(net) if on_model else method(net, net.features)
    given = inspect.signature(method.attribute).parameters
    few = {"n_masks": 3, "n_samples": 2, "n_steps": 2}
    options |= {name: few[name] for name in few if name in given}
    return made.attribute(x, target=1, **options)


@pytest.mark.parametrize(("method", "name"), FLAGS)
@every_wrong
def test_flags_of_methods_are_true_or_false(method, name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be True or False, got "):
        attribute(method, **{name: value})


@pytest.mark.parametrize(("method", "name"), FLAGS)
def test_flags_of_numpy_are_taken(method, name):
    expected, found = (
        attribute(method, **{name: value, **seeded(method)})
        for value in (True, np.bool_(True))
    )

    torch.testing.assert_close(found, expected)


def seeded(method):
    takes = "generator" in inspect.signature(method.attribute).parameters
    torch.manual_seed(0)
    return {"generator": torch.Generator().manual_seed(0)} if takes else {}


def test_flags_by_position_are_checked_too():
    net = ConvNet().float().eval()

    with pytest.raises(TypeError, match=r"^attribute_to_layer_input must be"):
        attr.LayerCAM(net, net.features).attribute(images(1).float(), 1, None, "no")


@pytest.mark.parametrize(("metric", "name"), METRICS)
@every_wrong
def test_flags_of_metrics_are_true_or_false(metric, name, value):
    net, x = ConvNet().float().eval(), images(1).float()
    options = {"rival": x[:, :1]} if metric is metrics.win_rate else {}

    with pytest.raises(TypeError, match=rf"^{name} must be True or False, got "):
        metric(net, x, x[:, :1], 1, **{name: value}, **options)


@every_wrong
def test_flags_of_functions_are_true_or_false(value):
    x = torch.rand(1, 3, 8, 8)

    with pytest.raises(TypeError, match=r"^scaled must be True or False, got "):
        fuse([x[:, :1]], scaled=value)
    with pytest.raises(TypeError, match=r"^show_colorbar must be True or False, got "):
        visualize(x, {"a": x[:, :1]}, show_colorbar=value)
