"""LayerCAM, HiResCAM and XGrad-CAM: equations, closed forms and other packages."""

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, LayerGradientXActivation
from reference.comparison_methods import ONE_PASS, gradient_at
from reference.networks import ConvNet, images
from reference.transformers import MODELS, SIZES
from torch import nn

from captum_iscam import (
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerHiResCAM,
    LayerIntegratedGradCAM,
    LayerSmoothGradCAMPlusPlus,
    LayerXGradCAM,
)
from captum_iscam.attr._layer import check_linear
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.reshape_transforms import vit

METHODS = {
    "LayerCAM": LayerCAM,
    "HiResCAM": LayerHiResCAM,
    "XGrad-CAM": LayerXGradCAM,
}
TARGETS = [1, 4]
EXACT = {"rtol": 1e-9, "atol": 1e-12}
every_method = pytest.mark.parametrize("name", METHODS)


def rest_of(net):
    def rest(activations):
        hidden = torch.relu(net.mix(activations)).flatten(2)
        return net.head(hidden.amax(2) + hidden.mean(2))

    return rest


def expected_maps(name, net, x, targets, relu=True):
    maps = []
    for row, target in zip(x, targets, strict=True):
        activations = net.features(row[None])[0].detach()
        gradient = gradient_at(rest_of(net), activations, target)
        maps.append(ONE_PASS[name](activations, gradient, relu))
    return torch.stack(maps).unsqueeze(1)


@every_method
@pytest.mark.filterwarnings("ignore:The map is zero")
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_the_map_is_that_of_the_equation(name, spatial, relu):
    net, x = ConvNet(spatial=spatial).double(), images(spatial=spatial)

    ours = METHODS[name](net, net.features).attribute(
        x, TARGETS, relu_attributions=relu
    )

    expected = expected_maps(name, net, x, TARGETS, relu)
    torch.testing.assert_close(ours, expected, **EXACT)
    assert ours.abs().max() > 1e-3


@every_method
def test_layers_with_negative_values_follow_the_equation(name):
    net, x = ConvNet().double(), images()
    net.features = net.features[:1]

    ours = METHODS[name](net, net.features).attribute(
        x, TARGETS, relu_attributions=False
    )

    expected = expected_maps(name, net, x, TARGETS, relu=False)
    torch.testing.assert_close(ours, expected, **EXACT)
    assert ours.min() < 0


@every_method
@pytest.mark.parametrize("chunk", [1, 3])
def test_several_targets_are_calls_for_each(name, chunk):
    net, x = ConvNet().double(), images()
    explain, signed = METHODS[name](net, net.features), {"relu_attributions": False}

    both = explain.attribute(x, [[1, 0], [4, 2]], internal_batch_size=chunk, **signed)

    each = [explain.attribute(x, target, **signed) for target in (TARGETS, [0, 2])]
    torch.testing.assert_close(both, torch.cat(each, 1), **EXACT)


@every_method
@pytest.mark.filterwarnings("ignore:The map is zero")
def test_tokens_are_maps_through_a_reshape_transform(name):
    model = MODELS["vit"]().double()
    layer = model.encoder.layers[-1].ln_1
    x = torch.rand(1, 3, SIZES["vit"], SIZES["vit"]).double()
    explain = METHODS[name](model, layer, reshape_transform=vit)

    ours = explain.attribute(x, 1, relu_attributions=False)

    seen = []
    layer.register_forward_hook(lambda _, __, out: seen.append(out))
    score = model(x)[0, 1]
    (gradient,) = torch.autograd.grad(score, seen[0])
    maps, gradient = vit(seen[0])[0].detach(), vit(gradient)[0]
    torch.testing.assert_close(
        ours[0, 0], ONE_PASS[name](maps, gradient, relu=False), **EXACT
    )


NOT_LINEAR = {
    "relu": torch.relu,
    "abs": torch.abs,
    "tanh": torch.tanh,
    "layer norm": lambda maps: nn.functional.layer_norm(maps, maps.shape[1:]),
    "offset": lambda maps: maps + maps.mean().abs() + 0.1,
}
EVERY_GRADIENT_METHOD = {
    **METHODS,
    "Grad-CAM++": LayerGradCAMPlusPlus,
    "Smooth Grad-CAM++": LayerSmoothGradCAMPlusPlus,
    "Integrated Grad-CAM": LayerIntegratedGradCAM,
    "Grad-CAM": GradCAM,
}


@pytest.mark.parametrize("name", EVERY_GRADIENT_METHOD)
@pytest.mark.parametrize("transform", NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_a_transform_that_makes_something_else_of_gradients(name, transform):
    """Gradients are transformed too: relu would take the negative ones away."""
    net, x = ConvNet(), images().float()
    explain = EVERY_GRADIENT_METHOD[name](
        net, net.features[0], reshape_transform=transform
    )

    with pytest.raises(ValueError, match="reshape_transform must be linear"):
        explain.attribute(x, target=0)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e10])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_transforms_are_linear_at_every_scale(scale, dtype):
    maps = (scale * images()).to(dtype)

    for transform in (None, nn.Identity(), nn.AvgPool2d(2), lambda z: z.flip(2)):
        check_linear(transform, maps)
        check_linear(transform, torch.zeros_like(maps))
    for transform in (torch.relu, torch.abs):
        with pytest.raises(ValueError, match="reshape_transform must be linear"):
            check_linear(transform, maps - maps.mean())


class PooledLinear(nn.Module):
    """Global average pooling and one linear head: one gradient in a channel."""

    def __init__(self):
        super().__init__()
        self.features = ConvNet().features
        self.head = nn.Linear(6, 5)
        self.eval()

    def forward(self, x):
        return self.head(self.features(x).flatten(2).mean(2))


@pytest.mark.parametrize("name", ["HiResCAM", "XGrad-CAM"])
def test_gradients_that_are_the_same_everywhere_give_grad_cam(name):
    net, x = PooledLinear().double(), images()

    ours = METHODS[name](net, net.features).attribute(
        x, TARGETS, relu_attributions=False
    )

    theirs = LayerGradCam(net, net.features).attribute(x, torch.tensor(TARGETS))
    torch.testing.assert_close(ours, theirs, **EXACT)


def test_hires_cam_is_captums_gradient_times_activation():
    net, x = ConvNet().double(), images()

    ours = LayerHiResCAM(net, net.features).attribute(x, TARGETS)

    theirs = LayerGradientXActivation(net, net.features).attribute(
        x, torch.tensor(TARGETS)
    )
    expected = theirs.sum(1, keepdim=True).relu().detach()
    torch.testing.assert_close(ours, expected, **EXACT)


@pytest.mark.parametrize("name", ["HiResCAM", "XGrad-CAM"])
def test_the_signed_map_of_a_linear_head_adds_up_to_the_score(name):
    features, x = ConvNet().double().features, images()
    head = nn.Linear(features(x).flatten(1).shape[1], 5).double()
    net = nn.Sequential(features, nn.Flatten(), head).eval()

    ours = METHODS[name](net, features).attribute(x, TARGETS, relu_attributions=False)

    score = net(x)[[0, 1], TARGETS] - head.bias[TARGETS]
    torch.testing.assert_close(ours.sum((1, 2, 3)), score, **EXACT)


class Weighted(nn.Module):
    """The gradient at the layer is the weights themselves."""

    def __init__(self, weights):
        super().__init__()
        self.maps = nn.Identity()
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.eval()

    def forward(self, x):
        return (self.maps(x) * self.weights).flatten(1).sum(1)


def test_two_channels_by_hand():
    model = Weighted([[[1.0, -2.0]], [[0.0, 3.0]]])
    x = torch.tensor([[[[3.0, 1.0]], [[2.0, 0.5]]]], dtype=torch.float64)

    def signed(method):
        explain = method(model, model.maps)
        return explain.attribute(x, relu_attributions=False).flatten().tolist()

    assert signed(LayerCAM) == [3.0, 1.5]
    assert signed(LayerHiResCAM) == [3.0, -0.5]
    # a = (3 / 4 - 2 / 4, 3 * 0.5 / 2.5) = (0.25, 0.6).
    assert signed(LayerXGradCAM) == pytest.approx([1.95, 0.55])


@pytest.mark.parametrize("values", [[0.0, 0.0], [2.0, -2.0]])
def test_a_channel_without_a_sum_has_no_weight_in_xgrad_cam(values):
    model = Weighted([[[1.0, -2.0]]])
    x = torch.tensor([[[values]]], dtype=torch.float64)

    with pytest.warns(UserWarning, match="zero everywhere for example 0: no position"):
        out = LayerXGradCAM(model, model.maps).attribute(x)

    assert torch.equal(out, torch.zeros_like(out))


def test_rounding_is_no_sum_in_xgrad_cam():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(3, 6, 3), nn.InstanceNorm2d(6))
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 2)).eval()
    x = torch.rand(2, 3, 8, 8)

    for scale in (1, 1e6):
        model[3].weight.data *= scale
        with pytest.warns(UserWarning, match="zero everywhere"):
            out = LayerXGradCAM(model, layer).attribute(x, 1)
        assert torch.equal(out, torch.zeros_like(out))


@every_method
def test_a_map_that_is_zero_is_noticed(name):
    model = Weighted([[[-1.0, -2.0]]])
    x = torch.ones(2, 1, 1, 2, dtype=torch.float64)

    with pytest.warns(UserWarning, match="zero everywhere for examples 0, 1: no pos"):
        METHODS[name](model, model.maps).attribute(x)


@every_method
@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_gradients_of_any_size_count_in_single_precision(name, scale):
    net, x = ConvNet(), images(dtype=torch.float32)

    out = METHODS[name](lambda z: scale * net(z), net.features).attribute(x, 1)

    expected = METHODS[name](net, net.features).attribute(x, 1)
    torch.testing.assert_close(out / scale, expected, rtol=1e-4, atol=1e-5)


@every_method
def test_layers_without_positions(name):
    torch.manual_seed(5)
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double().eval()
    x = torch.rand(2, 3, dtype=torch.float64)

    out = METHODS[name](net, net[1]).attribute(x, 1, relu_attributions=False)

    a, g = net[:2](x).detach(), net[2].weight[1].detach()
    g = g.relu() if name == "LayerCAM" else g
    assert out.all()
    torch.testing.assert_close(out, (g * a).sum(1, keepdim=True), **EXACT)


def scaled(maps):
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


def of_grad_cam(kind, net, x):
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    # It resizes maps to the input: here they have its size already.
    net.features[0].stride = (1, 1)
    with getattr(package, kind)(net, [net.features]) as cam:
        maps = cam(x, [ClassifierOutputTarget(target) for target in TARGETS])
    return torch.from_numpy(np.asarray(maps)).unsqueeze(1)


def of_torchcam(kind, net, x):
    package = pytest.importorskip("torchcam.methods")
    with getattr(package, kind)(net, net.features, input_shape=(3, 11, 14)) as cam:
        return cam(TARGETS, net(x))[0].unsqueeze(1).detach()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "kind", "package"),
    [
        ("LayerCAM", "LayerCAM", of_grad_cam),
        ("HiResCAM", "HiResCAM", of_grad_cam),
        ("XGrad-CAM", "XGradCAM", of_grad_cam),
        ("LayerCAM", "LayerCAM", of_torchcam),
        ("XGrad-CAM", "XGradCAM", of_torchcam),
    ],
)
def test_other_packages_compute_the_same_map(name, kind, package):
    net, x = ConvNet(), images(dtype=torch.float32)

    theirs = package(kind, net, x)

    ours = METHODS[name](net, net.features).attribute(x, TARGETS)
    torch.testing.assert_close(scaled(ours), theirs.float(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("package", "added"), [(of_grad_cam, 1e-7), (of_torchcam, 1e-8)]
)
def test_what_others_add_to_the_sum_makes_small_channels_count_less(package, added):
    net, x = ConvNet(), images(dtype=torch.float32)
    # One channel is a millionth of a millionth; what follows makes up for it.
    small = 1e-12
    net.features[1].weight.data[0] *= small
    net.features[1].bias.data[0] *= small
    net.mix.weight.data[:, 0] /= small

    theirs = package("XGradCAM", net, x)

    ours = LayerXGradCAM(net, net.features).attribute(x, TARGETS)
    assert (scaled(ours) - theirs.float()).abs().max() > 0.01
    expected = []
    for row, target in zip(x.double(), TARGETS, strict=True):
        double = net.double()
        maps = double.features(row[None])[0].detach()
        g = gradient_at(rest_of(double), maps, target)
        sums = maps.sum((1, 2), keepdim=True)
        weights = (maps * g).sum((1, 2), keepdim=True) / (sums + added)
        expected.append((weights * maps).sum(0).relu())
    expected = scaled(torch.stack(expected).unsqueeze(1))
    torch.testing.assert_close(theirs.double(), expected, rtol=0, atol=1e-4)
