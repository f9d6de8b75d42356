"""The intervals against scipy and closed forms, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from captum_iscam.benchmark.bootstrap import (
    bootstrap,
    common_grid,
    on_grid,
    pairs,
    win_shares,
)

RNG = np.random.default_rng(7)


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(1).gamma(2.0, size=(150, 1))

    found = bootstrap(values, n_resamples=20_000)

    reference = stats.bootstrap(
        (values[:, 0],), np.mean, n_resamples=20_000, method="percentile", rng=2
    )
    assert found.mean == pytest.approx(values.mean())
    # Two sets of 20,000 resamples differ by about 1.5 % of the standard error.
    tolerance = 0.06 * reference.standard_error
    assert found.low[0] == pytest.approx(
        reference.confidence_interval.low, abs=tolerance
    )
    assert found.high[0] == pytest.approx(
        reference.confidence_interval.high, abs=tolerance
    )


def test_the_difference_is_paired_as_scipy_pairs_it():
    rng = np.random.default_rng(2)
    image = rng.normal(0, 5, 100)
    first = image + rng.normal(0.2, 0.1, 100)

    ((a, b, found),) = pairs(np.stack([first, image], axis=1), n_resamples=20_000)

    reference = stats.bootstrap(
        (first, image),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=3,
    )
    assert (a, b) == (0, 1)
    assert found.mean == pytest.approx(np.mean(first - image))
    tolerance = 0.06 * reference.standard_error
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=tolerance)
    assert found.high == pytest.approx(
        reference.confidence_interval.high, abs=tolerance
    )
    # Images differ fifty times as much as methods do: unpaired, nothing would be seen.
    assert found.high - found.low < 0.1


def test_a_share_has_the_interval_of_the_binomial():
    values = np.repeat([0.0, 100.0], [140, 60])[:, None]

    found = bootstrap(values)

    low, high = stats.binom(200, 0.3).ppf([0.025, 0.975]) / 2
    assert found.mean[0] == pytest.approx(30)
    assert found.low[0] == pytest.approx(low, abs=0.51)
    assert found.high[0] == pytest.approx(high, abs=0.51)


@pytest.mark.parametrize("skewed", [False, True])
def test_95_of_100_intervals_hold_the_true_mean(skewed):
    rng = np.random.default_rng(5)
    shape = (200, 1000)
    draws = rng.beta(0.5, 1.5, shape) if skewed else rng.normal(0.25, 1, shape)

    found = bootstrap(draws, n_resamples=1000)

    held = np.mean((found.low <= 0.25) & (found.high >= 0.25))
    assert 0.93 <= held <= 0.97


def test_a_missing_value_counts_in_its_own_column_alone():
    values = RNG.normal(size=(40, 2))
    holes = values.copy()
    holes[30:, 1] = np.nan

    full, found = bootstrap(values), bootstrap(holes)

    assert found.n.tolist() == [40, 30]
    assert found.mean[1] == pytest.approx(values[:30, 1].mean())
    assert (found.low[0], found.high[0]) == (full.low[0], full.high[0])
    # The width is that of 30 values.
    alone = bootstrap(values[:30, 1:])
    assert found.high[1] - found.low[1] == pytest.approx(
        alone.high[0] - alone.low[0], rel=0.05
    )


def test_a_sparse_column_has_an_interval():
    values = np.full((60, 1), np.nan)
    values[:2, 0] = 1.0, 2.0

    found = bootstrap(values)

    assert (found.low[0], found.high[0]) == (1.0, 2.0)


@pytest.mark.parametrize("rows", [[[0.3]], [[0.3], [np.nan]]])
def test_one_value_has_no_interval(rows):
    found = bootstrap(np.array(rows))

    assert found.mean[0] == 0.3
    assert np.isnan([found.low[0], found.high[0]]).all()


def test_no_value_has_no_mean():
    found = bootstrap(np.full((3, 1), np.nan))

    assert found.n[0] == 0
    assert np.isnan(found.mean[0])


def test_a_constant_column_has_an_interval_of_no_width():
    found = bootstrap(np.full((7, 1), 0.1))

    assert found.low[0] == pytest.approx(0.1, abs=1e-15)
    assert found.high[0] == pytest.approx(0.1, abs=1e-15)


def test_parts_and_columns_do_not_change_the_resamples(monkeypatch):
    values = RNG.normal(size=(31, 3))

    whole = bootstrap(values, n_resamples=500)
    monkeypatch.setattr("captum_iscam.benchmark.bootstrap._MOST_DRAWS", 31 * 7)
    parts = bootstrap(values[:, 1:2], n_resamples=500)

    assert parts.low[0] == pytest.approx(whole.low[1], abs=1e-12)
    assert parts.high[0] == pytest.approx(whole.high[1], abs=1e-12)


def test_pairs_use_images_on_which_both_have_a_value():
    values = np.array([[1.0, 0.0], [np.nan, 5.0], [3.0, 0.0], [9.0, np.nan]])

    ((_, _, found),) = pairs(values)

    assert (found.n, found.mean) == (2, 2.0)


def test_one_method_has_no_pairs():
    assert pairs(np.zeros((3, 1))) == []


def test_wins_follow_the_direction_and_ties_count_half():
    values = np.array([[3.0, 1.0], [1.0, 2.0], [2.0, 2.0], [5.0, np.nan], [4.0, 0.0]])

    higher = win_shares(values, higher_is_better=True)
    lower = win_shares(values, higher_is_better=False)

    assert higher[0, 1] == (2 + 0.5) / 4
    assert higher[1, 0] == (1 + 0.5) / 4
    assert lower[0, 1] == higher[1, 0]
    assert np.isnan(np.diag(higher)).all()


@pytest.mark.parametrize("higher", [True, False])
@pytest.mark.parametrize("size", [1e-30, 1, -100])
def test_values_that_differ_by_rounding_tie(size, higher):
    values = size * np.array([[1.0, 1 + 9e-6], [1 + 3e-7, 1.0], [1.0, 1.00002]])

    shares = win_shares(values, higher_is_better=higher)

    second = higher == (size > 0)  # is the second column better on the last image?
    assert shares[0, 1] == pytest.approx((1 + (not second)) / 3)


def test_methods_without_common_images_have_no_wins():
    values = np.array([[1.0, np.nan], [np.nan, 1.0]])

    assert np.isnan(win_shares(values, higher_is_better=True)).all()


def test_curves_of_different_steps_meet_on_one_grid():
    grid = common_grid([3, 5])

    scores = on_grid([0, 0.5, 1], [0, 1, 0], grid)

    assert grid.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert scores.tolist() == [0, 0.5, 1, 0.5, 0]


def test_the_grid_does_not_grow_with_every_pixel():
    assert len(common_grid([50_177])) == 101


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("n", [30, 50, 200])
def test_an_end_at_zero_is_zero(n, sign):
    values = np.zeros((n, 1))
    values[:2] = 0.3 * sign

    found = bootstrap(values)

    assert (found.low if sign > 0 else found.high)[0] == 0
