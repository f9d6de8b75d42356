"""Attainable insertion and deletion where the best order is known."""

import itertools

import pytest
import torch
from reference.spies import Calls

from captum_iscam.metrics import attainable_deletion, attainable_insertion

BOTH = pytest.mark.parametrize("metric", [attainable_insertion, attainable_deletion])
IDENTITY = {"score": "identity"}


def total(x):
    return x.flatten(1).sum(1)


def area(values, order):
    """The mean change of an additive score in an order of its parts."""
    scores = [0.0, *itertools.accumulate(values[i] for i in order)]
    return sum((a + b) / 2 for a, b in itertools.pairwise(scores)) / len(values)


@BOTH
@pytest.mark.parametrize("shape", [(6,), (2, 2), (2, 2, 2)])
def test_of_an_additive_network_it_is_the_share_of_the_best_order(metric, shape):
    torch.manual_seed(0)
    parts = torch.rand(shape).double()
    maps, values = torch.rand(1, 1, *shape).double(), parts.flatten().tolist()

    found = metric(total, parts[None, None], maps, patches=shape[0], **IDENTITY)

    order = maps.flatten().argsort(descending=True).tolist()
    best = max(area(values, p) for p in itertools.permutations(range(len(values))))
    assert found.item() == pytest.approx(area(values, order) / best)


@BOTH
def test_the_effect_itself_attains_all_and_its_opposite_the_least(metric):
    image = torch.rand(3, 1, 6, 6)

    ours = metric(total, image, image, patches=3, **IDENTITY)
    worst = metric(total, image, -image, patches=3, **IDENTITY)
    other = metric(total, image, torch.rand(3, 1, 6, 6), patches=3, **IDENTITY)

    torch.testing.assert_close(ours, torch.ones(3))
    assert ((worst < other) & (other < ours)).all()


@BOTH
def test_a_factor_and_a_shift_of_the_score_do_not_matter(metric):
    image, maps = torch.rand(2, 1, 6, 6).double(), torch.rand(2, 1, 6, 6).double()

    plain = metric(total, image, maps, patches=3, **IDENTITY)
    moved = metric(lambda x: 7 * total(x) - 300, image, maps, patches=3, **IDENTITY)

    torch.testing.assert_close(moved, plain)


@BOTH
def test_it_takes_a_pass_for_every_patch_that_is_left(metric):
    model = Calls(total)

    for _ in range(2):
        metric(model, torch.rand(1, 1, 7, 7), torch.rand(1, 1, 7, 7), **IDENTITY)

    # The first call asks whether scores are steady.
    assert sum(model.rows) == 1275 + 4 + 1275


@BOTH
def test_where_nothing_can_be_attained_it_is_undefined(metric):
    image = torch.rand(2, 1, 4, 4)

    found = metric(lambda x: 0 * total(x) + 1, image, image, patches=2, **IDENTITY)
    wrong = metric(lambda x: -total(x), image, image, patches=2, **IDENTITY)

    assert found.isnan().all()
    assert wrong.isnan().all()


def test_a_greedy_order_sees_what_patches_do_together():
    # The score needs both patches of the left column; nothing else matters.
    def both(x):
        return x[:, 0, 0, 0] * x[:, 0, 1, 0] + 0.01 * x[:, 0, 0, 0]

    image = torch.ones(1, 1, 2, 2).double()
    left = torch.tensor([[[[2.0, 0.0], [1.0, 0.0]]]]).double()

    assert attainable_insertion(both, image, left, patches=2, **IDENTITY).item() == 1
    right = left.flip(3)
    assert attainable_insertion(both, image, right, patches=2, **IDENTITY).item() < 0.5
