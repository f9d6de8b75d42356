"""Models that write, compile or pickle; masks of RISE; errors that delta states."""

import copy
import pickle
import threading
import warnings
from contextlib import nullcontext
from unittest import mock

import numpy as np
import pytest
import torch
from reference.breaking import BreaksAtLine
from reference.ledger import cases
from reference.methods import BASELINE_METHODS, EVERY, METHODS, attribute
from reference.networks import (
    ConvNet,
    Detector,
    MadeUp,
    Segmenter,
    WideNet,
    images,
)
from scipy import ndimage
from torch import nn
from torch._dynamo import eval_frame
from torch.utils._pytree import tree_leaves

from captum_iscam import (
    RISE,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    metrics,
    targets,
)
from captum_iscam._utils.hooks import eager_passes
from captum_iscam.attr import CenterMap, ChannelMean, RandomMap
from captum_iscam.attr._random_masks import RandomMasks
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.reshape_transforms import tokens

every_method = pytest.mark.parametrize("name", METHODS)

needs_a_stance = pytest.mark.skipif(
    not hasattr(torch.compiler, "set_stance"), reason="needs torch 2.6"
)


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


def halves(x):
    """The input without its left or its right half, and where these are."""
    left = torch.zeros(len(x), *x.shape[2:], dtype=torch.bool)
    left[..., : x.shape[-1] // 2] = True
    masks = torch.stack([left, ~left], 1)
    without = torch.where(masks.unsqueeze(2), 0, x.unsqueeze(1))
    return {"interventions": without, "object_masks": masks}


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
    "arcc": lambda x, b: {"baselines": b, "percentiles": (30, 60)},
    "single_deletion": lambda x, b: {"baselines": b, "patches": 2},
    "attainable_insertion": lambda x, b: {"substrate": b, "patches": 2},
    "attainable_deletion": lambda x, b: {"substrate": b, "patches": 2},
    "object_order": lambda x, b: halves(x),
    "irrelevant_object_share": lambda x, b: halves(x),
    "coherency": lambda x, b: {"baselines": b},
    "sensitivity_max": lambda x, b: {"n_perturb_samples": 2},
    "target_sensitivity": lambda x, b: {"other_target": 2},
    "parameter_randomization": lambda x, b: {"layers": ["net.mix"]},
}
SEEDED = ("road", "arcc", "infidelity", "sensitivity_max", "parameter_randomization")


def of_metric(name, net, x, baseline, arguments):
    maps, metric = x[:, :1].abs().clone(), getattr(metrics, name)
    method = LayerScoreCAM(net, net.features).attribute
    arguments = {**arguments, **ASKING[name](x, baseline)}
    if name.startswith(SEEDED):
        arguments["generator"] = torch.Generator().manual_seed(0)
    if name in ("adcc", "arcc"):
        arguments["explanation_func"] = method
    if name in ("adcc", "arcc", "coherency"):
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


@needs_a_stance
def test_compiled_code_stays_compiled_after_an_error():
    net, x = ConvNet().double(), images(2)
    net.compile(backend="eager")

    with pytest.raises(ValueError, match="layer must run"):
        attribute("score-cam", net, nn.Conv2d(3, 4, 3), x, 1)

    assert eval_frame._stance.stance == "default"


@needs_a_stance
def test_the_stance_is_reset_after_an_interrupt_that_kept_a_block_from_leaving():
    torch._dynamo.reset()
    eager_passes.__enter__()

    with eager_passes:
        assert eval_frame._stance.stance == "force_eager"

    assert eval_frame._stance.stance == "default"


@needs_a_stance
def test_the_stance_is_reset_in_the_block_after_an_interrupt_at_any_line():
    torch._dynamo.reset()

    def block():
        with eager_passes:
            return eval_frame._stance.stance

    with BreaksAtLine() as counting:
        block()
    assert counting.lines > 10
    for at in range(counting.lines):
        with BreaksAtLine(at), pytest.raises(KeyboardInterrupt):
            block()

        assert block() == "force_eager"
        assert eval_frame._stance.stance == "default"


@needs_a_stance
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
    "contrast": lambda net, x: targets.contrast(net, [0, 3]),
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
CLASSES |= {RISE, ChannelMean, CenterMap, RandomMap, GradCAM}


@pytest.mark.parametrize("method", sorted(CLASSES, key=lambda one: one.__name__))
@pytest.mark.parametrize("name", MADE)
@pytest.mark.filterwarnings("ignore:The")
def test_explainers_pickle_with_every_target(name, method):
    net, x = NETWORKS.get(name.split()[0], ConvNet)().double(), images(2)
    layer = () if method is RISE else (net.features,)
    own = {"n_masks": 5, "grid": 3} if method is RISE else {}
    if name == "segmentation of examples":
        own["additional_forward_args"] = torch.ones(2, 6, 7).bool()
    own |= {"target": 1} if name in ("the model", "contrast") else {}
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

    def model(x):
        return net(x)["out"].sigmoid()

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


def share_above_delta(cls, own, fine, count):
    """Of how many maps of layers made up at random the error is above the delta."""
    above = 0
    for seed in range(count):
        net = MadeUp(seed)
        explain = cls(net, net.features, score=net.score)
        given = [{**own, "return_convergence_delta": True}, {**own, **fine}]
        if cls is LayerSmoothedScoreCAM:
            for number, options in enumerate(given):
                source = torch.Generator().manual_seed(2 * seed + number)
                options["generator"] = source
        (found, delta), true = (
            explain.attribute(net.x, 1, relu_attributions=False, **options)
            for options in given
        )
        above += bool((found - true).norm() > delta * found.norm() * (1 + 1e-9))
    return above / count


FINE = {"n_steps": 64, "method": "gausslegendre"}
NOISY = {"n_samples": 500, "internal_batch_size": 512}
ESTIMATED = {
    "default": (LayerIntegratedScoreCAM, {}, FINE),
    **{
        f"{method} {n}": (
            LayerIntegratedScoreCAM,
            {"n_steps": n, "method": method},
            FINE,
        )
        for method, n in [
            ("gausslegendre", 1),
            ("gausslegendre", 3),
            ("gaussradau", 2),
            ("riemann_middle", 2),
            ("riemann_right", 4),
            ("riemann_trapezoid", 8),
        ]
    },
    **{
        f"SS-CAM {n}, {stdevs}": (
            LayerSmoothedScoreCAM,
            {"n_samples": n, "stdevs": stdevs},
            NOISY,
        )
        for n, stdevs in [(5, 0.5), (8, 2.0), (16, 0.5)]
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ESTIMATED)
@pytest.mark.filterwarnings("ignore")
def test_deltas_of_small_layers_are_below_few_errors(name, ledger):
    method, own, fine = ESTIMATED[name]
    count = cases(60, 200)

    share = share_above_delta(method, own, fine, count)

    assert share < 0.1
    ledger.survived(
        "Fuzzing",
        "The error of a map of a small layer made up at random is above delta for less "
        "than a tenth of the maps of each method.",
        count,
    )


LAYERS = {"few channels": lambda: ConvNet(), "many": lambda: WideNet(140)}
DELTAS = {
    "score-cam": (LayerScoreCAM, {}),
    "score-cam screened": (LayerScoreCAM, {"screening": 0.4}),
    "is-cam": (LayerIntegratedScoreCAM, {}),
    "is-cam rule": (LayerIntegratedScoreCAM, {"n_steps": 3}),
    "is-cam rule screened": (LayerIntegratedScoreCAM, {"n_steps": 3, "screening": 0.5}),
    "ss-cam": (LayerSmoothedScoreCAM, {"n_samples": 8, "stdevs": 0.2}),
    "ss-cam two pairs": (LayerSmoothedScoreCAM, {"n_samples": 4, "stdevs": 0.2}),
}


def delta_at(scale, name, layer, dtype, **more):
    method, own = DELTAS[name]
    if method is LayerSmoothedScoreCAM:
        own = {**own, "generator": torch.Generator().manual_seed(0)}
    net, x = LAYERS[layer]().to(dtype), images(2, dtype=dtype)
    explain = method(lambda x: scale * net(x), net.features, score="identity")
    return explain.attribute(x, 2, return_convergence_delta=True, **own, **more)[1]


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", DELTAS)
@pytest.mark.filterwarnings("ignore")
def test_deltas_do_not_depend_on_the_units_of_the_score(name, layer, dtype, relu):
    usual = delta_at(1.0, name, layer, dtype, relu_attributions=relu)

    for power in (-160, -50, -40, -30, -22, 22, 30, 36, 50, 160):
        # Scores out of the range of the type are 0, or another error.
        if dtype == torch.float32 and not -40 <= power <= 36:
            continue
        delta = delta_at(10.0**power, name, layer, dtype, relu_attributions=relu)

        known = delta.isfinite()
        torch.testing.assert_close(delta[known], usual[known], rtol=1e-3, atol=0)
        if abs(power) <= 30:
            assert torch.equal(known, usual.isfinite())


class Half(nn.Module):
    """Single precision outside, with a part in half precision."""

    def __init__(self, kind):
        super().__init__()
        self.net = ConvNet().to(kind)
        self.features, self.kind = self.net.features, kind
        self.eval()

    def forward(self, x):
        return self.net(x.to(self.kind)).float()


class Autocast(Half):
    def __init__(self, kind):
        super().__init__(torch.float32)
        self.autocast = torch.autocast("cpu", kind)

    def forward(self, x):
        with self.autocast:
            return self.net(x).float()


class HalfHead(Half):
    """The layer in single precision, what follows it in half."""

    def __init__(self, kind):
        super().__init__(torch.float32)
        self.half_kind = kind
        self.net.mix.to(kind)
        self.net.head.to(kind)

    def forward(self, x):
        hidden = self.net.mix(self.features(x).to(self.half_kind)).relu()
        return self.net.head(hidden.flatten(2).mean(2)).float()


def under_autocast(kind):
    net = ConvNet()
    return net, images(2).float(), torch.autocast("cpu", kind)


HALVED = {
    "a model": lambda kind: (ConvNet().to(kind), images(2).to(kind), nullcontext()),
    "the inputs": lambda kind: (
        ConvNet(),
        images(2).to(kind),
        mock.patch.object(
            ConvNet, "forward", lambda s, x, f=ConvNet.forward: f(s, x.float())
        ),
    ),
    "a head": lambda kind: (HalfHead(kind), images(2).float(), nullcontext()),
    "a layer": lambda kind: (Half(kind), images(2).float(), nullcontext()),
    "autocast": under_autocast,
    "autocast inside": lambda kind: (Autocast(kind), images(2).float(), nullcontext()),
}


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("road", HALVED)
@pytest.mark.parametrize("name", DELTAS)
def test_deltas_are_refused_in_half_precision_on_every_road(name, road, kind):
    method, own = DELTAS[name]
    net, x, context = HALVED[road](kind)
    explain = method(net, net.features)
    match = "return_convergence_delta must be False for a model that runs in half"

    with context, pytest.raises(ValueError, match=match):
        explain.attribute(x, 2, return_convergence_delta=True, **own)
    if road == "a model":
        with context, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert explain.attribute(x, 2, **own).dtype == torch.float32
