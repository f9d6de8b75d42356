"""Scores, targets and maps that would be wrong: a warning or an error that says so."""

import pytest
from reference.methods import METHODS, attribute
from reference.networks import CONVOLUTION, images
from torch import nn

from captum_iscam import RISE
from captum_iscam.attr import ChannelMean, fuse
from captum_iscam.attr.grad_cam import TokenGradCAM
from captum_iscam.methods import METHODS as TABLE
from captum_iscam.methods import Options

ZERO = "The map is zero everywhere for example"
every_method = pytest.mark.parametrize("name", METHODS)


class Opposed(nn.Module):
    """A layer of positive channels, all of which lower the only score."""

    def __init__(self, spatial=2):
        super().__init__()
        self.features = CONVOLUTION[spatial](3, 6, 3, stride=2, padding=1, bias=False)
        self.features.weight.data.abs_()
        self.eval()

    def forward(self, x):
        return -self.features(x).flatten(1).sum(1, keepdim=True)


@every_method
@pytest.mark.parametrize("spatial", [1, 2, 3])
@pytest.mark.filterwarnings("ignore:The noise", "ignore:Channels that support")
def test_zero_maps_are_warned_of_by_every_method(name, spatial):
    net, x = Opposed(spatial).double(), images(2, spatial).abs()
    constructor = {"score": "identity"}

    with pytest.warns(UserWarning, match=ZERO + "s 0, 1: ") as caught:
        out = attribute(name, net, net.features, x, 0, constructor)

    assert not out.any()
    assert sum("zero everywhere" in str(w.message) for w in caught) == 1


def rectified_by_the_table(name):
    def call(net, x):
        options = Options(n_samples=2, n_masks=5)
        return TABLE[name].attribute(net, net.features, x, 0, options)

    return call


OTHERS = {
    "Grad-CAM of tokens": lambda net, x: TokenGradCAM(net, net.features).attribute(
        x, 0, relu_attributions=True
    ),
    "channel mean": lambda net, x: ChannelMean(net, net.features).attribute(-x),
    "RISE": lambda net, x: RISE(lambda z: 0 * z.flatten(1), score="identity").attribute(
        x, 0, n_masks=3
    ),
    "product": lambda net, x: fuse([x[:, :1].relu(), (-x[:, :1]).relu()], "product"),
    **{
        name: rectified_by_the_table(name)
        for name in ("grad-cam", "integrated-gradients", "occlusion")
    },
}


@pytest.mark.parametrize("name", OTHERS)
def test_zero_maps_are_warned_of_wherever_something_is_rectified(name):
    net, x = Opposed().double(), images(2).abs()

    with pytest.warns(UserWarning, match=ZERO) as caught:
        out = OTHERS[name](net, x if name != "product" else images(2))

    assert not out.any()
    assert len(caught) == 1
