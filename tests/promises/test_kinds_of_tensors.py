"""Tensors of kinds that torch has and attribution has not, by every method."""

import copy

import numpy as np
import pytest
import torch
from reference.every_call import ALL, METRICS, explain
from reference.methods import SCORE_METHODS
from reference.networks import ConvNet, images
from torch import nn

from captum_iscam import RISE, LayerCAM, LayerScoreCAM
from captum_iscam.metrics import average_drop

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "The map is zero",
        "The score of example",
        "Channels that support",
        "The noise",
        ".*quantized",
        ".*quantization",
        ".*nested",
        "Please use quant_min",
        "Sparse",
    )
]
GRADIENT = [
    name for name in ALL if "grad" in name or name in ("layer-cam", "hires-cam")
]
every_method = pytest.mark.parametrize("name", ALL)


@pytest.fixture
def net():
    return ConvNet().float().eval()


@pytest.fixture
def x():
    return images(2).float()


def quantised(x):
    return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)


def nested(x):
    return torch.nested.nested_tensor(list(x))


def jagged(x):
    rows = [x[0, 0], x[0, 0, :3]]
    return torch.nested.nested_tensor(rows, layout=torch.jagged)


NO_DENSE = {
    "quantised": (quantised, r"torch\.quint8.*dequantize"),
    "nested": (nested, "a nested tensor.*to_padded_tensor"),
    "jagged": (jagged, "a nested tensor.*to_padded_tensor"),
    "sparse": (torch.Tensor.to_sparse, r"torch\.sparse_coo.*to_dense"),
    "mkldnn": (torch.Tensor.to_mkldnn, r"torch\._mkldnn.*to_dense"),
}
every_kind = pytest.mark.parametrize("kind", NO_DENSE)


@every_method
@every_kind
def test_inputs_that_are_not_dense_name_the_conversion(name, kind, net, x):
    make, match = NO_DENSE[kind]

    with pytest.raises(TypeError, match=f"^inputs must be a dense tensor, got {match}"):
        explain(name, net, net.features, make(x), 1)


@pytest.mark.parametrize("name", [*SCORE_METHODS, "integrated grad-cam", "rise"])
@every_kind
def test_baselines_that_are_not_dense_name_the_conversion(name, kind, net, x):
    make, match = NO_DENSE[kind]

    with pytest.raises(
        TypeError, match=f"^baselines must be a dense ten.* got {match}"
    ):
        explain(name, net, net.features, x, 1, baselines=make(x))


OUT_OF_RANGE = {
    "too large": 1e39,
    "too small": -1e300,
    "nan": float("nan"),
    "infinite": float("inf"),
    "numpy": np.float64(1e39),
    "tensor of nan": torch.full((1, 3, 11, 14), float("nan")),
    "tensor of another type": torch.full((1, 3, 11, 14), 1e300, dtype=torch.double),
}


@pytest.mark.parametrize("name", [*SCORE_METHODS, "integrated grad-cam", "rise"])
@pytest.mark.parametrize("value", OUT_OF_RANGE)
def test_baselines_out_of_the_range_of_their_type_are_named(name, value, net, x):
    match = r"^baselines must be finite and in the range of torch\.float32, got "

    with pytest.raises(ValueError, match=match):
        explain(name, net, net.features, x, 1, baselines=OUT_OF_RANGE[value])


def test_baselines_of_half_precision_have_its_range(x):
    net = ConvNet().half().eval()

    with pytest.raises(ValueError, match=r"range of torch\.float16, got 70000\.0"):
        LayerScoreCAM(net, net.features).attribute(x.half(), 1, baselines=7e4)
    with pytest.raises(ValueError, match=r"baselines must be finite .*float16"):
        average_drop(net, x.half(), x[:, :1], 1, baselines=float("nan"))


@every_method
def test_inputs_without_values_are_named(name, net, x):
    with pytest.raises(
        ValueError, match=r"at least one value, got the shape \(2, 3, 1"
    ):
        explain(name, net, net.features, x[..., :0], 1)


@pytest.mark.parametrize("name", [*ALL, *METRICS])
@pytest.mark.parametrize("make", [torch.Tensor.to_sparse, nested])
def test_outputs_that_are_not_dense_name_the_conversion(name, make, net, x):
    if name == "channel mean":
        pytest.skip("it reads no output")

    with pytest.raises(
        TypeError, match=r"output must be a dense tensor, got .* (Conv|P)"
    ):
        explain(name, lambda z: make(net(z)), net.features, x, 1)


@every_method
def test_layers_that_are_not_dense_name_the_conversion(name, x):
    class Sparse(nn.Module):
        def forward(self, x):
            return x.to_sparse()

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Sparse()).eval()

    def whole(z):
        return model(z).to_dense().mean((2, 3))

    if name == "rise":
        pytest.skip("it has no layer")
    with pytest.raises(TypeError, match=r"layer.* a dense tensor.*to_dense"):
        explain(name, whole, model[1], x, 1)


# Inference mode.


@every_method
def test_inputs_made_in_inference_mode_are_inputs(name, net, x):
    with torch.inference_mode():
        made = x.clone()
    expected = explain(name, net, net.features, x, 1)

    found = explain(name, net, net.features, made, 1)

    torch.testing.assert_close(found, expected)


@every_method
@pytest.mark.parametrize("form", ["module", "function"])
def test_models_built_in_inference_mode_are_copied_for_gradients(name, form, x):
    with torch.inference_mode():
        net = ConvNet().float().eval()
    other = copy.deepcopy(net)
    expected = explain(name, other, other.features, x, 1)
    model = net if form == "module" else lambda z: net(z)

    if name in GRADIENT:
        match = r"forward_func must .*inference_mode.*copy\.deepcopy\(model\)"
        with pytest.raises(RuntimeError, match=match):
            explain(name, model, net.features, x, 1)
    else:
        found = explain(name, model, net.features, x, 1)
        torch.testing.assert_close(found, expected)


# Quantised models.


def quantised_net():
    """Statically quantised features, and a dynamically quantised head."""
    from torch.ao import quantization

    net = nn.Sequential(
        quantization.QuantStub(),
        nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU()),
        quantization.DeQuantStub(),
        nn.Flatten(),
        nn.Linear(6 * 30, 5),
    ).eval()
    net.qconfig = quantization.get_default_qconfig("fbgemm")
    net[4].qconfig = None
    quantization.prepare(net, inplace=True)
    net(images(2).float())
    quantization.convert(net, inplace=True)
    return net


def test_a_quantised_layer_is_explained_by_its_numbers(x):
    net = quantised_net()

    with pytest.raises(TypeError, match=r"quint8.*reshape_transform=torch\.dequantize"):
        LayerScoreCAM(net, net[1]).attribute(x, 1)
    with pytest.raises(TypeError, match="gradients need floating point"):
        LayerCAM(net, net[1]).attribute(x, 1)

    found = LayerScoreCAM(net, net[1], reshape_transform=torch.dequantize)
    expected = LayerScoreCAM(net, net[2])
    options = {"relu_attributions": False}
    torch.testing.assert_close(
        found.attribute(x, 1, **options), expected.attribute(x, 1, **options)
    )
    assert RISE(net).attribute(x, 1, n_masks=5).shape == (2, 1, 11, 14)


def test_a_layer_behind_which_all_is_quantised_has_no_gradients(x):
    net = quantised_net()
    net[0] = nn.Sequential(nn.Conv2d(3, 3, 1), net[0])

    with pytest.raises(ValueError, match="layer must lead to the score by gradients"):
        LayerCAM(net, net[0][0]).attribute(x, 1)
