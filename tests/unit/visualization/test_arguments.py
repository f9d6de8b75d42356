"""What cannot be drawn is named, instead of drawn as something else."""

import numpy as np
import pytest
import torch
from PIL import Image

from captum_iscam.visualization import (
    Row,
    on_original,
    overlay,
    upsample,
    visualize,
    visualize_rows,
)

IMAGE, MAP = torch.rand(3, 32, 32), torch.rand(1, 1, 4, 4)
PHOTOGRAPH, CROP = Image.new("RGB", (64, 48)), {"resize": 32, "crop": 28}
# Values that are no dense real numbers, and what is said of them.
NO_NUMBERS = {
    "complex": (MAP[0, 0] + 1j, "must hold real numbers, got torch.complex64"),
    "complex array": (np.ones((4, 4), complex), "must hold real .* of complex128"),
    "text": (np.array([["a", "b"]]), "must hold real numbers, got an array of <U1"),
    "objects": (np.array([[1, None]]), "must hold real numbers, got an array of obj"),
    "sparse": (torch.eye(4).to_sparse(), "must be a dense tensor, got torch.sparse"),
    "nothing": (torch.rand(0, 4), r"must have at least one value, got .*\(0, 4\)"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_values_that_are_no_real_numbers_are_named(kind):
    values, told = NO_NUMBERS[kind]
    ways = {
        "maps": lambda: visualize(IMAGE, {"map": values}),
        "image": lambda: overlay(values, MAP),
        "attributions": lambda: on_original(PHOTOGRAPH, values, CROP),
    }

    for name, draw in ways.items():
        with pytest.raises((TypeError, ValueError), match=f"^{name} {told}"):
            draw()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"vmax": float("inf")}, "vmax must be a finite number, got inf"),
        ({"vmax": float("nan")}, "vmax must be a finite number, got nan"),
        ({"vmin": "0", "vmax": "1"}, "vmin must be a finite number, got '0'"),
        ({"vmin": -float("inf"), "vmax": 1}, "vmin must be a finite number, got -inf"),
        ({"vmax": True}, "vmax must be a finite number, got True"),
        ({"vmax": -1}, "vmax must be above vmin, got vmin 0.0 and vmax -1"),
        ({"cmap": 3}, "cmap must be the name of a colour map of matplotlib, got 3"),
    ],
)
def test_scales_that_are_none_are_named(options, told):
    with pytest.raises(ValueError, match=told):
        visualize(IMAGE, {"map": MAP}, **options)


@pytest.mark.parametrize(
    "rows",
    [
        Row("image", IMAGE, {"map": MAP}),
        [("image", IMAGE, {"map": MAP})],
        {"image": (IMAGE, {"map": MAP})},
        [IMAGE],
    ],
)
def test_rows_of_something_else_are_named(rows):
    with pytest.raises(TypeError, match="rows must be a list of Row, got"):
        visualize_rows(rows)


@pytest.mark.parametrize("image", [IMAGE, np.zeros((48, 64, 3)), "cat.jpg"])
def test_a_photograph_is_a_picture_of_pil(image):
    with pytest.raises(TypeError, match="image must be a PIL image, got"):
        on_original(image, MAP, CROP)


def test_a_list_is_no_map_of_a_photograph():
    with pytest.raises(TypeError, match="attributions must be a tensor or an array"):
        on_original(PHOTOGRAPH, [[1.0]], CROP)


@pytest.mark.parametrize("side", [float("nan"), float("inf"), 0, "32", None])
def test_a_crop_of_no_size_is_named(side):
    with pytest.raises(ValueError, match="preprocessing must have the sizes"):
        on_original(PHOTOGRAPH, MAP, {"resize": 32, "crop": side})


@pytest.mark.parametrize("size", [(-3, 4), (0, 4), (3.5, 4), 32, "32", (None, 4)])
def test_a_size_of_no_pixels_is_named(size):
    with pytest.raises(ValueError, match="inputs must be a sequence of integers of at"):
        upsample(MAP, size)


@pytest.mark.parametrize(
    ("maps", "told"),
    [
        (MAP.numpy(), "attributions must be a tensor, got ndarray"),
        (MAP.long(), "attributions must be floating point, got torch.int64"),
        (MAP > 0, "attributions must be floating point, got torch.bool"),
    ],
)
def test_maps_that_cannot_be_interpolated_are_named(maps, told):
    with pytest.raises(TypeError, match=told):
        upsample(maps, (8, 8))
