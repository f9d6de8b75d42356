"""Metrics of maps with ties, of any scale and range: the value by the formula."""

import inspect
import re

import pytest
import torch
from reference.interpolation import enlarged, in_double
from torch import nn

from captum_iscam import metrics
from captum_iscam.metrics import (
    adcc,
    average_drop,
    average_gain,
    coherency,
    energy_pointing_game,
    infidelity,
    mask_iou,
    pointing_game,
    sensitivity_max,
    top_k_intersection,
)
from captum_iscam.metrics._base import check_values
from captum_iscam.metrics._maps import resize

DTYPES = [torch.float32, torch.float64]
# Of the layer and of the input. 2 to 7 and 3 to 10 have weights that binary numbers
# cannot express; 4 to 8 is a power of two.
SIZES = {
    1: [((5,), (17,)), ((4,), (8,))],
    2: [((3, 3), (10, 10)), ((4, 3), (11, 8)), ((2, 7), (7, 7))],
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


# Scale and range


class Setting:
    """A model, images, masks and maps of one precision, the maps at a scale."""

    def __init__(self, dtype, side, factor=1.0, centred=False):
        torch.manual_seed(4)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(256, 5)
        )
        self.net = self.net.to(dtype).eval()
        self.images = torch.rand(4, 3, 8, 8).to(dtype)
        self.masks = torch.rand(4, 1, 8, 8) > 0.5
        # Each column of pixels is an object; the first looks the same when removed.
        self.columns = torch.eye(8).bool().view(1, 8, 1, 8).expand(4, -1, 8, -1)
        whole = self.images.unsqueeze(1)
        self.without = torch.where(self.columns.unsqueeze(2), 0, whole)
        self.without[:, 0] = self.images
        self.factor, self.side = factor, side
        self.low = -1.0 if centred else 0.05
        maps = torch.rand(4, 1, side, side).to(dtype)
        self.maps = self.spread(maps)
        self.rival = self.spread(torch.rand(4, 1, 8, 8).to(dtype))

    def spread(self, values):
        """Values over the range of the setting, none of them infinite."""
        lowest, highest = values.amin((1, 2, 3), True), values.amax((1, 2, 3), True)
        span = highest - lowest
        unit = (values - lowest) / torch.where(span > 0, span, 1)
        found = (self.low + (1 - self.low) * unit) * self.factor
        assert found.isfinite().all()
        return found

    def explain(self, inputs, target=None):
        """Maps of a layer that depend on the parameters and the target."""
        layer = self.net[:2](inputs).detach()
        maps = layer[:, [target or 0]] + 0.3 * layer.mean(1, keepdim=True)
        return self.spread(nn.functional.adaptive_avg_pool2d(maps, self.side))


def scored(metric, **own):
    def value(s):
        given = {k: v(s) if callable(v) and k != "score" else v for k, v in own.items()}
        return metric(s.net, s.images, s.maps, 2, **given)

    return value


def randomized(s):
    found = metrics.parameter_randomization(
        s.explain, s.net[0], s.images, 1, generator=seeded()
    )
    return torch.cat([found.rank_correlation, found.ssim])


OBJECTS = {
    "interventions": lambda s: s.without,
    "object_masks": lambda s: s.columns,
}
FREE_OF_SCALE = {
    "average_drop": scored(average_drop),
    "average_drop, keep": scored(average_drop, keep=0.5),
    "average_increase": scored(metrics.average_increase, keep=0.5, binary=True),
    "average_gain": scored(average_gain),
    "win_rate": scored(metrics.win_rate, rival=lambda s: s.rival),
    "insertion": scored(metrics.insertion, steps=5),
    "deletion": scored(metrics.deletion, steps=5),
    "road": scored(metrics.road, generator=lambda s: seeded()),
    "road_most_relevant_first": scored(
        metrics.road_most_relevant_first, generator=lambda s: seeded()
    ),
    "road_least_relevant_first": scored(
        metrics.road_least_relevant_first, generator=lambda s: seeded()
    ),
    "infidelity": scored(infidelity, generator=lambda s: seeded()),
    "adcc": scored(adcc, explanation_func=lambda s: s.explain),
    "arcc": scored(
        metrics.arcc,
        explanation_func=lambda s: s.explain,
        generator=lambda s: seeded(),
    ),
    "single_deletion": scored(metrics.single_deletion),
    "attainable_insertion": scored(metrics.attainable_insertion, patches=3),
    "attainable_deletion": scored(metrics.attainable_deletion, patches=3),
    "object_order": scored(metrics.object_order, **OBJECTS),
    "irrelevant_object_share": scored(metrics.irrelevant_object_share, **OBJECTS),
    "coherency": lambda s: coherency(s.explain, s.images, s.maps, 2),
    "sensitivity_max": lambda s: sensitivity_max(
        s.explain, s.images, 2, generator=seeded()
    ),
    "target_sensitivity": lambda s: metrics.target_sensitivity(
        s.explain, s.images, 1, other_target=2
    ),
    "parameter_randomization": randomized,
    "complexity": lambda s: metrics.complexity(s.maps, size=(8, 8)),
    "sparseness": lambda s: metrics.sparseness(s.maps, size=(8, 8)),
    **{
        name: lambda s, metric=metric: metric(s.maps, s.masks)
        for name, metric in LOCALISATION.items()
    },
}


def test_every_metric_is_free_of_scale_or_has_a_test_of_its_own():
    declared = {n for n in metrics.__all__ if hasattr(getattr(metrics, n), "unit")}

    assert declared == {name.split(",")[0] for name in FREE_OF_SCALE}


SCALES = [1e-30, 1e-25, 1e-20, 1e-10, 1e10, 1e18, 1e20, 1e30]


@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FREE_OF_SCALE)
def test_the_scale_of_a_map_does_not_matter_from_tiny_to_huge(name, dtype, side):
    expected = FREE_OF_SCALE[name](Setting(dtype, side))

    assert expected.isfinite().all()
    scales = [*SCALES, 1e-150, 1e150, 1e-290] if dtype == torch.float64 else SCALES
    for scale in scales:
        found = FREE_OF_SCALE[name](Setting(dtype, side, scale))
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FREE_OF_SCALE)
def test_a_range_beyond_the_precision_does_not_matter(name, dtype, side):
    expected = FREE_OF_SCALE[name](Setting(dtype, side, centred=True))

    largest = torch.finfo(dtype).max
    found = FREE_OF_SCALE[name](Setting(dtype, side, largest, centred=True))

    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


OF_GIVEN_MAPS = [
    name
    for name in FREE_OF_SCALE
    if name
    not in (
        "sensitivity_max",
        "target_sensitivity",
        "parameter_randomization",
        "adcc",
        "arcc",
    )
]


@pytest.mark.parametrize("side", [4, 8])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", OF_GIVEN_MAPS)
def test_one_bad_map_loses_none_of_the_batch(name, dtype, side):
    s = Setting(dtype, side, centred=True)
    expected = FREE_OF_SCALE[name](s)

    s.maps[1] *= torch.finfo(dtype).max
    s.maps[2, 0, 0, 0] = torch.nan
    s.maps[3] *= 1e-30
    found = FREE_OF_SCALE[name](s)

    assert found[2].isnan()
    others = [0, 1, 3]
    torch.testing.assert_close(found[others], expected[others], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [*SCALES, "largest"])
def test_infidelity_in_the_unit_of_the_score_grows_with_the_map(scale):
    def value(dtype):
        largest = scale == "largest"
        factor = torch.finfo(torch.float32).max if largest else scale
        s = Setting(torch.float32, 8, factor, centred=largest)
        return infidelity(
            s.net.to(dtype),
            s.images.to(dtype),
            s.maps.to(dtype),
            2,
            normalize=False,
            generator=seeded(),
        )

    # Beyond single precision the value is infinite, never NaN or 0.
    expected = value(torch.float64).float()
    torch.testing.assert_close(value(torch.float32), expected, rtol=1e-3, atol=1e-9)
    assert not expected.isnan().any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_the_change_of_a_zero_map_is_in_the_unit_of_the_map(scale, dtype):
    images = torch.rand(3, 1, 5, 5).to(dtype)

    def method(inputs, target=None):
        copies = len(inputs) // 3
        return (inputs - images.repeat_interleave(copies, 0)) * factor

    factor = 1.0
    expected = sensitivity_max(method, images, generator=seeded())
    factor = scale
    found = sensitivity_max(method, images, generator=seeded())

    assert (expected > 0).all()
    torch.testing.assert_close(found / scale, expected, rtol=1e-4, atol=0)


# No order of patches, and no share of objects: NaN, as documented.
UNDEFINED_FOR_ZERO = ("single_deletion", "irrelevant_object_share")


@pytest.mark.filterwarnings("ignore:The maps of explanation_func are the same")
@pytest.mark.parametrize("name", FREE_OF_SCALE)
def test_zero_maps_are_not_tiny_maps(name):
    s = Setting(torch.float32, 8)
    s.maps, s.factor = s.maps * 0, 0.0

    # Sensitivity: no change. Correlations: of equal maps 1. All others: in the docs.
    found = FREE_OF_SCALE[name](s)
    assert (found.isnan() if name in UNDEFINED_FOR_ZERO else found.isfinite()).all()


# Coherency


class LayerMaps:
    """A method with maps of a layer, or the same maps at the size of the input."""

    def __init__(self, large=None):
        self.large = large

    def __call__(self, inputs, target=None):
        x = inputs[0] if isinstance(inputs, tuple) else inputs
        maps = nn.functional.avg_pool2d(x.mean(1, keepdim=True), 3)
        return maps if self.large is None else resize(maps, self.large)


def test_coherency_correlates_maps_at_the_size_of_the_input():
    images = torch.rand(3, 2, 12, 9, dtype=torch.float64)
    small, large = LayerMaps(), LayerMaps((12, 9))
    maps = torch.rand(3, 1, 4, 3, dtype=torch.float64)

    found = coherency(small, images, maps)

    shown = torch.stack([in_double(enlarged(m[0], (12, 9))) for m in maps])
    low, high = shown.amin((1, 2), True), shown.amax((1, 2), True)
    again = small(images * ((shown - low) / (high - low)).unsqueeze(1))
    expected = [
        (1 + torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) / 2
        for a, b in zip(
            shown, [in_double(enlarged(m[0], (12, 9))) for m in again], strict=True
        )
    ]
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(found, coherency(large, images, resize(maps, (12, 9))))


def test_adcc_and_several_inputs_have_the_coherency_of_the_first_masked_one():
    images, vector = torch.rand(3, 2, 12, 9), torch.rand(3, 2)
    other = torch.rand(3, 1, 24, 24)
    maps = LayerMaps()(images)

    def model(x, *further):
        return x.mean((2, 3))

    for inputs in (images, (images, vector), (images, other)):
        small = adcc(model, inputs, maps, 1, explanation_func=LayerMaps())
        large = adcc(
            *(model, inputs, resize(maps, (12, 9)), 1),
            explanation_func=LayerMaps((12, 9)),
        )
        if inputs is images or inputs[1] is vector:
            torch.testing.assert_close(small, large)
        assert ((small > 0) & (small < 1)).all()


# Values and messages


@pytest.mark.parametrize("values", [0.5, [0.5, 0.5], None, (torch.zeros(2),)])
def test_a_metric_that_returns_no_tensor_is_an_error(values):
    match = r"^mine must return a tensor .*, got \w+\. Return a tensor .* \(2,\)\.$"
    with pytest.raises(TypeError, match=match):
        check_values("mine", values, 2)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 1), (1, 2), (0,), (2, 4, 4)])
def test_a_metric_that_returns_another_shape_is_an_error(shape):
    match = r"^mine must return one value per example, .*\(2,\), got the shape .*\. Av"
    with pytest.raises(ValueError, match=match):
        check_values("mine", torch.zeros(shape), 2)


def test_one_value_per_example_is_passed_on():
    values = torch.rand(2)

    assert check_values("mine", values, 2) is values


@pytest.mark.parametrize(
    ("metric", "own"),
    [
        (average_drop, {}),
        (adcc, {"explanation_func": LayerMaps()}),
        (average_gain, {}),
    ],
)
def test_a_repair_names_arguments_that_the_metric_has(metric, own):
    images, maps = torch.rand(2, 1, 6, 6), torch.rand(2, 1, 2, 2)

    with pytest.raises(ValueError, match="score must") as caught:
        metric(lambda x: -x.flatten(1).sum(1), images, maps, **own, score="identity")

    named = set(re.findall(r"(\w+)=", str(caught.value)))
    assert named
    assert named <= set(inspect.signature(metric).parameters)
