"""Maps on the original photograph, compared with what torchvision does to it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from captum_iscam.visualization import on_original, upsample
from captum_iscam.visualization.photograph import crop_frame

SIZES = [(640, 480), (481, 641), (333, 333), (97, 301), (1000, 143)]
# resize, crop: torchvision's, timm's crop / 0.95, no margin, and a padded crop.
RECIPES = [(256, 224), (224 / 0.95, 224), (224, 224), (200, 224), (61, 96), (33, 20)]
# Height and width: squashed, with a crop that is no square.
PAIRS = [([224, 224], 224), ([90, 130], [80, 100]), (None, [90, 95]), (256, [250, 200])]


def sides(size):
    return list(size) if isinstance(size, list) else [int(size)]


def transform(photograph, resize, crop):
    """What torchvision makes of a photograph, and timm."""
    if resize is not None:
        photograph = F.resize(photograph, sides(resize))
    return F.center_crop(photograph, sides(crop))


def crop_offset(resized, crop):
    """Where the crop begins along a side, by what torchvision does to an index."""
    index = torch.arange(1, resized + 1).view(1, 1, -1)
    cropped = F.center_crop(index, [1, crop])[0, 0]
    first = int(cropped.nonzero()[0])
    return int(cropped[first]) - 1 - first


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("resize", "crop"), RECIPES + PAIRS)
def test_the_frame_is_torchvision_s_crop(size, resize, crop):
    width, height = size
    whole = Image.new("L", size)
    resized = whole if resize is None else F.resize(whole, sides(resize))
    high, wide = (sides(crop) * 2)[:2]

    frame = crop_frame(size, {"resize": resize, "crop": crop})

    across, down = width / resized.width, height / resized.height
    left, top = crop_offset(resized.width, wide), crop_offset(resized.height, high)
    expected = (
        left * across,
        top * down,
        (left + wide) * across,
        (top + high) * down,
    )
    assert frame == pytest.approx(expected)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("size", [(640, 480), (481, 641)])
@pytest.mark.parametrize(("resize", "crop"), RECIPES + PAIRS[:2])
def test_a_marked_block_comes_back_to_its_place(size, turn, resize, crop):
    width, height = size
    pixels = np.zeros((height, width), np.uint8)
    # Off the centre, and inside every crop.
    y, x = height // 2 - height // 16, width // 2 + width // 12
    pixels[y - 12 : y + 12, x - 20 : x + 20] = 255
    pixels = np.rot90(pixels, turn).copy()
    photograph = Image.fromarray(pixels)
    seen = transform(photograph, resize, crop)
    preprocessing = {"resize": resize, "crop": crop, "mean": [0.5], "std": [0.5]}

    back = on_original(photograph, np.asarray(seen) / 255.0, preprocessing)

    assert back.attributions.shape == (1, 1, *pixels.shape)
    values = back.attributions[0, 0].numpy()
    stride = max(size) / min(sides(resize))
    np.testing.assert_allclose(centre(values), centre(pixels), atol=0.15 * stride + 0.1)


def centre(values):
    places = np.indices(values.shape).reshape(2, -1)
    return places @ values.ravel().astype(float) / values.sum()


def test_outside_the_crop_the_map_is_zero():
    back = on_original(
        Image.new("RGB", (300, 100)), torch.ones(1, 1, 7, 7), {"resize": 50, "crop": 40}
    )

    left, top, right, bottom = (round(edge) for edge in back.frame)
    inside = torch.zeros(100, 300)
    inside[top:bottom, left:right] = 1
    torch.testing.assert_close(back.attributions[0, 0].float(), inside)


def test_a_crop_of_everything_is_the_upsampled_map():
    maps = torch.rand(1, 2, 7, 7, dtype=torch.float64)

    back = on_original(Image.new("L", (90, 90)), maps, {"resize": 60, "crop": 60})

    assert back.frame == (0, 0, 90, 90)
    torch.testing.assert_close(back.attributions, upsample(maps, (90, 90)))


@pytest.mark.parametrize(
    "preprocessing",
    [
        *(None, {}, {"resize": None, "crop": None}, {"crop": 224}, {"resize": 224}),
        *({"resize": "big", "crop": 224}, {"resize": 0, "crop": 224}),
    ],
)
def test_an_unknown_preprocessing_is_named(preprocessing):
    with pytest.raises(ValueError, match=r"preprocessing must .* cannot be brought ba"):
        on_original(Image.new("RGB", (9, 9)), torch.ones(2, 2), preprocessing)


def test_a_batch_of_maps_is_refused():
    with pytest.raises(ValueError, match=r"attributions must .* got \(2, 1, 3, 3\)"):
        on_original(
            Image.new("RGB", (9, 9)), torch.ones(2, 1, 3, 3), {"resize": 8, "crop": 8}
        )
