import io
from unittest import mock

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torchvision
from captum.attr import visualization
from matplotlib.image import BboxImage
from PIL import Image
from torch import nn

from captum_iscam.visualization import (
    Row,
    colours,
    display_image,
    overlay,
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


def test_the_overlay_is_yellow_where_the_map_is_high_and_the_image_elsewhere():
    pixels = drawn(visualize(GREY, {"map": corner()}))

    high, low = part(pixels, 0.05, 0.05), part(pixels, 0.9, 0.9)
    assert high[0] > high[2] + 50
    np.testing.assert_allclose(low, 127.5, atol=1)


def test_a_layout_that_pyplot_uses_by_default_moves_no_panel():
    places = []
    for used in (False, True):
        with plt.rc_context({"figure.constrained_layout.use": used}):
            figure = visualize(torch.rand(3, 8, 8), {"IS-CAM": torch.rand(1, 1, 2, 2)})
            figure.savefig(io.BytesIO())  # warns of a layout that finds no grid
        places.append([panel.get_position().bounds for panel in figure.axes])

    assert places[0] == places[1]


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
        ({"alpha_overlay": 1.5}, "alpha_overlay must be from 0 to 1, got 1.5"),
        ({"outlier_perc": 150}, "outlier_perc must be from 0 to 100, got 150"),
        ({"outlier_perc": float("nan")}, "outlier_perc must be from 0 to 100"),
        ({"cmap": "jett"}, "cmap must be the name .* got 'jett'"),
        ({"vmin": 2.0, "vmax": 1.0}, "vmax must be above vmin, got vmin 2.0"),
        ({"vmin": -1e308, "vmax": 1e308}, "vmax must be above vmin"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        visualize(GREY, {"map": corner()}, **options)


@pytest.mark.parametrize("share", [0, 100])
def test_a_map_of_one_place_is_drawn_with_any_share_of_outliers(share):
    lone = torch.zeros(1, 1, 4, 6)
    lone[..., 1, 2] = 1.0

    figure = visualize(GREY, {"map": lone}, outlier_perc=share)

    assert len(figure.axes) == 2


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


@pytest.mark.parametrize(
    ("count", "lines"), [(0, [0]), (8, [8]), (9, [5, 4]), (17, [6, 6, 5])]
)
def test_many_maps_take_several_lines_each_with_the_image(count, lines):
    maps = {f"map {number}": corner() for number in range(count)}

    figure = visualize(GREY, maps)

    titles = [panel.get_title() for panel in figure.axes]
    names = iter(maps)
    expected = [["input"] + [next(names) for _ in range(n)] for n in lines]
    assert titles == [text for line in expected for text in line]
    tops = [panel.get_position().y0 for panel in figure.axes]
    assert len({round(top, 6) for top in tops}) == len(lines)


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


def test_the_lines_of_a_title_are_even():
    title = "mean of the channels, knows no class, and nothing else"

    found = visualize(GREY, {title: corner(), "": corner()}).axes[1].get_title()

    assert found == "mean of the channels, knows\nno class, and nothing else"


def test_a_colour_bar_is_drawn_on_request():
    figure = visualize(GREY, {"map": corner()}, show_colorbar=True)

    (bar,) = figure.findobj(BboxImage)
    np.testing.assert_allclose(bar.get_array()[0], np.linspace(0, 1, 256))
    assert bar.get_cmap() is figure.axes[1].images[-1].get_cmap()
    written = ["0", "0.5", "1", "attribution (relative)"]
    assert [text.get_text() for text in figure.texts] == written


def test_a_colour_bar_has_the_colours_of_the_values_under_its_numbers():
    figure = visualize(GREY, {"m": corner()}, vmin=-1.0, vmax=3.0, show_colorbar=True)

    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    (bar,) = figure.findobj(BboxImage)
    box = bar.get_window_extent()
    row = pixels[len(pixels) - round((box.y0 + box.y1) / 2)]
    numbers = [float(text.get_text()) for text in figure.texts[:3]]
    assert numbers == [-1, 1, 3]
    shown = [row[round(x)] for x in (box.x0 + 2, (box.x0 + box.x1) / 2, box.x1 - 2)]
    expected = 255 * colours("inferno", 3)
    np.testing.assert_allclose(shown, expected, atol=6)


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


@pytest.mark.parametrize("sign", ["positive", "negative", "absolute_value", "all"])
def test_captum_called_directly_colours_the_same_values(sign):
    image, maps = torch.rand(3, 40, 60), torch.randn(1, 1, 5, 7)

    _, panel = visualization.visualize_image_attr(
        upsample(maps, (40, 60))[0].permute(1, 2, 0).numpy(),
        display_image(image),
        method="blended_heat_map",
        sign=sign,
        use_pyplot=False,
    )

    ours = heat(visualize(image, {"map": maps}, sign=sign))
    np.testing.assert_allclose(panel.images[-1].get_array(), ours, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 8, 8), (1, 1, 8, 8), (8, 8)])
def test_maps_of_a_volume_over_an_image_are_refused(shape):
    with pytest.raises(ValueError, match="maps must have the dimensions of the image"):
        overlay(torch.rand(shape), torch.rand(1, 1, 4, 8, 8))


@pytest.mark.filterwarnings("error")
def test_values_beyond_the_smallest_scale_have_the_last_colour():
    found = overlay(GREY, torch.rand(1, 1, 4, 4) + 1, vmax=1e-320)

    np.testing.assert_array_equal(found, overlay(GREY, torch.ones(4, 4), vmax=1.0))


def test_every_map_goes_through_captum():
    signal, volume = torch.rand(1, 2, 50), torch.rand(1, 1, 4, 8, 8)
    with mock.patch.object(
        visualization, "visualize_image_attr", wraps=visualization.visualize_image_attr
    ) as drawing:
        visualize(GREY, {"a": corner(), "zero": torch.zeros(2, 2)})
        visualize(signal, {"a": torch.rand(1, 1, 9)})
        visualize(volume, {"a": torch.rand(1, 1, 2, 2, 2)})
        overlay(GREY, corner())

    methods = [call.kwargs["method"] for call in drawing.call_args_list]
    assert methods.count("original_image") == 2
    assert methods.count("blended_heat_map") == 4
    assert methods.count("heat_map") == 1


def test_the_photograph_keeps_its_colours():
    image = torch.zeros(3, 32, 32)
    image[2] = 1.0

    pixels = drawn(visualize(image, {"map": corner()}))

    np.testing.assert_allclose(part(pixels, 0.9, 0.9), [0, 0, 255], atol=1)


def test_opacity_follows_the_map():
    values = torch.linspace(0, 1, 32).repeat(32, 1)

    figure = visualize(GREY, {"map": values}, vmax=1.0, alpha_overlay=0.6)

    alpha = figure.axes[1].images[-1].get_alpha()
    np.testing.assert_allclose(alpha, 0.6 * values, atol=1e-6)


def test_the_overlay_has_the_size_and_the_colours_of_the_figure():
    image = torch.rand(3, 30, 50)
    values = torch.linspace(0, 1, 50).repeat(30, 1)

    pixels = overlay(image, values, vmax=1.0, cmap="turbo")

    shown = display_image(image)
    alpha = 0.8 * values.numpy()[..., None]
    table = colours("turbo")[np.minimum(values.numpy() * 256, 255).astype(int)]
    expected = 255 * ((1 - alpha) * shown + alpha * table)
    assert pixels.shape == (30, 50, 3)
    np.testing.assert_allclose(pixels, expected, atol=1.01)


def test_the_overlay_of_zeros_is_the_image():
    image = (torch.rand(3, 20, 20) * 255).byte()

    pixels = overlay(image, torch.zeros(2, 2))

    np.testing.assert_array_equal(pixels, image.permute(1, 2, 0))


def test_the_frame_is_marked_on_light_and_dark_images():
    for level in (0, 255):
        image = Image.new("RGB", (40, 40), (level,) * 3)
        pixels = overlay(image, torch.zeros(2, 2), frame=(10, 10, 30, 30))
        changed = (pixels != level).any(-1)
        assert changed[9:12, 20].any()
        assert not changed[14:26, 14:26].any()
        assert not changed[:8].any()


def test_a_frame_is_drawn_in_each_panel():
    figure = visualize(GREY, {"map": corner()}, frame=(4, 4, 20, 20))

    boxes = [panel.patches[-1].get_bbox().extents for panel in figure.axes]
    np.testing.assert_allclose(boxes, [[3.5, 3.5, 19.5, 19.5]] * 2)


def test_a_notebook_shows_the_figure_once():
    formatters = pytest.importorskip("IPython.core.formatters")

    data, _ = formatters.DisplayFormatter().format(visualize(GREY, {"map": corner()}))

    assert set(data) == {"text/plain", "image/png"}
    assert data["image/png"].startswith(b"\x89PNG")
    assert plt.get_fignums() == []


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_a_figure_is_written_in_every_format(kind):
    stream = io.BytesIO()

    visualize(GREY, {"IS-CAM $x": corner()}, title="a <cat>").savefig(
        stream, format=kind, dpi=72
    )

    if kind == "svg":
        text = stream.getvalue().decode()
        assert ">IS-CAM $x</text>" in text
        assert ">a &lt;cat&gt;</text>" in text
        assert text.count("<image") == 2
    elif kind == "pdf":
        assert stream.getvalue().startswith(b"%PDF")
        assert b"/TrueType" in stream.getvalue() or b"/Type0" in stream.getvalue()
    else:
        assert Image.open(stream).width == int(72 * 5.24)


LONG = "Donaudampfschifffahrtsgesellschaft, curly-coated\np = 0.93"


@pytest.mark.parametrize("size", [(32, 32), (40, 200), (300, 60), (224, 224)])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_nothing_collides(size, count):
    image = torch.rand(3, *size)
    maps = {f"{n} {LONG}": torch.rand(1, 1, *size) for n in range(count)}
    rows = [Row(LONG, image, maps), Row("b", image.flip(1), maps)]

    figure = visualize_rows(rows, show_colorbar=True)

    figure.canvas.draw()
    assert len(figure.axes) == 2 + 2 * count
    boxes = [panel.get_window_extent() for panel in figure.axes]
    boxes += [panel.title.get_window_extent() for panel in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    boxes += [bar.get_window_extent() for bar in figure.findobj(BboxImage)]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0
        assert box.x1 <= figure.bbox.x1 + 1
        assert figure.bbox.y0 <= box.y0
        assert box.y1 <= figure.bbox.y1 + 1
        assert box.count_overlaps([b.shrunk(0.96, 0.96) for b in boxes[:index]]) == 0


@pytest.mark.parametrize("size", [(64, 64), (40, 200), (300, 60), (1000, 1000)])
def test_panels_fill_the_figure_but_for_a_small_gap(size):
    figure = visualize(torch.rand(3, *size), {n: torch.ones(size) for n in "abc"})

    lefts, rights = (
        np.array([(p.get_position().x0, p.get_position().x1) for p in figure.axes]).T
        * figure.get_figwidth()
    )
    gaps = [*(lefts[1:] - rights[:-1]), lefts[0], figure.get_figwidth() - rights[-1]]
    np.testing.assert_allclose(gaps, 0.08, atol=1e-6)
    for panel in figure.axes:
        panel.apply_aspect()
        drawn_box, given = panel.get_window_extent(), panel.get_position(original=True)
        assert drawn_box.width / figure.bbox.width == pytest.approx(given.width)


def test_one_panel_is_drawn_without_maps():
    assert len(visualize(GREY, {}).axes) == 1


def test_a_signal_is_a_line_over_its_map():
    signal = torch.stack([torch.linspace(-3, 5, 100), torch.zeros(100)])[None]
    maps = torch.zeros(1, 1, 10)
    maps[..., 9] = 1

    figure = visualize(signal, {"map": maps}, show_colorbar=True)

    panel = figure.axes[1]
    assert [len(line.get_xdata()) for line in panel.lines] == [100, 100]
    assert heat(figure).shape == (1, 100)
    assert heat(figure)[0, 97] == pytest.approx(1)
    assert panel.images[0].get_extent() == [-0.5, 99.5, 0, 2]


@pytest.mark.parametrize("shape", [(1, 2, 60), (2, 60)])
@pytest.mark.parametrize("of_map", [(1, 1, 6), (1, 6), (6,)])
def test_forms_of_a_signal_are_drawn_alike(shape, of_map):
    signal, values = torch.rand(shape), torch.rand(6)

    shown = heat(visualize(signal, {"map": values.view(of_map)}))

    expected = heat(visualize(signal.view(1, 2, 60), {"map": values.view(1, 1, 6)}))
    np.testing.assert_allclose(shown, expected)


@pytest.mark.parametrize(
    ("signal", "frame", "message"),
    [
        (torch.full((1, 2, 9), torch.nan), None, "image must be finite, got NaN"),
        (torch.rand(1, 2, 9), (0, 0, 4, 4), "frame must be None for a signal"),
    ],
)
def test_a_signal_that_cannot_be_drawn_is_named(signal, frame, message):
    with pytest.raises(ValueError, match=message):
        visualize(signal, {"map": torch.rand(1, 1, 3)}, frame=frame)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_is_drawn_as_its_strongest_slice(axis):
    volume, maps = torch.rand(1, 1, 6, 8, 10), torch.zeros(1, 1, 6, 8, 10)
    maps[0, 0, 2, 5, 7] = 1
    index = (2, 5, 7)[axis]

    figure = visualize(volume, {"map": maps}, slice_axis=axis)

    assert figure.axes[0].get_title() == f"input\nslice {index} of {(6, 8, 10)[axis]}"
    np.testing.assert_allclose(heat(figure), maps[0, 0].select(axis, index))
    shown = figure.axes[0].images[0].get_array()[..., 0]
    expected = volume[0, 0].select(axis, index).mul(255).int()
    np.testing.assert_array_equal(shown, expected)


def test_a_slice_of_a_volume_can_be_chosen():
    volume, maps = torch.rand(1, 6, 8, 10), torch.rand(1, 1, 3, 4, 5)

    title = visualize(volume, {"map": maps}, slice_index=4).axes[0].get_title()

    assert title == "input\nslice 4 of 6"
    zeros = {"map": torch.zeros(1, 1, 3, 4, 5)}
    assert "slice 3 of 6" in visualize(volume, zeros).axes[0].get_title()
    with pytest.raises(ValueError, match="slice_index must be from 0 to 5, got 6"):
        visualize(volume, {"map": maps}, slice_index=6)
    with pytest.raises(ValueError, match="slice_axis must be 0, 1 or 2, got 3"):
        visualize(volume, {"map": maps}, slice_axis=3)


def test_the_colour_table_is_matplotlib_s():
    np.testing.assert_allclose(
        colours(n=9), plt.colormaps["inferno"](np.linspace(0, 1, 9))[:, :3]
    )
    with pytest.raises(ValueError, match="cmap must be the name of a colour map"):
        colours("infreno")


@pytest.mark.parametrize("draw", ["visualize", "overlay"])
@pytest.mark.parametrize(
    ("frame", "rule"),
    [
        ((4, 20, 4, 20), "left below right and top below bottom"),
        ((4, 20, 20, 4), "left below right and top below bottom"),
        ((20, 4, 4, 20), "left below right and top below bottom"),
        ((4, 4, 4, 20), "left below right and top below bottom"),
        ((40, 4, 60, 20), "overlap the image, 32 wide and 32 high"),
        ((4, 32, 20, 60), "overlap the image, 32 wide and 32 high"),
        ((-20, 4, 0, 20), "overlap the image, 32 wide and 32 high"),
        ((4, 4, float("nan"), 20), "four finite numbers"),
        ((4, 4, float("inf"), 20), "four finite numbers"),
        ((4, 4, 20), "four finite numbers"),
        ((4, 4, 20, 20, 20), "four finite numbers"),
        (("4", "4", "20", "20"), "four finite numbers"),
        ("4,4,20,20", "four finite numbers"),
        ((4, 4, None, 20), "four finite numbers"),
        ((True, True, 20, 20), "four finite numbers"),
        (20, "four finite numbers"),
    ],
)
def test_a_frame_that_marks_no_part_of_the_image_is_named(draw, frame, rule):
    given = corner() if draw == "overlay" else {"map": corner()}

    with pytest.raises(ValueError, match=f"^frame must .*{rule}.*, got .*left, top"):
        {"overlay": overlay, "visualize": visualize}[draw](GREY, given, frame=frame)


@pytest.mark.parametrize(
    "frame",
    [
        [4, 4, 20, 20],
        np.array([4.0, 4.0, 20.0, 20.0]),
        torch.tensor([4, 4, 20, 20]),
        (-10, -10, 50, 50),
        (-10, 4, 1, 20),
    ],
)
def test_a_frame_is_any_four_numbers_that_reach_the_image(frame):
    panel = visualize(GREY, {"map": corner()}, frame=frame).axes[1]
    assert len(panel.patches) == 2  # its edge is one
    assert overlay(GREY, corner(), frame=frame).shape == (32, 32, 3)


def test_a_frame_of_a_slice_is_checked():
    volume, maps = torch.rand(1, 4, 8, 12), {"map": torch.rand(1, 1, 2, 2, 2)}

    with pytest.raises(ValueError, match="overlap the image, 12 wide and 8 high"):
        visualize(volume, maps, frame=(0, 9, 4, 20))


@pytest.mark.parametrize("title", [207, 0.5, np.int64(207), torch.tensor(207)])
def test_a_number_is_a_title(title):
    figure = visualize(GREY, {title: corner()}, title=title)

    expected = str(title.item() if isinstance(title, torch.Tensor) else title)
    assert [panel.get_title() for panel in figure.axes] == [expected, expected]


@pytest.mark.parametrize("title", [None, b"map", ("a", "b"), True])
def test_a_title_of_anything_else_is_named(title):
    with pytest.raises(TypeError, match="maps' titles must be text, got"):
        visualize(GREY, {title: corner()})
    with pytest.raises(TypeError, match=r"^title must be text, got"):
        visualize_rows([Row(title, GREY, {"map": corner()})])


def test_titles_that_read_the_same_are_named():
    with pytest.raises(ValueError, match="maps must have different titles, got"):
        visualize(GREY, {1: corner(), "1": corner()})
