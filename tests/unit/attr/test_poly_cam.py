"""Poly-CAM: the product of the maps of several layers."""

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from reference.networks import BATCH_NORM, CONVOLUTION, images
from reference.score_methods import confidence, scaled_mask
from reference.spies import Calls
from torch import nn

from captum_iscam import LayerPolyCAM, LayerScoreCAM
from captum_iscam.attr.poly_cam import VARIANTS, multiplied

pytestmark = pytest.mark.filterwarnings("ignore:The map is zero")
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
EXACT = {"rtol": 0, "atol": 1e-9}
SIZES = {1: (21,), 2: (13, 16), 3: (9, 12, 10)}


class Pyramid(nn.Module):
    """Three layers, each about half as large as the one before."""

    def __init__(self, spatial=2):
        super().__init__()
        widths = (3, 5, 6, 7)
        self.stages = nn.ModuleList(
            nn.Sequential(
                CONVOLUTION[spatial](before, after, 3, stride=1 + (i > 0), padding=1),
                BATCH_NORM[spatial](after),
                nn.ReLU(),
            )
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.head = nn.Linear(7, 4)
        generator = torch.Generator().manual_seed(1)
        for parameter in self.parameters():
            fan_in = max(parameter[0].numel(), 4)
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data = 2 * noise.double() / fan_in**0.5
        self.double().eval()

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return self.head(x.flatten(2).mean(2))


def outputs_of(net, x):
    found = []
    for stage in net.stages:
        x = stage(x)
        found.append(x)
    return found


def weight(net, x, mask, target, variant, baseline):
    """`a_k` of one channel, from the scores of the whole, the kept and the rest."""
    kept = baseline + mask * (x - baseline)
    rest = x - mask * (x - baseline)

    def score(z):
        return confidence(net(z[None]), target, "softmax")

    insertion = score(kept) - score(torch.full_like(x, baseline))
    deletion = score(x) - score(rest)
    return {
        "insertion": insertion,
        "deletion": max(deletion, 0.0),
        "both": max(insertion + deletion, 0.0),
    }[variant]


def pooled(fine, size):
    """The mean of the positions that each position of a coarser layer covers."""
    out = torch.zeros(size, dtype=fine.dtype)
    for place in torch.cartesian_prod(*[torch.arange(n) for n in size]).view(
        -1, len(size)
    ):
        region = tuple(
            slice(int(p) * m // n, math.ceil((int(p) + 1) * m / n))
            for p, m, n in zip(place, fine.shape, size, strict=True)
        )
        out[tuple(place)] = fine[region].mean()
    return out


def wide(maps, size):
    return F.interpolate(
        maps[None, None], size=size, mode=MODES[len(size)], align_corners=False
    )[0, 0]


@torch.no_grad()
def by_hand(net, x, target, variant, baseline=0.0):
    """The map of one example, one layer, channel and region at a time."""
    found = None
    for activations in reversed(outputs_of(net, x[None])):
        own = torch.zeros_like(activations[0, 0])
        for channel in activations[0]:
            mask = scaled_mask(channel, tuple(x.shape[1:]))
            if float(channel.max()) > float(channel.min()):
                own += weight(net, x, mask, target, variant, baseline) * channel
        own = own.clamp(min=0)
        if found is None:
            found = own
            continue
        mean = wide(pooled(own, tuple(found.shape)), tuple(own.shape))
        ratio = torch.where(own > 0, own / mean, torch.zeros_like(own))
        found = ratio * wide(found, tuple(own.shape))
    return found


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("spatial", [1, 2, 3])
def test_poly_cam_is_the_equation(spatial, variant):
    net = Pyramid(spatial)
    x = torch.randn(2, 3, *SIZES[spatial], generator=torch.Generator().manual_seed(4))
    x = x.double()

    ours = LayerPolyCAM(net, list(net.stages)).attribute(
        x, [[0, 1, 2, 3]], variant=variant, baselines=0.2
    )

    assert ours.shape == (2, 4, *SIZES[spatial])
    assert ours.amax() > 1e-3
    for n, t in [(n, t) for n in range(2) for t in range(4)]:
        expected = by_hand(net, x[n], t, variant, 0.2)
        torch.testing.assert_close(ours[n, t], expected, **EXACT)


def test_two_maps_multiplied_by_hand():
    coarse = torch.tensor([[[[8.0, 0.0]]]])
    fine = torch.tensor([[[[2.0, 6.0, 0.0, 4.0]]]])

    # Means of the pairs are 4 and 2, on the finer grid 4, 3.5, 2.5 and 2. The coarse
    # map becomes 8, 6, 2 and 0 there.
    expected = torch.tensor([2 / 4 * 8, 6 / 3.5 * 6, 0, 0])
    torch.testing.assert_close(multiplied([coarse, fine])[0, 0, 0], expected)
    torch.testing.assert_close(multiplied([fine, coarse])[0, 0, 0], expected)


def test_halved_sizes_are_normalised_as_in_the_authors_code():
    coarse, fine = torch.rand(2, 1, 5, 6), torch.rand(2, 1, 10, 12)

    smaller = F.interpolate(fine, (5, 6), mode="bilinear")
    mean = F.interpolate(smaller, (10, 12), mode="bilinear")
    theirs = fine / mean * F.interpolate(coarse, (10, 12), mode="bilinear")

    torch.testing.assert_close(multiplied([coarse, fine]), theirs)


def test_a_finer_layer_only_distributes():
    """Its scale does not matter, and a constant one changes nothing."""
    coarse, fine = torch.rand(1, 1, 3, 4), torch.rand(1, 1, 9, 8)
    alone = F.interpolate(coarse, (9, 8), mode="bilinear")

    torch.testing.assert_close(
        multiplied([coarse, 1000 * fine]), multiplied([coarse, fine])
    )
    torch.testing.assert_close(multiplied([coarse, 0 * fine + 7]), alone)
    lone = torch.zeros(1, 1, 9, 8)
    lone[..., 0, 0] = 1e-30
    assert multiplied([coarse, lone]).isfinite().all()


class Corner(nn.Module):
    """The score is the upper left quarter of what is bright in the first channel.

    The early layer finds edges of all objects, the late one each object roughly.
    """

    def __init__(self):
        super().__init__()
        self.early, self.late = nn.Identity(), nn.AvgPool2d(4)
        self.eval()

    def forward(self, x):
        late = self.late(self.early(x))
        return torch.stack([late[:, 0, :2, :2].sum((1, 2)), late[:, 0].sum((1, 2))], 1)


def test_the_map_is_fine_and_of_the_class():
    x = torch.zeros(1, 2, 16, 16).double()
    x[0, 0, 2, 1:7] = 1  # of the class
    x[0, 1, 12, 9:15] = 1  # of another channel, that the score ignores
    net = Corner()

    for variant in VARIANTS:
        found = LayerPolyCAM(net, [net.early, net.late], score="identity").attribute(
            x, 0, variant=variant
        )[0, 0]
        assert (found > 0).nonzero()[:, 0].unique().tolist() == [2]
        assert (found > 0).nonzero()[:, 1].tolist() == list(range(1, 7))


def test_several_targets_share_the_passes_and_equal_single_ones():
    net, x = Pyramid(), images(2)
    calls = Calls(net)
    explain = LayerPolyCAM(calls, list(net.stages))

    together = explain.attribute(x, [[0, 1, 2]], variant="both")

    several = sum(calls.rows)
    for t in range(3):
        alone = LayerPolyCAM(net, list(net.stages)).attribute(x, t, variant="both")
        torch.testing.assert_close(together[:, t : t + 1], alone, **EXACT)
    calls.rows.clear()
    explain.attribute(x, 1, variant="both")
    assert sum(calls.rows) == several


@pytest.mark.parametrize(("variant", "passes"), [("insertion", 1), ("both", 2)])
def test_the_passes_are_those_of_the_channels_of_all_layers(variant, passes):
    net, x = Pyramid(), images(2)
    calls = Calls(net)

    LayerPolyCAM(calls, list(net.stages)).attribute(x, 1, variant=variant)

    channels = sum(
        int((maps.flatten(2).amax(2) > maps.flatten(2).amin(2)).sum())
        for maps in outputs_of(net, x)
    )
    # For each layer the images twice, the baselines, and a faint image three times.
    assert sum(calls.rows) == passes * channels + 3 * (3 * len(x) + 3)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_chunks_batches_and_the_order_of_the_layers_do_not_matter(size):
    net, x = Pyramid(), images(3)
    expected = LayerPolyCAM(net, list(net.stages)).attribute(x, 1, variant="both")

    layers = [net.stages[1], net.stages[0], net.stages[2]]
    found = LayerPolyCAM(net, layers).attribute(
        x, 1, variant="both", internal_batch_size=size
    )

    torch.testing.assert_close(found, expected, **EXACT)
    alone = LayerPolyCAM(net, layers).attribute(x[1:2], 1, variant="both")
    torch.testing.assert_close(found[1:2], alone, **EXACT)


@pytest.mark.parametrize("listed", [True, False])
def test_a_single_layer_is_score_cam(listed):
    net, x = Pyramid(), images(2)
    layer = net.stages[1]
    for relu in (True, False):
        expected = LayerScoreCAM(net, layer).attribute(x, 1, relu_attributions=relu)

        found = LayerPolyCAM(net, [layer] if listed else layer).attribute(
            x, 1, relu_attributions=relu
        )

        assert torch.equal(found, expected)


def test_screening_of_everything_changes_nothing():
    net, x = Pyramid(), images(2)
    explain = LayerPolyCAM(net, list(net.stages))

    found = explain.attribute(x, 1, screening=1, variant="deletion")

    expected = explain.attribute(x, 1, variant="deletion")
    torch.testing.assert_close(found, expected, **EXACT)


def test_an_empty_product_is_warned_of_once(recwarn):
    net, x = Corner(), torch.rand(1, 2, 16, 16).double()

    found = LayerPolyCAM(net, [net.early, net.late], score=lambda z: -z).attribute(x, 0)

    assert found.eq(0).all()
    assert ["no position supports" in str(w.message) for w in recwarn] == [True]


class Split(nn.Module):
    def forward(self, maps):
        return maps, maps


def test_what_poly_cam_refuses():
    net, x = Pyramid(), images(1)
    calls = Calls(net)
    convolution = net.stages[0][0]

    def explain(layers, **options):
        LayerPolyCAM(calls, layers).attribute(x, 1, **options)

    with pytest.raises(ValueError, match=r"different sizes.* got \(11, 14\) and \(11,"):
        explain([convolution, net.stages[0], net.stages[2]])
    assert sum(calls.rows) == 3  # the layers were seen, and nothing was scored
    with pytest.raises(ValueError, match='variant must be one of "insertion", "deleti'):
        explain(list(net.stages), variant="PCAM+")
    with pytest.raises(ValueError, match="relu_attributions must be True for several"):
        explain(list(net.stages), relu_attributions=False)
    with pytest.raises(ValueError, match="screening must be a share"):
        explain(list(net.stages), screening=0)
    net.split = Split()
    net.stages[1].register_forward_hook(lambda *args: net.split(args[2])[0])
    with pytest.raises(
        ValueError, match="layer must give one tensor each, got a tuple"
    ):
        explain([net.split, net.stages[2]])
