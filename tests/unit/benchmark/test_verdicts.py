"""Verdicts on differences whose answer is known, and how often they are wrong."""

import numpy as np
import pytest

from captum_iscam.benchmark.claims import Claim
from captum_iscam.benchmark.results import Results, Table
from captum_iscam.benchmark.verdicts import judge, verdicts


def claim(**changes):
    usual = {
        "method": "a",
        "other": "b",
        "model": "net",
        "metric": "insertion",
        "margin": 0.05,
    }
    return Claim(**{**usual, **changes})


def values(mean, n=100, deviation=0.1, seed=0):
    """The values of two methods whose paired differences have this mean."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 1, n)
    difference = rng.normal(0, 1, n)
    difference -= difference.mean()
    difference *= deviation / difference.std(ddof=1)
    difference += mean
    return np.stack([image + difference, image], axis=1)


@pytest.mark.parametrize(
    ("mean", "direction", "higher_is_better", "expected"),
    [
        (0.1, "better", True, "holds"),
        (0.1, "better", False, "refuted"),
        (-0.1, "better", True, "refuted"),
        (-0.1, "better", False, "holds"),
        (0.1, "higher", False, "holds"),
        (0.1, "lower", True, "refuted"),
        (-0.1, "lower", True, "holds"),
        (0.001, "better", True, "equivalent"),
        (-0.001, "lower", False, "equivalent"),
        # Certainly not 0, and certainly within the margin.
        (0.025, "better", True, "equivalent"),
    ],
)
def test_the_verdict_follows_from_sign_and_margin(
    mean, direction, higher_is_better, expected
):
    (found,) = verdicts(
        [claim(direction=direction)], [values(mean)], [higher_is_better]
    )

    assert found.verdict == expected
    assert found.mean == pytest.approx(mean)
    assert found.low < mean < found.high
    assert np.isnan(found.needed)


def test_a_wide_scatter_is_undecided_and_says_how_many_images_would_decide():
    (found,) = verdicts([claim()], [values(0.02, deviation=0.3)], [True])

    assert found.verdict == "undecided"
    # (1.96 + 0.84)^2 (0.3 / 0.02)^2 = 1,766 images would show the difference, and
    # (1.64 + 1.28)^2 (0.3 / 0.03)^2 = 857 that it lies within the margin.
    assert found.needed == pytest.approx(857, abs=1)


def test_fewer_than_30_images_decide_nothing():
    (few,) = verdicts([claim()], [values(0.5, n=29)], [True])
    (enough,) = verdicts([claim()], [values(0.5, n=30)], [True])

    assert (few.verdict, enough.verdict) == ("undecided", "holds")
    assert few.corrected_p < 0.001


def test_images_without_one_of_the_values_do_not_count():
    pair = values(0.1)
    with_gaps = np.concatenate([pair, [[np.nan, 1.0], [1.0, np.nan]]])

    (plain,), (gaps,) = (verdicts([claim()], [v], [True]) for v in (pair, with_gaps))

    assert gaps.n == plain.n == 100
    assert (gaps.mean, gaps.wins) == (plain.mean, plain.wins)


def test_claims_are_corrected_for_each_other():
    claims = [claim(metric=f"metric {i}") for i in range(20)]
    pairs = [values(0.024, seed=i) for i in range(20)]
    margins = [claim(margin=1e-9)]

    (alone,) = verdicts(margins, pairs[:1], [True])
    together = verdicts(
        [claim(metric=c.metric, margin=1e-9) for c in claims], pairs, [True] * 20
    )

    assert alone.verdict == "holds"
    assert together[0].p == alone.p
    assert together[0].corrected_p == pytest.approx(min(1, 20 * alone.p), rel=0.6)
    assert {v.verdict for v in together} == {"undecided"}


def test_equal_methods_are_equivalent():
    same = np.repeat(np.linspace(0, 1, 40)[:, None], 2, axis=1)

    (found,) = verdicts([claim()], [same], [True])

    assert (found.verdict, found.mean, found.wins) == ("equivalent", 0.0, 0.5)
    assert np.isnan(found.effect)


@pytest.mark.parametrize("mean", [0.2, -0.3])
def test_the_effect_of_equal_differences_is_undefined(mean):
    other = np.linspace(0, 1, 40)
    pair = np.stack([other + mean, other], axis=1)
    assert len({*(pair[:, 0] - pair[:, 1])}) > 1  # by rounding

    (found,) = verdicts([claim()], [pair], [True])

    assert found.verdict == ("holds" if mean > 0 else "refuted")
    assert np.isnan(found.effect)


@pytest.mark.parametrize("signs", [1, (-1.0) ** np.arange(40)])
def test_differences_whose_sum_overflows_are_undecided(signs):
    pair = np.stack([1e308 * signs * np.ones(40), np.zeros(40)], axis=1)

    (found,) = verdicts([claim()], [pair], [True])

    assert found.verdict == "undecided"
    assert np.isnan([found.effect, found.needed]).all()


def test_a_metric_without_any_value_is_undecided():
    (found,) = verdicts([claim()], [np.full((50, 2), np.nan)], [True])

    assert (found.verdict, found.n) == ("undecided", 0)


def run_of(pair):
    ids = [{"id": f"{'val' if i % 2 else 'train'}_{i}"} for i in range(len(pair))]
    run = {
        "methods": {"b": {}, "a": {}},
        "models": {"net": {"layer": "layer4"}},
        "metrics": {"insertion": {"higher_is_better": True}},
        "data": {"images": ids},
    }
    table = Table(pair[:, ::-1], np.zeros_like(pair), np.ones_like(pair))
    return Results(run, {("net", "insertion"): table})


def test_a_run_is_judged_on_the_images_that_the_claim_names():
    pair = values(0.0)
    pair[1::2, 0] += 1

    everywhere, validation = judge([claim(), claim(images="val_*")], run_of(pair))

    assert (everywhere.n, validation.n) == (100, 50)
    assert everywhere.mean == pytest.approx(0.5)
    assert validation.mean == pytest.approx(1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("n", [30, 100])
def test_families_of_equal_methods_are_decided_wrongly_in_at_most_one_of_twenty(n):
    rng = np.random.default_rng(n)
    claims = [claim(metric=f"metric {i}") for i in range(10)]
    wrong = 0
    for _ in range(200):
        # Differences with heavy tails, and half of them beyond the margin by a hair.
        noise = 0.2 * rng.standard_t(4, (10, n))
        noise[5:] += 0.05
        pairs = [np.stack([d, np.zeros(n)], axis=1) for d in noise]
        found = [v.verdict for v in verdicts(claims, pairs, [True] * 10, 2_000)]
        false = [v in ("holds", "refuted") for v in found[:5]]
        false += [v == "equivalent" for v in found[5:]]
        wrong += any(false)

    # 5 % of 200, and three standard errors of it.
    assert wrong <= 10 + 3 * 3.1
