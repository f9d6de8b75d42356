"""Tests and corrections against SciPy, statsmodels and hand-worked cases."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_paired

from captum_iscam.benchmark.significance import (
    corrected,
    equivalence,
    images_to_decide,
    sign_flip,
)


@pytest.mark.parametrize("images", [2, 5, 11, 16])
@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_few_images_have_the_exact_p_of_scipy(images, alternative):
    differences = np.random.default_rng(images).normal(0.4, 1, (images, 3))

    found = sign_flip(differences, alternative)

    for column, p in zip(differences.T, found, strict=True):
        reference = stats.permutation_test(
            (column,),
            np.mean,
            permutation_type="samples",
            alternative=alternative,
            n_resamples=np.inf,
        )
        assert p == pytest.approx(reference.pvalue)


@pytest.mark.parametrize("alternative", ["two-sided", "greater"])
def test_many_images_have_the_p_of_scipy(alternative):
    differences = np.random.default_rng(3).exponential(1, 60)[:, None] - 0.75

    found = sign_flip(differences, alternative)

    reference = stats.permutation_test(
        (differences[:, 0],),
        np.mean,
        permutation_type="samples",
        alternative=alternative,
        n_resamples=50_000,
        rng=1,
    )
    assert found[0] == pytest.approx(reference.pvalue, abs=0.003)


def test_ties_of_yes_and_no_count_as_they_should():
    # Two of ten images changed, both in favour: p = 2 / 2**2 whatever the ties.
    differences = np.array([[1.0], [1.0], *[[0.0]] * 8])

    assert sign_flip(differences) == pytest.approx([0.5])
    assert sign_flip(0.1 * differences) == pytest.approx([0.5])


def test_missing_values_count_as_if_the_image_were_absent():
    differences = np.random.default_rng(4).normal(0.5, 1, (12, 1))
    with_missing = np.concatenate([differences, np.full((3, 1), np.nan)])

    assert sign_flip(with_missing) == pytest.approx(sign_flip(differences))
    margins = np.array([0.6])
    assert equivalence(with_missing, margins) == pytest.approx(
        equivalence(differences, margins)
    )


def test_a_column_without_values_shows_nothing():
    empty = np.full((40, 1), np.nan)

    assert sign_flip(empty) == [1.0]
    assert equivalence(empty, np.array([1.0])) == [1.0]


@pytest.mark.parametrize("mean", [0.0, 0.05, -0.1, 0.3])
def test_equivalence_agrees_with_two_t_tests(mean):
    differences = np.random.default_rng(5).normal(mean, 0.4, 80)
    zeros = np.zeros_like(differences)

    (found,) = equivalence(differences[:, None], np.array([0.15]))

    expected, *_ = ttost_paired(differences, zeros, -0.15, 0.15)
    assert found == pytest.approx(expected, abs=0.01)


def test_without_families_the_correction_is_that_of_holm():
    p = np.random.default_rng(6).uniform(0, 0.2, 25)

    _, reference, *_ = multipletests(p, method="holm")

    assert corrected(p) == pytest.approx(reference)


def test_hypotheses_that_exclude_each_other_count_once():
    # Worked by hand: 3 claims are left, then 3 ("a" is still there), then 2, then 1.
    p = np.array([0.01, 0.02, 0.03, 0.04, 0.9])

    found = corrected(p, ["a", "b", "a", "c", "c"])

    assert found == pytest.approx([0.03, 0.06, 0.06, 0.06, 0.9])


def test_so_many_images_do_decide():
    rng = np.random.default_rng(8)
    needed = int(images_to_decide(0.1, 0.4, 0.02, tests=5))
    drawn = rng.normal(0.1, 0.4, (needed, 400))

    decided = (5 * sign_flip(drawn, n_flips=10_000) <= 0.05).mean()

    assert decided == pytest.approx(0.8, abs=0.06)


def test_so_many_images_show_equivalence():
    rng = np.random.default_rng(9)
    needed = int(images_to_decide(0.0, 0.4, 0.1, tests=1))
    drawn = rng.normal(0.0, 0.4, (needed, 400))

    decided = (equivalence(drawn, np.full(400, 0.1)) <= 0.05).mean()

    assert decided == pytest.approx(0.8, abs=0.06)
