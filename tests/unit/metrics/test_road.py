"""ROAD: the imputation against direct solvers, the removal by hand."""

import importlib

import pytest
import torch
from scipy.sparse import diags_array, eye_array, kron
from scipy.sparse.linalg import spsolve

from captum_iscam.metrics import (
    road,
    road_least_relevant_first,
    road_most_relevant_first,
)
from captum_iscam.metrics.road import impute

# The function of this name hides the module.
SOLVER = importlib.import_module("captum_iscam.metrics.road")
ALL = [road, road_least_relevant_first, road_most_relevant_first]


def dense_imputation(image, known):
    """Every unknown pixel the weighted mean of its neighbours, by a dense solver."""
    height, width = known.shape
    places = [(r, c) for r in range(height) for c in range(width)]
    matrix = torch.zeros(len(places), len(places), dtype=torch.float64)
    right = torch.zeros(len(places), len(image), dtype=torch.float64)
    for i, (r, c) in enumerate(places):
        matrix[i, i] = 1
        if known[r, c]:
            right[i] = image[:, r, c]
            continue
        weights = {
            (r + dr, c + dc): 1 / 12 if dr and dc else 1 / 6
            for dr in (-1, 0, 1)
            for dc in (-1, 0, 1)
            if (dr or dc) and 0 <= r + dr < height and 0 <= c + dc < width
        }
        for place, weight in weights.items():
            matrix[i, places.index(place)] = -weight / sum(weights.values())
    return torch.linalg.solve(matrix, right).T.view(len(image), height, width)


@pytest.mark.parametrize("size", [(9, 9), (5, 12), (1, 7), (2, 2)])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_imputation_solves_the_linear_system(size, share):
    images = torch.randn(3, 2, *size, dtype=torch.float64)
    known = torch.rand(3, 1, *size) > share
    known[:, :, 0, 0] = True

    imputed = impute(images, known)

    expected = [dense_imputation(x, k[0]) for x, k in zip(images, known, strict=True)]
    torch.testing.assert_close(imputed, torch.stack(expected), atol=2e-4, rtol=0)


def sparse_imputation(image, known):
    """The same for a large image of one channel, by a direct sparse solver."""
    down, across = (
        diags_array([1.0, 2.0, 1.0], offsets=[-1, 0, 1], shape=(n, n))
        for n in known.shape
    )
    around = (kron(down, across) - 4 * eye_array(known.numel())).tocsr()
    system = (diags_array(around.sum(1)) - around).tocsr()
    values, kept = image.flatten().numpy().copy(), known.flatten().numpy()
    right = around[~kept][:, kept] @ values[kept]
    values[~kept] = spsolve(system[~kept][:, ~kept].tocsc(), right)
    return torch.from_numpy(values).view_as(image)


def regions(size, share):
    """Removes large, smooth regions, as the map of a layer does."""
    maps = torch.nn.functional.interpolate(torch.rand(1, 1, 6, 6), size, mode="bicubic")
    return maps > maps.quantile(share)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_large_regions_are_imputed_as_by_a_direct_solver(share):
    image = torch.randn(1, 1, 97, 130, dtype=torch.float64).cumsum(2).cumsum(3)
    known = regions((97, 130), share)

    imputed = impute(image, known)

    expected = sparse_imputation(image[0, 0], known[0, 0])
    largest = image.abs().max().item()
    torch.testing.assert_close(imputed[0, 0], expected, atol=3e-4 * largest, rtol=0)


@pytest.mark.parametrize("size", [(20, 20), (75, 120), (224, 224)])
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_large_image_needs_as_few_iterations_as_a_small_one(monkeypatch, size, share):
    image, known, iterations = torch.randn(1, 1, *size), regions(size, share), []
    cycle = SOLVER._cycle

    def counted(residual, grids):
        iterations.extend([1] * (residual.shape[-2:] == size))
        return cycle(residual, grids)

    monkeypatch.setattr(SOLVER, "_cycle", counted)
    impute(image, known)

    assert 5 < len(iterations) < 20


def hard_masks(size):
    """Removes what has needed the most iterations among many kinds of maps."""
    rows, columns = torch.meshgrid(*map(torch.arange, size), indexing="ij")
    ties = 1e-6 * torch.rand(size)
    order = rows * size[1] + columns
    for maps in (order, (rows + columns) % 2 + ties, columns % 2 + ties):
        place = maps.flatten().argsort().argsort().view(1, 1, *size)
        for share in (0.9, 0.99, 0.999):
            yield place >= min(round(share * order.numel()), order.numel() - 1)


@pytest.mark.parametrize("size", [(5, 5), (6, 96), (160, 10), (128, 100)])
def test_accelerators_iterate_often_enough(monkeypatch, size):
    images, counts, cycle = torch.randn(2, 1, *size), [], SOLVER._cycle

    def counted(residual, grids):
        counts[-1] += residual.shape[-2:] == size
        return cycle(residual, grids)

    monkeypatch.setattr(SOLVER, "_cycle", counted)
    for known in hard_masks(size):
        counts.append(-1)  # the first cycle is before the iterations
        impute(images, known)

    assert max(size) <= SOLVER._MAX_ASPECT_RATIO * min(size)
    assert 5 < max(counts) < SOLVER._FIXED_ITERATIONS


def test_one_known_pixel_reaches_all_others():
    known = torch.zeros(1, 1, 101, 150, dtype=torch.bool)
    known[0, 0, 70, 3] = True

    imputed = impute(torch.full((1, 1, 101, 150), 5.0), known)

    whole = torch.full_like(imputed, 5)
    torch.testing.assert_close(imputed, whole, atol=5e-3, rtol=0)


def test_imputation_keeps_known_pixels_bit_for_bit():
    images, known = torch.randn(2, 3, 8, 9), torch.rand(2, 1, 8, 9) > 0.5

    imputed = impute(images, known)

    assert torch.equal(
        imputed[known.expand_as(images)], images[known.expand_as(images)]
    )


def test_a_constant_image_is_imputed_by_its_constant():
    known = torch.zeros(1, 1, 20, 30, dtype=torch.bool)
    known[0, 0, 7, 3] = True

    imputed = impute(torch.full((1, 3, 20, 30), 5.0), known)

    whole = torch.full((1, 3, 20, 30), 5.0)
    torch.testing.assert_close(imputed, whole, atol=5e-3, rtol=0)


def test_a_linear_ramp_is_continued_between_its_ends():
    ramp = torch.arange(9.0).expand(1, 1, 9, 9).contiguous()
    known = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    known[..., 0] = known[..., -1] = True

    torch.testing.assert_close(impute(ramp, known), ramp, atol=1e-3, rtol=0)


def test_an_all_zero_image_stays_zero():
    known = torch.rand(1, 1, 6, 6) > 0.5

    assert impute(torch.zeros(1, 1, 6, 6), known).eq(0).all()


def test_an_imputation_does_not_depend_on_the_batch():
    images = torch.randn(4, 3, 16, 16) * torch.tensor([1, 100, 1e-3, 1]).view(
        4, 1, 1, 1
    )
    known = torch.rand(4, 1, 16, 16) > torch.tensor([0.2, 0.9, 0.5, 0.5]).view(
        4, 1, 1, 1
    )

    together = impute(images, known)

    for i in range(4):
        alone = impute(images[i : i + 1], known[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


def bright(x):
    return x[:, 0, 0, 0]


def pictured(metric, maps, image=None, **options):
    image = torch.zeros(1, 1, 4, 4).index_put_(
        (torch.tensor(0),) * 4, torch.tensor(1.0)
    )
    return metric(bright, image, maps, score="identity", **{"noise": 0.0, **options})


def test_the_planted_pixel_goes_first_or_last():
    maps = torch.arange(16.0, 0, -1).view(1, 1, 4, 4)

    assert pictured(road_most_relevant_first, maps).tolist() == [0]
    assert pictured(road_least_relevant_first, maps).tolist() == [1]
    assert pictured(road, maps).tolist() == [0.5]
    assert pictured(road, -maps).tolist() == [-0.5]


def test_percentiles_say_how_many_pixels_go():
    maps = torch.arange(16.0).view(1, 1, 4, 4)  # the bright pixel is the lowest

    least = pictured(road_least_relevant_first, maps, percentiles=(6, 50))
    assert least.tolist() == [0]
    # The sixth best stays where the worst quarter goes.
    sixth = torch.arange(16.0).roll(6).view(1, 1, 4, 4)
    kept = pictured(road_least_relevant_first, sixth, percentiles=[25])
    assert kept.tolist() == [1]
    # 14 of 16 pixels go; with 15, only the bright one is left.
    most = pictured(road_most_relevant_first, maps, percentiles=(25, 50, 90, 94))
    assert most.tolist() == [1]


def test_equal_values_go_in_row_order():
    maps = torch.zeros(1, 1, 4, 4)

    assert pictured(road_most_relevant_first, maps, percentiles=[6]).item() == 0
    assert pictured(road_least_relevant_first, maps, percentiles=[90]).item() == 1


def test_the_score_is_that_of_the_imputed_image():
    image = torch.rand(1, 3, 6, 7, dtype=torch.float64)
    maps = torch.rand(1, 1, 6, 7, dtype=torch.float64)
    weights = torch.randn(3, 6, 7, dtype=torch.float64)

    def model(x):
        return (x * weights).flatten(1).sum(1)

    found = road(model, image, maps, score="identity", noise=0.0)

    order = maps.flatten().argsort(descending=True)
    expected = 0
    for percentile in (20, 40, 60, 80):
        count = round(percentile / 100 * 42)
        for sign, gone in ((-1, order[:count]), (1, order[-count:])):
            known = torch.ones(42, dtype=torch.bool)
            known[gone] = False
            imputed = dense_imputation(image[0], known.view(6, 7))
            expected += sign * model(imputed.unsqueeze(0)) / 8
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("metric", ALL)
def test_noise_comes_from_the_generator_alone(metric):
    maps, inputs = torch.rand(2, 1, 5, 5), torch.rand(2, 3, 5, 5)
    state = torch.random.get_rng_state()

    def run(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        return metric(
            lambda x: x.flatten(1).pow(2).sum(1),
            inputs,
            maps,
            score="identity",
            generator=generator,
            **options,
        )

    assert torch.equal(run(1, internal_batch_size=1), run(1, internal_batch_size=3))
    assert not torch.equal(run(1), run(2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_noise_is_added_to_removed_pixels_alone():
    seen = []

    def model(x):
        seen.append(x)
        return x.flatten(1).sum(1)

    maps, image = torch.arange(100.0).view(1, 1, 10, 10), torch.zeros(1, 1, 10, 10)
    road_most_relevant_first(
        model, image, maps, score="identity", noise=0.5, percentiles=[50]
    )

    kept, removed = seen[0].flatten().split(50)
    assert kept.eq(0).all()
    assert 0.3 < removed.std() < 0.7


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"percentiles": []}, r"percentiles must each remove at least one pixel"),
        ({"percentiles": [1]}, "leave one, got"),
        ({"percentiles": [50, 99]}, r"got \(50, 99\) for 16 pixels"),
        ({"noise": -0.1}, "noise must be a standard deviation of 0 or more, got -0.1"),
    ],
)
def test_bad_arguments_are_refused(metric, options, match):
    with pytest.raises(ValueError, match=match):
        pictured(metric, torch.rand(1, 1, 4, 4), **options)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("size", [(8,), (4, 4, 4)])
def test_only_images_can_be_imputed(metric, size):
    inputs = torch.rand(1, 1, *size)

    with pytest.raises(ValueError, match="must have two spatial dimensions"):
        metric(bright, inputs, inputs, score="identity")
