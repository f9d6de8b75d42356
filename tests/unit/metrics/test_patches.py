"""Single deletion against a slow formula and SciPy's rank correlation."""

import itertools
import math

import pytest
import torch
from reference.spies import Calls
from scipy.stats import spearmanr
from torch import nn

from captum_iscam.metrics import single_deletion
from captum_iscam.metrics.patches import patch_of_pixel, patch_sums

SIZES = {"1-D": (19,), "2-D": (9, 11), "3-D": (4, 5, 6)}


def slow(model, x, maps, target, patches, baseline):
    """The drop without each patch and the map's sums, one patch at a time."""
    drops, sums = [], []
    size = x.shape[1:]
    places = [[i * patches // n for i in range(n)] for n in size]
    for patch in itertools.product(range(patches), repeat=len(size)):
        inside = torch.ones(size, dtype=torch.bool)
        for dim, (place, number) in enumerate(zip(places, patch, strict=True)):
            along = torch.tensor([p == number for p in place])
            inside &= along.view(-1, *[1] * (len(size) - dim - 1))
        without = torch.where(inside, baseline, x)
        both = model(torch.stack([x, without])).softmax(1)[:, target].detach()
        drops.append(float(both[0] - both[1]))
        sums.append(float(maps[0][inside].sum()))
    return drops, sums


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_it_is_the_rank_correlation_of_drops_and_sums(size):
    torch.manual_seed(0)
    x, maps = torch.randn(2, 3, *size).double(), torch.rand(2, 1, *size).double()
    maps[0] = (maps[0] * 2).round()  # with ties
    features = 3 * math.prod(size)
    model = nn.Sequential(nn.Flatten(), nn.Linear(features, 4)).double().eval()

    found = single_deletion(model, x, maps, 2, baselines=0.5, patches=3)

    for number in range(2):
        drops, sums = slow(model, x[number], maps[number], 2, 3, 0.5)
        expected = spearmanr(drops, sums).statistic
        assert found[number].item() == pytest.approx(expected, abs=1e-9)


def test_an_image_takes_seventeen_passes():
    model = Calls(lambda x: x.flatten(1)[:, :3])

    for _ in range(2):
        single_deletion(model, torch.rand(1, 3, 8, 8), torch.rand(1, 1, 4, 4), 1)

    # The first call asks whether scores are steady.
    assert sum(model.rows) == 17 + 4 + 17


def test_the_map_that_is_the_effect_is_perfect_and_its_negative_the_opposite():
    image = torch.arange(1.0, 65).view(1, 1, 8, 8)
    options = {"score": "identity"}

    def total(x):
        return x.flatten(1).sum(1)

    assert single_deletion(total, image, image, **options).item() == 1
    assert single_deletion(total, image, -image, **options).item() == -1


@pytest.mark.parametrize(
    ("model", "maps"),
    [
        (lambda x: x.flatten(1).sum(1), torch.ones(1, 1, 4, 4)),
        # What rounding leaves of a score is no order.
        (lambda x: 1 + 1e-7 * x.flatten(1).sum(1), torch.rand(1, 1, 8, 8)),
        (lambda x: 0 * x.flatten(1).sum(1), torch.rand(1, 1, 8, 8)),
        (lambda x: x.flatten(1).sum(1), torch.full((1, 1, 8, 8), math.nan)),
    ],
    ids=["constant map", "constant but for rounding", "constant model", "nan"],
)
def test_without_an_order_it_is_undefined(model, maps):
    image = torch.rand(1, 1, 8, 8)

    assert single_deletion(model, image, maps, score="identity").isnan().all()


def test_sums_of_equal_patches_are_equal_whatever_the_order_of_their_pixels():
    values = torch.rand(1, 1, 4, 4)
    maps = torch.cat([values, values.flip(2), values.flip(3)], 3).repeat(1, 1, 3, 1)

    sums = patch_sums(maps, patch_of_pixel(torch.Size([12, 12]), 3))

    assert sums.shape == (1, 9)
    assert (sums == sums[:, :1]).all()


@pytest.mark.parametrize("patches", [1, 0, 5, 2.0, "4", True, None])
def test_a_number_of_patches_that_does_not_fit_is_refused(patches):
    image = torch.rand(1, 1, 4, 9)

    with pytest.raises(ValueError, match="patches must be an integer between 2 and"):
        single_deletion(lambda x: x[:, 0, 0], image, image, 0, patches=patches)
