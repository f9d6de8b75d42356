"""Scores, targets and maps that would be wrong: a warning or an error that says so."""

import re
import warnings

import numpy as np
import pytest
import torch
from reference.methods import GRADIENT_METHODS, METHODS, SCORE_METHODS, attribute
from reference.networks import CONVOLUTION, ConvNet, images
from torch import nn

from captum_iscam import RISE, LayerPolyCAM, metrics
from captum_iscam.attr import ChannelMean, fuse
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.methods import METHODS as TABLE
from captum_iscam.methods import Options

ZERO = "The map is zero everywhere for example"


class Opposed(nn.Module):
    """A layer of positive channels, all of which lower the only score."""

    def __init__(self, spatial=2):
        super().__init__()
        self.features = CONVOLUTION[spatial](3, 6, 3, stride=2, padding=1, bias=False)
        self.features.weight.data.abs_()
        self.eval()

    def forward(self, x):
        return -self.features(x).flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize("name", [*SCORE_METHODS, *GRADIENT_METHODS])
@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:The noise", "ignore:Channels that support")
def test_zero_maps_are_warned_of_by_every_method(name, spatial):
    net, x = Opposed(spatial).double(), images(2, spatial).abs()
    constructor = {"score": "identity"}

    with pytest.warns(UserWarning, match=ZERO + "s 0, 1: ") as caught:
        out = attribute(name, net, net.features, x, 0, constructor)

    assert not out.any()
    assert sum("zero everywhere" in str(w.message) for w in caught) == 1


@pytest.mark.parametrize("name", ["score-cam", "is-cam", "ss-cam"])
@pytest.mark.filterwarnings("ignore:The noise")
def test_a_zero_map_under_a_baseline_that_scores_higher_names_baselines(name):
    net, x = Opposed().double(), images(2).abs()
    black, white = x.new_zeros(1, *x.shape[1:]), 1 + x
    method = TABLE[name].attribution(net, net.features, score="identity")

    with pytest.warns(UserWarning, match=ZERO + "s 0, 1: the baseline scores higher"):
        assert not method.attribute(x, 0, baselines=black).any()
    # Half black, half white: each example has its own reason.
    both = torch.cat([black, white[1:]])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.attribute(x, 0, baselines=both)
    said = [str(w.message) for w in caught if "zero" in str(w.message)]
    assert len(said) == 1
    assert "example 0: the baseline" in said[0]


class Ignored(Opposed):
    """A layer on which the score does not depend."""

    def forward(self, x):
        return 1 + 0 * super().forward(x)


class Dead(Opposed):
    """A layer that gives zeros."""

    def __init__(self):
        super().__init__()
        self.features.weight.data.zero_()

    def forward(self, x):
        return super().forward(x) + x.flatten(1).mean(1, keepdim=True)


@pytest.mark.parametrize("kind", [Ignored, Dead])
@pytest.mark.parametrize("name", [*SCORE_METHODS, "ablation-cam", *GRADIENT_METHODS])
@pytest.mark.filterwarnings("ignore:The noise", "ignore:The score of")
def test_signed_maps_of_zeros_are_warned_of_by_every_method(name, kind):
    net, x = kind().double(), images(2).abs()

    with pytest.warns(UserWarning, match=ZERO + "s 0, 1: the layer") as caught:
        out = attribute(
            name,
            net,
            net.features,
            x,
            0,
            {"score": "identity"},
            relu_attributions=False,
        )

    assert not out.any()
    assert sum("zero everywhere" in str(w.message) for w in caught) == 1


def rectified_by_the_table(name):
    def call(net, x):
        options = Options(n_samples=2, n_masks=5)
        return TABLE[name].attribute(net, net.features, x, 0, options)

    return call


OTHERS = {
    "Grad-CAM of tokens": lambda net, x: GradCAM(net, net.features).attribute(
        x, 0, relu_attributions=True
    ),
    "Poly-CAM": lambda net, x: LayerPolyCAM(
        net, net.features, score="identity"
    ).attribute(x, 0, variant="deletion"),
    "channel mean": lambda net, x: ChannelMean(net, net.features).attribute(-x),
    "signed channel mean": lambda net, x: ChannelMean(net, net.features).attribute(
        0 * x, relu_attributions=False
    ),
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


class Shaped(nn.Module):
    """Logits of five classes, made into an output of another shape."""

    def __init__(self, spatial, finish):
        super().__init__()
        self.features, self.finish = ConvNet(spatial).features, finish
        self.mix = nn.Linear(6, 5)
        self.eval()

    def forward(self, x):
        return self.finish(4 * self.mix(self.features(x).flatten(2).mean(2)))


def repeated(*sizes, first=True):
    """Makes `(N, 5, *sizes)`, or `(N, *sizes, 5)`, of logits."""

    def finish(out):
        shape = (len(out), 5, *sizes) if first else (len(out), *sizes, 5)
        ones = [1] * len(sizes)
        return out.view(-1, *([5, *ones] if first else [*ones, 5])).expand(shape)

    return finish


def over(count):
    return rf"goes over the {count} entries of dimension 1 .*output.softmax\(-1\)"


FURTHER = r'already are probabilities, and a further {}.*score="identity"'
SIGMOIDS = r'as those of a sigmoid do, and a {} flattens.*score="identity"'
# Spatial dimensions, output, target, score, and the warning if there is one.
LOOKS = {
    "steps": (2, repeated(7, first=False), (3, 1), "softmax", over(7)),
    "anchors": (2, repeated(20, first=False), (19, 4), "softmax", over(20)),
    "classes last": (2, repeated(11, 14, first=False), (3, 1, 2), "softmax", over(11)),
    "half, last": (2, repeated(6, 7, first=False), (3, 1, 2), "softmax", over(6)),
    "steps of a signal": (1, repeated(10, first=False), (3, 1), "softmax", over(10)),
    "signal, last": (1, repeated(19, first=False), (3, 1), "softmax", over(19)),
    "longer than a signal": (1, repeated(40), (3, 1), "softmax", over(5)),
    "volume, last": (3, repeated(4, 5, 4, first=False), (1,) * 4, "softmax", over(4)),
    "classes": (2, lambda out: out, 1, "softmax", None),
    "a column": (2, repeated(1), 1, "softmax", None),
    "a position": (2, repeated(1, 1), 1, "softmax", None),
    "segmentation": (2, repeated(11, 14), (3, 1, 2), "softmax", None),
    "half segmentation": (2, repeated(6, 7), (3, 1, 2), "softmax", None),
    "segmented signal": (1, repeated(19), (3, 1), "softmax", None),
    "half segmented signal": (1, repeated(10), (3, 1), "softmax", None),
    "segmented volume": (3, repeated(4, 5, 4), (1,) * 4, "softmax", None),
    "softmax": (2, lambda out: out.softmax(1), 1, "softmax", FURTHER.format("softmax")),
    "softmax of steps": (
        2,
        lambda out: repeated(7, first=False)(out).softmax(-1),
        (3, 1),
        "softmax",
        FURTHER.format("softmax"),
    ),
    "sigmoid of a softmax": (
        2,
        lambda out: out.softmax(1),
        1,
        "sigmoid",
        FURTHER.format("sigmoid"),
    ),
    "two sigmoids": (2, torch.sigmoid, 1, "sigmoid", SIGMOIDS.format("sigmoid")),
    "few small logits": (
        2,
        lambda out: 0.5 + 0.2 * out[:, :2].tanh(),
        1,
        "softmax",
        None,
    ),
    "few sigmoids": (
        2,
        lambda out: out.abs().sigmoid()[:, :2],
        1,
        "sigmoid",
        SIGMOIDS.format("sigmoid"),
    ),
    "softmax of sigmoids": (2, torch.sigmoid, 1, "softmax", SIGMOIDS.format("softmax")),
    "sigmoid": (2, lambda out: out, 1, "sigmoid", None),
    "identity of sigmoids": (2, torch.sigmoid, 1, "identity", None),
    "softmax of the last": (
        2,
        repeated(7, first=False),
        (3, 1),
        lambda output: output.softmax(-1),
        None,
    ),
}
ABOUT_SCORES = "probabilities|softmax|sigmoid"


@everything_scored
@pytest.mark.parametrize("look", LOOKS)
def test_scores_that_are_probably_not_meant_are_warned_of_once(name, look):
    spatial, finish, target, score, said = LOOKS[look]
    net, x = Shaped(spatial, finish).double(), images(2, spatial)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        SCORED[name](net, x, target, score)

    texts = [str(w.message) for w in caught]
    found = [text for text in texts if re.search(ABOUT_SCORES, text)]
    assert len(found) == (said is not None), found
    assert said is None or re.search(said, found[0])


# Poly-CAM refuses two layers of the same size.
@pytest.mark.parametrize("name", [name for name in SCORE_METHODS if name != "poly-cam"])
@pytest.mark.filterwarnings("ignore:The map is zero", "ignore:The noise")
def test_scores_that_are_probably_not_meant_are_warned_of_once_for_all_layers(name):
    net = Shaped(2, repeated(7, first=False)).double()
    layers = [net.features[0], net.features]

    with pytest.warns(UserWarning, match=over(7)) as caught:
        attribute(name, net, layers, images(2), (3, 1))

    assert sum("goes over" in str(w.message) for w in caught) == 1


def test_a_softmax_over_one_entry_names_the_last_dimension():
    net = Shaped(2, lambda out: out.unsqueeze(1)).double()

    with pytest.raises(ValueError, match=r"output.softmax\(-1\) for classes that come"):
        attribute("score-cam", net, net.features, images(2), (0, 1))
