"""Promises that every method keeps: the table of methods against each of them."""

import inspect

import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam, NoiseTunnel
from reference.methods import (
    BASELINE_METHODS,
    EVERY,
    GRADIENT_METHODS,
    LAYER_MASK_METHODS,
    METHODS,
    NOISY_METHODS,
    SCORE_METHODS,
    SHORTCUTS,
    attribute,
    small_layers_screened,
)
from reference.networks import ConvNet, TwoInputs, images
from reference.spies import Calls, LiveBytes, assert_same_state, state_of
from torch import nn

import captum_iscam
from captum_iscam import LayerIntegratedGradCAM, LayerIntegratedScoreCAM

# A random network may well hold nothing for a target, with noise or without.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
every_method = pytest.mark.parametrize("name", EVERY)
# Half precision leaves little of the scores of so small a network.
rounded = pytest.mark.filterwarnings("ignore:The scores of masked inputs differ")
# Poly-CAM combines the layers of a list, and has tests of its own for that.
of_each_layer = pytest.mark.parametrize(
    "name", [name for name in EVERY if not name.startswith("poly-cam")]
)
every_score_method = pytest.mark.parametrize("name", [*SCORE_METHODS, *SHORTCUTS])
every_gradient_method = pytest.mark.parametrize("name", GRADIENT_METHODS)
every_noisy_method = pytest.mark.parametrize("name", ["ss-cam", "smooth grad-cam++"])
CLOSE = {"rtol": 0, "atol": 1e-9}


@pytest.fixture
def net():
    return ConvNet().double()


def test_every_public_class_is_in_the_table():
    classes = {
        getattr(captum_iscam, name)
        for name in captum_iscam.__all__
        if isinstance(getattr(captum_iscam, name), type)
    }

    # RISE explains the input itself and keeps its promises in test_rise.py.
    assert classes - {captum_iscam.RISE} == {method for method, _ in METHODS.values()}


@every_method
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_the_map_has_the_layers_size_and_no_graph(name, spatial):
    net = ConvNet(spatial).double()
    x = images(3, spatial).requires_grad_()

    out = attribute(name, net, net.features, x, 1)

    assert out.shape == (3, 1, *net.features(x).shape[2:])
    assert out.dtype == torch.float64
    assert not out.requires_grad


@every_method
def test_a_batch_gives_what_one_by_one_gives(name, net):
    x, targets = images(3), [1, 4, 2]

    together = attribute(name, net, net.features, x, targets)

    alone = [
        attribute(name, net, net.features, x[n : n + 1], targets[n]) for n in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone), **CLOSE)


@every_method
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_chunk_size_does_not_matter(name, net, size):
    x = images(2)

    out = attribute(name, net, net.features, x, [1, 4], internal_batch_size=size)

    expected = attribute(name, net, net.features, x, [1, 4])
    torch.testing.assert_close(out, expected, **CLOSE)


@every_method
def test_no_pass_holds_more_than_the_chunk_size(name, net):
    if name in LAYER_MASK_METHODS:
        pytest.skip("what holds them is behind the layer: test_layer_masks.py")
    model = Calls(net)

    attribute(name, model, net.features, images(7), 1, internal_batch_size=3)

    # The layer is seen in one go, with the inputs or their baselines.
    assert max(model.rows[1:]) == 3


class Wide(nn.Module):
    """As many channels as asked for, none of them constant, at little cost."""

    def __init__(self, channels):
        super().__init__()
        self.features = nn.Conv2d(3, channels, 5, stride=8)
        self.head = nn.Linear(3, 4)

    def forward(self, x):
        self.features(x[:1])
        return self.head(x.flatten(2).mean(2))


@every_score_method
def test_memory_grows_with_one_copy_of_the_layer_alone(name):
    peaks, layer_bytes = [], []
    x = torch.rand(1, 3, 64, 64)
    for channels in (24, 88):
        model = Wide(channels).eval()
        with LiveBytes() as live:
            attribute(name, model, model.features, x, 1, internal_batch_size=4)
        peaks.append(live.peak)
        layer_bytes.append(4 * model.features(x).numel())

    grown = peaks[1] - peaks[0]

    # The clean pass holds the layer's output and Captum's copy of it, and samples of
    # it are compared with those of the next two passes; a few numbers per channel and
    # exposure come on top. The regression holds some more copies in
    # double precision, and of numbers for pairs of channels one for each.
    predicts = name == "is-cam" or name in SHORTCUTS
    regression = 8 * (88**2 - 24**2) if predicts else 0
    copies = 6 if predicts else 3
    assert grown <= copies * (layer_bytes[1] - layer_bytes[0]) + 64 * 100 + regression
    assert grown < 64 * 64 * 64  # far from one mask per channel


def test_memory_of_smooth_grad_cam_does_not_grow_with_the_samples():
    features = nn.Sequential(nn.Conv2d(3, 8, 5, stride=8), nn.ReLU())
    model = nn.Sequential(features, nn.Flatten(), nn.Linear(8 * 64, 4)).eval()
    x, peaks = torch.rand(1, 3, 64, 64), []
    for n_samples in (4, 40):
        with LiveBytes() as live:
            attribute(
                "smooth grad-cam++",
                model,
                features,
                x,
                1,
                n_samples=n_samples,
                internal_batch_size=2,
            )
        peaks.append(live.peak)

    assert peaks[1] - peaks[0] <= 8 * 18  # a seed per pair


@every_gradient_method
def test_a_layer_of_another_rank_than_the_inputs(name):
    class Waveforms(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(1, 4, 3)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            frames = x.unfold(1, 16, 8).unsqueeze(1)  # (N, 1, frames, 16)
            return self.head(self.features(frames).relu().mean((2, 3)))

    model = Waveforms().eval()

    out = attribute(name, model, model.features, torch.rand(2, 160), 1)

    assert out.shape == (2, 1, 17, 14)
    assert torch.isfinite(out).all()


@every_method
@pytest.mark.parametrize(
    "target",
    [2, [2, 2], torch.tensor([2, 2]), torch.tensor(2), torch.tensor([2]), (2,)],
    ids=str,
)
def test_target_forms(name, net, target):
    x = images(2)

    out = attribute(name, net, net.features, x, target)

    torch.testing.assert_close(out, attribute(name, net, net.features, x, 2), **CLOSE)


@every_method
@pytest.mark.parametrize("target", [(1, 2), [(1, 2), (0, 3)]], ids=str)
def test_targets_of_outputs_with_more_dimensions(name, net, target):
    def folded(x):
        out = net(x)
        return torch.stack([out, 2 * out, out**2], 1)  # (N, 3, 5)

    x = images(2)
    rows = target if isinstance(target, list) else [target] * 2

    out = attribute(
        name, folded, net.features, x, target, constructor={"score": "identity"}
    )

    alone = [
        attribute(
            name,
            lambda z, row=row: folded(z)[:, row[0], row[1]],
            net.features,
            x[n : n + 1],
            constructor={"score": "identity"},
        )
        for n, row in enumerate(rows)
    ]
    torch.testing.assert_close(out, torch.cat(alone), **CLOSE)


@every_method
def test_one_number_per_example_needs_no_target(name, net):
    x = images(2)
    constructor = {"score": "sigmoid"}

    flat = attribute(
        name, lambda z: net(z)[:, 1], net.features, x, constructor=constructor
    )
    column = attribute(
        name, lambda z: net(z)[:, 1:2], net.features, x, constructor=constructor
    )

    expected = attribute(name, net, net.features, x, 1, constructor=constructor)
    torch.testing.assert_close(flat, expected, **CLOSE)
    torch.testing.assert_close(column, expected, **CLOSE)


@every_method
def test_nothing_of_the_callers_changes(name, net):
    x = images(2)
    before = state_of(net, x)

    attribute(name, net, net.features, x, 1)

    assert_same_state(before, state_of(net, x))


class InPlace(nn.Module):
    """Prepares its input in place, as some models do."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.sub_(0.5).div_(0.25))


@every_method
@pytest.mark.parametrize("count", [1, 2])
def test_a_model_that_writes_into_its_input_changes_nothing(name, net, count):
    x, baselines = images(count), images(count, seed=3)
    kept = x.clone(), baselines.clone()
    own = (
        {"baselines": baselines}
        if name in [*SCORE_METHODS, "integrated grad-cam"]
        else {}
    )
    model = InPlace(net).eval()

    out = attribute(name, model, net.features, x, 1, **own)

    assert torch.equal(x, kept[0])
    assert torch.equal(baselines, kept[1])

    def outside(z):
        return net((z - 0.5) / 0.25)

    expected = attribute(name, outside, net.features, x, 1, **own)
    torch.testing.assert_close(out, expected, **CLOSE)


@every_method
def test_nothing_of_the_callers_changes_when_the_model_fails(name, net):
    x = images(3)
    calls = []

    def failing(z):
        calls.append(len(z))
        if len(calls) == 4:
            raise KeyError("the model is tired")
        return net(z)

    before = state_of(net, x)

    with pytest.raises(KeyError, match="tired"):
        attribute(name, failing, net.features, x, 1, internal_batch_size=1)

    assert_same_state(before, state_of(net, x))


@every_method
def test_a_mixed_training_mode_is_kept(name, net):
    net.head.train()

    attribute(name, net, net.features, images(1), 1)

    assert net.head.training
    assert not net.training


@every_method
@pytest.mark.parametrize("wants", [True, False])
def test_frozen_models_and_inputs_with_gradients(name, net, wants):
    x = images(2)
    expected = attribute(name, net, net.features, x, 1)
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    x = images(2).requires_grad_(wants)

    with torch.no_grad():
        out = attribute(name, net, net.features, x, 1)

    torch.testing.assert_close(out, expected, **CLOSE)
    assert x.grad is None


@every_score_method
def test_inference_mode(name, net):
    x = images(2)

    with torch.inference_mode():
        out = attribute(name, net, net.features, x, 1)

    torch.testing.assert_close(
        out.clone(), attribute(name, net, net.features, x, 1), **CLOSE
    )


@every_gradient_method
def test_inference_mode_is_refused_where_gradients_are_needed(name, net):
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"outside torch\.inference_mode"),
    ):
        attribute(name, net, net.features, images(1), 1)


@every_method
def test_in_place_layers(name):
    kept, replaced = ConvNet().double(), ConvNet(inplace=True).double()
    x = images(2)

    for at in (1, 2):
        out = attribute(name, replaced, replaced.features[at], x, 1)

        expected = attribute(name, kept, kept.features[at], x, 1)
        torch.testing.assert_close(out, expected, **CLOSE)


@every_method
def test_the_layers_input(name, net):
    x = images(2)

    out = attribute(name, net, net.features[2], x, 1, attribute_to_layer_input=True)

    expected = attribute(name, net, net.features[1], x, 1)
    torch.testing.assert_close(out, expected, **CLOSE)


@of_each_layer
def test_a_list_of_layers_gives_a_list_of_maps(name, net):
    x = images(2)

    both = attribute(name, net, [net.features[0], net.mix], x, 1)

    assert isinstance(both, list)
    assert [out.shape[2:] for out in both] == [(6, 7), (6, 7)]
    # Noise goes on from layer to layer, so a second layer has noise of its own.
    for layer, out in list(zip([net.features[0], net.mix], both, strict=True))[
        : 1 if name.startswith("ss-cam") else 2
    ]:
        expected = attribute(name, net, layer, x, 1)
        torch.testing.assert_close(out, expected, **CLOSE)


class Split(nn.Module):
    def forward(self, maps):
        return maps[:, :4], maps[:, 2:]


@of_each_layer
def test_a_layer_with_two_outputs_gives_a_tuple(name, net):
    split = Split()

    def model(x):
        first, second = split(net.features(x))
        return net.head(
            net.mix(torch.cat([first, second[:, 2:]], 1)).flatten(2).mean(2)
        )

    x = images(2)

    out = attribute(name, model, split, x, 1)

    assert isinstance(out, tuple)
    assert len(out) == 2
    first = attribute(name, model, net.features, x, 1)
    assert out[0].shape == out[1].shape == first.shape


@every_method
def test_float32_is_close_to_float64(name, net):
    x = images(2)
    expected = attribute(name, net, net.features, x, 1)

    out = attribute(name, net.float(), net.features, x.float(), 1)

    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=2e-5)


@rounded
@every_method
def test_autocast_to_bfloat16_gives_single_precision_maps(name):
    net, x = ConvNet(), images(2, dtype=torch.float32)
    expected = attribute(name, net, net.features, x, 1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attribute(name, net, net.features, x, 1)

    assert out.dtype == torch.float32
    assert (out - expected).norm() < 0.2 * expected.norm()
    assert not torch.equal(out, expected)


class WithoutProducts(nn.Module):
    """Nothing in it is among what autocast runs in half precision."""

    def __init__(self):
        super().__init__()
        self.features = nn.AvgPool2d(2)

    def forward(self, x):
        maps = self.features(x) ** 2
        return torch.stack([maps.mean((1, 2, 3)), maps.amax((1, 2, 3))], 1)


@every_method
def test_autocast_rounds_nothing_but_the_model(name):
    net, x = WithoutProducts().eval(), images(2, dtype=torch.float32)
    expected = attribute(name, net, net.features, x, 1)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = attribute(name, net, net.features, x, 1)

    torch.testing.assert_close(out, expected)


@rounded
@every_method
def test_models_in_half_precision(name):
    net, x = ConvNet(), images(2, dtype=torch.float32)
    expected = attribute(name, net, net.features, x, 1)

    out = attribute(name, net.bfloat16(), net.features, x.bfloat16(), 1)

    assert out.dtype == torch.float32
    assert (out - expected).norm() < 0.2 * expected.norm()


@every_method
def test_data_parallel_and_compiled_models(name, net):
    x = images(2)
    expected = attribute(name, net, net.features, x, 1)

    parallel = attribute(name, nn.DataParallel(net), net.features, x, 1)
    compiled = torch.compile(net, backend="eager")
    torch.testing.assert_close(parallel, expected, **CLOSE)

    out = attribute(name, compiled, net.features, x, 1)
    torch.testing.assert_close(out, expected, **CLOSE)
    out = attribute(name, compiled, compiled.features, x, 1)
    torch.testing.assert_close(out, expected, **CLOSE)


@every_score_method
def test_several_inputs_are_masked_where_the_rank_fits(name):
    model = TwoInputs().double()
    x, other = images(2), images(2)[:, :, :8, :6]
    vector, scale = torch.rand(2, 4).double(), torch.tensor([1.0, 3.0]).double()

    out = attribute(
        name,
        model,
        model.features,
        (x, other, vector),
        [1, 4],
        additional_forward_args=(2.0, scale),
        internal_batch_size=3,
    )

    alone = [
        attribute(
            name,
            model,
            model.features,
            (x[n : n + 1], other[n : n + 1], vector[n : n + 1]),
            [1, 4][n],
            additional_forward_args=(2.0, scale[n : n + 1]),
        )
        for n in range(2)
    ]
    torch.testing.assert_close(out, torch.cat(alone), **CLOSE)


@every_score_method
def test_every_example_keeps_its_own_vector(name):
    model = TwoInputs().double()
    vector = torch.tensor([[3.0, 0, 0, 0], [0, 0, 0, -3.0]]).double()
    inputs = (images(2), images(2)[:, :, :8, :6], vector)
    layer, targets = model.features, [1, 4]

    out = attribute(name, model, layer, inputs, targets)

    alone = [
        attribute(name, model, layer, tuple(z[n : n + 1] for z in inputs), targets[n])
        for n in range(2)
    ]
    torch.testing.assert_close(out, torch.cat(alone), **CLOSE)


@pytest.mark.parametrize("name", ["is-cam", "integrated grad-cam"])
def test_every_example_keeps_its_own_baseline(name, net):
    x, baselines = images(2), images(2, seed=3)

    out = attribute(name, net, net.features, x, [1, 4], baselines=baselines)

    alone = [
        attribute(
            name,
            net,
            net.features,
            x[n : n + 1],
            [1, 4][n],
            baselines=baselines[n : n + 1],
        )
        for n in range(2)
    ]
    torch.testing.assert_close(out, torch.cat(alone), **CLOSE)


def test_an_input_of_another_rank_reaches_the_model_as_it_is():
    model, seen = TwoInputs().double(), []
    x, other, vector = images(1), images(1)[:, :, :8, :6], torch.rand(1, 4).double()

    def spied(image, second, third):
        seen.append((image.clone(), second.clone(), third.clone()))
        return model(image, second, third)

    attribute("score-cam", spied, model.features, (x, other, vector), 1)

    for image, second, third in seen[2:]:
        assert torch.equal(third, vector.expand_as(third))
        assert not torch.equal(image, x.expand_as(image))
        assert not torch.equal(second, other.expand_as(second))


@every_method
def test_noise_tunnel(name, net):
    method, own = EVERY[name]
    tunnel = NoiseTunnel(method(net, net.features))
    # NoiseTunnel keeps the argument stdevs to itself.
    own = {"n_samples": 2} if name in NOISY_METHODS else own

    noise = {"nt_type": "smoothgrad", "nt_samples": 2, "stdevs": 0.0}
    with small_layers_screened(name):
        out = tunnel.attribute(images(2), target=[1, 4], **noise, **own)
        both = tunnel.attribute(images(2)[:1], target=[[1, 4]], **noise, **own)

    assert out.shape == (2, 1, 6, 7)
    assert both.shape == (1, 2, 6, 7)
    if name not in NOISY_METHODS:
        expected = attribute(name, net, net.features, images(2), [1, 4])
        torch.testing.assert_close(out, expected, **CLOSE)
        expected = attribute(name, net, net.features, images(2)[:1], [[1, 4]])
        torch.testing.assert_close(both, expected, **CLOSE)


@every_score_method
def test_channels_last_inputs(name, net):
    x = images(2).to(memory_format=torch.channels_last)

    out = attribute(name, net, net.features, x, 1)

    expected = attribute(name, net, net.features, images(2), 1)
    torch.testing.assert_close(out, expected, **CLOSE)


@every_method
def test_a_reshape_transform_turns_tokens_into_maps(name, net):
    class Tokens(nn.Module):
        def forward(self, maps):
            return maps.flatten(2).transpose(1, 2)  # (N, tokens, K)

    tokens = Tokens()

    def model(x):
        maps = net.features(x)
        back = tokens(maps).transpose(1, 2).reshape(maps.shape)
        return net.head(net.mix(back).flatten(2).mean(2))

    def grid(out):
        return out.transpose(1, 2).reshape(len(out), -1, 6, 7)

    x = images(2)

    out = attribute(name, model, tokens, x, 1, constructor={"reshape_transform": grid})

    expected = attribute(name, model, net.features, x, 1)
    torch.testing.assert_close(out, expected, **CLOSE)


@pytest.mark.parametrize("name", BASELINE_METHODS)
def test_an_input_equal_to_the_baseline_has_a_zero_map(name, net):
    x = torch.zeros(1, 3, 11, 14, dtype=torch.float64)

    out = attribute(name, net, net.features, x, 1, baselines=0)

    # With noise only the authors' rule is free of it: its range is that of the input.
    if "ss-cam" not in name or "rule" in name or "mask" in name:
        assert torch.equal(out, torch.zeros_like(out))
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", BASELINE_METHODS)
def test_a_layer_of_constant_channels_has_a_zero_map(name, net):
    with torch.no_grad():
        net.features[1].weight.zero_()
        net.features[1].bias.fill_(0.5)

    out = attribute(name, net, net.features, images(2), 1)

    assert torch.equal(out, torch.zeros_like(out))


@every_method
def test_saturated_scores_stay_finite(name, net):
    out = attribute(
        name,
        lambda x: 1e4 * net(x),
        net.features,
        images(2),
        1,
        constructor={"score": "softmax"},
    )

    assert torch.isfinite(out).all()


@every_method
def test_attribute_can_be_swapped_for_captums(name):
    method, _ = EVERY[name]
    assert issubclass(method, LayerAttribution)
    assert hasattr(method.attribute, "__wrapped__")

    ours = list(inspect.signature(method.attribute).parameters)
    theirs = list(inspect.signature(LayerGradCam.attribute).parameters)

    if method is LayerIntegratedGradCAM:
        assert ours[1:7] == [
            "inputs",
            "baselines",
            "target",
            "additional_forward_args",
            "n_steps",
            "method",
        ]
    else:
        assert ours[:6] == theirs[:6]
        kinds = inspect.signature(method.attribute).parameters
        assert all(
            kinds[key].kind is inspect.Parameter.KEYWORD_ONLY for key in ours[6:]
        )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("score-cam", "Layer Score-CAM"),
        ("is-cam", "Layer Integrated Score-CAM"),
        ("ss-cam", "Layer Smoothed Score-CAM"),
        ("poly-cam", "Layer Poly-CAM"),
        ("integrated grad-cam", "Layer Integrated Grad-CAM"),
        ("grad-cam++", "Layer Grad-CAM++"),
        ("smooth grad-cam++", "Layer Smooth Grad-CAM++"),
        ("layer-cam", "LayerCAM"),
        ("hires-cam", "Layer HiResCAM"),
        ("xgrad-cam", "Layer XGrad-CAM"),
        ("ablation-cam", "Layer Ablation-CAM"),
        ("recipro-cam", "Layer Recipro-CAM"),
    ],
)
def test_names_read_well(name, expected):
    assert EVERY[name][0].get_name() == expected


@every_noisy_method
def test_noise_depends_on_the_generator_alone(name, net):
    x = images(2)
    first = attribute(name, net, net.features, x, 1)
    torch.manual_seed(99)

    again = attribute(name, net, net.features, x, 1)

    assert torch.equal(first, again)
    other = attribute(
        name, net, net.features, x, 1, generator=torch.Generator().manual_seed(8)
    )
    assert not torch.allclose(first, other)


@every_noisy_method
def test_without_a_generator_the_global_one_is_used(name, net):
    torch.manual_seed(7)

    out = attribute(name, net, net.features, images(2), 1, generator=None)

    expected = attribute(name, net, net.features, images(2), 1)
    torch.testing.assert_close(out, expected, **CLOSE)


def test_the_progress_bar_is_on_request_and_on_standard_error(net, capsys):
    LayerIntegratedScoreCAM(net, net.features).attribute(
        images(1), 1, show_progress=True
    )
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_method
def test_cuda_equals_cpu(name, net):
    x = images(2)
    expected = attribute(name, net, net.features, x, [1, 4])

    out = attribute(name, net.cuda(), net.features, x.cuda(), [1, 4])

    assert out.is_cuda
    torch.testing.assert_close(out.cpu(), expected, rtol=0, atol=1e-9)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
@every_method
def test_data_parallel_on_two_devices(name, net):
    x = images(4).cuda()
    net = net.cuda()
    expected = attribute(name, net, net.features, x, 1)

    out = attribute(name, nn.DataParallel(net), net.features, x, 1)

    torch.testing.assert_close(out, expected, rtol=0, atol=1e-9)
