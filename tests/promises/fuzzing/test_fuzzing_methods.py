"""Every method on drawn situations: the right map or a documented error."""

import collections
from unittest import mock

import hypothesis.strategies as st
import pytest
import torch
from promises.fuzzing.drawing import each_distinct
from promises.fuzzing.method_options import METHODS, methods_and_options
from promises.fuzzing.situations import situations
from promises.fuzzing.slow_maps import comparable, slow_map
from reference.judging import argument_of, outcome
from reference.ledger import cases
from reference.spies import assert_same_state, state_of

from captum_iscam.attr import _regression

COUNT = cases(100, 2000)
# Half precision overflows now and then, and then only.
MAY_PASS = {"forward_func"}
PROMISES = {
    "equal": "A method gives the map of a slow reference, and changes nothing.",
    "shaped": "A method without a slow form for just this gives a finite map of the "
    "right shape and changes nothing; it is not compared.",
    "refused": "A method refuses what it cannot explain with a documented error that "
    "names the argument, and changes nothing.",
}


def explain(name, s, own):
    """Runs a method on a situation."""
    own = {**s.arguments, **own}
    method = METHODS[name]
    if name == "RISE":
        own.pop("attribute_to_layer_input", None)
        return method(s.model, score=s.score).attribute(s.inputs, s.target, **own)
    explainer = method(s.model, s.layer, **s.constructor)
    # The layers have fewer channels than are screened otherwise.
    fewest = 2 if "screening" in own else _regression.MIN_SCREENED_CHANNELS
    with mock.patch.object(_regression, "MIN_SCREENED_CHANNELS", fewest):
        return explainer.attribute(s.inputs, target=s.target, **own)


def split(name, s, own, result):
    """Returns the maps and the bounds on their errors, each a list by layer."""
    deltas = []
    if own.get("return_convergence_delta"):
        result, deltas = result
        deltas = deltas if isinstance(deltas, list) else [deltas]
    if name == "RISE":
        assert isinstance(result, tuple) == isinstance(s.inputs, tuple)
        return list(result) if isinstance(result, tuple) else [result], deltas
    if name == "Poly-CAM":
        return [result], deltas
    assert isinstance(result, list) == isinstance(s.layer, list)
    return result if isinstance(result, list) else [result], deltas


def sizes(name, s):
    """The spatial size of each map that is due."""
    if name == "RISE":
        return [s.image.shape[2:]]
    depths = [2, 3] if isinstance(s.layer, list) else [s.depth]
    if "attribute_to_layer_input" in s.arguments and isinstance(s.layer, list):
        depths = [depth - 1 for depth in depths]
    depths = depths[:1] if name == "Poly-CAM" else depths
    return [s.net.after(depth, s.image.detach().clone()).shape[2:] for depth in depths]


def assert_right(name, s, own, result):
    maps, deltas = split(name, s, own, result)
    assert len(maps) == len(sizes(name, s))
    for found, size in zip(maps, sizes(name, s), strict=True):
        assert found.shape == (len(s.image), 1, *size)
        assert found.isfinite().all()
        assert not found.requires_grad
        assert found.dtype == (s.dtype if s.dtype.itemsize > 2 else torch.float32)
    for delta in deltas:
        assert delta.shape == (len(s.image),)
        assert (delta >= 0).all()
    if comparable(name, s, own):
        assert_equal_to_reference(name, s, own, maps[0].double())


def assert_equal_to_reference(name, s, own, found):
    expected = slow_map(name, s, own)
    activations = s.net.after(s.depth, s.image.clone()).detach()
    size = max(float(activations.abs().max()), float(expected.abs().max()), 1.0)
    # Captum computes the points of the Riemann rules in single precision.
    share = 1e-6 if s.dtype == torch.float64 else 1e-3
    torch.testing.assert_close(found, expected, rtol=share, atol=share * size)


@st.composite
def method_cases(draw, name):
    """A situation, the options of a method for it, and all flaws there are."""
    s = draw(situations())
    return s, *draw(methods_and_options(name, s))


def judge(name, case, seen):
    """Judges one case, and counts what became of it."""
    s, own, flaws = case
    before = state_of(s.model, s.image)

    result, error = outcome(lambda: explain(name, s, own))

    assert_same_state(before, state_of(s.model, s.image))
    if error is not None:
        method = METHODS[name]
        assert argument_of(error, (method, method.attribute)) in flaws
        seen["refused"] += 1
        return
    assert flaws <= MAY_PASS
    assert_right(name, s, own, result)
    seen["equal" if comparable(name, s, own) else "shaped"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_method_ends_in_the_right_map_or_in_a_documented_error(name, ledger):
    seen = collections.Counter()

    each_distinct(method_cases(name), COUNT, lambda case: judge(name, case, seen))

    # Two of Poly-CAM's variants and its products are compared elsewhere.
    share = 0.2 if name == "Poly-CAM" else 0.3
    assert seen["equal"] > share * COUNT
    assert seen["shaped"] > 0 < seen["refused"]
    for kind, promise in PROMISES.items():
        ledger.survived("Fuzzing", promise, seen[kind])
