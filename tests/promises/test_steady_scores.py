"""Scores that depend on more than their input, and models that keep a state."""

import warnings
from contextlib import suppress
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from reference.every_call import (
    ALL,
    LAYERED,
    METRICS,
    as_function,
    as_module,
    as_object,
    assert_same_buffers,
    buffers_of,
    explain,
)
from reference.methods import SCORE_METHODS
from reference.networks import ConvNet, images
from torch import nn
from torch.ao import quantization

from captum_iscam import LayerCAM, LayerIntegratedGradCAM, LayerScoreCAM
from captum_iscam.layers import default_layer
from captum_iscam.methods import METHODS, Options

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example.*abruptly",
    "ignore:Channels that support",
    "ignore:The noise",
)
UNSTEADY = r"The score of example.* changes from call to call, .*internal_batch_size=1"
GRADIENT = [n for n in LAYERED if "grad" in n or n in ("layer-cam", "hires-cam")]
SEVERAL_PASSES = ("integrated grad-cam", "smooth grad-cam++")
ONE_PASS = [name for name in GRADIENT if name not in SEVERAL_PASSES]
SCORING = [*SCORE_METHODS, *GRADIENT, "rise"]
every_scoring = pytest.mark.parametrize("name", SCORING)


class Changed(nn.Module):
    """A network that changes its input first."""

    def __init__(self, change):
        super().__init__()
        self.net = ConvNet().double()
        self.features = self.net.features
        self.change = change
        self.eval()

    def forward(self, x):
        return self.net(self.change(x))


# The layout of the input in memory.


def strided(x):
    _, channels, height, width = x.shape
    place = channels * height * width
    return x.as_strided(x.shape, (place, height * width, width, 1), x.storage_offset())


def stored(x):
    return (
        torch.tensor(x.untyped_storage().tolist(), dtype=torch.uint8)[
            x.storage_offset() * x.element_size() :
        ]
        .view(x.dtype)[: x.numel()]
        .view(x.shape)
    )


def shared(x):
    flat = torch.empty(0, dtype=x.dtype)
    return flat.set_(x.untyped_storage(), x.storage_offset(), x.shape)


@pytest.mark.parametrize("name", SCORE_METHODS)
@pytest.mark.parametrize("read", [strided, stored, shared])
@pytest.mark.parametrize("baseline", [None, 0.5])
def test_models_that_read_the_memory_of_their_input_get_it_in_order(
    name, read, baseline
):
    model = Changed(read)
    options = {"baselines": baseline}

    found = explain(name, model, model.features, images(2), 1, **options)

    expected = explain(name, model.net, model.features, images(2), 1, **options)
    torch.testing.assert_close(found, expected)


# Scores that change with the other rows of a pass, or from call to call.


def normalised(x):
    return F.batch_norm(x, None, None, training=True)


def centred(x):
    return x - x.mean(0)


def ranked(x):
    return x + 0.3 * torch.arange(len(x)).view(-1, 1, 1, 1)


def dropped(x):
    return F.dropout(x, 0.5, training=True)


def noisy(x):
    return x + 3 * torch.rand_like(x)


# What only brighter inputs beside it do to one.


def by_the_largest(x):
    return x / (x.abs().amax() + 1e-6)


def bright(x):
    return 2 * x if x.square().mean() > 0.25 else x


def quantised(x):
    low, high = x.amin(), x.amax()
    step = (high - low).clamp(min=1e-6) / 7
    return ((x - low) / step).round() * step + low


class Count:
    calls = 0

    def __call__(self, x):
        self.calls += 1
        return x + 0.1 * self.calls


UNSTEADY_KINDS = {
    "batch statistics": normalised,
    "mean of the rows": centred,
    "number of the row": ranked,
    "dropout": dropped,
    "noise": noisy,
    "count of the calls": Count(),
}


OF_ROWS = (normalised, centred, ranked)


@every_scoring
@pytest.mark.parametrize("kind", UNSTEADY_KINDS)
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("form", [as_module, as_function])
def test_scores_that_are_not_of_the_input_alone_are_noticed(name, kind, count, form):
    if count == 1 and name in ONE_PASS and UNSTEADY_KINDS[kind] in OF_ROWS:
        pytest.skip("one row in each of two passes has none beside it")
    model = Changed(UNSTEADY_KINDS[kind])
    options = {"constructor": {"score": "identity"}}
    torch.manual_seed(0)

    with pytest.warns(UserWarning, match=UNSTEADY) as caught:
        explain(name, form(model), model.features, images(count), 1, **options)

    assert sum("from call to call" in str(w.message) for w in caught) == 1


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *product([*SCORE_METHODS, "rise"], [by_the_largest, bright, quantised]),
        *product(["integrated grad-cam"], [by_the_largest, quantised]),
    ],
)
@pytest.mark.parametrize("score", ["identity", "softmax"])
@pytest.mark.parametrize("count", [1, 2])
def test_what_brighter_inputs_change_is_noticed(name, change, score, count):
    model = Changed(change)

    with pytest.warns(UserWarning, match=UNSTEADY):
        explain(
            name,
            model,
            model.features,
            images(count),
            4,
            constructor={"score": score},
            internal_batch_size=5,
        )


MASKS_AT_THE_LAYER = ["ablation-cam", "recipro-cam"]


@pytest.mark.parametrize("name", [*ONE_PASS, *MASKS_AT_THE_LAYER])
@pytest.mark.parametrize("brighter", [0, 1])
def test_a_brighter_example_of_the_batch_is_noticed(name, brighter):
    model, x = Changed(by_the_largest), images(2)
    x[brighter] *= 3

    with pytest.warns(UserWarning, match=f"The score of example {1 - brighter} chang"):
        explain(name, model, model.features, x, 4)


@pytest.mark.parametrize("name", MASKS_AT_THE_LAYER)
@pytest.mark.parametrize("change", [dropped, noisy])
def test_chance_in_front_of_the_layer_is_noticed(name, change):
    torch.manual_seed(0)
    model = Changed(change)

    with pytest.warns(UserWarning, match=UNSTEADY):
        explain(name, model, model.features, images(1), 1)


@pytest.mark.filterwarnings("ignore:The score of example.* is negative")
@pytest.mark.parametrize("name", MASKS_AT_THE_LAYER)
def test_what_follows_the_layer_may_write_to_its_output(name):
    features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())
    rest = nn.SiLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten()
    model = nn.Sequential(features, *rest, nn.Linear(24, 5)).double().eval()

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*from call to call")
        explain(name, model, features, images(2), 1)


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_a_small_change_of_scores_that_hardly_differ_is_noticed(name):
    model = Changed(lambda x: normalised(x))
    with torch.no_grad():
        model.net.head.weight *= 1e-3  # scores are 1e-3 apart
    model.float()

    with pytest.warns(UserWarning, match=UNSTEADY):
        explain(name, model, model.features, images(1).float(), 1)


@pytest.mark.parametrize("method", [LayerScoreCAM, LayerCAM, LayerIntegratedGradCAM])
def test_unsteady_scores_are_named_once_for_all_layers(method):
    model = Changed(noisy)

    with pytest.warns(UserWarning, match=UNSTEADY) as caught:
        method(model, [model.features, model.net.mix], score="identity").attribute(
            images(1), target=1
        )

    assert sum("from call to call" in str(w.message) for w in caught) == 1


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("kind", UNSTEADY_KINDS)
@pytest.mark.parametrize("target", [[[0, 1]], None])
def test_scores_of_gradient_passes_are_compared_for_each_target(name, kind, target):
    model = Changed(UNSTEADY_KINDS[kind])
    shown = model if target else lambda x: model(x)[:, 0]
    options = {"constructor": {"score": "identity"}}
    torch.manual_seed(0)

    with pytest.warns(UserWarning, match=UNSTEADY):
        explain(name, shown, model.features, images(2), target, **options)


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("change", [normalised, centred, dropped])
def test_single_precision_is_enough_to_notice_what_others_change(name, change):
    model = Changed(lambda x: change(3 * x)).float()
    options = {"constructor": {"score": "identity"}}
    torch.manual_seed(0)

    with pytest.warns(UserWarning, match=UNSTEADY):
        explain(name, model, model.features, images(2).float(), 1, **options)


@pytest.mark.parametrize("name", GRADIENT)
def test_a_model_of_whole_batches_is_said_not_to_be_compared(name):
    net = ConvNet().double()

    def whole(x):
        return net(x.view(2, 3, *x.shape[2:]))

    options = {"internal_batch_size": 2}
    expected = explain(name, net, net.features, images(2), 1, **options)

    with pytest.warns(UserWarning, match="is not known: .* fails for one input alone"):
        found = explain(name, whole, net.features, images(2), 1, **options)

    torch.testing.assert_close(found, expected)


@every_scoring
@pytest.mark.parametrize("change", [normalised, centred])
def test_one_row_a_pass_is_steady(name, change):
    model = Changed(change)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*from call to call")
        explain(name, model, model.features, images(1), 1, internal_batch_size=1)


@every_scoring
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("score", ["softmax", "identity"])
def test_rounding_is_steady(name, scale, dtype, score):
    model = ConvNet().to(dtype)
    model.head.weight.data *= scale
    options = {"constructor": {"score": score}}

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*from call to call")
        explain(name, model, model.features, images(3).to(dtype), 1, **options)


@every_scoring
def test_dropout_in_training_mode_is_named_by_its_mode_alone(name):
    model = nn.Sequential(ConvNet().double().eval(), nn.Dropout())

    with pytest.warns(UserWarning, match="training mode") as caught:
        explain(name, model, model[0].features, images(2), 1)

    assert not any("from call to call" in str(w.message) for w in caught)


# Buffers that change in evaluation mode.


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(1))
        self.register_buffer("cache", None)

    def forward(self, x):
        self.passes += len(x)
        self.cache = x.detach().mean((2, 3))
        return x


class Replacing(Counter):
    def forward(self, x):
        self.passes = self.passes + 1
        return x


class Resizing(Counter):
    def forward(self, x):
        with torch.no_grad():
            self.passes.resize_(len(x) + 1).fill_(3)
        return x


class Statistics(nn.Module):
    """Batch statistics in evaluation mode, which write without a new version."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3).double())
        self.register_buffer("var", torch.ones(3).double())

    def forward(self, x):
        F.batch_norm(x, self.mean, self.var, training=True)
        return x


class Single(nn.Module):
    """A module of single precision, as all of quantisation are."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def _apply(self, *_):
        return self

    def forward(self, x):
        return x + 0 * self.module(x.float()).to(x)


STATEFUL = {
    "counter": Counter,
    "replaced": Replacing,
    "resized": Resizing,
    "batch statistics": Statistics,
    "observer": lambda: Single(quantization.MovingAverageMinMaxObserver()),
    "observer of channels": lambda: Single(
        quantization.MovingAveragePerChannelMinMaxObserver(ch_axis=1)
    ),
    "histogram": lambda: Single(quantization.HistogramObserver()),
    "fake quantisation": lambda: Single(quantization.FakeQuantize()),
    "fused": lambda: Single(quantization.FusedMovingAvgObsFakeQuantize()),
}
FORMS = [as_module, as_function, as_object]


def stateful(kind):
    net = ConvNet().double()
    net.features.insert(0, STATEFUL[kind]())
    return net.eval()


@pytest.mark.filterwarnings("ignore:.*quant.*:DeprecationWarning")
@pytest.mark.parametrize("name", [*ALL, *METRICS])
@pytest.mark.parametrize("kind", STATEFUL)
@pytest.mark.parametrize("form", FORMS)
def test_buffers_that_change_in_evaluation_mode_are_restored(name, kind, form):
    net = stateful(kind)
    before = buffers_of(net)

    explain(name, form(net), net.features, images(2), 1)

    assert_same_buffers(before, net)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["counter", "fused"])
def test_methods_by_name_restore_buffers(name, kind):
    net = stateful(kind)
    before = buffers_of(net)

    METHODS[name].attribute(
        net, net.features, images(1), 1, Options(n_samples=2, n_masks=5)
    )

    assert_same_buffers(before, net)


def test_looking_for_a_layer_restores_buffers():
    net = stateful("counter")
    before = buffers_of(net)

    default_layer(net, images(1))

    assert_same_buffers(before, net)


@pytest.mark.filterwarnings("ignore:Whether scores depend on the inputs beside")
@pytest.mark.parametrize("name", [*ALL, *METRICS])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_buffers_of_evaluation_mode_are_restored_after_an_exception(name, form, at):
    net = stateful("counter")
    before, passes = buffers_of(net), []

    def tired(*_):
        passes.append(len(passes))
        if passes[-1] == at:
            raise RuntimeError("the model is tired")

    with net.mix.register_forward_hook(tired), suppress(RuntimeError):
        explain(name, form(net), net.features, images(2), 1)

    assert_same_buffers(before, net)


def test_buffers_that_cannot_be_written_are_left_as_they_are():
    net = ConvNet().double()
    net.register_buffer("repeated", torch.arange(3).expand(4, 3))
    with torch.inference_mode():
        net.register_buffer("inference", torch.zeros(2))

    explain("score-cam", net, net.features, images(1), 1)

    assert net.repeated.tolist() == [[0, 1, 2]] * 4
    assert net.inference.is_inference()
