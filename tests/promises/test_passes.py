"""What a map costs: forward calls and rows, counted exactly."""

import pytest
import torch
from reference.methods import attribute
from reference.networks import CONSTANT, DEAD, ConvNet, images
from reference.spies import Calls
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.hooks import record_conv_outputs

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)

CHANNELS = 6 - len({CONSTANT, DEAD})  # of ConvNet, without the constant ones
EXAMPLES = 2
ENDS = 3
"""The inputs alone, and the inputs and baselines in one pass."""
FAINT = 3
"""The first input at a quarter of its strength: in that pass, and two copies alone."""
WITH_DELTA = {"return_convergence_delta": True}


@pytest.fixture
def net():
    return ConvNet().double()


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("score-cam", {}, 1),
        ("is-cam", {}, 3 + 4),  # all four are sampled, at four more points
        ("is-cam", {"n_steps": 3}, 3),
        ("is-cam", {"n_steps": 5, "method": "riemann_right"}, 5),
        ("is-cam", {"n_steps": 5, "method": "riemann_left"}, 4),
        ("is-cam", {"n_steps": 5, "method": "riemann_trapezoid"}, 4),
        ("is-cam", {"n_steps": 5, "method": "recurrence"}, 4),
        ("ss-cam", {"n_samples": 5}, 5),
        # Of four channels two are scored.
        ("score-cam screened", {}, 1 / 2),
        ("is-cam screened", {}, (3 + 4) / 2),
        ("is-cam rule screened", {}, 3 / 2),
        ("ss-cam screened", {"n_samples": 5}, 5 / 2),
        # The delta of a rule is found on all four at eight points, or twice as many as
        # the rule has; that of the default, of samples and of screening costs nothing.
        ("is-cam", {"n_steps": 3, **WITH_DELTA}, 3 + 8),
        ("is-cam", {"n_steps": 5, **WITH_DELTA}, 5 + 10),
        ("is-cam", WITH_DELTA, 3 + 4),
        ("score-cam screened", WITH_DELTA, 1 / 2),
        ("is-cam rule screened", WITH_DELTA, (3 + 8) / 2),
        ("ss-cam", {"n_samples": 5, **WITH_DELTA}, 5),
    ],
)
def test_constant_channels_and_strength_zero_cost_nothing(net, name, options, passes):
    model = Calls(net)

    attribute(name, model, net.features, images(EXAMPLES), 1, **options)

    assert sum(model.rows) == EXAMPLES * (ENDS + CHANNELS * passes) + FAINT


def test_chunks_go_over_examples_channels_and_steps(net):
    model = Calls(net)

    attribute(
        "is-cam",
        model,
        net.features,
        images(EXAMPLES),
        1,
        n_steps=3,
        internal_batch_size=5,
    )

    # 2 examples x 4 channels x 3 steps = 24 rows.
    assert model.rows == [2, 5, 2, 5, 5, 5, 5, 4]


def test_a_sampled_channel_is_seen_once_in_each_sample(net):
    model = Calls(net)

    attribute("ss-cam", model, net.features, images(1), 1, n_samples=11, stdevs=0.5)

    # An odd sample comes last, without its pair.
    assert model.rows == [1, 3, 1, *[2 * CHANNELS] * 5, CHANNELS]


every_target = pytest.mark.parametrize(
    "target", [1, [1, 4], [(1,), (4,)], torch.tensor([1, 4])], ids=str
)
every_loop = pytest.mark.parametrize(
    "name",
    ["score-cam", "is-cam rule screened", "ss-cam", "ss-cam authors' rule"],
)


class Transfers(TorchDispatchMode):
    """Counts tensors made from Python's numbers, and numbers read from tensors.

    What is moved between devices is for the test on a CUDA device to see.
    """

    WAITING = (
        torch.ops.aten.lift_fresh.default,
        torch.ops.aten._local_scalar_dense.default,
    )

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in self.WAITING
        return func(*args, **(kwargs or {}))


@every_target
@every_loop
def test_the_loop_makes_no_tensors_that_a_device_would_wait_for(net, name, target):
    counts = []

    def model(x):
        counts.append(transfers.count)
        return net(x)

    with Transfers() as transfers:
        attribute(name, model, net.features, images(2), target, internal_batch_size=2)

    # From the first masked pass to the last of its round, which is that of a pair here.
    first, last = (5, 8) if name.startswith("ss-cam") else (5, len(counts) - 1)
    assert last - first > 1
    assert counts[first] == counts[last]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@every_target
@every_loop
def test_the_loop_does_not_wait_for_a_cuda_device(net, name, target):
    calls = []

    def model(x):
        calls.append(len(x))
        first, last = (5, 8) if name.startswith("ss-cam") else (5, expected - 1)
        strict = first <= len(calls) <= last
        torch.cuda.set_sync_debug_mode("error" if strict else "default")
        return net(x)

    net.cuda()
    x, expected = images(2).cuda(), 5 + (6 if "rule" in name else 4) - 1
    try:
        attribute(name, model, net.features, x, target, internal_batch_size=2)
    finally:
        torch.cuda.set_sync_debug_mode("default")

    assert len(calls) >= expected


def test_the_pass_of_the_baselines_respects_the_chunk_size_too(net):
    model = Calls(net)

    attribute("score-cam", model, net.features, images(3), 1, internal_batch_size=2)

    assert model.rows == [3] + [2] * 3 + [1] + [2] * 6


def test_integrated_grad_cam_takes_one_pass_per_step(net):
    model = Calls(net)

    attribute(
        "integrated grad-cam",
        model,
        net.features,
        images(EXAMPLES),
        1,
        n_steps=6,
        internal_batch_size=5,
    )

    # The first pass, the points, and the last and the first of them alone.
    assert model.rows == [2, 5, 5, 2, 1, 1]


@pytest.mark.parametrize("name", ["grad-cam++", "layer-cam", "hires-cam", "xgrad-cam"])
@pytest.mark.parametrize(("count", "rows"), [(1, [1, 1]), (3, [3, 3, 1])])
@pytest.mark.parametrize("layers", [1, 2])
def test_one_input_costs_gradient_methods_two_passes(net, name, count, rows, layers):
    model = Calls(net)
    layer = [net.features, net.mix][:layers] if layers > 1 else net.features

    attribute(name, model, layer, images(count), 1)

    assert model.rows == rows + rows[:2] * (layers - 1)


def test_a_layer_without_varying_channels_costs_the_ends_alone(net):
    with torch.no_grad():
        net.features[1].weight.zero_()
        net.features[1].bias.fill_(0.5)
    model = Calls(net)

    with pytest.warns(UserWarning, match="zero everywhere for example 0"):
        attribute("is-cam", model, net.features, images(1), 1)

    assert model.rows == [1, 3, 1]


def test_memory_running_out_halves_the_chunks_with_one_warning(net):
    calls = []

    def small_device(x):
        calls.append(len(x))
        if len(x) > 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return net(x)

    with pytest.warns(RuntimeWarning, match="going on with 12") as caught:
        out = attribute(
            "is-cam", small_device, net.features, images(EXAMPLES), 1, n_steps=3
        )

    assert [str(w.message).partition(" ")[0] for w in caught].count("Memory") == 1
    expected = attribute("is-cam", net, net.features, images(EXAMPLES), 1, n_steps=3)
    torch.testing.assert_close(out, expected)
    assert [rows for rows in calls if rows > 5] == [24, 12, 6]


class Wide(nn.Module):
    """Its first convolution gives 16384 bytes for each channel, in single precision."""

    SIDE = 64

    def __init__(self, width):
        super().__init__()
        self.widen = nn.Conv2d(3, width, 1)
        self.narrow = nn.Conv2d(width, 3, 1)
        self.features = nn.Conv2d(3, 20, 16, stride=16)
        self.head = nn.Linear(320, 3)

    def forward(self, x):
        return self.head(self.features(self.narrow(self.widen(x))).flatten(1))

    def rows(self, count=1, dtype=torch.float32, **options):
        rows = []
        self.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
        inputs = torch.rand(count, 3, self.SIDE, self.SIDE, dtype=dtype)
        options = {"n_steps": 6, **options}
        attribute("is-cam", self.to(dtype).eval(), self.features, inputs, 1, **options)
        assert sum(rows) == count * (ENDS + 20 * options["n_steps"]) + min(
            FAINT, count + 1
        )
        return rows


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("width", "dtype", "chunk"),
    # 8 images of 224 x 224 have the places of 98 of 64 x 64, and a convolution is to
    # give 26 MB at most.
    [
        (3, torch.float32, 98),
        (100, torch.float32, 15),
        (100, torch.float64, 7),
        (1000, torch.float32, 4),
    ],
)
def test_a_chunk_suits_the_widest_convolution(width, dtype, chunk, count):
    model = Wide(width)

    assert max(model.rows(count, dtype)) == chunk
    assert not model.widen._forward_hooks


def test_a_chunk_size_that_was_given_is_kept_for_wide_models():
    assert max(Wide(100).rows(internal_batch_size=40)) == 40


@pytest.mark.parametrize("in_place", [True, False])
def test_compiled_parts_are_not_measured(in_place):
    model = Wide(100)
    inner = model.widen
    if in_place:
        inner.compile(backend="eager")
    else:
        model.widen = torch.compile(inner, backend="eager")

    with record_conv_outputs(model):
        # With a hook they would be compiled again.
        assert not inner._forward_hooks
        assert model.narrow._forward_hooks
    assert max(model.rows()) == 98


def test_a_compiled_function_is_measured_where_its_pass_is_eager():
    class Inside(Wide):
        def __init__(self, width):
            super().__init__(width)

            @torch.compile(backend="eager", fullgraph=True)
            def widened(x):
                return self.widen(x)

            self.widened = widened

        def forward(self, x):
            return self.head(self.features(self.narrow(self.widened(x))).flatten(1))

    # What a hook does in compiled code might be no part of a graph.
    eager = hasattr(torch.compiler, "set_stance")
    assert max(Inside(100).rows()) == (15 if eager else 98)


def test_a_model_that_holds_itself_is_measured_once():
    model = Wide(2)
    model.head.owner = model

    with record_conv_outputs(model) as sizes:
        model(torch.rand(1, 3, 64, 64))

    assert sizes == [4 * 2 * 64 * 64, 4 * 3 * 64 * 64, 4 * 20 * 4 * 4]


def test_large_chunks_of_an_accelerator_stay():
    inputs = torch.empty(1, 3, 224, 224, device="meta")
    model = nn.Conv2d(3, 1000, 1, device="meta")
    chunks = Chunks(None, [inputs])

    with chunks.fitted_to(model, 1):
        model(inputs)

    assert chunks.size == 256


def test_a_chunk_size_that_was_given_is_kept(net):
    def small_device(x):
        if len(x) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return net(x)

    with pytest.raises(RuntimeError, match="out of memory"):
        attribute(
            "is-cam", small_device, net.features, images(2), 1, internal_batch_size=4
        )


@pytest.mark.parametrize("uses_view", [True, False])
def test_images_are_channels_last_on_a_cpu_unless_the_model_cannot(net, uses_view):
    layouts = []

    def model(x):
        layouts.append(x.is_contiguous(memory_format=torch.channels_last))
        return net(x.view(len(x), -1).view(x.shape) if uses_view else x)

    out = attribute("is-cam", model, net.features, images(2), 1)

    expected = [False, True, False] if uses_view else [False, True, True]
    assert layouts[:3] == expected
    assert len(set(layouts[2:])) == 1
    torch.testing.assert_close(
        out, attribute("is-cam", net, net.features, images(2), 1)
    )
