"""What a map costs: forward calls and rows, counted exactly."""

import pytest
import torch
from reference.methods import attribute
from reference.networks import CONSTANT, DEAD, ConvNet, images
from reference.spies import Calls
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:The map is zero", "ignore:The noise")

CHANNELS = 6 - len({CONSTANT, DEAD})  # of ConvNet, without the constant ones
EXAMPLES = 2
CLEAN_AND_BASELINE = 2


@pytest.fixture
def net():
    return ConvNet().double()


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("score-cam", {}, 1),
        ("is-cam", {}, 4),  # eight channels or fewer are followed whole
        ("is-cam", {"n_steps": 3}, 3),
        ("is-cam", {"n_steps": 5, "method": "riemann_right"}, 5),
        ("is-cam", {"n_steps": 5, "method": "riemann_left"}, 4),
        ("is-cam", {"n_steps": 5, "method": "riemann_trapezoid"}, 4),
        ("is-cam", {"n_steps": 5, "method": "recurrence"}, 4),
        ("ss-cam", {"n_samples": 5}, 5),
    ],
)
def test_constant_channels_and_strength_zero_cost_nothing(net, name, options, passes):
    model = Calls(net)

    attribute(name, model, net.features, images(EXAMPLES), 1, **options)

    assert sum(model.rows) == EXAMPLES * (CLEAN_AND_BASELINE + CHANNELS * passes)


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
    assert model.rows == [2, 2, 5, 5, 5, 5, 4]


def test_the_baseline_pass_respects_the_chunk_size_too(net):
    model = Calls(net)

    attribute("score-cam", model, net.features, images(3), 1, internal_batch_size=2)

    assert model.rows == [3, 2, 1] + [2] * 6


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

    assert model.rows == [2, 5, 5, 2]


def test_a_layer_without_varying_channels_costs_two_passes(net):
    with torch.no_grad():
        net.features[1].weight.zero_()
        net.features[1].bias.fill_(0.5)
    model = Calls(net)

    with pytest.warns(UserWarning, match="zero everywhere for example 0"):
        attribute("is-cam", model, net.features, images(1), 1)

    assert model.rows == [1, 1]


def test_memory_running_out_halves_the_chunks_with_one_warning(net):
    calls = []

    def small_device(x):
        calls.append(len(x))
        if len(x) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return net(x)

    with pytest.warns(RuntimeWarning, match="going on with 12") as caught:
        out = attribute(
            "is-cam", small_device, net.features, images(EXAMPLES), 1, n_steps=3
        )

    assert [str(w.message).partition(" ")[0] for w in caught].count("Memory") == 1
    expected = attribute("is-cam", net, net.features, images(EXAMPLES), 1, n_steps=3)
    torch.testing.assert_close(out, expected)
    assert [rows for rows in calls[2:] if rows > 3] == [24, 12, 6]


@pytest.mark.parametrize(
    ("width", "chunk"),
    # 8 images of 224 x 224 have the places of 98 of 64 x 64; one channel of those
    # takes 16384 bytes, and a chunk's widest output is to have 26 MB at most.
    [(3, 98), (100, 15), (1000, 4)],
)
def test_a_chunk_suits_the_widest_output_of_the_model(width, chunk):
    widen = nn.Conv2d(3, width, 1)
    features = nn.Conv2d(width, 40, 16, stride=16)
    model = Calls(nn.Sequential(widen, features, nn.Flatten(), nn.Linear(640, 3)))
    inputs = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    attribute("is-cam", model, features, inputs, 1, n_steps=3)

    assert max(model.rows) == chunk
    assert sum(model.rows) == 2 + 40 * 3


def test_a_chunk_size_that_was_given_is_kept_for_wide_models():
    widen, features = nn.Conv2d(3, 100, 1), nn.Conv2d(100, 40, 16, stride=16)
    model = Calls(nn.Sequential(widen, features, nn.Flatten(), nn.Linear(640, 3)))
    inputs = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    attribute("is-cam", model, features, inputs, 1, n_steps=3, internal_batch_size=20)

    assert model.rows == [1, 1] + [20] * 6


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
