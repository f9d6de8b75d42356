"""Values of odd kinds, which became other values or another library's error."""

import textwrap
from unittest import mock

import numpy as np
import pytest
import torch
from reference.networks import ConvNet, images
from torch import nn

from captum_iscam import LayerAblationCAM, LayerCAM, LayerScoreCAM
from captum_iscam.attr import RandomMap
from captum_iscam.cli.results import Explained, as_image
from captum_iscam.layers import check_spatial, default_layer, spatial_layers
from captum_iscam.metrics import (
    boxes_to_masks,
    parameter_randomization,
    sensitivity_max,
)
from captum_iscam.targets import segmentation
from captum_iscam.visualization import overlay, visualize

IMAGE, MAP = torch.rand(3, 8, 8), torch.rand(1, 1, 4, 4)
EYE = np.eye(8)


@pytest.mark.parametrize("category", [True, torch.tensor(True), 1.0, None, [1], -1])
def test_the_class_of_a_segmentation_is_an_integer(category):
    with pytest.raises(ValueError, match="category must be an integer of at least 0"):
        segmentation(nn.Conv2d(3, 2, 1), category)


@pytest.mark.parametrize("kind", [np.int64(1), torch.tensor(1)])
def test_the_class_of_a_segmentation_may_be_of_any_integer_type(kind):
    model, region = nn.Conv2d(3, 2, 1).eval(), torch.ones(8, 8, dtype=torch.bool)

    scores = segmentation(model, kind, region)(IMAGE[None])

    torch.testing.assert_close(scores, segmentation(model, 1, region)(IMAGE[None]))


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((1.5, 0.4, 3.9, 2.6), (0, 3), (2, 4)),
        ((0.2, 0.2, 1.9, 1.9), (0, 2), (0, 2)),
        ((1, 2, 3, 4), (2, 4), (1, 3)),
    ],
)
def test_boxes_are_rounded_to_whole_pixels(box, rows, columns):
    expected = torch.zeros(1, 1, 4, 5, dtype=torch.bool)
    expected[..., slice(*rows), slice(*columns)] = True

    assert torch.equal(boxes_to_masks([[box]], (4, 5)), expected)


def test_a_box_that_rounds_to_nothing_is_refused():
    with pytest.raises(ValueError, match="boxes must cover at least one pixel"):
        boxes_to_masks([[(1.1, 1.1, 1.4, 1.4)]], (4, 4))


@pytest.mark.parametrize("of", ["image", "map"])
def test_the_mask_of_an_array_is_not_lost(of):
    masked = np.ma.masked_array(EYE, mask=True)
    given = (masked, EYE) if of == "image" else (EYE, masked)

    with pytest.raises(TypeError, match="must be a plain array, got a masked one"):
        overlay(*given)


@pytest.mark.parametrize("kind", [">f4", ">f8", ">i2", np.longdouble, np.float16])
def test_arrays_of_any_real_type_are_drawn_alike(kind):
    found = overlay(EYE.astype(kind), EYE.astype(kind))

    np.testing.assert_array_equal(found, overlay(EYE, EYE))


def test_a_complex_baseline_loses_no_imaginary_part():
    net, x = ConvNet(), images(1).float()

    with pytest.raises(TypeError, match=r"baselines must be real .* got torch.complex"):
        LayerScoreCAM(net, net.features).attribute(
            x, target=1, baselines=torch.full_like(x, 2, dtype=torch.complex64)
        )


@pytest.mark.parametrize("title", ["x" * 3000, "word " * 600, "a" * 200 + " b" * 400])
def test_a_long_title_is_soon_wrapped(title):
    with mock.patch.object(textwrap, "wrap", side_effect=textwrap.wrap) as wrapped:
        figure = visualize(IMAGE, {"map": MAP}, title=title)

    assert wrapped.call_count < 100
    assert figure.axes[0].get_title().replace("\n", "").replace(" ", "") == (
        title.replace(" ", "")
    )


def test_bytes_of_a_name_that_are_no_text_are_drawn():
    figure = visualize(IMAGE, {"map": MAP}, title="a \udcff")

    figure.canvas.draw()
    assert figure.axes[0].get_title() == "a ?"


@pytest.mark.parametrize("frame", [(0, 0, 0.1, 0.1), (3.2, 3.2, 3.4, 7.9)])
def test_a_frame_of_a_part_of_a_pixel_is_marked(frame):
    assert (overlay(IMAGE, MAP, frame=frame) != overlay(IMAGE, MAP)).any()


@pytest.mark.parametrize("value", [-1.0, 0.0, 2.0])
def test_an_image_of_one_value_is_drawn_where_its_range_is_not_known(value):
    inputs = torch.full((3, 4, 4), value)

    drawn = np.asarray(as_image(Explained(inputs, None, None, None, None)))

    assert drawn.min() == drawn.max()


def test_a_map_without_values_is_named():
    with pytest.raises(TypeError, match="got one of the device meta"):
        overlay(IMAGE, MAP.to("meta"))


def test_sparse_rows_of_examples_are_named():
    net = ConvNet()

    with pytest.raises(TypeError, match="must hold dense tensors for rows of examples"):
        LayerScoreCAM(lambda x, rows: net(x), net.features).attribute(
            images(2).float(),
            target=1,
            additional_forward_args=torch.eye(2).to_sparse(),
        )


@pytest.mark.parametrize("kind", ["meta", "sparse"])
def test_a_target_without_values_of_its_own_is_named(kind):
    net, target = ConvNet(), torch.ones(2, dtype=torch.long)
    target = target.to_sparse() if kind == "sparse" else target.to(kind)

    with pytest.raises(TypeError, match="target must be a dense tensor, got "):
        LayerScoreCAM(net, net.features).attribute(images(2).float(), target=target)


@pytest.mark.parametrize("method", [LayerScoreCAM, LayerCAM, LayerAblationCAM])
def test_a_layer_inside_of_vmap_is_named(method):
    net = ConvNet()

    def each(x):
        return torch.vmap(lambda one: net(one[None])[0])(x)

    with pytest.raises(ValueError, match=r"layer must run outside of torch\.vmap"):
        method(each, net.features).attribute(images(2).float(), target=1)


class Attention(nn.Module):
    """Two heads; its norm stands before or behind the axis of the heads."""

    def __init__(self, heads_first):
        super().__init__()
        self.value, self.softmax = nn.Linear(6, 6), nn.Softmax(-1)
        self.norm, self.heads_first = nn.LayerNorm(3), heads_first

    def forward(self, tokens):
        heads = self.value(tokens).unflatten(-1, (2, 3))
        heads = self.norm(heads.transpose(1, 2) if self.heads_first else heads)
        heads = heads if self.heads_first else heads.transpose(1, 2)
        weights = self.softmax(heads @ heads.mT)
        return (weights @ heads).transpose(1, 2).flatten(2)


class Vision(nn.Module):
    """A small ViT of 16 patches and a class token."""

    def __init__(self, heads_first=True):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.attention = nn.Conv2d(3, 6, 4, 4), Attention(heads_first)
        self.head = nn.Linear(6, 4)
        self.eval()

    def forward(self, x):
        tokens = self.patches(x).flatten(2).mT
        tokens = torch.cat([tokens.mean(1, True), tokens], 1)
        return self.head((tokens + self.attention(tokens))[:, 0])


@pytest.mark.parametrize("heads_first", [True, False])
@pytest.mark.parametrize("name", ["softmax", "norm"])
@pytest.mark.parametrize("method", [LayerScoreCAM, LayerCAM, LayerAblationCAM])
@pytest.mark.filterwarnings("ignore:The map is zero", "ignore:The score of example")
def test_the_heads_of_an_attention_are_no_channels(heads_first, name, method):
    net, x = Vision(heads_first), torch.rand(1, 3, 16, 16)

    with pytest.warns(UserWarning, match="17 tokens: it is probably inside of an atte"):
        method(net, getattr(net.attention, name)).attribute(x, target=1)
    assert spatial_layers(net, x) == ["patches"]
    with pytest.raises(ValueError, match="got the heads of an attention, the shape"):
        check_spatial(net, x, f"attention.{name}")
    with pytest.raises(ValueError, match="Name a layer that has one: patches;"):
        default_layer(net, x)


class Hybrid(Vision):
    """Convolutions in front of 64 tokens, with as many channels."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU())
        self.patches = nn.Conv2d(64, 6, 2, 2)

    def forward(self, x):
        return super().forward(self.stem(x))


class Embedding(nn.Module):
    """Maps of 64 channels, 64 wide and high, and then 64 tokens."""

    def __init__(self):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 64, 3, padding=1), nn.ReLU()
        self.patches = nn.Conv2d(64, 6, 8, 8)

    def forward(self, x):
        return self.patches(self.relu(self.conv(x))).flatten(2).mT


def test_maps_inside_of_a_module_that_ends_in_tokens_are_listed():
    net = nn.Sequential(Embedding(), nn.Linear(6, 4)).eval()

    found = spatial_layers(net, torch.rand(1, 3, 64, 64))

    assert found == ["0.conv", "0.relu", "0.patches"]


@pytest.mark.filterwarnings("ignore:The map is zero")
def test_channels_and_sides_in_front_of_an_attention_are_none_of_it():
    net, x = Hybrid(), torch.rand(1, 3, 16, 16)

    LayerScoreCAM(net, net.stem[1]).attribute(x, target=1)

    assert spatial_layers(net, x) == ["stem.0", "stem.1", "stem", "patches"]


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_seed_gives_the_same_numbers_under_any_default_type(kind):
    net, x = ConvNet().float().eval(), images(2).float()

    def drawn():
        seeded = torch.Generator().manual_seed(0)
        maps = RandomMap(net, net.features, generator=seeded).attribute(x, target=1)
        explain = LayerCAM(net, net.features).attribute
        found = parameter_randomization(explain, net, x, 1, generator=seeded)
        noise = sensitivity_max(explain, x, 1, n_perturb_samples=2, generator=seeded)
        return maps.double(), found.rank_correlation.double(), noise.double()

    expected = drawn()
    torch.set_default_dtype(kind)
    try:
        found = drawn()
    finally:
        torch.set_default_dtype(torch.float32)

    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.01)


class Scaled(nn.Sequential):
    """A module with a parameter of its own, whose values are equal, and children."""

    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.gamma = nn.Parameter(torch.ones(4, 1, 1))

    def forward(self, x):
        return super().forward(x) * self.gamma


def test_a_module_is_randomised_without_those_below_it():
    torch.manual_seed(0)
    net = nn.Sequential(Scaled(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    options = {"generator": torch.Generator().manual_seed(0), "mode": "independent"}

    found = parameter_randomization(
        LayerCAM(net, net[0]).attribute, net, torch.rand(1, 3, 8, 8), 1, **options
    )

    assert found.layers == ["0.0", "0"]
    assert found.rank_correlation[0] < 1
    assert found.rank_correlation[1] == 1
