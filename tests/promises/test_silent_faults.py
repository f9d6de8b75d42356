"""What testers found wrong without a word, on networks whose right map is known."""

import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

from captum_iscam import RISE, LayerIntegratedScoreCAM, LayerScoreCAM
from captum_iscam.layers import check_spatial, default_layer
from captum_iscam.methods import METHODS, Options
from captum_iscam.metrics import (
    boxes_to_masks,
    complexity,
    parameter_randomization,
    road,
    road_most_relevant_first,
    sparseness,
    target_sensitivity,
)
from captum_iscam.targets import detection, multi_label
from captum_iscam.visualization import visualize


class Colour(nn.Module):
    """The logit of class c is the amount of colour c."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 3, 1, bias=False)
        self.features.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.pool = nn.AvgPool2d(4)
        self.eval()

    def forward(self, x):
        return self.pool(self.features(x)).mean((2, 3))


@pytest.fixture
def x():
    image = torch.zeros(1, 3, 32, 32)
    image[:, 0, 4:12, 4:12] = 1
    image[:, 1, 20:28, 20:28] = 1
    image[:, 2, 4:12, 20:28] = 1
    return image


class Timed(Colour):
    def forward(self, x, time):
        return super().forward(x) * time.view(-1, 1)


@pytest.mark.parametrize("method", [LayerScoreCAM, LayerIntegratedScoreCAM])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 1, 1)])
def test_an_input_of_one_position_is_not_masked(x, method, shape):
    net, time = Timed(), torch.full(shape, 100.0)[:, :1]
    fixed = method(lambda z: net(z, time), net.pool).attribute(x, target=1)

    maps = method(net, net.pool).attribute((x, time), target=1)

    torch.testing.assert_close(maps, fixed)
    assert maps[0, 0].argmax() == 5 * 8 + 5


class InPlace(Colour):
    def forward(self, x):
        return super().forward(x.sub_(0.1).div_(0.5))


@pytest.mark.filterwarnings("ignore:The score of example 0 is negative")
@pytest.mark.parametrize("name", METHODS)
def test_methods_by_name_change_no_input(x, name):
    net, before = InPlace(), x.clone()
    expected = METHODS[name].attribute(
        Again(net), net.pool, x.clone(), 1, Options(n_samples=4, n_masks=20)
    )

    found = METHODS[name].attribute(
        net, net.pool, x, 1, Options(n_samples=4, n_masks=20)
    )

    assert torch.equal(x, before)
    torch.testing.assert_close(found, expected)


class Again(nn.Module):
    """The network without writing to its input."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.eval()

    def forward(self, x):
        return self.net(x.clone())


# Normalised channels have no sum, by which XGrad-CAM divides.
@pytest.mark.filterwarnings("ignore:The map is zero everywhere")
@pytest.mark.parametrize("name", METHODS)
def test_methods_by_name_change_no_running_statistics(x, name):
    net = nn.Sequential(nn.BatchNorm2d(3), Colour()).eval()
    net[0].train()
    before = {key: value.clone() for key, value in net.state_dict().items()}

    with pytest.warns(UserWarning, match="training mode"):
        METHODS[name].attribute(
            net, net[1].pool, x, 1, Options(n_samples=4, n_masks=20)
        )

    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize(
    "look",
    [
        default_layer,
        lambda net, x: check_spatial(net, x, "pool"),
        lambda net, x: detection(
            lambda images: [
                {
                    "boxes": net(images[0][None])[:, :1] * torch.ones(1, 4),
                    "labels": torch.ones(1),
                    "scores": torch.ones(1),
                }
            ],
            x[0],
            torch.ones(4),
        ),
    ],
)
def test_looking_at_a_network_changes_no_input(x, look):
    before = x.clone()

    with suppress(TypeError, ValueError):  # the pretended detector may not please
        look(InPlace(), x)

    assert torch.equal(x, before)


def test_maps_of_as_many_targets_as_colours_are_not_summed_without_a_word(x):
    maps = RISE(Colour()).attribute(x, target=[[0, 1, 2]], n_masks=20)

    with pytest.warns(UserWarning, match=r"are summed.*maps\[:, t:t\+1\]"):
        visualize(x, {"RISE": maps})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        visualize(x, {"gradients": torch.randn(1, 3, 32, 32)})


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 0], torch.tensor([0, 1, 1]), torch.tensor([True, False, True]), [0.5], []],
)
def test_labels_that_mark_instead_of_naming_are_refused(labels):
    with pytest.raises(ValueError, match="labels must be indices of labels"):
        multi_label(nn.Linear(3, 3), labels)


@pytest.mark.parametrize("labels", [2, torch.tensor(2), [2], torch.tensor([2])])
def test_labels_of_every_integer_form_are_taken(labels):
    net, rows = nn.Linear(3, 4).eval(), torch.rand(5, 3)

    found = multi_label(net, labels)(rows)

    torch.testing.assert_close(found, net(rows)[:, 2].sigmoid())


@pytest.mark.parametrize(
    ("target", "other", "undefined"),
    [
        (1, 1, [True, True]),
        (torch.tensor([0, 1]), 1, [False, True]),
        ([0, 2], [1, 2], [False, True]),
        ([(0, 1), (0, 1)], [(0, 2), (0, 1)], [False, True]),
    ],
)
def test_a_class_is_not_compared_with_itself(target, other, undefined):
    def method(inputs, target):
        return torch.arange(32.0).view(2, 1, 4, 4)

    found = target_sensitivity(
        method, torch.rand(2, 1, 4, 4), target, other_target=other
    )

    assert found.isnan().tolist() == undefined


def test_shares_in_the_place_of_percentages_are_noticed(x):
    maps = torch.rand(1, 1, 8, 8)

    with pytest.warns(UserWarning, match="multiply them by 100"):
        road(Colour(), x, maps, 1, percentiles=(0.2, 0.4, 0.6))


@pytest.mark.parametrize("baseline", [np.float32(0.25), np.int64(1), 0.25])
def test_baselines_of_every_number_type_are_taken(x, baseline):
    net = Colour()
    expected = LayerScoreCAM(net, net.pool).attribute(
        x, target=1, baselines=torch.full_like(x, float(baseline))
    )

    found = LayerScoreCAM(net, net.pool).attribute(x, target=1, baselines=baseline)

    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("baseline", [[0.4, 0.4, 0.4], np.zeros(3)])
def test_a_colour_as_baseline_names_the_tensor(x, baseline):
    net = Colour()

    with pytest.raises(TypeError, match=r"for a colour torch\.tensor\(values\)"):
        LayerScoreCAM(net, net.pool).attribute(x, target=1, baselines=baseline)


@pytest.mark.parametrize("values", [[[0.0]], (1.0,), 0.0])
def test_maps_that_are_no_tensors_are_named(x, values):
    with pytest.raises(
        TypeError, match=r"maps must be tensors or arrays, got \w+ for 'a'"
    ):
        visualize(x, {"a": values})


def test_a_layer_of_complex_numbers_names_their_absolute_value(x):
    class Fourier(Colour):
        def __init__(self):
            super().__init__()
            self.spectrum = nn.Identity()

        def forward(self, x):
            return super().forward(self.spectrum(torch.fft.fft2(x)).abs())

    net = Fourier()

    with pytest.raises(TypeError, match=r"reshape_transform=torch\.abs"):
        LayerScoreCAM(net, net.spectrum).attribute(x, target=1)


def twin_of(net):
    other = type(net)()
    other.load_state_dict(net.state_dict())
    return other


@pytest.mark.parametrize("mode", ["cascading", "independent"])
@pytest.mark.parametrize("layers", [None, ["features"]])
def test_maps_that_ignore_the_randomised_model_are_noticed(x, mode, layers):
    net = Colour()
    other = twin_of(net)
    options = {"mode": mode, "layers": layers}
    fixed = torch.rand(1, 1, 8, 8)
    match = "the same, value for value.*explain model itself"
    for ignoring in (
        LayerScoreCAM(other, other.pool).attribute,
        lambda inputs, target: fixed,
    ):
        with pytest.warns(UserWarning, match=match):
            parameter_randomization(ignoring, net, x, 1, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = LayerScoreCAM(net, net.pool).attribute
        parameter_randomization(own, net, x, 1, **options)


NO_SEQUENCES = {
    "complexity": lambda x, value: complexity(x[:, :1], size=value),
    "sparseness": lambda x, value: sparseness(x[:, :1], size=value),
    "boxes_to_masks": lambda x, value: boxes_to_masks([[[0, 0, 2, 2]]], value),
    "boxes": lambda x, value: boxes_to_masks(value, (4, 4)),
    "road": lambda x, value: road(Colour(), x, x[:, :1], 1, percentiles=value),
    "road_most": lambda x, value: road_most_relevant_first(
        Colour(), x, x[:, :1], 1, percentiles=value
    ),
    "layers": lambda x, value: parameter_randomization(
        lambda inputs, target: inputs[:, :1], Colour(), x, 1, layers=value
    ),
}


@pytest.mark.parametrize("call", NO_SEQUENCES)
@pytest.mark.parametrize("value", [32, 0.5, "features", torch.tensor(3), [None], True])
def test_one_value_in_the_place_of_several_names_the_sequence(x, call, value):
    match = r"(size|boxes|percentiles|layers) must be a sequence of .* Pass "

    with pytest.raises(ValueError, match=match):
        NO_SEQUENCES[call](x, value)


@pytest.mark.parametrize("size", [[32, 32], np.array([32, 32]), torch.tensor([32, 32])])
def test_sequences_of_every_type_are_taken(x, size):
    maps = torch.rand(1, 1, 8, 8)

    assert complexity(maps, size=size) == complexity(maps, size=(32, 32))
    assert boxes_to_masks([[[0, 0, 2, 2]]], size).shape == (1, 1, 32, 32)
    shares = [20, 50.0] if isinstance(size, list) else size
    assert road(Colour(), x, maps, 1, percentiles=shares).isfinite()


class Sorting(nn.Module):
    """Sorts its inputs by brightness, as others do by length."""

    def __init__(self, kept):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Softplus())
        self.head = nn.Linear(8, 3)
        self.kept = kept
        self.eval()

    def forward(self, x):
        bright = x.flatten(1).sum(1)
        order = torch.arange(len(x)) if self.kept else bright.argsort(descending=True)
        return self.head(self.features(x[order]).mean((2, 3)))[order.argsort()]


# The others show the model other inputs than the layer's, or one at a time.
NOTICING = ("score-cam", "is-cam", "ss-cam", "poly-cam", "grad-cam++", "layer-cam")


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("name", NOTICING)
def test_a_model_that_sorts_its_inputs_is_noticed(name, kept):
    net = Sorting(kept)
    x = torch.rand(3, 3, 12, 12) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)

    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        METHODS[name].attribute(net, net.features, x, [0] * 3, Options(n_samples=2))

    said = any("changes places with another input" in str(w.message) for w in found)
    assert said != kept


@pytest.mark.parametrize("name", ["score-cam", "is-cam", "ss-cam", "poly-cam"])
def test_a_map_beyond_the_range_of_its_type_is_named(x, name):
    net = Colour()
    shown = torch.cat([x, x * 1e22])
    options = Options(score="identity", n_samples=5)

    with pytest.warns(UserWarning, match="not finite for example 1: .*double") as said:
        found = METHODS[name].attribute(net, net.pool, shown, 0, options)

    assert found[0].isfinite().all()
    assert sum("not finite" in str(one.message) for one in said) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The map is not finite")
        METHODS[name].attribute(net.double(), net.pool, shown.double(), 0, options)


def test_a_sum_of_masks_beyond_the_range_is_named(x):
    with pytest.warns(UserWarning, match="The map is not finite for example 0: "):
        RISE(lambda z: z.mean((2, 3)) * 0 + 3e38, score="identity").attribute(
            x, 0, n_masks=8
        )
