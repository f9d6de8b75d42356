"""Layers whose axes are not (N, K, *spatial), of sizes that could be."""

import re
import warnings

import pytest
import torch
import torchvision
from reference.every_call import LAYERED, explain
from reference.networks import CONVOLUTION
from torch import nn

from captum_iscam import LayerScoreCAM
from captum_iscam.reshape_transforms import swin

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example.*abruptly",
    "ignore:The score of example.*negative",
    "ignore:Channels that support",
    "ignore:The noise",
)
LAST = r"probably \(N, \*spatial, K\), .*reshape_transform=.*swin"
FIRST = r"probably \(positions, N, K\), .*permute\(1, 2, 0\)"
REVERSED = r"probably with the spatial axes reversed, .*permute\(0, 1, 3, 2\)"


class Net(nn.Module):
    """A convolution, a module that may have its axes elsewhere, and a mean.

    Args:
        spatial (int): Spatial axes of the input.
        module (Module): Explained.
        order (list[int]): The axes of (N, K, *spatial) in the order of the module.
        width (int): Channels of the convolution.
    """

    def __init__(self, spatial, module, order, width=6):
        super().__init__()
        torch.manual_seed(0)
        self.stem = CONVOLUTION[spatial](3, width, 2, stride=2)
        self.layer = module
        self.order = order
        self.head = nn.LazyLinear(4)
        self.eval()

    def forward(self, x):
        found = self.layer(self.stem(x).relu().permute(self.order))
        while isinstance(found, tuple):
            found = found[0]
        back = sorted(range(len(self.order)), key=self.order.__getitem__)
        return self.head(found.permute(back).flatten(2).mean(2))


def sequence(width=6):
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 9), nn.Dropout())


class Block(nn.Module):
    """As of ConvNeXt: the channels are last inside, and first outside."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(6)
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        return x + self.linear(self.norm(x.movedim(1, -1))).movedim(-1, 1)


NTC, NHWC, TNC, NKWH = [0, 2, 1], [0, 2, 3, 1], [2, 0, 1], [0, 1, 3, 2]
# The net, the size of the input, and what is said.
NOTICED = {
    "layer norm of a sequence": (lambda: Net(1, nn.LayerNorm(6), NTC), (24,), LAST),
    "linear": (lambda: Net(1, nn.Linear(6, 9), NTC), (24,), LAST),
    "container": (lambda: Net(1, sequence(), NTC), (24,), LAST),
    "transformer": (
        lambda: Net(1, nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), NTC),
        (24,),
        LAST,
    ),
    "images": (lambda: Net(2, nn.LayerNorm(6), NHWC), (16, 20), LAST),
    "all sizes alike": (lambda: Net(2, nn.Linear(6, 6), NHWC), (12, 12), LAST),
    "activation": (lambda: Net(2, nn.GELU(), NHWC), (16, 20), LAST),
    "volumes": (lambda: Net(3, nn.GELU(), [0, 2, 3, 4, 1]), (14, 16, 18), LAST),
    "spatial axes": (lambda: Net(2, nn.GELU(), NKWH), (16, 32), REVERSED),
}
QUIET = {
    "sequence": (lambda: Net(1, nn.GELU(), [0, 1, 2]), (24,)),
    "linear over positions": (
        lambda: Net(1, nn.Sequential(nn.Linear(12, 12), nn.Conv1d(6, 6, 1)), [0, 1, 2]),
        (24,),
    ),
    "square": (lambda: Net(2, nn.GELU(), [0, 1, 2, 3], 12), (24, 24)),
    "block": (lambda: Net(2, Block(), [0, 1, 2, 3]), (16, 20)),
    "block of one size": (lambda: Net(2, Block(), [0, 1, 2, 3]), (12, 12)),
    "norm for images": (
        lambda: Net(2, torchvision.models.convnext.LayerNorm2d(6), [0, 1, 2, 3]),
        (12, 12),
    ),
    "norm of all": (lambda: Net(2, nn.LayerNorm([6, 8, 10]), [0, 1, 2, 3]), (16, 20)),
    "small": (lambda: Net(2, nn.MaxPool2d(4), [0, 1, 2, 3]), (25, 20)),
}
SHAPED = "ignore:Lazy modules"


def made(kind, kinds):
    make, size, *said = kinds[kind]
    net, x = make(), torch.rand(2, 3, *size)
    net(x)
    return net, x, said


@pytest.mark.filterwarnings(SHAPED)
@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("kind", NOTICED)
def test_layers_with_their_axes_elsewhere_are_noticed(name, kind):
    net, x, (said,) = made(kind, NOTICED)

    with pytest.warns(UserWarning, match=said) as caught:
        explain(name, net, net.layer, x, 1)

    mine = [str(w.message) for w in caught if "read as" in str(w.message)]
    assert len(mine) == 1
    assert "torch.nn.Identity() if axis 1" in mine[0]


@pytest.mark.filterwarnings(SHAPED)
@pytest.mark.parametrize("name", ["score-cam", "grad-cam++", "channel mean"])
@pytest.mark.parametrize("kind", ["linear", "container", "images", "activation"])
@pytest.mark.parametrize("transform", [swin, nn.Identity()])
def test_a_reshape_transform_says_where_the_axes_are(name, kind, transform):
    net, x, _ = made(kind, NOTICED)

    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*read as")
        explain(
            name, net, net.layer, x, 1, constructor={"reshape_transform": transform}
        )


@pytest.mark.filterwarnings(SHAPED)
@pytest.mark.parametrize("name", ["score-cam", "grad-cam++", "channel mean"])
@pytest.mark.parametrize("kind", QUIET)
@pytest.mark.parametrize("of_input", [False, True])
def test_layers_with_the_channels_first_are_not_named(name, kind, of_input):
    net, x, _ = made(kind, QUIET)
    of_input = of_input and kind != "linear over positions"

    explain(name, net, net.layer, x, 1, attribute_to_layer_input=of_input)


class Recurrent(nn.Module):
    """A recurrent layer in front of an identity, whose output can be explained."""

    def __init__(self, kind, **options):
        super().__init__()
        torch.manual_seed(0)
        self.layer = kind(3, 5, **options)
        self.output = nn.Identity()
        self.head = nn.LazyLinear(4)
        self.eval()

    def forward(self, x):
        order = (0, 2, 1) if self.layer.batch_first else (2, 0, 1)
        found = self.output(self.layer(x.permute(order))[0])
        return self.head(found.mean(1 if self.layer.batch_first else 0))


@pytest.mark.filterwarnings(SHAPED)
@pytest.mark.parametrize("name", LAYERED)
@pytest.mark.parametrize("kind", [nn.GRU, nn.RNN, nn.LSTM])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize("bidirectional", [True, False])
def test_recurrent_layers_name_the_identity_and_the_transform(
    name, kind, first, count, bidirectional
):
    net = Recurrent(kind, batch_first=first, bidirectional=bidirectional)
    x = torch.rand(count, 3, 12)
    net(x)

    match = f"got a {kind.__name__}, which gives its last state.*torch.nn.Identity"
    with pytest.raises(TypeError, match=match) as error:
        explain(name, net, net.layer, x, 1)

    transform = eval(re.search(r"(lambda.*)\.$", str(error.value))[1])
    out = explain(
        name, net, net.output, x, 1, constructor={"reshape_transform": transform}
    )
    assert out.shape == (count, 1, 12)


@pytest.mark.filterwarnings(SHAPED)
def test_time_first_is_noticed_where_the_sizes_fit():
    net = Recurrent(nn.GRU)
    x = torch.rand(12, 3, 12)
    net(x)

    with pytest.warns(UserWarning, match=FIRST):
        LayerScoreCAM(net, net.layer).attribute(x, 1, attribute_to_layer_input=True)


@pytest.mark.filterwarnings(SHAPED)
def test_the_transform_that_is_named_gives_the_map_of_the_channels_first():
    net, x, (said,) = made("spatial axes", NOTICED)
    expected = LayerScoreCAM(net, net.stem).attribute(x, 1)

    with pytest.warns(UserWarning, match=said) as caught:
        LayerScoreCAM(net, net.layer).attribute(x, 1, attribute_to_layer_input=True)
    text = next(str(w.message) for w in caught if "read as" in str(w.message))
    transform = eval(re.search(r"transform=(lambda.*?\)),", text)[1])

    found = LayerScoreCAM(net, net.layer, reshape_transform=transform).attribute(
        x, 1, attribute_to_layer_input=True
    )
    assert found.shape == expected.shape


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_channels_without_positions_are_not_named(layer):
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4)).eval()

    explain("grad-cam++", net, net[layer], torch.rand(2, 3), 1)


@pytest.mark.parametrize("block", ["features.1.0", "features.1.0.mlp.0", "norm"])
def test_blocks_of_swin_are_noticed(block):
    net = torchvision.models.SwinTransformer(
        [4, 4], 8, [1, 1], [1, 2], [4, 4], num_classes=3
    ).eval()

    with pytest.warns(UserWarning, match=LAST):
        LayerScoreCAM(net, net.get_submodule(block)).attribute(
            torch.rand(1, 3, 48, 48), 1
        )
