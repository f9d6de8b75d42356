"""Every metric on drawn maps: a right value for each example or a documented error."""

import collections
import copy
import math

import pytest
import torch
from promises.fuzzing.drawing import each_distinct
from promises.fuzzing.metric_situations import (
    BY_PATCHES,
    EXPLAINED,
    FORWARD,
    IMPUTING,
    METRICS,
    OF_MAPS,
    OF_OBJECTS,
    metric_cases,
    picture,
)
from promises.fuzzing.slow_metrics import scores_of_batch, slow_value
from reference.judging import argument_of, outcome
from reference.ledger import cases
from reference.spies import assert_same_state, state_of

from captum_iscam import metrics

RANGES = {
    "percent": (0, 100),
    "share": (0, 1),
    "correlation": (-1, 1),
    "correlation distance": (0, 2),
}
COUNT = cases(100, 2000)
UNDEFINED_AT_ZERO = ("average_drop", "adcc")
# Of these the slow value says where.
UNDEFINED = ("target_sensitivity", *BY_PATCHES, *OF_OBJECTS)
# What ROAD imputes is compared in test_remove_and_debias.py, greedy orders, in which a
# rounding error may decide, in test_attainable.py; of substrates that blur there is no
# slow form.
NOT_COMPARED = {*IMPUTING, *BY_PATCHES[1:]}


def measure(name, case):
    """Runs a metric on a case."""
    metric, s = getattr(metrics, name), case.situation
    own = dict(case.own)
    if name in OF_MAPS:
        return metric(case.maps)
    if case.masks is not None:
        return metric(case.maps, case.masks, **own)
    if name == "coherency":
        return metric(picture, s.inputs, case.maps, **own)
    if name in EXPLAINED:
        return metric(picture, s.inputs, **own)
    return metric(s.model, s.inputs, case.maps, s.target, s.scale, **own)


def broken_rows(name, case):
    """Which examples have a map that is not finite."""
    s = case.situation
    maps = case.maps[0] if isinstance(case.maps, tuple) else case.maps
    if name in ("sensitivity_max", "target_sensitivity"):
        maps = s.image
    broken = ~maps.detach().isfinite().flatten(1).all(1)
    if name == "coherency":
        broken |= ~s.image.detach().isfinite().flatten(1).all(1)
    return broken


def assert_right(name, case, found):
    """Fails for wrong values; returns how many were compared with slow ones."""
    s, unit = case.situation, getattr(metrics, name).unit
    assert found.shape == (len(s.image),)
    assert not found.requires_grad
    broken = broken_rows(name, case)
    assert found[broken].isnan().all()
    undefined = found.isnan() & ~broken
    if undefined.any():
        assert name in UNDEFINED_AT_ZERO + UNDEFINED
        if name in UNDEFINED_AT_ZERO:
            assert (scores_of_batch(s)[undefined] == 0).all()
    fine = found[~broken & ~undefined]
    assert fine.isfinite().all()
    low, high = RANGES.get(unit, (0 if unit != "score" else -math.inf, math.inf))
    # Of a score that may be negative more can be lost than there was.
    if case.own.get("score", "softmax") in ("softmax", "sigmoid"):
        assert ((fine >= low - 1e-5) & (fine <= high * (1 + 1e-5) + 1e-5)).all()
    if s.dtype != torch.float64:
        return 0
    return assert_equal_to_reference(name, case, found, broken)


def assert_equal_to_reference(name, case, found, broken):
    net, compared = copy.deepcopy(case.situation.net).double(), 0
    for number in (~broken).nonzero().flatten().tolist():
        with torch.no_grad():
            expected = slow_value(name, case, net, number)
        if expected is not None:
            right = pytest.approx(expected, rel=1e-6, abs=1e-8, nan_ok=True)
            assert found[number].item() == right
            compared += 1
    return compared


def judge(name, case, seen):
    """Judges one case, and counts what became of it."""
    s = case.situation
    before = state_of(s.model, s.image)

    found, error = outcome(lambda: measure(name, case))

    assert_same_state(before, state_of(s.model, s.image))
    if error is not None:
        named = argument_of(error, (getattr(metrics, name),))
        assert named in case.flaws | case.perhaps
        seen["refused"] += 1
        return
    assert not case.flaws
    seen["equal" if assert_right(name, case, found) else "shaped"] += 1


PROMISES = {
    "equal": "A metric gives the value of a slow reference, or the documented NaN.",
    "shaped": "A metric without a slow form, or in less than double, gives a finite "
    "value per example, in range, or the documented NaN; it is not compared.",
    "refused": "A metric refuses what it cannot measure with a documented error that "
    "names the argument.",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_ends_in_a_right_value_or_in_a_documented_error(name, ledger):
    seen = collections.Counter()

    each_distinct(metric_cases(name), COUNT, lambda case: judge(name, case, seen))

    assert name in NOT_COMPARED or seen["equal"] > 0.2 * COUNT
    for kind, promise in PROMISES.items():
        ledger.survived("Fuzzing", promise, seen[kind])


def test_every_metric_is_drawn():
    declared = {n for n in metrics.__all__ if hasattr(getattr(metrics, n), "unit")}

    # It changes a model on purpose and has promises of its own (test_sanity.py).
    assert declared - {"parameter_randomization"} == set(METRICS)
    assert set(FORWARD) < set(METRICS)
