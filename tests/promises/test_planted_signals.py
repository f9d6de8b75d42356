"""Signals and volumes whose right answer is planted: every method finds just that."""

import pytest
import torch
from captum.attr import LayerGradCam
from reference.methods import METHODS, attribute
from reference.networks import CONVOLUTION
from torch import nn

from captum_iscam import RISE

# Where the sign of class 0 and the one of class 1 are, among the places of the input.
SIGNALS = {
    "1-D": ((23,), [slice(4, 9)], [slice(15, 18)]),
    "2-D": (
        (9, 14),
        [slice(1, 4), slice(2, 5)],
        [slice(5, 8), slice(9, 13)],
    ),
    "3-D": (
        (7, 11, 5),
        [slice(1, 3), slice(2, 6), slice(0, 2)],
        [slice(4, 7), slice(7, 9), slice(3, 5)],
    ),
}
SCALE = 4.0


class Detectors(nn.Module):
    """Channel 0 sees what is above 0 and supports class 0, channel 1 what is below.

    Channel 2 sees everything and says nothing. The logits are means of the channels.
    """

    def __init__(self, spatial):
        super().__init__()
        convolution = CONVOLUTION[spatial](1, 3, 1, bias=False)
        weights = torch.tensor([1.0, -1.0, 0.0]).view(3, *[1] * (spatial + 1))
        convolution.weight.data.copy_(weights)
        self.features = nn.Sequential(convolution, nn.ReLU())
        self.double().eval()

    def forward(self, x):
        means = SCALE * self.features(x).flatten(2).mean(2)
        return means[:, :2]


@pytest.fixture(params=SIGNALS)
def planted(request):
    size, first, second = SIGNALS[request.param]
    x = torch.zeros(1, 1, *size, dtype=torch.float64)
    x[(0, 0, *first)] = 6.0
    x[(0, 0, *second)] = -6.0
    return Detectors(len(size)), x


def sign_of(x, target):
    """1 where the sign of the class is, else 0."""
    return (x > 0 if target == 0 else x < 0).double()


def own_of(name):
    # The noise of ss-cam is kept small: the ReLUs let half of it through everywhere.
    if name.startswith("ss-cam"):
        return {"stdevs": 0.01}
    # A position that says nothing has half of the probability, and a score of zero.
    if name == "recipro-cam":
        return {"constructor": {"score": "identity"}, "window": "single"}
    return {}


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("name", METHODS)
def test_the_map_is_the_planted_sign_and_nothing_else(planted, name, target):
    net, x = planted

    out = attribute(name, net, net.features, x, target, **own_of(name))

    expected = sign_of(x, target)
    torch.testing.assert_close(out / out.max(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("target", [0, 1])
def test_captums_grad_cam_finds_it_too(planted, target):
    net, x = planted

    out = LayerGradCam(net, net.features).attribute(x, target, relu_attributions=True)

    torch.testing.assert_close(out / out.max(), sign_of(x, target))


@pytest.mark.parametrize("target", [0, 1])
def test_rise_is_highest_on_the_planted_sign(planted, target):
    net, x = planted
    grid = tuple(min(n, 6) for n in x.shape[2:])

    # A strong sign, against the scatter of random masks.
    out = RISE(net).attribute(
        4 * x,
        target,
        n_masks=3000,
        grid=grid,
        generator=torch.Generator().manual_seed(0),
    )

    sign = sign_of(x, target) > 0
    assert sign.reshape(-1)[out.argmax()]
    # The sign of the other class is where the score falls below that of neither.
    assert (
        out[sign].mean() > out[x == 0].mean() > out[sign_of(x, 1 - target) > 0].mean()
    )


class HalfSize(nn.Module):
    """As `Detectors`, behind a pooling by two."""

    def __init__(self, spatial):
        super().__init__()
        self.detectors = Detectors(spatial)
        pools = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
        self.features = nn.Sequential(self.detectors.features, pools[spatial](2))
        self.eval()

    def forward(self, x):
        return SCALE * self.features(x).flatten(2).mean(2)[:, :2]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("size", [(16,), (6, 10), (4, 10, 6)], ids=str)
def test_a_coarser_layer_places_it_in_the_right_cell(name, size):
    net = HalfSize(len(size))
    x = torch.zeros(1, 1, *size, dtype=torch.float64)
    cell = [n // 4 for n in size]
    x[(0, 0, *[slice(2 * c, 2 * c + 2) for c in cell])] = 6.0

    out = attribute(name, net, net.features, x, 0, **own_of(name))

    expected = torch.zeros(1, 1, *[n // 2 for n in size], dtype=torch.float64)
    expected[(0, 0, *cell)] = 1
    torch.testing.assert_close(out / out.max(), expected, rtol=0, atol=1e-12)
