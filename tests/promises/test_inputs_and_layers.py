"""Inputs and layers that are easily given wrong: right, noticed, or refused by name."""

import copy
import threading

import pytest
import torch
import torchvision
from reference import every_call, methods
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
from reference.methods import (
    GRADIENT_METHODS,
    METHODS,
    POSITION_METHODS,
    SCORE_METHODS,
)
from reference.networks import BATCH_NORM, CONVOLUTION, ConvNet, images
from reference.spies import assert_same_state, state_of
from torch import nn

from captum_iscam.layers import check_spatial
from captum_iscam.reshape_transforms import channels_first

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
every_layer_method = pytest.mark.parametrize("name", LAYERED)
every_method = pytest.mark.parametrize("name", ALL)


# Training mode below the root.


def with_spectral_norm():
    net = ConvNet()
    net.head = nn.utils.parametrizations.spectral_norm(net.head)
    return net.eval(), net.head.parametrizations.weight[0]


def with_old_spectral_norm():
    net = ConvNet()
    net.head = nn.utils.spectral_norm(net.head)
    return net.eval(), net.head


def with_module(module):
    def make():
        net = ConvNet()
        net.features.append(module())
        return net.eval(), net.features[3]

    return make


def with_batch_norm():
    net = ConvNet()
    return net, net.features[1]


class StochasticDepth(nn.Module):
    """As torchvision's and timm's: neither is of torch's dropout family."""

    def __init__(self, p=0.5):
        super().__init__()
        self.p = p

    def forward(self, x):
        kept = torch.rand(len(x), 1, 1, 1, dtype=x.dtype) >= self.p
        return x * kept if self.training else x


class Counting(nn.Module):
    """A module with a buffer that it replaces while it trains."""

    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, x):
        if self.training:
            self.seen = self.seen + len(x)
        return x


MATTERS = {
    "batch norm": with_batch_norm,
    "instance norm": with_module(
        lambda: nn.InstanceNorm2d(6, track_running_stats=True)
    ),
    "dropout": with_module(nn.Dropout),
    "dropout of maps": with_module(nn.Dropout2d),
    "random slopes": with_module(nn.RReLU),
    "stochastic depth": with_module(StochasticDepth),
    "spectral norm": with_spectral_norm,
    "spectral norm as a hook": with_old_spectral_norm,
}
NO_MATTER = {
    "convolution": with_module(lambda: nn.Conv2d(6, 6, 1)),
    "no dropout": with_module(lambda: nn.Dropout(0.0)),
    "no depth": with_module(lambda: StochasticDepth(0.0)),
    "instance norm": with_module(lambda: nn.InstanceNorm2d(6)),
    "group norm": with_module(lambda: nn.GroupNorm(2, 6)),
    "counting": with_module(Counting),
}


def prepared(make):
    net, module = make()
    module.train()
    return net.double()


every_form = pytest.mark.parametrize("form", [as_module, as_function, as_object])


@pytest.mark.parametrize("name", [*ALL, *METRICS])
@every_form
@pytest.mark.parametrize("kind", ["batch norm", "spectral norm", "dropout"])
def test_training_mode_below_the_root_is_noticed_and_leaves_no_trace(name, form, kind):
    net = prepared(MATTERS[kind])
    before, state = buffers_of(net), state_of(net, images(2))
    torch.manual_seed(0)

    with pytest.warns(UserWarning, match=r"training mode \(.*model\.eval") as caught:
        explain(name, form(net), net.features, images(2), 1)

    assert sum("training mode" in str(w.message) for w in caught) == 1
    assert caught[0].filename in (every_call.__file__, methods.__file__)
    assert_same_buffers(before, net)
    assert_same_state({**state, "random": 0}, {**state_of(net, images(2)), "random": 0})
    assert not nn.modules.module._global_forward_pre_hooks


@pytest.mark.parametrize("name", ["score-cam", "grad-cam++", "rise", "channel mean"])
@every_form
@pytest.mark.parametrize("kind", MATTERS)
def test_every_kind_of_module_in_training_mode_is_noticed(name, form, kind):
    net = prepared(MATTERS[kind])
    before = buffers_of(net)

    with pytest.warns(UserWarning, match="training mode"):
        explain(name, form(net), net.features, images(2), 1)

    assert_same_buffers(before, net)


@pytest.mark.parametrize("name", ["score-cam", "grad-cam++", "rise", "average drop"])
@every_form
@pytest.mark.parametrize("kind", NO_MATTER)
def test_modules_to_which_the_mode_does_not_matter_are_not_named(name, form, kind):
    net = prepared(NO_MATTER[kind])
    before = buffers_of(net)

    explain(name, form(net), net.features, images(2), 1)

    assert_same_buffers(before, net)


@pytest.mark.filterwarnings("ignore:.*training mode")
@pytest.mark.parametrize("name", [*ALL, *METRICS])
@pytest.mark.parametrize("form", [as_module, as_function])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_buffers_are_restored_after_an_exception(name, form, at):
    net = ConvNet().double().train()
    before, passes = buffers_of(net), []

    def tired(module, inputs, output):
        passes.append(len(passes))
        if passes[-1] == at:
            raise RuntimeError("the model is tired")

    # In the middle of a pass, behind the batch norm.
    with net.mix.register_forward_hook(tired):
        try:
            explain(name, form(net), net.features, images(2), 1)
        except RuntimeError as error:
            assert "tired" in str(error)  # noqa: PT017 - baselines are tried again

    assert_same_buffers(before, net)
    assert not nn.modules.module._global_forward_pre_hooks


def test_a_graph_of_the_caller_outlives_an_explanation_in_training_mode():
    net, x = ConvNet().double().train(), images(2)
    loss = net(x).sum()

    with pytest.warns(UserWarning, match="training mode"):
        explain("score-cam", net, net.features, x, 1)

    loss.backward()


@pytest.mark.parametrize("name", ["score-cam", "rise", "average drop"])
def test_no_hook_of_all_modules_for_a_model_in_evaluation_mode(name, monkeypatch):
    def refuse(hook):
        raise AssertionError

    monkeypatch.setattr(
        "captum_iscam._utils.training.register_module_forward_pre_hook", refuse
    )
    net = ConvNet().double()
    explain(name, net, net.features, images(2), 1)
    with pytest.raises(AssertionError):
        explain(name, lambda x: net(x), net.features, images(2), 1)


@pytest.mark.parametrize("name", ["rise", "average drop"])
@pytest.mark.parametrize("part", ["the model", "a function", "an object"])
def test_compiled_code_in_a_function_is_compiled_once(name, part):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    net = prepared(MATTERS["batch norm"])
    inner = net if part == "the model" else lambda x: net(x)
    compiled = torch.compile(inner, backend=backend, dynamic=True)
    compiled(images(2))

    class Holder:
        def __init__(self):
            self.model = compiled

        def __call__(self, x):
            return self.model(x)

    model = Holder() if part == "an object" else lambda x: compiled(x)
    with torch.no_grad():
        model(images(2)), model(images(3))
        before, count = buffers_of(net), len(graphs)
        with pytest.warns(UserWarning, match="training mode"):
            explain(name, model, None, images(2), 1)

    assert len(graphs) == count
    assert_same_buffers(before, net)


# A layer that runs several times in a pass.


class Unrolled(nn.Module):
    """Three calls of one layer, or of three equal ones, each with an identity."""

    def __init__(self, shared):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 4, 3, stride=2)
        block = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
        blocks = [block if shared else copy.deepcopy(block) for _ in range(3)]
        self.blocks = nn.ModuleList(blocks)
        self.calls = nn.ModuleList(nn.Identity() for _ in range(3))
        self.head = nn.Linear(4, 5)
        self.double().eval()

    def forward(self, x):
        x = self.stem(x)
        for block, call in zip(self.blocks, self.calls, strict=True):
            x = x + call(block(x))
        return self.head(x.mean((2, 3)))


@every_layer_method
@pytest.mark.parametrize("of_input", [False, True])
def test_a_layer_that_runs_several_times_is_noticed(name, of_input):
    net, apart = Unrolled(shared=True), Unrolled(shared=False)
    options = {"attribute_to_layer_input": of_input}
    match = "Sequential, runs 3 times in a pass, and its last call is .*Identity"

    with pytest.warns(UserWarning, match=match) as caught:
        found = explain(name, net, net.blocks[0], images(2), 1, **options)

    assert sum("in a pass" in str(w.message) for w in caught) == 1
    last = explain(name, apart, apart.blocks[2], images(2), 1, **options)
    torch.testing.assert_close(found, last, rtol=0, atol=1e-9)


@every_layer_method
@pytest.mark.parametrize("call", [0, 1, 2])
def test_each_call_of_a_layer_is_explained_at_its_own_identity(name, call):
    net, apart = Unrolled(shared=True), Unrolled(shared=False)

    found = explain(name, net, net.calls[call], images(2), 1)

    expected = explain(name, apart, apart.blocks[call], images(2), 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


# Poly-CAM refuses two layers of the same size.
@pytest.mark.parametrize("name", [name for name in LAYERED if name != "poly-cam"])
def test_calls_are_counted_of_each_layer_and_of_this_thread(name):
    net, once = Unrolled(shared=True), ConvNet().double()

    def twice(x):
        return once(x) + once(x.flip(-1))

    with pytest.warns(UserWarning, match="Conv2d, runs 2 times"):
        explain(name, twice, once.mix, images(2), 1)
    with pytest.warns(UserWarning, match="runs 3 times") as caught:
        explain(name, net, [net.stem, net.blocks[0]], images(2), 1)
    assert sum("in a pass" in str(w.message) for w in caught) == 1

    def other_thread_too(x):
        thread = threading.Thread(target=once, args=(x,))
        thread.start(), thread.join()
        return once(x)

    explain(name, other_thread_too, once.features, images(2), 1)


# Forms of input, layer, output and target that need a repair.


class Normed(nn.Module):
    """Convolution and pooling of any size; batch norm only takes whole batches."""

    def __init__(self, spatial, norm):
        super().__init__()
        self.conv = CONVOLUTION[spatial](3, 4, 3)
        self.norm = BATCH_NORM[spatial](4) if norm else nn.ReLU()
        pools = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
        self.pool = pools[spatial - 1](1)
        self.head = nn.Linear(4, 5)
        self.double().eval()

    def forward(self, x):
        return self.head(self.pool(self.norm(self.conv(x))).flatten(1))


class Means(nn.Module):
    """Takes inputs without a batch as they are: only the output says what is missing"""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 5)
        self.double().eval()

    def forward(self, x):
        return self.head(self.conv(x).mean((-2, -1)))


WITHOUT_BATCH = {
    "image": (lambda: Normed(2, True), (3, 9, 8)),
    "image without norm": (lambda: Normed(2, False), (3, 9, 8)),
    "image that runs through": (Means, (3, 9, 8)),
    "volume": (lambda: Normed(3, True), (3, 5, 6, 7)),
    "signal": (lambda: Normed(1, False), (3, 20)),
}


@every_method
@pytest.mark.parametrize("kind", WITHOUT_BATCH)
def test_inputs_without_a_batch_axis(name, kind):
    make, shape = WITHOUT_BATCH[kind]
    net, x = make(), torch.rand(shape, dtype=torch.float64)

    with pytest.raises(ValueError, match=r"inputs must.* got.*inputs\.unsqueeze\(0\)"):
        explain(name, net, net.conv, x, 1)
    with pytest.raises(ValueError, match=r"inputs must.* got.*inputs\.unsqueeze\(0\)"):
        explain(name, lambda z: net(z), net.conv, x, 1)

    explain(name, net, net.conv, x.unsqueeze(0), 1)


@every_method
def test_other_errors_of_a_first_pass_are_not_taken_for_a_missing_axis(name):
    net = ConvNet().double()

    def any_shape(x):
        net.features(x if x.dim() == 4 else x[0])
        raise ValueError("the model is of no use")

    def rows(x):
        return net(x.flatten(0, 1)) if x.dim() == 5 else net(x)

    with pytest.raises(ValueError, match="of no use"):
        explain(name, any_shape, net.features, images(2), 1)
    if name != "channel mean":
        with pytest.raises(ValueError, match="target must be an index"):
            explain(name, rows, net.features, images(2), 7)


@pytest.mark.parametrize("name", [*METHODS, "rise"])
def test_waveforms_without_channels(name):
    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv1d(1, 4, 9, stride=2)
            self.head = nn.Linear(4, 5)

        def forward(self, x):
            return self.head(self.conv(x.unsqueeze(1)).relu().mean(2))

    net, x = Waves().eval(), torch.rand(2, 60)
    if name in GRADIENT_METHODS:
        assert explain(name, net, net.conv, x, 1).shape[:2] == (2, 1)
        return

    match = r"inputs must have positions .*unsqueeze\(1\).*model\(x\.squeeze\(1\)\)"
    with pytest.raises(ValueError, match=match):
        explain(name, net, net.conv, x, 1)

    explain(name, lambda z: net(z.squeeze(1)), net.conv, x.unsqueeze(1), 1)


@every_method
def test_inputs_in_lists_and_dicts(name):
    net = ConvNet().double()

    with pytest.raises(TypeError, match=r"got list\..*tuple\(inputs\)"):
        explain(name, net, net.features, [images(2)], 1)
    with pytest.raises(TypeError, match=r"got dict\..*a tuple of its tensors"):
        explain(name, net, net.features, {"pixel_values": images(2)}, 1)


class Passing(nn.Module):
    """A layer that gives whatever a function makes of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *x, **named):
        return self.function(*x, **named)


def quantized(x):
    return torch.quantize_per_tensor(x.float(), 0.05, 100, torch.quint8)


LAYERS = {
    "quantised": (quantized, "torch.quint8. Pass reshape_transform=torch.dequantize"),
    "integers": (lambda x: (9 * x).long(), "int64. Pass .*=torch.Tensor.float"),
    "truth": (lambda x: x > 0, "bool. Pass .*=torch.Tensor.float"),
    "none": (lambda x: None, "NoneType. .*Identity"),
    "a tuple with none": (lambda x: (x, None), "tuple of Tensor, NoneType. .*Identity"),
    "an empty list": (lambda x: [], "list of nothing. .*Identity"),
    "a dict": (lambda x: {"maps": x}, "dict. .*Identity"),
}


quantized_on_purpose = pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")


@quantized_on_purpose
@every_layer_method
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_that_give_no_floating_point_tensors(name, kind):
    function, match = LAYERS[kind]
    layer, net = Passing(function), ConvNet().double()

    def model(x):
        layer(net.features(x))
        return net(x)

    with pytest.raises(TypeError, match=f"layer.* must .*, got .*{match}"):
        explain(name, model, layer, images(2), 1)
    if name in SCORE_METHODS and "Pass" in match:
        own = torch.dequantize if kind == "quantised" else torch.Tensor.float
        explain(
            name, model, layer, images(2), 1, constructor={"reshape_transform": own}
        )


@every_layer_method
def test_layers_whose_input_goes_by_name(name):
    layer, net = Passing(lambda x: x), ConvNet().double()
    options = {"attribute_to_layer_input": True}

    def model(x):
        return net(layer(x=x))

    with pytest.raises(TypeError, match="layer must be given tensors alone, by posit"):
        explain(name, model, layer, images(2), 1, **options)


OUTPUTS = {
    "classes": (lambda out: out.argmax(1, keepdim=True).expand(-1, 5), "logits or pro"),
    "truth": (lambda out: out > 0, "logits or pro"),
    "quantised": (quantized, r"Return output\.dequantize\(\)"),
    "none": (lambda out: None, "must return a tensor, got NoneType"),
}


@quantized_on_purpose
@pytest.mark.parametrize("name", [*METHODS, "rise"])
@pytest.mark.parametrize("kind", OUTPUTS)
@pytest.mark.parametrize("score", ["softmax", "identity", lambda out: out])
def test_outputs_that_are_no_floating_point_tensors(name, kind, score):
    read, match = OUTPUTS[kind]
    net, own = ConvNet().double(), {"score": score}

    with pytest.raises(TypeError, match=f"must .*, got .*{match}|{match}"):
        explain(
            name, lambda x: read(net(x)), net.features, images(2), 1, constructor=own
        )


@pytest.mark.parametrize("name", [*METHODS, "rise"])
def test_baselines_in_the_place_of_the_target(name):
    net, x = ConvNet().double(), images(2)

    for baseline in (torch.zeros_like(x), x[:1], 0.0, (torch.zeros_like(x),)):
        with pytest.raises(TypeError, match=r"target must hold .*baselines=") as error:
            explain(name, net, net.features, x, baseline)
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("name", [*METHODS, "rise"])
@pytest.mark.parametrize(
    ("count", "target", "repair"),
    [
        (1, [1, 4], r"\[\[1, 4\]\] for several"),
        (1, torch.tensor([1, 4, 2]), r"\[\[1, 4, 2\]\] for several"),
        (2, [1, 4, 2], r"\[\[1, 4, 2\]\] for several"),
        (2, [3], r"\[\[3\]\] for several"),
        (1, list(range(40)), r"\(N, T\) for several"),
    ],
    ids=str,
)
def test_a_list_of_targets_that_is_no_target_per_example(name, count, target, repair):
    net = ConvNet().double()
    match = f"target must have one entry per example, {count}, got .*{repair}"

    with pytest.raises(AssertionError, match=match):
        explain(name, net, net.features, images(count), target)


# A layer of one position.


class Shrinking(nn.Module):
    """`first` has four positions and more, `last` has one for small inputs."""

    def __init__(self, spatial=2, norm=False):
        super().__init__()
        conv = CONVOLUTION[spatial]
        self.first = nn.Sequential(conv(3, 4, 3, stride=2), nn.ReLU())
        self.last = nn.Sequential(conv(4, 6, 2), nn.ReLU())
        self.norm = BATCH_NORM[spatial](6) if norm else nn.Identity()
        self.head = nn.Linear(6, 5)
        self.double().eval()

    def forward(self, x):
        return self.head(self.norm(self.last(self.first(x))).flatten(2).mean(2))


class Both(Shrinking):
    def forward(self, x, other):
        return super().forward(x + other)


@every_layer_method
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_a_layer_of_one_position(name, spatial):
    net = Shrinking(spatial)
    x = torch.rand(2, 3, *[5] * spatial, dtype=torch.float64)
    if name not in POSITION_METHODS:
        out = explain(name, net, net.last, x, 1)
        assert out.shape == (2, 1, *[1] * spatial)
        assert torch.isfinite(out).all()
        return

    match = 'layer must have more than one position, got one position.*as "first", a'
    with pytest.raises(ValueError, match=match):
        explain(name, net, net.last, x, 1)
    match = "got one position.*Choose an earlier layer, a larger"
    with pytest.raises(ValueError, match=match):
        explain(name, lambda z: net(z), net.last, x, 1)
    both = Both(spatial)  # cannot be run with one input to look for a layer
    with pytest.raises(ValueError, match=match):
        explain(name, both, both.last, (x, x), 1)

    explain(name, net, net.first, x, 1)


def test_looking_for_an_earlier_layer_leaves_no_trace():
    net = Shrinking(norm=True)
    net.norm.train()
    x = torch.rand(2, 3, 5, 5, dtype=torch.float64)
    before, state = buffers_of(net), state_of(net, x)

    with (
        pytest.warns(UserWarning, match="training mode"),
        pytest.raises(ValueError, match="one position"),
    ):
        explain("score-cam", net, net.last, x, 1)

    assert_same_buffers(before, net)
    assert_same_state(state, state_of(net, x))


def test_the_layer_that_is_named_is_one_of_the_network():
    net = torchvision.models.resnet18().eval()
    x = torch.rand(1, 3, 32, 32)

    with pytest.raises(ValueError, match=r'one position.*such as "layer3"'):
        explain("score-cam", net, net.layer4, x, 1)
    with pytest.raises(ValueError, match=r'one position.*"layer4".*Those.*layer3'):
        check_spatial(net, x, "layer4")

    explain("grad-cam++", net, net.layer4, x, 1)


# Channels that are not on axis 1.


class Colours(nn.Module):
    """The logit of class c is the amount of colour c in inputs of any layout."""

    def __init__(self, layout, positions=None):
        super().__init__()
        self.channels = layout.index("C")
        spatial = len(layout) - 2
        pools = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
        adaptive = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
        kind = adaptive if positions else pools
        self.features = kind[spatial - 1](positions or 2)
        self.eval()

    def forward(self, x, scale=None):
        colours = self.features(x.movedim(self.channels, 1)).flatten(2).mean(2)
        return 20 * colours if scale is None else 20 * colours * scale


def two_objects(layout):
    """Inputs `(N, C, *spatial)`: an object of colour 0, then one of colour 2."""
    spatial = len(layout) - 2
    x = torch.zeros(2, 3, *[16] * spatial)
    first = (..., *[slice(2, 6)] * spatial)
    second = (..., *[slice(10, 14)] * spatial)
    x[:, 0][first], x[:, 2][second] = 1.0, 0.8
    return x, first, second


LAYOUTS = ["NHWC", "NTC", "NTCHW", "NCHW", "NHCW"]
of_colours = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.mark.filterwarnings("ignore:channel_softmax")
@pytest.mark.parametrize("name", [*METHODS, "rise"])
@of_colours
def test_channels_first_puts_the_map_on_the_right_object(name, layout):
    net, (x, first, second) = Colours(layout), two_objects(layout)
    options = {"n_masks": 200, "grid": 4} if name == "rise" else {}

    for target, here, there in ((0, first, second), (2, second, first)):
        out = explain(
            name,
            channels_first(net, layout),
            net.features,
            x,
            target,
            constructor={"score": "identity"},
            **options,
        )
        wide = nn.functional.interpolate(out, x.shape[2:])
        assert (wide[here].mean() > wide[there].mean() + 1e-3 * wide.amax()).all()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("layout", ["NHWC", "NTC", "NTCHW"])
def test_channels_last_inputs_are_noticed_where_it_shows(name, layout):
    net, (x, *_) = Colours(layout), two_objects(layout)
    given = x.movedim(1, layout.index("C"))
    match = r'8 positions along axis \d, where the input has 3.*model, "NHWC"\)'

    with pytest.warns(UserWarning, match=match) as caught:
        explain(name, net, net.features, given, 0)

    assert sum("positions along" in str(w.message) for w in caught) == 1
    coarse = Colours(layout, positions=2)
    explain(name, coarse, coarse.features, given, 0)


@pytest.mark.parametrize("name", METHODS)
def test_one_of_several_inputs_that_fits_is_enough(name):
    net = Colours("NCHW")

    def model(small, image):
        return net(image) + small.mean((2, 3))

    x, *_ = two_objects("NCHW")
    explain(name, model, net.features, (x[..., :4], x), 0)

    def enlarged(z):
        return net(nn.functional.interpolate(z, (16, 16)))

    with pytest.warns(UserWarning, match="8 positions along axis 3, where .* has 4"):
        explain(name, enlarged, net.features, x[..., :4], 0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_channels_first_is_the_model_in_another_order(layout):
    net, (x, *_) = Colours(layout), two_objects(layout)
    shown = x.movedim(1, layout.index("C"))
    wrapped = channels_first(net, layout)

    assert torch.equal(wrapped(x), net(shown))
    assert torch.equal(wrapped(x, torch.tensor(2.0)), net(shown, 2.0))
    assert dict(wrapped.named_modules())["model.features"] is net.features
    assert not wrapped.training
    assert channels_first(Colours(layout).train(), layout).training
    # Memory in the order of the model, and every argument of its rank in it.
    views = channels_first(lambda a, b, c: (a.view(-1), b.shape, c), layout)
    flat, shape, vector = views(x, x, x[:, 0, 0])
    assert torch.equal(flat, shown.reshape(-1))
    assert shape == shown.shape
    assert torch.equal(vector, x[:, 0, 0])


def test_spatial_axes_keep_their_order():
    x = torch.rand(2, 3, 4, 5, 6)

    def shape(x):
        return x.shape

    assert channels_first(shape, "NTCHW")(x) == (2, 4, 3, 5, 6)
    assert channels_first(shape, "NHWTC")(x) == (2, 4, 5, 6, 3)
    assert channels_first(shape, "NCTHW")(x) == (2, 3, 4, 5, 6)


@pytest.mark.parametrize(
    "layout",
    ["", "NC", "HWC", "NHW", "nhwc", "NHHC", "CNHW", "NTDHWC", "N HC", "N1C", None, 4],
)
def test_layouts_that_are_none(layout):
    with pytest.raises(ValueError, match=r"layout must be N, C and .*, got .*\. Write"):
        channels_first(nn.Identity(), layout)


def test_channels_first_names_what_it_cannot_take():
    with pytest.raises(TypeError, match="model must be a callable, got str"):
        channels_first("model", "NHWC")
    with pytest.raises(ValueError, match='4 dimensions, those of "NHWC" with C second'):
        channels_first(nn.Identity(), "NHWC")(torch.rand(3, 8, 8))
