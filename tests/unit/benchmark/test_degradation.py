"""Maps that are made worse, and the share of right orders."""

import pytest
import torch

from captum_iscam.benchmark.degradation import (
    Order,
    degraded_maps,
    orders,
    share_of_right_orders,
)


@pytest.fixture
def maps():
    torch.manual_seed(0)
    own, other = torch.rand(1, 1, 8, 8) * 7 - 2, torch.rand(1, 1, 8, 8)
    return degraded_maps(own, other, torch.Generator().manual_seed(0)), own, other


def test_each_kind_begins_with_the_map_itself(maps):
    found, own, _ = maps
    expected = (own - own.min()) / (own.max() - own.min())

    assert list(found) == ["noise", "shift", "flip", "other class", "constant"]
    for steps in found.values():
        torch.testing.assert_close(steps[0], expected)
        assert all(step.shape == own.shape for step in steps)


def test_the_steps_are_what_they_say(maps):
    found, _, other = maps
    whole = found["flip"][0]

    assert torch.equal(found["shift"][1], whole.roll((2, 2), (2, 3)))
    assert torch.equal(found["shift"][2], whole.roll((4, 4), (2, 3)))
    assert torch.equal(found["flip"][1], whole.flip(2, 3))
    another = (other - other.min()) / (other.max() - other.min())
    torch.testing.assert_close(found["other class"][2], another)
    torch.testing.assert_close(found["other class"][1], (whole + another) / 2)
    assert found["constant"][1].unique().tolist() == [0.5]


@pytest.mark.parametrize("higher", [True, False])
def test_a_metric_that_knows_the_map_has_every_order_right(maps, higher):
    found, *_ = maps
    whole, sign = found["flip"][0], -1 if higher else 1

    def distance(values):
        # Half of the way is half of the distance.
        return sign * (values - whole).norm().item()

    only = {kind: steps for kind, steps in found.items() if kind != "shift"}
    judged = list(orders(distance, only, higher_is_better=higher))

    assert [order.right for order in judged] == [1.0] * 6
    assert share_of_right_orders(judged)["all"] == 1


def test_equal_values_count_half_and_undefined_ones_not_at_all(maps):
    found, *_ = maps

    equal = list(orders(lambda values: 3.0, found, higher_is_better=True))
    undefined = list(orders(lambda values: None, found, higher_is_better=True))

    assert len(equal) == 8
    assert set(share_of_right_orders(equal).values()) == {0.5}
    assert share_of_right_orders(undefined) == {}


def test_each_kind_counts_alike():
    judged = [Order("noise", 1, 1.0), Order("noise", 2, 1.0), Order("flip", 1, 0.0)]

    assert share_of_right_orders(judged) == {"noise": 1.0, "flip": 0.0, "all": 0.5}
