"""Scores, targets and maps that would be wrong: a warning or an error that says so."""

import copy
import pickle
import re
import threading
import warnings

import numpy as np
import pytest
import torch
from reference.methods import BASELINE_METHODS, EVERY, METHODS, SCORE_METHODS, attribute
from reference.networks import CONVOLUTION, ConvNet, Detector, Segmenter, images
from scipy import ndimage
from torch import nn
from torch._dynamo import eval_frame
from torch.utils._pytree import tree_leaves

from captum_iscam import RISE, LayerScoreCAM, metrics, targets
from captum_iscam._utils.hooks import eager_passes
from captum_iscam.attr import CenterMap, ChannelMean, RandomMap, fuse
from captum_iscam.attr.grad_cam import TokenGradCAM
from captum_iscam.attr.rise import RandomMasks
from captum_iscam.methods import METHODS as TABLE
from captum_iscam.methods import Options
from captum_iscam.reshape_transforms import tokens

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
    "few small logits": (2, lambda out: out[:, :2].sigmoid(), 1, "softmax", None),
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


@pytest.mark.parametrize("name", SCORE_METHODS)
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


class Writes(nn.Module):
    """Writes to all it is given, in place: inputs, a row per example and whole ones."""

    def __init__(self, spatial=2):
        super().__init__()
        self.net = ConvNet(spatial)
        self.features = self.net.features
        self.eval()

    def forward(self, x, rows, whole, more):
        out = self.net(x.mul_(1.5))
        out = out * rows.add_(1) + whole.mul_(2) + more["shift"].add_(3) + more["n"]
        more["shift"].zero_()
        return out


class Reads(Writes):
    """The same, without a word written."""

    def forward(self, x, rows, whole, more):
        return super().forward(*(copy.deepcopy(v) for v in (x, rows, whole, more)))


def extra_arguments():
    whole = torch.linspace(-1, 1, 5).double()
    return torch.ones(2, 1).double(), whole, {"shift": whole.flip(0), "n": 1}


# Options of every metric that asks the model or a method, given inputs and baseline.
ASKING = {
    "average_drop": lambda x, b: {"baselines": b},
    "average_increase": lambda x, b: {"baselines": b},
    "average_gain": lambda x, b: {"baselines": b},
    "win_rate": lambda x, b: {"baselines": b, "rival": x[:, 1:2].abs().clone()},
    "insertion": lambda x, b: {"substrate": b, "steps": 4},
    "deletion": lambda x, b: {"substrate": b, "steps": 4},
    "road": lambda x, b: {"percentiles": (30, 60)},
    "road_most_relevant_first": lambda x, b: {"percentiles": (30, 60)},
    "road_least_relevant_first": lambda x, b: {"percentiles": (30, 60)},
    "infidelity": lambda x, b: {"baselines": b, "n_perturb_samples": 3},
    "adcc": lambda x, b: {"baselines": b},
    "coherency": lambda x, b: {"baselines": b},
    "sensitivity_max": lambda x, b: {"n_perturb_samples": 2},
    "target_sensitivity": lambda x, b: {"other_target": 2},
    "parameter_randomization": lambda x, b: {"layers": ["net.mix"]},
}
SEEDED = ("road", "infidelity", "sensitivity_max", "parameter_randomization")


def of_metric(name, net, x, baseline, arguments):
    maps, metric = x[:, :1].abs().clone(), getattr(metrics, name)
    method = LayerScoreCAM(net, net.features).attribute
    arguments = {**arguments, **ASKING[name](x, baseline)}
    if name.startswith(SEEDED):
        arguments["generator"] = torch.Generator().manual_seed(0)
    if name == "adcc":
        arguments["explanation_func"] = method
    if name in ("adcc", "coherency"):
        maps = method(x, 1, arguments["additional_forward_args"])
    if name == "coherency":
        return metric(method, x, maps, 1, **arguments)
    if name == "parameter_randomization":
        return metric(method, net, x, 1, **arguments).ssim
    if name in ("sensitivity_max", "target_sensitivity"):
        return metric(method, x, 1, **arguments)
    return metric(net, x, maps, 1, **arguments)


def of_anything(name, net, x, baseline, extra):
    arguments = {"additional_forward_args": extra}
    if name in ASKING:
        return of_metric(name, net, x, baseline, arguments)
    if name == "channel mean":
        return ChannelMean(net, net.features).attribute(x, **arguments)
    if name == "RISE":
        arguments |= {"generator": torch.Generator().manual_seed(0)}
        arguments |= {"n_masks": 7, "grid": 3, "baselines": baseline}
        return RISE(net).attribute(x, 1, **arguments)
    if name in BASELINE_METHODS:
        arguments["baselines"] = baseline
    return attribute(name, net, net.features, x, 1, **arguments)


@pytest.mark.parametrize("whole", [True, False], ids=["a row each", "one baseline"])
@pytest.mark.parametrize("name", [*EVERY, "RISE", "channel mean", *ASKING])
@pytest.mark.filterwarnings("ignore")
def test_what_a_model_writes_to_is_never_the_callers(name, whole):
    x, extra = images(2), extra_arguments()
    baseline = images(2, seed=5)[slice(2 if whole else 1)]
    given = copy.deepcopy((x, baseline, extra))

    found = of_anything(name, Writes().double(), x, baseline, extra)

    expected = of_anything(name, Reads().double(), *copy.deepcopy(given))
    torch.testing.assert_close(found, expected)
    kept = tree_leaves((x, baseline, extra))
    for one, before in zip(kept, tree_leaves(given), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(before))


def compiled_in_place(*names):
    def compile_them(net):
        for name in names:
            net.get_submodule(name).compile(backend="eager")
        return net

    return compile_them


def behind_a_function(net):
    compiled = torch.compile(net, backend="eager")
    return lambda x: compiled(x)


COMPILED = {
    "the model": compiled_in_place(""),
    "the layer": compiled_in_place("features"),
    "inside the layer": compiled_in_place("features.0"),
    "after the layer and around it": compiled_in_place("mix", ""),
    "behind a function": behind_a_function,
    "in place, behind a function": lambda net: compiled_in_place("")(net).__call__,
}


@pytest.mark.parametrize("name", ["is-cam", "integrated grad-cam", "grad-cam++"])
@pytest.mark.parametrize("kind", COMPILED)
@pytest.mark.parametrize("called", [False, True])
@pytest.mark.filterwarnings("ignore:The map is zero", "ignore:The noise")
@pytest.mark.skipif(
    not hasattr(torch.compiler, "set_stance"), reason="needs torch 2.6 or later"
)
def test_compiled_in_place_draws_no_warning(name, kind, called):
    torch._dynamo.reset()
    net, x = ConvNet().double(), images(2)
    expected = attribute(name, net, net.features, x, 1)
    forward_func = COMPILED[kind](net)
    if called:
        forward_func(x)

    out = attribute(name, forward_func, net.features, x, 1)

    torch.testing.assert_close(out, expected)
    assert eval_frame._stance.stance == "default"


def test_compiled_code_stays_compiled_after_an_error():
    net, x = ConvNet().double(), images(2)
    net.compile(backend="eager")

    with pytest.raises(ValueError, match="layer must run"):
        attribute("score-cam", net, nn.Conv2d(3, 4, 3), x, 1)

    assert eval_frame._stance.stance == "default"


def test_threads_leave_the_stance_of_the_compiler_as_it_was():
    torch._dynamo.reset()
    started = threading.Barrier(2)
    left = threading.Event()

    def first():
        with eager_passes:
            started.wait()
            left.wait()

    thread = threading.Thread(target=first)
    thread.start()
    with eager_passes:
        started.wait()
    assert eval_frame._stance.stance == "force_eager"
    left.set()
    thread.join()

    assert eval_frame._stance.stance == "default"


def first_logit(output, *_):
    return output[:, 0]


MADE = {
    "regression": lambda net, x: targets.regression(net, 2),
    "regression toward": lambda net, x: targets.regression(net, 2, toward=0.5),
    "multi_label": lambda net, x: targets.multi_label(net, [0, 3]),
    "similarity": lambda net, x: targets.similarity(net, torch.arange(5.0).double()),
    "segmentation": lambda net, x: targets.segmentation(
        net, 3, torch.ones(6, 7).bool(), score="sigmoid"
    ),
    "segmentation of examples": lambda net, x: targets.segmentation(net, 3),
    "detection": lambda net, x: targets.detection(net, x[:1], (1, 1, 7, 6)),
    "score of one's own": lambda net, x: targets.ModelScore(net, first_logit),
    "the model": lambda net, x: net,
}
NETWORKS = {"segmentation": Segmenter, "detection": Detector}
CLASSES = {method for method, _ in METHODS.values()}
CLASSES |= {RISE, ChannelMean, CenterMap, RandomMap, TokenGradCAM}


@pytest.mark.parametrize("method", sorted(CLASSES, key=lambda one: one.__name__))
@pytest.mark.parametrize("name", MADE)
@pytest.mark.filterwarnings("ignore:The")
def test_explainers_pickle_with_every_target(name, method):
    net, x = NETWORKS.get(name.split()[0], ConvNet)().double(), images(2)
    layer = () if method is RISE else (net.features,)
    own = {"n_masks": 5, "grid": 3} if method is RISE else {}
    if name == "segmentation of examples":
        own["additional_forward_args"] = torch.ones(2, 6, 7).bool()
    own |= {"target": 1} if name == "the model" else {}
    built = method(MADE[name](net, x), *layer, score="identity")

    found = []
    for explain in (built, pickle.loads(pickle.dumps(built))):
        torch.manual_seed(0)
        found.append(explain.attribute(x, **own))

    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0)


def test_explainers_pickle_with_a_transform_of_tokens():
    transform = pickle.loads(pickle.dumps(tokens((2, 3), extra=1)))

    found = transform(torch.arange(14.0).view(1, 7, 2))

    assert found[0, 0].tolist() == [[2, 4, 6], [8, 10, 12]]


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_targets_warn_once_of_scores_that_are_probably_not_meant(score):
    net = Segmenter()
    model = lambda x: net(x)["out"].sigmoid()  # noqa: E731
    region = torch.ones(6, 7).bool()
    made = [
        targets.segmentation(model, 1, region, score=score),
        targets.multi_label(lambda x: model(x)[..., 0, 0], [1, 2]),
        targets.segmentation(lambda x: net(x)["out"], 1, region, score=score),
    ]

    counts = []
    for target in made:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            LayerScoreCAM(target, net.features, score="identity").attribute(
                images(2, dtype=torch.float32)
            )
        counts.append(sum("as those of a sigmoid" in str(w.message) for w in caught))

    assert counts == [1, 1, 0]


def resized_as_by_skimage(cells, size):
    """Linear, and mirrored, at the coordinates of `skimage.transform.resize`."""
    lines = [
        (np.arange(n) + 0.5) * count / n - 0.5
        for n, count in zip(size, cells.shape, strict=True)
    ]
    places = np.meshgrid(*lines, indexing="ij")
    return ndimage.map_coordinates(cells, places, order=1, mode="mirror")


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        ((224, 224), (7, 7)),
        ((224, 224), (8, 8)),
        ((50, 37), (3, 5)),
        ((10, 9), (1, 2)),
        ((5, 5), (9, 4)),
        ((301,), (12,)),
        ((19,), (1,)),
        ((14, 9, 20), (3, 2, 5)),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rise_masks_are_those_of_the_authors(size, grid, dtype):
    def source():
        return torch.Generator().manual_seed(3)

    masks = RandomMasks(6, grid, 0.5, source(), torch.device("cpu"))
    generator = source()
    cells = torch.rand((6, *grid), generator=generator).numpy() < 0.5
    shifts = torch.rand((6, len(grid)), generator=generator)

    found = masks.make(0, 6, torch.empty(1, 3, *size, dtype=dtype))

    pixels = [-(-side // n) for side, n in zip(size, grid, strict=True)]
    whole = [(n + 1) * p for n, p in zip(grid, pixels, strict=True)]
    for one, cell, shift in zip(found, cells, shifts.tolist(), strict=True):
        starts = [int(u * p) for u, p in zip(shift, pixels, strict=True)]
        window = [slice(i, i + n) for i, n in zip(starts, size, strict=True)]
        expected = resized_as_by_skimage(cell.astype(float), whole)[tuple(window)]
        expected = torch.from_numpy(expected).to(dtype)
        torch.testing.assert_close(one[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [(64, 64), (301,), (16, 16, 16)], ids=str)
def test_rise_masks_keep_their_share_everywhere(kept, size):
    generator = torch.Generator().manual_seed(0)
    grid = (7,) * len(size)
    masks = RandomMasks(2000, grid, kept, generator, torch.device("cpu"))

    made = masks.make(0, 2000, torch.empty(1, 1, *size))

    assert made.min() >= 0
    assert made.max() <= 1
    assert (made.mean(0) - kept).abs().max() < 5 * (kept * (1 - kept) / 2000) ** 0.5
