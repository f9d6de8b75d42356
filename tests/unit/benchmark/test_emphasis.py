"""Which mean is bold, which difference counts, and with how many digits."""

import numpy as np
import pytest

from captum_iscam.benchmark.emphasis import best_methods, decimals, is_distinct
from captum_iscam.benchmark.significance import MIN_IMAGES


def table(first, second, n_images=MIN_IMAGES):
    return np.stack([np.resize(first, n_images), np.resize(second, n_images)], 1)


@pytest.mark.parametrize(
    ("first", "second", "n_images", "direction", "best"),
    [
        ([0.5, 0.7], [0.1, 0.2], 30, True, {"a"}),
        ([0.5, 0.7], [0.1, 0.2], 30, False, {"b"}),
        ([0.5, 0.7], [0.1, 0.2], 30, None, set()),
        ([0.5, 0.7], [0.1, 0.2], 29, True, set()),
        # Two methods with the same maps are both the best.
        ([0.5, 0.7, 0.6], [0.5, 0.7, 0.6], 30, True, {"a", "b"}),
        # Yes or no: neither a tie nor a share of zero is a result.
        ([1, 0], [0, 1], 30, True, set()),
        ([1, 1], [1, 0], 30, True, {"a"}),
        ([0], [0], 30, True, set()),
        ([100, 0], [0, 100], 30, True, set()),
        ([0], [1, 0], 30, False, {"a"}),
    ],
)
def test_the_best(first, second, n_images, direction, best):
    values = table(first, second, n_images)

    assert best_methods(values, ["a", "b"], direction) == best


def test_a_tie_of_a_yes_no_metric_is_none_next_to_a_control_with_fractions():
    values = np.column_stack([table([1], [1]), np.linspace(0, 0.5, MIN_IMAGES)])

    assert best_methods(values, ["a", "b", "random-map"], True) == set()


def test_methods_without_values_do_not_count():
    values = table([0.5, 0.7], [np.nan])

    assert best_methods(values, ["a", "b"], True) == {"a"}
    assert best_methods(values * np.nan, ["a", "b"], True) == set()


@pytest.mark.parametrize(
    ("n", "p", "distinct"),
    [(30, 0.05, True), (30, 0.051, False), (29, 0.0001, False)],
)
def test_a_difference_counts_where_enough_images_decide_it(n, p, distinct):
    assert is_distinct({"n": n, "corrected_p": p}) is distinct


@pytest.mark.parametrize(
    ("ends", "unit", "digits"),
    [
        ([(59.7, 68.3)], "percent", 1),
        ([(28, 59)], "percent", 0),
        ([(1e-9, 2e-9)], "score", 6),
        ([(0.2, 0.2)], "score", 3),
        ([(None, None)], "percent", 1),
        ([(0.1, 0.2), (0.1, 0.2), (0.1, 0.1001)], "score", 3),
    ],
)
def test_half_of_an_interval_has_two_digits(ends, unit, digits):
    entries = [{"low": low, "high": high} for low, high in ends]

    assert decimals(entries, unit) == digits
