import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from captum_iscam.visualization import display_image, overlay, upsample


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
        (torch.rand(4, 8, 9), r"Drop the channel of opacity: image\[:3\], or"),
        (np.zeros((8, 9, 4)), r"Drop the channel of opacity: image\[\.\.\., :3\]"),
        (torch.rand(8, 9, 3), r"Bring its channels to the front: image.permute"),
        (torch.rand(1, 1, 4, 8, 9), r"Draw a volume with maps \(1, 1, d, h, w\)"),
        (torch.rand(1, 5, 8, 9), "Choose one or three channels. A volume has maps"),
        (torch.rand(3, 8, 9) * 255, r"Divide it by 255, or pass it as uint8"),
        (np.zeros((3, 8, 3)), r"image must have its colours first or last"),
    ],
)
def test_display_image_refuses_what_is_no_image(image, message):
    with pytest.raises(ValueError, match=message):
        display_image(image)


@pytest.mark.parametrize(
    ("channels", "normalised", "message"),
    [
        (3, {"mean": [0.5, 0.5]}, r"mean must be one finite .* 3 in all, got \[0\.5, "),
        (1, {"mean": [0.4, 0.5, 0.6]}, "mean must be one finite number .* 1 in all"),
        (3, {"mean": [0.5, "x", 0.5]}, "mean must be one finite number"),
        (3, {"std": [0.2, 0.0, 0.2]}, "std must be one finite number above 0 for"),
        (3, {"std": [0.2] * 4}, "std must be one finite number above 0 .* 3 in all"),
    ],
)
def test_a_mean_or_std_that_does_not_fit_is_refused(channels, normalised, message):
    with pytest.raises(ValueError, match=message):
        overlay(torch.rand(channels, 8, 9), torch.rand(2, 2), **normalised)


@pytest.mark.parametrize(
    "as_given",
    [
        lambda image: image,
        lambda image: image[None],
        lambda image: image.permute(1, 2, 0).numpy(),
        lambda image: image.permute(1, 2, 0).double().div(255).numpy(),
        lambda image: image.float().div(255),
        lambda image: image.numpy(),
        lambda image: Image.fromarray(image.permute(1, 2, 0).numpy()),
    ],
)
def test_forms_of_an_image_are_drawn_alike(as_given):
    image = (torch.rand(3, 8, 9) * 255).byte()

    shown = display_image(as_given(image))

    np.testing.assert_allclose(shown, image.permute(1, 2, 0) / 255, atol=1e-6)


def test_pictures_of_more_than_8_bits_are_not_clipped():
    ramp = np.linspace(0, 1, 60, dtype=np.float32)[None].repeat(40, 0)

    shown = display_image(Image.fromarray(ramp))

    np.testing.assert_allclose(shown[..., 0], ramp)
    for kind in (np.uint16, np.int32):
        with pytest.raises(ValueError, match="image must lie in"):
            display_image(Image.fromarray((ramp * 65535).astype(kind)))


@pytest.mark.parametrize("height", [1, 3])
def test_colours_of_a_flat_picture_come_last(height):
    picture = Image.fromarray(np.full((height, 20, 3), 255, np.uint8))

    assert display_image(picture).shape == (height, 20, 3)


@pytest.mark.parametrize("as_given", [torch.Tensor.numpy, lambda grey: grey])
def test_a_grey_image_needs_no_channel(as_given):
    grey = torch.rand(8, 9)

    shown = display_image(as_given(grey))

    np.testing.assert_allclose(shown, grey[..., None].expand(8, 9, 3))


def test_bytes_are_not_normalised():
    with pytest.raises(ValueError, match="image must be floating point with mean"):
        display_image(torch.zeros(3, 8, 8, dtype=torch.uint8), mean=[0.5] * 3)


def test_an_array_is_not_changed():
    image = np.full((8, 9, 3), 0.5)
    image.setflags(write=False)

    display_image(image, mean=[0.1] * 3)

    assert (image == 0.5).all()


@pytest.mark.parametrize(
    "as_given",
    [
        lambda maps: maps.numpy(),
        lambda maps: maps[0].numpy(),
        lambda maps: maps[0, 0].numpy(),
        lambda maps: maps[0, 0],
        lambda maps: maps.flip(-1).numpy()[..., ::-1],
    ],
)
def test_forms_of_a_map_are_drawn_alike(as_given):
    image, maps = torch.rand(3, 8, 9), torch.rand(1, 1, 4, 5)

    pixels = overlay(image, as_given(maps))

    np.testing.assert_array_equal(pixels, overlay(image, maps))


def test_a_map_with_channels_last_is_summed_like_one_with_channels_first():
    image, maps = torch.rand(3, 8, 9), torch.randn(3, 8, 9)

    pixels = overlay(image, maps.permute(1, 2, 0).numpy())

    np.testing.assert_array_equal(pixels, overlay(image, maps))
