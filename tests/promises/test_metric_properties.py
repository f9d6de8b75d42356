"""Properties that hold for any data."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from captum_iscam.metrics import (
    average_drop,
    average_increase,
    complexity,
    deletion,
    energy_pointing_game,
    insertion,
    mask_iou,
    pointing_game,
    sparseness,
    top_k_intersection,
)

numbers = st.floats(-100, 100, width=32)
positive = st.floats(0, 100, width=32)
grids = arrays("float32", (3, 1, 4, 3), elements=numbers).map(torch.from_numpy)
few_values = arrays("float32", (3, 1, 4, 3), elements=st.sampled_from([0, 1, 2]))
amounts = arrays("float32", (3, 1, 4, 3), elements=positive).map(torch.from_numpy)
masks = (
    arrays("bool", (3, 1, 4, 3))
    .filter(lambda mask: mask.any((1, 2, 3)).all())
    .map(torch.from_numpy)
)
quick = settings(max_examples=50, deadline=None)


def total(x):
    return x.double().flatten(1).sum(1)


def sigmoid_of_total(x):
    return torch.sigmoid(total(x) / 50)


@quick
@given(images=grids, maps=grids, keep=st.sampled_from([None, 0.3, 0.5]))
def test_average_drop_never_exceeds_what_increase_leaves(images, maps, keep):
    drop = average_drop(sigmoid_of_total, images, maps, score="identity", keep=keep)
    increase = average_increase(
        sigmoid_of_total, images, maps, score="identity", keep=keep
    )

    assert drop.mean() <= 100 - increase.mean() + 1e-4
    assert ((drop >= 0) & (drop <= 100)).all()


@quick
@given(images=amounts, maps=grids, steps=st.integers(1, 12))
def test_no_ranking_deletes_or_inserts_better_than_the_perfect_one(images, maps, steps):
    options = {"score": "identity", "steps": steps}

    best = deletion(total, images, images, **options)
    assert (best <= deletion(total, images, maps, **options) + 1e-3).all()
    best = insertion(total, images, images, **options)
    assert (best >= insertion(total, images, maps, **options) - 1e-3).all()


@quick
@given(images=grids, maps=grids, steps=st.integers(1, 12))
def test_deletion_by_a_map_is_insertion_by_its_reverse(images, maps, steps):
    # What a deletion has removed after i pixels is what the insertion of the reversed
    # ranking has not shown yet, so the two curves are one, read from both ends.
    distinct = maps.flatten(1).argsort(1).argsort(1).view(maps.shape).float()
    count = 12 // steps

    forwards = deletion(
        total,
        images,
        distinct,
        score="identity",
        pixels_per_step=count,
        return_curves=True,
    )
    backwards = insertion(
        total,
        images,
        -distinct,
        score="identity",
        pixels_per_step=count,
        return_curves=True,
    )
    if 12 % count == 0:
        torch.testing.assert_close(forwards.scores, backwards.scores.flip(1))


@quick
@given(maps=grids, factor=st.sampled_from([2.0, 4.0, 1024.0]), masks=masks)
def test_a_positive_scale_does_not_matter(maps, factor, masks):
    # Powers of two above 1 scale without rounding: no tie appears or vanishes.
    for metric in (complexity, sparseness):
        torch.testing.assert_close(metric(factor * maps), metric(maps))
    for metric in (energy_pointing_game, mask_iou, pointing_game, top_k_intersection):
        torch.testing.assert_close(metric(factor * maps, masks), metric(maps, masks))


@quick
@given(maps=few_values.map(torch.from_numpy), masks=masks, k=st.integers(1, 12))
def test_localisation_is_a_share_that_complements_to_one(maps, masks, k):
    outside = ~masks
    for metric in (pointing_game, top_k_intersection):
        options = {"k": k} if metric is top_k_intersection else {}
        inside = metric(maps, masks, **options)
        assert ((inside >= 0) & (inside <= 1 + 1e-6)).all()
        if outside.flatten(1).any(1).all():
            other = metric(maps, outside, **options)
            torch.testing.assert_close(inside + other, torch.ones(3))


@quick
@given(images=grids, maps=few_values.map(torch.from_numpy))
def test_a_batch_gives_what_one_by_one_gives(images, maps):
    for metric in (average_drop, deletion, insertion):
        options = {"score": "identity"}
        if metric is not average_drop:
            options["steps"] = 5
        together = metric(sigmoid_of_total, images, maps, **options)
        alone = [
            metric(sigmoid_of_total, x[None], m[None], **options)
            for x, m in zip(images, maps, strict=True)
        ]
        torch.testing.assert_close(together, torch.cat(alone))
