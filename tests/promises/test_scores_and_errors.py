"""Scores, targets and maps that would be wrong: a warning or an error that says so."""

import re

import numpy as np
import pytest
import torch
from reference.methods import METHODS, attribute
from reference.networks import CONVOLUTION, ConvNet, images
from torch import nn

from captum_iscam import RISE, metrics
from captum_iscam.attr import ChannelMean, fuse
from captum_iscam.attr.grad_cam import TokenGradCAM
from captum_iscam.methods import METHODS as TABLE
from captum_iscam.methods import Options

ZERO = "The map is zero everywhere for example"
every_method = pytest.mark.parametrize("name", METHODS)


class Opposed(nn.Module):
    """A layer of positive channels, all of which lower the only score."""

    def __init__(self, spatial=2):
        super().__init__()
        self.features = CONVOLUTION[spatial](3, 6, 3, stride=2, padding=1, bias=False)
        self.features.weight.data.abs_()
        self.eval()

    def forward(self, x):
        return -self.features(x).flatten(1).sum(1, keepdim=True)


@every_method
@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:The noise", "ignore:Channels that support")
def test_zero_maps_are_warned_of_by_every_method(name, spatial):
    net, x = Opposed(spatial).double(), images(2, spatial).abs()
    constructor = {"score": "identity"}

    with pytest.warns(UserWarning, match=ZERO + "s 0, 1: ") as caught:
        out = attribute(name, net, net.features, x, 0, constructor)

    assert not out.any()
    assert sum("zero everywhere" in str(w.message) for w in caught) == 1


def rectified_by_the_table(name):
    def call(net, x):
        options = Options(n_samples=2, n_masks=5)
        return TABLE[name].attribute(net, net.features, x, 0, options)

    return call


OTHERS = {
    "Grad-CAM of tokens": lambda net, x: TokenGradCAM(net, net.features).attribute(
        x, 0, relu_attributions=True
    ),
    "channel mean": lambda net, x: ChannelMean(net, net.features).attribute(-x),
    "RISE": lambda net, x: RISE(lambda z: 0 * z.flatten(1), score="identity").attribute(
        x, 0, n_masks=3
    ),
    "product": lambda net, x: fuse([x[:, :1].relu(), (-x[:, :1]).relu()], "product"),
    **{
        name: rectified_by_the_table(name)
        for name in ("grad-cam", "integrated-gradients", "occlusion")
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_zero_maps_are_warned_of_wherever_something_is_rectified(name):
    net, x = Opposed().double(), images(2).abs()

    with pytest.warns(UserWarning, match=ZERO) as caught:
        out = OTHERS[name](net, x if name != "product" else images(2))

    assert not out.any()
    assert len(caught) == 1


class Grid(nn.Module):
    """Logits of five classes for each of `sizes` positions; none where it is None."""

    def __init__(self, sizes=()):
        super().__init__()
        self.sizes, self.features = sizes, ConvNet().features
        self.mix = nn.Linear(6, 5 if sizes is not None else 1)
        self.eval()

    def forward(self, x):
        out = self.mix(self.features(x).flatten(2).mean(2))
        if self.sizes is None:
            return out[:, 0]
        repeats = [1] * len(self.sizes)
        return out.view(*out.shape, *repeats).expand(*out.shape, *self.sizes)


def metric_of(name):
    def run(net, x, target, score):
        maps = x[:, :1].abs()
        call = getattr(metrics, name)
        own = {"rival": maps} if name == "win_rate" else {}
        own |= {"steps": 3} if name == "insertion" else {}
        return call(net, x, maps, target, score=score, **own)

    return run


def method_of(name):
    def run(net, x, target, score):
        return attribute(name, net, net.features, x, target, {"score": score})

    return run


def rise_of(net, x, target, score):
    return RISE(net, score=score).attribute(x, target, n_masks=3, grid=3)


SCORED = {
    **{name: method_of(name) for name in METHODS},
    "RISE": rise_of,
    **{name: metric_of(name) for name in ("win_rate", "insertion", "infidelity")},
}
everything_scored = pytest.mark.parametrize("name", SCORED)
IDENTITY = "identity"
# Sizes behind the classes, target, error, the rule and the repair.
BAD_FORMS = [
    ((), (9999, 0), AssertionError, r"after the first, 1, got \(9999, 0\)", "integer"),
    (
        (),
        (1, 2),
        AssertionError,
        r"after the first, 1, got \(1, 2\)",
        "a list with one",
    ),
    ((), (1, 2, 3, 4), AssertionError, r"got \(1, 2, 3, 4\)", "Pass an integer"),
    ((), [(0, 9999), (0, 1)], ValueError, r"first, 1, got \(0, 9999\)", "integer"),
    ((), [9999, 1, 2], AssertionError, "example, 2, got a list of length 3", "Pass"),
    ((), [], AssertionError, "per example, 2, got a list of length 0", "an integer"),
    ((), [1], AssertionError, "per example, 2, got a list of length 1", "an integer"),
    ((), torch.tensor([1, 2, 9999]), AssertionError, r"got the shape \(3,\)", "Pass"),
    ((), torch.ones(2, 1, 1).long(), AssertionError, r"got the shape \(2, 1, 1\)", "P"),
    ((), torch.tensor([1.0, 2]), TypeError, "got torch.float32", r"target.long\(\)"),
    ((), torch.eye(5)[:2], TypeError, "got torch.float32", r"target.argmax\(1\)"),
    ((), torch.eye(5)[:2] > 0, TypeError, "got torch.bool", r"target.argmax\(1\)"),
    ((), torch.tensor([True, False]), TypeError, "torch.bool", r"target.long\(\)"),
    ((), True, TypeError, "got True", "Pass an integer"),
    ((), [True, False], TypeError, r"got \[True, False\]", "Pass an integer"),
    ((), 1.0, TypeError, r"got 1\.0", "Pass an integer"),
    ((), np.array([0, 1]), TypeError, r"got array\(\[0, 1\]\)", "list or tensor"),
    ((), torch.eye(5)[:2].long(), ValueError, "one-hot rows", r"target.argmax\(1\)"),
    ((), [[1, 0, 1, 0, 0], [0, 1, 1, 0, 0]], ValueError, "multi-hot", "topk"),
    ((), [[1, 1, 1, 0, 0]], ValueError, "multi-hot rows of 5", "as many indices"),
    (None, 0, AssertionError, r"first, 0, got \(0,\)", "Leave target out"),
    (None, [0, 9999], AssertionError, "first, 0, got one for each", "Leave target out"),
    (None, torch.tensor([0, 1]), AssertionError, "first, 0, got one", "Leave target"),
    ((3,), [0, 9999], AssertionError, "first, 2, got one for each", "tuple of them"),
    ((3,), torch.tensor([0, 1]), AssertionError, "first, 2, got one for", "tuple of"),
    ((3,), (9999, 0, 0), AssertionError, r"2, got \(9999, 0, 0\)", "Pass a tuple"),
    ((3,), [(1, 2), (1,)], ValueError, r"first, 2, got \(1, 2\)", "Pass a tuple"),
    ((3,), [(1, 2, 0), (1, 2, 0)], ValueError, r"2, got \(1, 2, 0\)", "Pass a tuple"),
    ((3,), 1, ValueError, "must pick one number per example", "one index per"),
    ((3,), [(1,), (2,)], ValueError, "must pick one number per example", "one index"),
]


@everything_scored
@pytest.mark.parametrize(("sizes", "target", "error", "rule", "repair"), BAD_FORMS)
def test_bad_target_forms_are_named_before_the_range(
    name, sizes, target, error, rule, repair
):
    net, x = Grid(sizes).double(), images(2)

    with pytest.raises(error, match=rule) as caught:
        SCORED[name](net, x, target, IDENTITY)

    assert re.match(rf"target must .*, got .*\. .*{repair}", str(caught.value), re.S)
    assert not any(m._forward_hooks for m in net.modules())


# What Captum takes is no wrong form.
@everything_scored
@pytest.mark.parametrize(
    ("sizes", "target"),
    [
        ((), (1,)),
        ((), [(1,), (2,)]),
        ((), (-1,)),
        ((), np.int64(1)),
        ((), [torch.tensor(1), 2]),
        ((1, 1), 3),
        ((1, 1), [(1,), (2,)]),
        ((3,), (1, -1)),
        ((3,), [(1, 2), (0, 0)]),
        (None, None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_good_target_forms_pass(name, sizes, target):
    out = SCORED[name](Grid(sizes).double(), images(2), target, IDENTITY)

    assert torch.isfinite(getattr(out, "auc", out)).all()
