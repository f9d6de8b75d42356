import math

import pytest
import torch

from captum_iscam.metrics import (
    boxes_to_masks,
    energy_pointing_game,
    mask_iou,
    pointing_game,
    top_k_intersection,
)

ALL = [energy_pointing_game, mask_iou, pointing_game, top_k_intersection]


def grid(*rows):
    return torch.tensor([[rows]], dtype=torch.float32)


MASK = grid([1, 1, 0], [0, 0, 0])


@pytest.mark.parametrize(
    ("maps", "share"),
    [
        (grid([1, 2, 0], [0, 0, 0]), 1),
        (grid([0, 0, 1], [2, 0, 0]), 0),
        (grid([1, 2, 3], [2, 0, 0]), 3 / 8),
        (grid([3, -9, 1], [-5, 0, 0]), 3 / 4),  # what is negative counts as nothing
        (grid([1, 1, 1], [1, 1, 1]), 1 / 3),  # a constant map has the mask's area
        (grid([0, 0, 0], [0, 0, 0]), 0),
        (grid([-1, -1, -2], [-1, -1, -1]), 0),
        (grid([1e38, 1e38, 2e38], [1e38, 1e38, 0]), 2 / 6),
    ],
)
def test_energy_is_the_share_of_the_positive_map_inside(maps, share):
    assert energy_pointing_game(maps, MASK).tolist() == [pytest.approx(share)]


@pytest.mark.parametrize(
    ("maps", "share"),
    [
        (grid([0, 2, 1], [0, 0, 0]), 1),
        (grid([0, 1, 2], [0, 0, 0]), 0),
        (grid([2, 1, 2], [0, 2, 2]), 1 / 4),  # the chance among four maxima
        (grid([0, 0, 0], [0, 0, 0]), 1 / 3),
        (grid([-1, -2, -3], [-4, -5, -6]), 1),
    ],
)
def test_pointing_is_the_chance_of_the_maximum_to_hit(maps, share):
    assert pointing_game(maps, MASK).tolist() == [pytest.approx(share)]


@pytest.mark.parametrize(
    ("tolerance", "hits"), [(0, 0), (1, 0), (1.4, 0), (1.5, 1), (2, 1), (100, 1)]
)
def test_tolerance_is_a_distance_from_the_mask(tolerance, hits):
    # The maximum lies one to the right and one below the mask: sqrt(2) away.
    maps = grid([0, 0, 0], [0, 0, 1])

    assert pointing_game(maps, MASK, tolerance=tolerance).tolist() == [hits]


def test_tolerance_does_not_reach_around_the_border():
    maps = grid([0, 0, 0, 1])

    assert pointing_game(maps, grid([1, 0, 0, 0]), tolerance=2).tolist() == [0]
    assert pointing_game(maps, grid([1, 0, 0, 0]), tolerance=3).tolist() == [1]


@pytest.mark.parametrize(
    ("threshold", "iou"), [(0, 2 / 4), (0.25, 2 / 3), (0.5, 1), (0.75, 1 / 2)]
)
def test_iou_counts_what_is_above_the_threshold(threshold, iou):
    maps = grid([6, 5, 4], [2, 2, 3])  # scaled 1, 3/4, 1/2, 0, 0, 1/4

    found = mask_iou(maps, MASK, threshold=threshold)

    assert found.tolist() == [pytest.approx(iou)]


def test_iou_of_a_constant_map_is_zero():
    assert mask_iou(grid([3, 3, 3], [3, 3, 3]), MASK, threshold=0).tolist() == [0]


@pytest.mark.parametrize(
    ("k", "share"), [(1, 0), (2, 1 / 2), (3, 2 / 3), (6, 2 / 6), (None, 1 / 2)]
)
def test_top_k_is_the_share_of_the_best_pixels_inside(k, share):
    maps = grid([4, 5, 6], [1, 2, 3])

    assert top_k_intersection(maps, MASK, k=k).tolist() == [pytest.approx(share)]


@pytest.mark.parametrize(
    ("k", "hits"), [(1, 1), (2, 1 + 1 / 3), (3, 1 + 2 / 3), (4, 2), (5, 2)]
)
def test_ties_at_the_k_th_place_count_by_chance(k, hits):
    maps = grid([9, 5, 5], [5, 1, 1])

    found = top_k_intersection(maps, MASK, k=k)

    assert found.tolist() == [pytest.approx(hits / k)]


def test_a_constant_map_scores_the_area_of_the_mask():
    maps = torch.full((1, 1, 5, 7), 0.3)
    masks = torch.rand(1, 50, 60) > 0.7

    area = masks.float().mean().item()
    assert top_k_intersection(maps, masks).item() == pytest.approx(area)
    assert pointing_game(maps, masks).item() == pytest.approx(area)
    assert energy_pointing_game(maps, masks).item() == pytest.approx(area)


@pytest.mark.parametrize("metric", ALL)
def test_a_map_that_is_the_mask_is_perfect(metric):
    masks = boxes_to_masks([[(0, 0, 3, 4)], [(7, 5, 8, 6)]], (6, 8))

    assert metric(masks.float(), masks).tolist() == [1, 1]
    assert metric(-masks.double(), masks).tolist() == [0, 0]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_masks_come_in_any_type_with_or_without_a_channel(metric, dtype):
    maps = torch.rand(2, 1, 3, 4)
    masks = (torch.rand(2, 1, 6, 8) > 0.5).to(dtype)
    expected = metric(maps, masks.bool())

    assert torch.equal(metric(maps, masks), expected)
    assert torch.equal(metric(maps, masks.squeeze(1)), expected)


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("size", [(9,), (4, 5, 6)])
def test_one_and_three_dimensions_work(metric, size):
    masks = torch.zeros(1, 1, *size)
    masks[(0, 0, *[0] * len(size))] = 1

    assert metric(masks, masks).tolist() == [1]


@pytest.mark.parametrize("metric", ALL)
def test_layer_maps_are_brought_to_the_size_of_the_mask(metric):
    maps = grid([0, 0, 0, 1], [0, 0, 0, 0])
    masks = boxes_to_masks([[(24, 0, 32, 8)]], (16, 32))

    # Linear interpolation leaves some of the map outside, its peak inside.
    assert 0.5 < metric(maps, masks).item() <= 1


@pytest.mark.parametrize(
    ("metric", "options", "quantus"),
    [
        (pointing_game, {}, [0, 1, 1]),
        (top_k_intersection, {"k": 10}, [0.3, 0.1, 0.3]),
        (energy_pointing_game, {}, [0.2857317773, 0.1947452352, 0.2875773144]),
    ],
)
def test_values_agree_with_quantus(metric, options, quantus):
    # What PointingGame, TopKIntersection(k=10) and AttributionLocalisation(
    # positive_attributions=True) of Quantus 0.6.0 gave for these maps and this mask,
    # each with normalise=False, and abs=False but for the last, which sets it.
    place = torch.arange(1.0, 49.0, dtype=torch.float64)
    maps = torch.stack([torch.sin(place * f) for f in (1, 2, 3)]).view(3, 1, 6, 8)
    masks = boxes_to_masks([[(2, 1, 6, 4)]] * 3, (6, 8))

    found = metric(maps, masks, **options)

    assert found.tolist() == pytest.approx(quantus, abs=1e-6)


@pytest.mark.parametrize("metric", ALL)
def test_nan_maps_are_reported_for_their_example(metric):
    maps = torch.rand(3, 1, 4, 4)
    maps[1, 0, 2, 2] = math.nan
    masks = torch.ones(3, 4, 4)

    assert metric(maps, masks).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    ("masks", "match"),
    [
        (torch.zeros(2, 4, 4), "an empty mask for example 0"),
        (torch.full((2, 4, 4), 0.5), "nothing but 0 and 1, got 0.5"),
        (torch.ones(2, 3, 4), r"size of the input, got \(3, 4\) for maps of size"),
        (torch.ones(3, 4, 4), "one map per example, got 2 for 3"),
        (torch.ones(2, 3, 4, 4), r"shape \(N, 1, ...\) or \(N, ...\)"),
        (torch.ones(2, 4), r"as many spatial dimensions as the maps"),
    ],
)
def test_masks_that_do_not_fit_are_refused(metric, masks, match):
    with pytest.raises(ValueError, match=match):
        metric(torch.rand(2, 1, 4, 4), masks)


@pytest.mark.parametrize("metric", ALL)
def test_masks_must_be_tensors(metric):
    with pytest.raises(TypeError, match="masks must be a tensor, got list"):
        metric(torch.rand(1, 1, 2, 2), [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("metric", "options", "match"),
    [
        (pointing_game, {"tolerance": -1}, "tolerance must be a distance of 0 or more"),
        (pointing_game, {"tolerance": math.nan}, "tolerance must be"),
        (mask_iou, {"threshold": 1}, "threshold must be from 0 to below 1, got 1"),
        (mask_iou, {"threshold": -0.1}, "threshold must be from 0"),
        (top_k_intersection, {"k": 2.5}, "k must be an integer between 1"),
        (
            top_k_intersection,
            {"k": 0},
            "k must be an integer between 1 and the",
        ),
        (
            top_k_intersection,
            {"k": 7},
            "k must be an integer .* 6, got 7",
        ),
    ],
)
def test_bad_arguments_are_refused(metric, options, match):
    with pytest.raises(ValueError, match=match):
        metric(grid([0, 0, 0], [0, 0, 1]), MASK, **options)


def test_boxes_are_united_half_open_columns_and_rows():
    masks = boxes_to_masks([[(0, 0, 1, 2), (2, 1, 3, 2)], [(0, 0, 3, 1)]], (2, 3))

    expected = [[[1, 0, 0], [1, 0, 1]], [[1, 1, 1], [0, 0, 0]]]
    assert masks.squeeze(1).int().tolist() == expected


@pytest.mark.parametrize(
    ("boxes", "match"),
    [
        ([[]], "at least one box"),
        ([[(0, 0, 1)]], r"got shape \(1, 3\) for example 0"),
        ([[(1, 0, 1, 1)]], "not empty"),
        ([[(2, 0, 1, 1)]], "not empty"),
        ([[(0, 0, 4, 1)]], r"inside the image and not empty, got \(0, 0, 4, 1\)"),
        ([[(-1, 0, 2, 1)]], "inside the image"),
        ([[(0, 0, 1, 3)]], "3 wide and 2 high"),
    ],
)
def test_empty_boxes_and_boxes_outside_are_refused(boxes, match):
    with pytest.raises(ValueError, match=match):
        boxes_to_masks(boxes, (2, 3))


def test_boxes_given_as_shares_are_refused():
    with pytest.raises(ValueError, match="boxes must be in pixels"):
        boxes_to_masks([[[0.2, 0.2, 0.9, 0.9]]], (9, 9))
