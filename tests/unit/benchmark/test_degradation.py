"""Maps that are made worse, and the share of right orders."""

import pytest
import torch

from captum_iscam.benchmark.degradation import (
    ability,
    degraded_maps,
    judges_maps,
    orders,
)
from captum_iscam.benchmark.metric_registry import METRICS


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
    judged = orders(distance, only, higher_is_better=higher)

    assert judged == {kind: [1.0] * (len(steps) - 1) for kind, steps in only.items()}
    assert ability([judged]).share == 1
    assert ability([judged]).can_judge


def test_equal_values_count_half_and_undefined_ones_not_at_all(maps):
    found, *_ = maps

    equal = orders(lambda values: 3.0, found, higher_is_better=True)
    undefined = orders(lambda values: None, found, higher_is_better=True)

    assert sum(map(len, equal.values())) == 8
    assert set(ability([equal]).shares.values()) == {0.5}
    assert ability([undefined]) == (0, {}, None, 1.0)
    assert ability([undefined]).can_judge is None
    assert ability([equal, undefined])[:3] == (1, ability([equal]).shares, 0.5)
    assert ability([equal, undefined]).undefined == 0.5


def test_each_kind_counts_alike():
    judged = {"noise": [1.0, 1.0], "flip": [0.0]}

    assert ability([judged]) == (1, {"noise": 1.0, "flip": 0.0}, 0.5, 0.0)


def test_exactly_four_of_five_right_orders_can_judge():
    by_kind = {kind: [1.0] for kind in ("noise", "shift", "flip", "other class")}

    assert ability([{**by_kind, "constant": [0.0]}]).can_judge
    assert not ability([{**by_kind, "flip": [0.5], "constant": [0.0]}]).can_judge


def test_what_is_no_worse_is_no_copy(maps):
    _, own, other = maps
    noise = torch.Generator().manual_seed(0)

    for without in (None, torch.zeros_like(other)):
        found = degraded_maps(own, without, noise)
        assert list(found) == ["noise", "shift", "flip", "constant"]
    # Nor is anything worse than a map that says nothing.
    assert degraded_maps(torch.ones_like(own), other, noise) == {}
    assert orders(lambda values: 3.0, {}, higher_is_better=True) == {}
    assert ability([{}]) == (0, {}, None, 0.0)


def test_metrics_that_call_the_method_or_have_no_direction_judge_no_map():
    judging = {name for name, spec in METRICS.items() if judges_maps(spec)}

    assert {"insertion", "pointing_game", "sparseness", "infidelity"} <= judging
    assert judging.isdisjoint({"sensitivity_max", "target_sensitivity", "coherency"})
