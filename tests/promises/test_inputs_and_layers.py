"""Inputs and layers that are easily given wrong: right, noticed, or refused by name."""

import copy
import threading

import pytest
import torch
from reference import methods
from reference.methods import METHODS, attribute
from reference.networks import ConvNet, images
from reference.spies import assert_same_state, state_of
from torch import nn

from captum_iscam import RISE
from captum_iscam.attr import ChannelMean
from captum_iscam.metrics import average_drop, infidelity, insertion

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
METRICS = {"average drop": average_drop, "insertion": insertion, "infid": infidelity}
LAYERED = [*METHODS, "channel mean"]
ALL = [*LAYERED, "rise"]
every_layer_method = pytest.mark.parametrize("name", LAYERED)
every_method = pytest.mark.parametrize("name", ALL)


def explain(name, model, layer, x, target, **options):
    """A map by any method, RISE and controls among them, or a metric of one."""
    if name in METRICS:
        first = x[0] if isinstance(x, tuple) else x
        maps = torch.rand(len(first), 1, *first.shape[2:], dtype=first.dtype)
        return METRICS[name](model, x, maps, target)
    if name == "rise":
        generator = torch.Generator().manual_seed(7)
        rise = RISE(model, **options.pop("constructor", {}))
        given = {"n_masks": 5, "grid": 3, "generator": generator, **options}
        return rise.attribute(x, target, **given)
    if name == "channel mean":
        control = ChannelMean(model, layer, **options.pop("constructor", {}))
        return control.attribute(x, target, **options)
    return attribute(name, model, layer, x, target, **options)


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


def as_module(net):
    return net


def as_function(net):
    return lambda x: net(x)


def as_object(net):
    class Holder:
        def __call__(self, x):
            return net.head(inner(x))

    def inner(x):
        hidden = torch.relu(net.mix(net.features(x)))
        return hidden.flatten(2).amax(2) + hidden.flatten(2).mean(2)

    return Holder()


def buffers_of(net):
    return {name: (id(b), b.clone()) for name, b in net.named_buffers()}


def assert_same_buffers(before, net):
    after = buffers_of(net)
    assert before.keys() == after.keys()
    for name, (identity, value) in before.items():
        assert identity == after[name][0], name
        assert torch.equal(value, after[name][1]), name


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
    assert caught[0].filename in (__file__, methods.__file__)
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


@every_layer_method
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
