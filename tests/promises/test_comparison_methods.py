"""Grad-CAM++, Smooth Grad-CAM++ and Captum's Grad-CAM: references and closed forms."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from reference.comparison_methods import (
    grad_cam_plus_plus,
    gradient_at,
    pairs_of_noise,
)
from reference.methods import attribute
from reference.networks import ConvNet, images
from reference.spies import LiveBytes
from torch import nn

from captum_iscam import LayerGradCAMPlusPlus, LayerSmoothGradCAMPlusPlus

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
)
TARGETS = [1, 4]
EXACT = {"rtol": 1e-9, "atol": 1e-9}
BOTH = pytest.mark.parametrize("denominator", ["activations", "products"])


def rest_of(net):
    def rest(activations):
        hidden = torch.relu(net.mix(activations)).flatten(2)
        return net.head(hidden.amax(2) + hidden.mean(2))

    return rest


@pytest.fixture(params=[1, 2, 3], ids=["1-D", "2-D", "3-D"])
def net_and_inputs(request):
    return ConvNet(spatial=request.param).double(), images(spatial=request.param)


@BOTH
@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_plus_plus(net_and_inputs, denominator, relu):
    net, x = net_and_inputs

    ours = LayerGradCAMPlusPlus(net, net.features).attribute(
        x, TARGETS, denominator=denominator, relu_attributions=relu
    )

    expected = []
    for row, target in zip(x, TARGETS, strict=True):
        activations = net.features(row[None])[0].detach()
        g = gradient_at(rest_of(net), activations, target)
        powers = (g, g**2, g**3)
        expected.append(grad_cam_plus_plus(activations, powers, denominator, relu))
    torch.testing.assert_close(ours[:, 0], torch.stack(expected), **EXACT)
    assert ours.abs().max() > 1e-3


@BOTH
@pytest.mark.parametrize("n_samples", [1, 4, 5])
def test_smooth_grad_cam_plus_plus(net_and_inputs, n_samples, denominator):
    net, x = net_and_inputs

    ours = LayerSmoothGradCAMPlusPlus(net, net.features).attribute(
        x,
        TARGETS,
        n_samples=n_samples,
        stdevs=0.4,
        generator=torch.Generator().manual_seed(5),
        denominator=denominator,
    )

    expected = []
    for row, target in zip(x, TARGETS, strict=True):
        gradients = [
            gradient_at(rest_of(net), net.features((row + 0.4 * e)[None])[0], target)
            for e in pairs_of_noise(row.shape, n_samples, 5)
        ]
        powers = [sum(g**p for g in gradients) / n_samples for p in (1, 2, 3)]
        activations = net.features(row[None])[0].detach()
        expected.append(grad_cam_plus_plus(activations, powers, denominator))
    torch.testing.assert_close(ours[:, 0], torch.stack(expected), **EXACT)


@BOTH
def test_without_noise_it_is_grad_cam_plus_plus(denominator):
    net, x = ConvNet().double(), images()
    own = {"denominator": denominator}

    smooth = attribute("smooth grad-cam++", net, net.features, x, 1, stdevs=0, **own)

    plain = attribute("grad-cam++", net, net.features, x, 1, **own)
    torch.testing.assert_close(smooth, plain, **EXACT)


def test_stdevs_are_for_each_input():
    net = ConvNet().double()
    x = images(2)

    def model(image, other):
        return net(image) + 0 * other.sum()

    def run(*stdevs):
        return attribute(
            "smooth grad-cam++", model, net.features, (x, x), 1, stdevs=stdevs
        )

    plain = attribute("grad-cam++", net, net.features, x, 1)
    torch.testing.assert_close(run(0.0, 0.5), plain, **EXACT)
    assert not torch.allclose(run(0.5, 0.0), plain)


class Linear(nn.Module):
    """One place per weight: the gradient at the layer is the weights themselves."""

    def __init__(self, weights):
        super().__init__()
        self.maps = nn.Identity()
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.eval()

    def forward(self, x):
        return (self.maps(x) * self.weights).flatten(1).sum(1)


A = torch.tensor([[[[3.0, 1.0]], [[2.0, 0.0]]]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("denominator", "weights"),
    [
        # Channel 0: g = (1, -2), sum of A = 4: alpha g = 1 / (2 + 4), and nothing at
        # the negative gradient. Channel 1: g = (0, 3), sum 2: 9 / (18 + 54) * 3.
        ("activations", (1 / 6, 3 / 8)),
        # Channel 0: sum of A g^3 = 3 - 8 = -5: 1 / (2 - 5). Channel 1: sum 0: 9/18 * 3.
        ("products", (-1 / 3, 3 / 2)),
    ],
)
def test_four_places_by_hand(denominator, weights):
    model = Linear([[[1.0, -2.0]], [[0.0, 3.0]]])

    out = LayerGradCAMPlusPlus(model, model.maps).attribute(
        A, denominator=denominator, relu_attributions=False
    )

    expected = weights[0] * A[0, 0] + weights[1] * A[0, 1]
    torch.testing.assert_close(out[0, 0], expected)


def test_a_zero_denominator_has_alpha_zero():
    # g = 1 everywhere and the sum of A is -2: 2 g^2 + sum(A) g^3 = 0.
    model = Linear([[[1.0, 1.0]]])
    x = torch.tensor([[[[-3.0, 1.0]]]], dtype=torch.float64)

    out = LayerGradCAMPlusPlus(model, model.maps).attribute(x, relu_attributions=False)

    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.parametrize("scale", [1e-33, 1e-16, 1e16, 1e30])
@pytest.mark.parametrize(
    "name", ["grad-cam++", "grad-cam++ products", "smooth grad-cam++"]
)
def test_gradients_of_any_size_count_in_single_precision(name, scale):
    net, x = ConvNet(), images(dtype=torch.float32)

    out = attribute(name, lambda z: scale * net(z), net.features, x, 1)

    net, x = net.double(), x.double()
    expected = attribute(name, lambda z: scale * net(z), net.features, x, 1)
    assert expected.max() > 0
    unit = expected.max()
    torch.testing.assert_close(out / unit, (expected / unit).float(), rtol=0, atol=1e-3)


def test_tiny_gradients_have_half_their_sum_as_weight():
    net, x = ConvNet(), images(dtype=torch.float32)

    out = attribute("grad-cam++", lambda z: 1e-33 * net(z), net.features, x, 1)

    # A limit of alpha: 1 / 2 where the gradient is tiny compared with 2 / sum(A).
    assert out.max() == pytest.approx(1e-33 * _half_of_positive_gradients(net, x))


@pytest.mark.parametrize("sign", [1, -1])
def test_noisy_copies_may_have_gradients_of_any_sizes(sign):
    net, x = ConvNet(), images(1, dtype=torch.float32)
    level = x.double().mean()

    def model(z):
        louder = sign * (z.double().mean((1, 2, 3)) - level) > 0
        return net(z) * torch.where(louder, 1.0, 1e-30).to(z)[:, None]

    out = attribute("smooth grad-cam++", model, net.features, x, 1, n_samples=2)

    net, x = net.double(), x.double()
    expected = attribute("smooth grad-cam++", model, net.features, x, 1, n_samples=2)
    assert expected.max() > 1e-3
    torch.testing.assert_close(out, expected.float())


def _half_of_positive_gradients(net, x):
    net = net.double()
    maps = []
    for row in x.double():
        activations = net.features(row[None])[0].detach()
        g = gradient_at(rest_of(net), activations, 1)
        maps.append((0.5 * g.relu().sum((1, 2), keepdim=True) * activations).sum(0))
    return float(torch.stack(maps).max())


def test_a_map_without_positive_gradients_is_noticed():
    model = Linear([[[-1.0, -1.0]]])
    x = torch.ones(2, 1, 1, 2, dtype=torch.float64)

    with pytest.warns(UserWarning, match="zero everywhere for examples 0, 1:"):
        out = LayerGradCAMPlusPlus(model, model.maps).attribute(x)

    assert torch.equal(out, torch.zeros_like(out))


def test_layers_without_places():
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    x = torch.rand(2, 3, dtype=torch.float64)

    out = LayerGradCAMPlusPlus(net, net[1]).attribute(x, 1)

    a, g = net[:2](x).detach(), net[2].weight[1].detach()
    alpha = 1 / (2 + a * g)
    expected = (alpha * g.relu() * a).sum(1, keepdim=True).relu()
    torch.testing.assert_close(out, expected, **EXACT)


class PooledLinear(nn.Module):
    """Global average pooling and one linear head: the network CAM is defined for."""

    def __init__(self, spatial=2):
        super().__init__()
        self.features = ConvNet(spatial).features
        self.head = nn.Linear(6, 5)
        self.eval()

    def forward(self, x):
        return self.head(self.features(x).flatten(2).mean(2))


@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_captums_grad_cam_is_cam_up_to_a_factor(spatial):
    net, x = PooledLinear(spatial).double(), images(spatial=spatial)

    grad_cam = LayerGradCam(net, net.features).attribute(x, torch.tensor(TARGETS))

    maps = net.features(x)
    weights = net.head.weight[TARGETS].view(2, 6, *[1] * spatial)
    cam = (weights * maps).sum(1, keepdim=True)
    # Each place has its share of the mean, and Grad-CAM takes the mean once more.
    factor = 1 / maps.shape[2:].numel()
    torch.testing.assert_close(grad_cam, factor * cam, **EXACT)


def scaled(maps):
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_grad_cam_plus_plus_of_pytorch_grad_cam_is_the_printed_equation():
    pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam import GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    net, x = ConvNet(), images(dtype=torch.float32)
    # That library resizes maps to the input: here they have its size already. It adds
    # 1e-6 to the denominator: large gradients make that small.
    net.features[0].stride = (1, 1)
    net.head.weight.data *= 100

    with GradCAMPlusPlus(net, [net.features]) as cam:
        theirs = cam(x, [ClassifierOutputTarget(target) for target in TARGETS])

    ours = LayerGradCAMPlusPlus(net, net.features).attribute(x, TARGETS)
    theirs = torch.from_numpy(np.asarray(theirs)).unsqueeze(1)
    torch.testing.assert_close(scaled(ours), theirs, rtol=0, atol=1e-3)


def test_grad_cam_plus_plus_of_torchcam_never_divides():
    torchcam = pytest.importorskip("torchcam.methods")
    net, x = ConvNet(), images(dtype=torch.float32)

    with torchcam.GradCAMpp(net, net.features, input_shape=(3, 11, 14)) as cam:
        theirs = cam(TARGETS, net(x))[0]

    # Its 0.5.0 divides a copy of alpha's numerator, so that the weights are the cubes
    # of the positive gradients: no reading of the paper, and nothing to compare with.
    cubes = []
    for row, target in zip(x, TARGETS, strict=True):
        maps = net.features(row[None])[0].detach()
        g = gradient_at(rest_of(net), maps, target)
        weights = g.relu().pow(3).sum((1, 2), keepdim=True)
        cubes.append((weights * maps).sum(0).relu())
    expected = scaled(torch.stack(cubes).unsqueeze(1))
    torch.testing.assert_close(scaled(theirs.unsqueeze(1)), expected, rtol=0, atol=1e-4)


def test_what_noisy_copies_add_is_not_held_for_every_copy():
    conv, x = nn.Conv2d(3, 64, 3, padding=1), torch.rand(1, 3, 32, 32)
    rest = [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    method = LayerSmoothGradCAMPlusPlus(nn.Sequential(conv, *rest).eval(), conv)

    with LiveBytes() as live:
        method.attribute(x, 1, n_samples=16, internal_batch_size=16)

    # Outputs, gradients and what the pass itself keeps, each of the 16, but not three
    # powers of 16 gradients.
    assert live.peak < 75 * 64 * 32 * 32 * 4
