import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from captum_iscam.visualization import (
    Row,
    display_image,
    upsample,
    visualize,
    visualize_rows,
)

GREY = torch.full((3, 32, 32), 0.5)


def corner(value=1.0, size=4):
    """A map that is high in its upper left corner alone."""
    values = torch.zeros(1, 1, size, size)
    values[..., 0, 0] = value
    return values


def drawn(figure, panel=1):
    """The colours of a panel, without its title, as an array of pixels."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())
    box = figure.axes[panel].get_window_extent()
    top, bottom = (pixels.shape[0] - int(edge) for edge in (box.y1, box.y0))
    inner = pixels[top + 4 : bottom - 4, int(box.x0) + 4 : int(box.x1) - 4]
    return inner[..., :3].astype(int)


def heat(figure, panel=1):
    """The values that a panel colours, from 0 to 1."""
    return figure.axes[panel].images[-1].get_array()


def part(pixels, row, column):
    """Mean colour around a place given in shares of height and width."""
    y, x = int(row * pixels.shape[0]), int(column * pixels.shape[1])
    return pixels[max(y - 5, 0) : y + 5, max(x - 5, 0) : x + 5].mean((0, 1))


@pytest.mark.parametrize(
    ("size", "mode"), [((9,), "linear"), ((8, 9), "bilinear"), ((8, 9, 7), "trilinear")]
)
def test_upsample_is_linear_without_aligned_corners(size, mode):
    maps = torch.rand(2, 1, *[4] * len(size))

    enlarged = upsample(maps, torch.rand(2, 3, *size))

    expected = F.interpolate(maps, size, mode=mode, align_corners=False)
    torch.testing.assert_close(enlarged, expected)


def test_upsample_leaves_maps_of_the_right_size_alone():
    maps = torch.rand(2, 3, 8, 9)

    assert upsample(maps, (8, 9)) is maps


def test_upsample_names_maps_of_another_rank():
    with pytest.raises(ValueError, match="attributions must have the spatial dimen"):
        upsample(torch.rand(2, 7, 7), torch.rand(2, 3, 14, 14))


def test_display_image_takes_normalisation_back():
    image = torch.rand(3, 5, 6)
    mean, std = [0.4, 0.5, 0.6], [0.1, 0.2, 0.3]
    column = torch.tensor
    normalised = (image - column(mean).view(-1, 1, 1)) / column(std).view(-1, 1, 1)

    shown = display_image(normalised.unsqueeze(0), mean, std)

    np.testing.assert_allclose(shown, image.permute(1, 2, 0).numpy(), atol=1e-6)


def test_display_image_shows_one_channel_as_grey():
    shown = display_image(torch.full((1, 4, 4), 0.3))

    assert shown.shape == (4, 4, 3)
    np.testing.assert_allclose(shown, 0.3, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.randn(3, 8, 8) * 3, r"image must lie in \[0, 1\], got values from -"),
        (torch.full((3, 8, 8), torch.nan), r"image must lie in \[0, 1\]"),
        (torch.rand(2, 3, 8, 8), r"image must have the shape .* got \(2, 3, 8, 8\)"),
        (torch.rand(8), "image must have the shape"),
    ],
)
def test_display_image_refuses_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        display_image(image)


def test_the_overlay_is_yellow_where_the_map_is_high_and_the_image_elsewhere():
    pixels = drawn(visualize(GREY, {"map": corner()}))

    high, low = part(pixels, 0.05, 0.05), part(pixels, 0.9, 0.9)
    assert high[0] > high[2] + 50
    np.testing.assert_allclose(low, 127.5, atol=1)


def test_the_first_panel_is_the_image_itself():
    image = torch.zeros(3, 32, 32)
    image[0, :, :16] = 1.0

    pixels = drawn(visualize(image, {"map": corner()}), panel=0)

    np.testing.assert_allclose(part(pixels, 0.5, 0.2), [255, 0, 0], atol=3)
    np.testing.assert_allclose(part(pixels, 0.5, 0.8), [0, 0, 0], atol=3)


def test_maps_of_any_size_are_drawn_like_the_upsampled_map():
    small, large = corner(), upsample(corner(), GREY.unsqueeze(0))

    figure = visualize(GREY, {"small": small, "large": large})

    np.testing.assert_allclose(heat(figure, 1), heat(figure, 2), atol=1e-6)


@pytest.mark.parametrize(
    ("of_map", "of_image"),
    [((7, 7), (256, 339)), ((10, 7), (224, 320)), ((32, 32), (32, 48))],
)
def test_a_map_of_another_shape_than_the_image_is_warned_of(of_map, of_image):
    maps = {"of a crop": torch.rand(1, 1, *of_map)}

    with pytest.warns(UserWarning, match="'of a crop' of .* is stretched"):
        visualize(torch.rand(3, *of_image), maps)


@pytest.mark.parametrize(
    "size", [(224, 339), (341, 256), (427, 640), (667, 1000), (299, 299), (231, 224)]
)
@pytest.mark.parametrize("name", ["squeezenet1_1", "alexnet", "vgg11", "resnet18"])
def test_a_map_of_the_shape_that_a_layer_gives_is_not(name, size, recwarn):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
        layers = getattr(model, "features", None) or nn.Sequential(
            *list(model.children())[:-2]
        )
        places = layers(torch.empty(1, 3, *size)).shape[2:]

    visualize(torch.rand(3, *size), {"map": torch.rand(1, 1, *places)})

    assert not recwarn.list


@pytest.mark.parametrize("size", [(1, 1), (8, 64)])
def test_a_single_place_and_a_map_of_the_image_s_size_are_not(size, recwarn):
    visualize(torch.rand(3, 8, 64), {"map": torch.rand(1, 1, *size)})

    assert not recwarn.list


def test_tiny_values_are_drawn_like_large_ones():
    figure = visualize(GREY, {"tiny": corner(1e-9), "large": corner(1e3)})

    np.testing.assert_allclose(heat(figure, 1), heat(figure, 2), atol=1e-6)


def test_a_zero_map_is_flat_in_the_lowest_colour_and_says_so():
    figure = visualize(GREY, {"map": torch.zeros(4, 4), "other": corner()})

    pixels = drawn(figure, 1)
    assert figure.axes[1].get_title() == "map (zero everywhere)"
    assert pixels.std((0, 1)).max() == 0
    np.testing.assert_array_equal(pixels[-1, -1], drawn(figure, 2)[-1, -1])


def test_a_map_without_the_wanted_sign_says_so():
    figure = visualize(GREY, {"map": -corner()})

    assert figure.axes[1].get_title() == "map (nothing positive everywhere)"
    assert drawn(figure, 1).std((0, 1)).max() == 0


def test_signed_maps_show_both_signs():
    values = corner() - corner().flip(-1)

    pixels = drawn(visualize(GREY, {"map": values}, sign="all"))

    for_it, against = part(pixels, 0.05, 0.05), part(pixels, 0.05, 0.95)
    assert for_it[0] > for_it[2] + 30
    assert against[2] > against[0] + 30


@pytest.mark.parametrize("sign", ["negative", "absolute_value"])
def test_negative_values_are_drawn_on_request(sign):
    pixels = drawn(visualize(GREY, {"map": -corner()}, sign=sign))

    high = part(pixels, 0.05, 0.05)
    assert high[0] > high[2] + 50


def test_one_scale_for_all_maps_compares_them():
    maps = {"whole": corner(1.0), "half": corner(0.5)}

    figure = visualize(GREY, maps, vmax=1.0)

    whole, half = figure.axes[1].images[-1], figure.axes[2].images[-1]
    assert whole.get_clim() == half.get_clim() == (0.0, 1.0)
    assert whole.get_array().max() == pytest.approx(1.0)
    assert half.get_array().max() == pytest.approx(0.5)


def test_a_map_of_many_equal_values_keeps_its_scale():
    # Where the running sum that Captum compares with its own total is rounded.
    values = torch.full((97, 89), 0.1)

    figure = visualize(torch.rand(3, 97, 89), {"map": values}, outlier_perc=0.0)

    np.testing.assert_allclose(figure.axes[1].images[-1].get_array(), 1.0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_maps_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match=r'maps must be finite, .* in "broken"'):
        visualize(GREY, {"good": corner(), "broken": corner(bad)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sign": "plus"}, "sign must be one of .* got 'plus'"),
        ({"vmin": 0.5}, "vmax must be above vmin"),
        ({"vmin": 2.0, "vmax": 1.0}, "vmax must be above vmin, got vmin 2.0"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        visualize(GREY, {"map": corner()}, **options)


def test_a_batch_of_maps_is_refused():
    with pytest.raises(ValueError, match=r'maps must .* got \(2, 1, 4, 4\) for "map"'):
        visualize(GREY, {"map": torch.rand(2, 1, 4, 4)})


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (3, 4, 4), (1, 2, 32, 32)])
def test_maps_of_several_targets_are_refused_with_the_way_to_one(shape):
    with pytest.raises(ValueError, match=r"one channel.* Pass maps\[:, t:t\+1\]"):
        visualize(GREY, {"map": torch.rand(shape)})


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 3, 32, 32)])
def test_a_map_of_the_images_shape_is_summed_over_its_channels(shape):
    values = torch.rand(3, 32, 32) - 0.1

    figure = visualize(GREY, {"each": values.view(shape), "sum": values.sum(0)})

    np.testing.assert_allclose(heat(figure, 1), heat(figure, 2), atol=1e-6)


def test_rows_may_have_different_lengths():
    rows = [
        Row("first", GREY, {"a": corner(), "b": corner()}),
        Row("second", GREY, {"c": corner()}),
    ]

    figure = visualize_rows(rows)

    titles = [panel.get_title() for panel in figure.axes]
    assert titles == ["first", "a", "b", "second", "c"]


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="rows must hold at least one row"):
        visualize_rows([])


def test_long_titles_stay_inside_the_figure():
    title = "curly-coated retriever and a Chesapeake Bay retriever\np = 0.93"

    figure = visualize(GREY, {title: corner()}, title=title)

    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for panel in figure.axes:
        box = panel.title.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y1 <= height


def test_a_colour_bar_is_drawn_on_request():
    figure = visualize(GREY, {"map": corner()}, show_colorbar=True)

    figure.canvas.draw()
    bar = figure.axes[2]
    assert bar.get_xlabel() == "attribution (relative)"
    assert [text.get_text() for text in bar.get_xticklabels()] == ["0", "0.5", "1"]


def test_pyplot_knows_nothing_of_the_figure():
    before = plt.get_fignums()

    visualize(GREY, {"map": corner()})

    assert plt.get_fignums() == before


@pytest.mark.parametrize(
    ("image", "maps", "message"),
    [
        (
            "cat.png",
            {"map": torch.rand(1, 1, 2, 2)},
            "image must be a tensor, an array or a PIL image, got str",
        ),
        (torch.rand(3, 8, 8), torch.rand(1, 1, 2, 2), "maps must be a mapping"),
        (torch.rand(3, 8, 8), [torch.rand(1, 1, 2, 2)], "maps must be a mapping"),
    ],
)
def test_what_is_no_tensor_or_mapping_is_named(image, maps, message):
    with pytest.raises(TypeError, match=message):
        visualize(image, maps)
