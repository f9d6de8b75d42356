"""Drop, increase, gain and win rate where they can be worked out by hand."""

import math

import pytest
import torch
from reference.spies import Calls

from captum_iscam.metrics import (
    average_drop,
    average_gain,
    average_increase,
    win_rate,
)

PLANTED = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 0.0, -2.0]]]])  # sums to 8


def total(x):
    return x.flatten(1).sum(1)


def call(metric, maps, inputs=PLANTED, **options):
    return metric(total, inputs, maps, score="identity", **options).tolist()


@pytest.mark.parametrize(
    ("shown", "drop", "absolute"),
    [
        ([[0, 0, 1], [1, 0, 0]], 100 * 1 / 8, 100),
        ([[1, 0, 0], [0, 0, 0]], 100 * 7 / 8, 700),
        ([[1, 1, 1], [1, 0, 0]], 0, 0),  # a gain of 2 counts as no drop
        ([[0, 0, 0], [0, 0, 1]], 100 * 10 / 8, 1000),
    ],
)
def test_drop_of_a_sum_is_the_share_of_what_is_hidden(shown, drop, absolute):
    maps = torch.tensor([[shown]], dtype=torch.float32)

    assert call(average_drop, maps) == [drop]
    assert call(average_drop, maps, absolute=True) == [absolute]


@pytest.mark.parametrize(
    ("shown", "increase"),
    [
        ([[1, 1, 1], [1, 0, 0]], 100),
        ([[0, 1, 1], [1, 0, 0]], 100),  # 9 > 8
        ([[0, 1, 1], [1, 0, 0.5]], 0),  # 8 = 8 is no increase
        ([[0, 0, 1], [1, 0, 0]], 0),
    ],
)
def test_an_increase_counts_a_higher_score_only(shown, increase):
    assert call(average_increase, torch.tensor([[shown]]).float()) == [increase]


def test_the_mask_is_the_min_max_scaled_map():
    maps = torch.tensor([[[[2.0, 2.0, 3.0], [4.0, 2.0, 2.0]]]])

    # Masks 1/2 and 1: 1.5 + 4 of 8 are left.
    assert call(average_drop, maps) == [100 * 2.5 / 8]


def test_the_map_lets_through_what_differs_from_the_baseline():
    maps = torch.tensor([[[[0.0, 0.0, 0.5], [1.0, 0.0, 0.0]]]])

    # Hidden pixels show 1, half hidden ones the middle: 1+1+2+4+1+1 = 10.
    assert call(average_increase, maps, baselines=1) == [100]
    # With a baseline of -1: -1-1+1+4-1-1 = 1.
    baseline = torch.full((1, 1, 2, 3), -1.0)
    assert call(average_drop, maps, baselines=baseline) == [100 * 7 / 8]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, 1 * 0.2 + 2 * 0.4 + 3 * 0.8 + 4 - 2 * 0.6),
        ({"keep": 0.5}, 3 * 0.8 + 4 - 2 * 0.6),
        ({"keep": 0.5, "binary": True}, 3 + 4 - 2),
        ({"keep": 1 / 6, "binary": True}, 4),
        ({"keep": 0.01, "binary": True}, 4),  # never less than one pixel
        ({"keep": 1.0, "binary": True}, 8),
    ],
)
def test_keep_cuts_at_a_share_of_the_pixels(options, left):
    maps = torch.tensor([[[[1.0, 2.0, 4.0], [5.0, 0.0, 3.0]]]], dtype=torch.float64)

    found = call(average_drop, maps, inputs=PLANTED.double(), **options)

    assert found == [pytest.approx(100 * (8 - left) / 8)]


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_map_shows_the_baseline(value):
    maps = torch.full((1, 1, 1, 2), value)

    assert call(average_drop, maps) == [100]
    assert call(average_drop, maps, baselines=2) == [0]


def test_a_constant_map_that_is_cut_keeps_the_first_pixels():
    maps = torch.full((1, 1, 2, 3), 0.7)

    # The top row, 1 + 2 + 3 of 8.
    assert call(average_drop, maps, keep=0.5, binary=True) == [100 * 2 / 8]


def test_one_pixel():
    image, maps = torch.full((1, 1, 1, 1), 3.0), torch.ones(1, 1, 1, 1)

    assert call(average_drop, maps, inputs=image) == [100]
    assert call(average_drop, maps, inputs=image, keep=0.5, binary=True) == [0]


@pytest.mark.parametrize(
    ("before", "after", "gain"),
    [(0.5, 0.75, 50), (0.5, 0.25, 0), (0.0, 1.0, 100), (1.0, 1.0, 0), (1.0, 0.5, 0)],
)
def test_gain_is_the_share_of_the_room_that_is_filled(before, after, gain):
    image = torch.tensor([[[after, before - after]]])
    maps = torch.tensor([[[1.0, 0.0]]])

    assert call(average_gain, maps, inputs=image) == [gain]


@pytest.mark.parametrize("image", [[1.0, 0.5], [-0.25, 0.5], [2.0, -1.5]])
def test_gain_refuses_what_is_no_probability(image):
    maps = torch.tensor([[[1.0, 0.0]]])

    with pytest.raises(ValueError, match="must be a probability for a gain"):
        call(average_gain, maps, inputs=torch.tensor([[image]]))


@pytest.mark.parametrize(
    ("ours", "theirs", "rate"),
    [
        ([1, 0, 0], [0, 1, 0], 0),
        ([0, 1, 0], [1, 0, 0], 100),
        ([1, 0, 0], [1, 0, 0], 50),
        ([1, 1, 0], [0, 1, 0], 50),  # neither drops: 3 > 2 and 2 = 2
    ],
)
def test_win_rate_compares_drops_and_halves_ties(ours, theirs, rate):
    image = torch.tensor([[[1.0, 2.0, -1.0]]])
    ours, theirs = (torch.tensor([[m]]).float() for m in (ours, theirs))

    assert call(win_rate, ours, inputs=image, rival=theirs) == [rate]


def test_win_rates_of_a_method_and_its_rival_add_up():
    image = torch.randn(50, 1, 4, 4)
    ours, theirs = torch.rand(2, 50, 1, 4, 4)

    won = torch.tensor(call(win_rate, ours, inputs=image, rival=theirs))
    lost = torch.tensor(call(win_rate, theirs, inputs=image, rival=ours))

    assert (won + lost == 100).all()
    assert 0 < won.mean() < 100


@pytest.mark.parametrize("factor", [3.0, 0.1, 1e-25, 1e18])
@pytest.mark.parametrize("score", ["softmax", "identity"])
def test_a_map_ties_with_itself_times_a_factor(factor, score):
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU(), torch.nn.Flatten()
    model = torch.nn.Sequential(*layers, torch.nn.Linear(6 * 100, 5)).eval()
    image, maps = torch.rand(40, 3, 12, 12), torch.rand(40, 1, 5, 5)

    found = win_rate(model, image, maps * factor, 0, rival=maps, score=score)

    assert set(found.tolist()) == {50}


@pytest.mark.parametrize("size", [1e-6, 1, 1e6])
@pytest.mark.parametrize(
    ("lost", "rate", "increase"), [(3e-6, 50, 0), (3e-5, 0, 0), (-3e-5, 50, 100)]
)
def test_what_rounding_changes_is_neither_won_nor_an_increase(
    lost, rate, increase, size
):
    image = size * torch.tensor([[[1.0, lost, 0.0]]])
    ours, theirs = torch.tensor([[[1.0, 0, 0]]]), torch.tensor([[[1.0, 1, 0]]])

    assert call(win_rate, ours, inputs=image, rival=theirs) == [rate]
    assert call(win_rate, theirs, inputs=image, rival=ours) == [100 - rate]
    assert call(average_increase, ours, inputs=image) == [increase]


def test_a_win_rate_is_nan_where_a_map_of_either_is():
    image, maps, rival = torch.rand(3, 3, 1, 4, 4)
    maps[0, 0, 1, 1], rival[2, 0, 0, 0] = math.nan, math.inf
    shown = Calls(total)

    found = win_rate(shown, image, maps, rival=rival, score="identity")

    assert found.isnan().tolist() == [True, False, True]
    # The image and both explanation maps, once each; and whether the score is steady.
    assert sum(shown.rows) == 3 + 1


def test_layer_maps_are_upsampled():
    image = torch.ones(1, 1, 1, 4)

    # Upsampled to 0, 1/4, 3/4, 1.
    assert call(average_drop, torch.tensor([[[[0.0, 1.0]]]]), inputs=image) == [50]


def test_several_inputs_are_masked_each_at_its_own_size():
    def model(images, signal, depth):
        return images.flatten(1).sum(1) + depth.flatten(1).sum(1) + signal.sum(1)

    inputs = (torch.ones(1, 1, 1, 4), torch.ones(1, 2), torch.ones(1, 3, 1, 2))
    maps = torch.tensor([[[[0.0, 1.0]]]])

    # 2 of 4 and 3 of 6 are left of the images, all 2 of the signal.
    found = average_drop(model, inputs, maps, score="identity")
    assert found.tolist() == [pytest.approx(100 * 5 / 12)]


def test_a_score_of_zero_has_no_relative_drop():
    image = torch.tensor([[[0.0, 0.0]], [[1.0, 1.0]]])
    maps = torch.tensor([[[1.0, 0.0]]]).expand(2, 1, 2)

    drop = call(average_drop, maps, inputs=image)

    assert math.isnan(drop[0])
    assert drop[1] == 50
    assert call(average_drop, maps, inputs=image, absolute=True) == [0, 100]


def test_a_negative_score_has_no_relative_drop():
    image = torch.tensor([[[1.0, 1.0]], [[-1.0, 0.0]]])
    maps = torch.tensor([[[1.0, 0.0]]]).expand(2, 1, 2)

    with pytest.raises(ValueError, match=r"must not be negative.*got -1 for example 1"):
        call(average_drop, maps, inputs=image)
    assert call(average_drop, maps, inputs=image, absolute=True) == [100, 0]


@pytest.mark.parametrize("keep", [0, -0.5, 1.5, math.nan])
@pytest.mark.parametrize("metric", [average_drop, average_increase, average_gain])
def test_keep_must_be_a_share(metric, keep):
    with pytest.raises(ValueError, match="keep must be a share of the pixels"):
        call(metric, PLANTED, keep=keep)


@pytest.mark.parametrize("metric", [average_drop, average_increase, average_gain])
def test_binary_needs_keep(metric):
    with pytest.raises(ValueError, match="binary must come with keep"):
        call(metric, PLANTED, binary=True)


def test_win_rate_checks_its_arguments_before_any_pass():
    def refuses(_):
        raise AssertionError

    with pytest.raises(ValueError, match="binary must come with keep"):
        win_rate(refuses, PLANTED, PLANTED, rival=PLANTED, binary=True)
