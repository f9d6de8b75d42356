"""Every metric on drawn maps: a right value for each example or a documented error."""

import copy
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from reference.spies import assert_same_state, state_of
from reliability.judging import argument_of, outcome
from reliability.ledger import cases
from reliability.metric_situations import (
    EXPLAINED,
    FORWARD,
    METRICS,
    OF_MAPS,
    metric_cases,
    picture,
)
from reliability.slow_metrics import slow_value

from captum_iscam import metrics

RANGES = {"percent": (0, 100), "share": (0, 1), "correlation distance": (0, 2)}
drawn = settings(
    max_examples=cases(100, 2000),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


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
    s, unit = case.situation, getattr(metrics, name).unit
    assert found.shape == (len(s.image),)
    assert not found.requires_grad
    broken = broken_rows(name, case)
    assert found[broken].isnan().all()
    fine = found[~broken]
    if name in ("average_drop", "adcc"):
        fine = fine[~fine.isnan()]  # where the score is 0, as documented
    assert fine.isfinite().all()
    low, high = RANGES.get(unit, (0 if unit != "score" else -math.inf, math.inf))
    # Of a score that may be negative more can be lost than there was.
    if case.own.get("score", "softmax") in ("softmax", "sigmoid"):
        assert ((fine >= low - 1e-5) & (fine <= high * (1 + 1e-5) + 1e-5)).all()
    if s.dtype == torch.float64:
        assert_equal_to_reference(name, case, found, broken)


def assert_equal_to_reference(name, case, found, broken):
    net = copy.deepcopy(case.situation.net).double()
    for number in (~broken).nonzero().flatten().tolist():
        with torch.no_grad():
            expected = slow_value(name, case, net, number)
        if expected is not None and not found[number].isnan():
            assert found[number].item() == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_a_metric_ends_in_a_right_value_or_in_a_documented_error(name, ledger):
    seen = {"values": 0, "errors": 0}

    @drawn
    @given(data=st.data())
    def judge(data):
        case = data.draw(metric_cases(name))
        s = case.situation
        before = state_of(s.model, s.image)

        found, error = outcome(lambda: measure(name, case))

        assert_same_state(before, state_of(s.model, s.image))
        if error is None:
            assert not case.flaws
            assert_right(name, case, found)
        else:
            named = argument_of(error, (getattr(metrics, name),))
            assert named in case.flaws | case.perhaps
        seen["values" if error is None else "errors"] += 1

    judge()

    assert seen["values"] > 0
    ledger.survived(
        "Fuzzing",
        "A metric ends in a finite value per example, equal to a slow one where there "
        "is such, in a documented NaN or error, and changes nothing.",
        sum(seen.values()),
    )


def test_every_metric_is_drawn():
    declared = {n for n in metrics.__all__ if hasattr(getattr(metrics, n), "unit")}

    # It changes a model on purpose and has promises of its own (test_sanity.py).
    assert declared - {"parameter_randomization"} == set(METRICS)
    assert set(FORWARD) < set(METRICS)
