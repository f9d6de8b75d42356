"""Metrics of maps with ties, of any scale and range: the value by the formula."""

import pytest
import torch
from reference.interpolation import enlarged, in_double

from captum_iscam import metrics
from captum_iscam.metrics import (
    energy_pointing_game,
    mask_iou,
    pointing_game,
    top_k_intersection,
)
from captum_iscam.metrics._maps import resize

DTYPES = [torch.float32, torch.float64]
# Of the layer and of the input. 2 to 7 and 3 to 10 have weights that binary numbers
# cannot express; 4 to 8 is a power of two.
SIZES = {
    1: [((5,), (17,)), ((4,), (8,))],
    2: [((3, 3), (10, 10)), ((4, 3), (8, 11)), ((2, 7), (7, 7))],
    3: [((2, 3, 2), (7, 5, 6))],
}
GRIDS = [(small, large) for pairs in SIZES.values() for small, large in pairs]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def few_values(shape, generator):
    """Maps of three random values, so that there are plateaus and many ties."""
    levels = torch.rand(3, dtype=torch.float64, generator=generator) - 0.3
    return levels[torch.randint(3, shape, generator=generator)]


def one_peak(shape, generator):
    """Maps that are flat but for one position."""
    flat = torch.zeros(shape, dtype=torch.float64).flatten(1)
    where = torch.randint(flat.shape[1], (len(flat), 1), generator=generator)
    heights = torch.rand(flat.shape, dtype=torch.float64, generator=generator)
    return flat.scatter(1, where, heights).view(shape)


def far_from_zero(shape, generator):
    """Plateaus whose heights differ by a thousandth of their values."""
    return few_values(shape, generator) + 1000


def constant(shape, generator):
    values = torch.randn(shape[0], dtype=torch.float64, generator=generator)
    return values.view(-1, *[1] * (len(shape) - 1)).expand(shape)


def symmetric(shape, generator):
    maps = torch.rand(shape, dtype=torch.float64, generator=generator)
    return maps + maps.flip(*range(1, len(shape)))


KINDS = [few_values, one_peak, far_from_zero, constant, symmetric]


def drawn(kind, count, small, dtype=torch.float64):
    shape = (count, *small)
    return kind(shape, seeded(len(small))).to(dtype).unsqueeze(1)


def some_masks(count, large):
    masks = torch.rand(count, 1, *large, generator=seeded(5)) > 0.6
    masks.view(count, -1)[:, 0] = True
    return masks


# Ties


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("small", "large"), GRIDS)
def test_equal_values_stay_equal_after_enlarging(small, large, dtype, kind):
    maps = drawn(kind, 12, small, dtype)

    for map_, found in zip(maps, resize(maps, large), strict=True):
        exact = enlarged(map_[0], large).flatten()
        order = sorted(range(len(exact)), key=exact.__getitem__)
        values = found.flatten()[order]

        rise = values.diff()
        assert (rise >= 0).all()
        ties = torch.tensor(exact[order][1:] == exact[order][:-1])
        assert (rise[ties] == 0).all()
        torch.testing.assert_close(
            found.double()[0], in_double(enlarged(map_[0], large)), rtol=2e-7, atol=1e-9
        )


def share_of_top(values, inside, count):
    """The expected share on the object of the highest values, by their definition."""
    flat, within = values.flatten(), inside.flatten()
    least = flat.sort(descending=True).values[count - 1]
    above, tied = flat > least, flat == least
    chance = within[tied].double().mean()
    return ((above & within).sum() + (count - above.sum()) * chance) / count


def localised(name, grid, inside):
    """A localisation metric of one map in double precision, by its definition."""
    values = in_double(grid)
    if name == "pointing_game":
        return share_of_top(values, inside, int((values == values.max()).sum()))
    if name == "top_k_intersection":
        return share_of_top(values, inside, int(inside.sum()))
    if name == "energy_pointing_game":
        energy = values.clamp_min(0)
        return energy[inside].sum() / energy.sum() if energy.any() else energy.sum()
    spread = grid.max() - grid.min()
    above = torch.tensor((grid - grid.min() > spread / 2).tolist())
    return (above & inside).sum().double() / (above | inside).sum()


LOCALISATION = {
    "pointing_game": pointing_game,
    "top_k_intersection": top_k_intersection,
    "mask_iou": mask_iou,
    "energy_pointing_game": energy_pointing_game,
}


@pytest.mark.parametrize("name", LOCALISATION)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("small", "large"), GRIDS)
@pytest.mark.parametrize("kind", [few_values, one_peak, constant])
def test_localisation_counts_equal_values_as_equal(kind, small, large, dtype, name):
    maps, masks = drawn(kind, 25, small, dtype), some_masks(25, large)

    found = LOCALISATION[name](maps, masks)

    expected = [
        localised(name, enlarged(map_[0], large), inside[0])
        for map_, inside in zip(maps, masks, strict=True)
    ]
    torch.testing.assert_close(found.double(), torch.stack(expected).double())


def sum_of_places(x):
    """A model by whose score any two orders of the pixels differ."""
    flat = x.double().flatten(1)
    return flat @ torch.rand(flat.shape[1], dtype=torch.float64, generator=seeded()).to(
        flat
    )


RANKING = {
    "insertion": {"steps": 7},
    "deletion": {"steps": 7},
    "road": {"generator": 0},
    "road_most_relevant_first": {"generator": 0},
    "road_least_relevant_first": {"generator": 0},
    "average_drop": {"keep": 0.4, "binary": True, "absolute": True},
    "average_increase": {"keep": 0.4, "binary": True},
}


@pytest.mark.parametrize("name", RANKING)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("small", "large"), GRIDS)
@pytest.mark.parametrize("kind", [few_values, constant])
def test_rankings_take_equal_values_in_row_order(kind, small, large, dtype, name):
    if "road" in name and len(large) != 2:
        pytest.skip("ROAD is for images")
    maps = drawn(kind, 12, small, dtype)
    images = torch.randn(12, 2, *large, generator=seeded(3)).to(dtype)
    exact = torch.stack([in_double(enlarged(map_[0], large)) for map_ in maps])
    # Whole numbers in the same order, at the size at which they are ranked.
    order = torch.stack(
        [values.unique(return_inverse=True)[1].view(large) for values in exact]
    ).to(dtype)

    def value(attributions):
        own = dict(RANKING[name])
        if "generator" in own:
            own["generator"] = seeded()
        metric = getattr(metrics, name)
        return metric(sum_of_places, images, attributions, score="identity", **own)

    assert torch.equal(value(maps), value(order.unsqueeze(1)))
