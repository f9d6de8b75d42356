import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import get_model_weights

from captum_iscam.networks.preprocessing import (
    Preprocessing,
    resize_and_crop,
    sentence,
    settle,
)
from captum_iscam.networks.torchvision import _preprocessing


def noise(size=(310, 260)):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))


@pytest.mark.parametrize("name", ["squeezenet1_1", "swin_t", "inception_v3"])
def test_images_are_what_torchvision_makes_of_them(name):
    weights = get_model_weights(name).DEFAULT

    own = _preprocessing(weights)

    torch.testing.assert_close(own(noise()), weights.transforms()(noise()))


def test_sizes_that_are_not_square():
    own = Preprocessing((80, 100), (60, 90), (0.0,) * 3, (1.0,) * 3, "bicubic")

    assert own(noise()).shape == (3, 60, 90)
    masks = torch.zeros(1, 1, 260, 310, dtype=torch.uint8)
    cropped = resize_and_crop(masks, own.in_words(), "nearest-exact")
    assert cropped.shape == (1, 1, 60, 90)
    assert own.in_words()["resize"] == [80, 100]
    assert sentence(own.in_words()).startswith("resized to 80 x 100, centre 60 x 90")


@pytest.mark.parametrize(
    ("resize", "crop", "resized"),
    [
        (256, 224, 128),
        (224, 224, 112),
        ((256, 512), (224, 448), (128, 128)),
        ((240, 240), 224, (120, 120)),
        (None, 224, None),
    ],
)
def test_another_size_keeps_the_ratio(resize, crop, resized):
    own = Preprocessing(resize, crop, (0.5,) * 3, (0.5,) * 3)

    changed, words = settle(own, 3, 112, None, None)

    assert (changed.resize, changed.crop) == (resized, 112)
    assert words == changed.in_words()


def test_a_transform_that_says_nothing():
    words = settle(lambda image: image, 3, None, None, None)[1]

    assert sentence(words).startswith("a transform of its own")
