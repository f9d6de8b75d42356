"""Whatever fails, and wherever: the caller's world stays, and memory comes back."""

import gc
import random

import pytest
import torch
from reference.breaking import (
    BreaksAtLine,
    BreaksAtOperation,
    BreaksAtPass,
    OutOfMemoryAbove,
    hooks_of,
)
from reference.judging import argument_of, outcome
from reference.ledger import cases
from reference.methods import LAYER_MASK_METHODS, METHODS, SCORE_METHODS, attribute
from reference.networks import ConvNet, images
from reference.spies import assert_same_state, state_of

from captum_iscam import RISE
from captum_iscam._utils import batching

pytestmark = pytest.mark.filterwarnings(
    "ignore:The noise", "ignore:The score of example.* is negative"
)
ALL = [*METHODS, "rise"]
TWO_INPUTS = "rise of two inputs"
every_method = pytest.mark.parametrize("name", ALL)
OUT_OF_MEMORY = torch.cuda.OutOfMemoryError("CUDA out of memory.")
CHECKED_AT = {
    **dict.fromkeys([*SCORE_METHODS, "rise"], (3,)),
    **dict.fromkeys(LAYER_MASK_METHODS, (1, 2)),
}
# The last pass of these shows one input alone, to see whether scores are its own.
CHECKED_LAST = [n for n in METHODS if "grad" in n or n in ("layer-cam", "hires-cam")]
SAME = {"rtol": 0, "atol": 1e-9}


def raising(error):
    def fault(out):
        raise error

    return fault


RAISED = {
    "KeyError": KeyError("the model is tired"),
    "RuntimeError": RuntimeError("the model is tired"),
    "out of memory": OUT_OF_MEMORY,
    "Ctrl-C": KeyboardInterrupt(),
}
RETURNED = {
    "NaN": lambda out: out * torch.nan,
    "infinity": lambda out: out + torch.inf,
    "a row less": lambda out: out[:-1],
    "twice the rows": lambda out: torch.cat([out, out]),
    "a class less": lambda out: out[:, :-1],
    "a dimension more": lambda out: out.unsqueeze(1),
    "a tuple": lambda out: (out,),
    "a dict": lambda out: {"logits": out},
}


def explain(name, model, net, **options):
    """A map of two examples in passes of three rows, unless something else is said."""
    options = {"internal_batch_size": 3, **options}
    if options["internal_batch_size"] is None:
        del options["internal_batch_size"]
    if name not in ("rise", TWO_INPUTS):
        options = {"relu_attributions": False, **options}
        return attribute(name, model, net.features, images(2), [1, 4], **options)
    options["generator"] = torch.Generator().manual_seed(7)
    if name == TWO_INPUTS:
        both = RISE(lambda x, mirrored: model(x) + model(mirrored))
        shown = images(2), images(2).flip(-1)
        return both.attribute(shown, [1, 4], n_masks=9, grid=3, **options)
    return RISE(model).attribute(images(2), [1, 4], n_masks=9, grid=3, **options)


def documented(name):
    method = RISE if name == "rise" else METHODS[name][0]
    return method, method.attribute


@pytest.fixture
def net():
    """A network of which parts are as callers leave them."""
    net = ConvNet().double()
    net.features[2].train()
    net.head.bias.requires_grad_(False)
    net.mix.weight.grad = torch.ones_like(net.mix.weight)
    return net


def drawn_of(total, short, extended):
    """Some numbers below `total`, always the first and the last."""
    count = min(cases(short, extended), total)
    drawn = random.Random(0).sample(range(total), count)
    return sorted({0, total - 1, *drawn})


def passes_of(name, net):
    counted = BreaksAtPass(net, None, None)
    counted._at = -1
    outcome(lambda: explain(name, counted, net))
    return counted.passes


def assert_nothing_is_left(net, before):
    assert_same_state(before[0], state_of(net, images(2)))
    assert hooks_of(net) == before[1]


def snapshot(net):
    return state_of(net, images(2)), hooks_of(net)


@every_method
def test_what_the_model_raises_comes_through_and_leaves_nothing(name, net, ledger):
    expected, _ = outcome(lambda: explain(name, net, net))
    before, count = snapshot(net), 0

    for at in drawn_of(passes_of(name, net), 4, 60):
        for error in RAISED.values():
            model = BreaksAtPass(net, at, raising(error))

            with BreaksAtOperation() as live:
                result, found = outcome_of_any(lambda m=model: explain(name, m, net))

            assert_nothing_is_left(net, before)
            if found is None:
                # The baselines are shown again in another layout where they fail.
                assert isinstance(error, RuntimeError)
                torch.testing.assert_close(result, expected, **SAME)
            else:
                assert found is error
                assert alive_after(live) == 0
            count += 1

    ledger.survived(
        "Faults",
        "What the model raises in any pass, Ctrl-C too, comes through, and hooks, "
        "modes, gradients, buffers, random state and memory are as before.",
        count,
    )


def outcome_of_any(call):
    """As `outcome`, for what is no `Exception` too."""
    try:
        return outcome(call)
    except KeyboardInterrupt as interrupt:
        return None, interrupt.with_traceback(None)


def alive_after(live):
    """How many of the call's tensors live on, cycles aside."""
    for error in RAISED.values():
        error.__traceback__ = error.__context__ = None
    if live.alive():
        gc.collect()
    return live.alive()


@every_method
def test_what_the_model_must_not_return_is_a_documented_error(name, net, ledger):
    expected, _ = outcome(lambda: explain(name, net, net))
    before, count = snapshot(net), 0

    passes = passes_of(name, net)
    checked = {0, *CHECKED_AT.get(name, ())}
    checked |= {passes - 1, passes - 2} if name in CHECKED_LAST else set()
    for at in drawn_of(passes, 4, 60):
        for kind, fault in RETURNED.items():
            model = BreaksAtPass(net, at, fault)

            result, error = outcome(lambda m=model: explain(name, m, net))

            if error is None:
                # The first pass of some methods only checks the target. Later ones
                # may check the model: whether scores are steady, and whether it takes
                # one example for all rows.
                assert at in checked, (at, kind)
                torch.testing.assert_close(result, expected, **SAME)
            else:
                named = argument_of(error, documented(name))
                # A first output of any shape is one that score and target do not fit.
                assert named in {"forward_func", "score", "target"}, kind
            assert_nothing_is_left(net, before)
            count += 1

    ledger.survived(
        "Faults",
        "NaN, infinity, another number of rows, another shape, a tuple or a dict from "
        "the model in any pass is a documented error, and nothing is left changed.",
        count,
    )


@pytest.mark.parametrize("name", [n for n in ALL if n not in LAYER_MASK_METHODS])
@pytest.mark.parametrize("rows", [2, 3])
def test_memory_pressure_is_survived_by_halving(name, net, rows, ledger):
    expected, _ = outcome(lambda: explain(name, net, net))
    model, before = OutOfMemoryAbove(net, rows), snapshot(net)

    with pytest.warns(RuntimeWarning, match="Memory ran out") as caught:
        found = explain(name, model, net, internal_batch_size=None)

    assert sum(w.category is RuntimeWarning for w in caught) == 1
    torch.testing.assert_close(found, expected, **SAME)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        explain(name, model, net, internal_batch_size=rows + 1)
    assert_nothing_is_left(net, before)
    ledger.survived(
        "Faults",
        "A model with memory for few rows gives the same map where "
        "internal_batch_size is left out, and its own error where it is given.",
        1,
    )


@pytest.mark.parametrize("name", [*ALL, TWO_INPUTS])
def test_memory_may_run_out_in_any_operation(name, net, ledger):
    expected, _ = outcome(lambda: explain(name, net, net, internal_batch_size=None))
    with BreaksAtOperation(error=OUT_OF_MEMORY) as counting:
        outcome(lambda: explain(name, net, net, internal_batch_size=None))
    before = snapshot(net)
    # With two inputs a sum may be changed before the other: few places, so all.
    few = counting.operations if name == TWO_INPUTS else 24
    drawn = drawn_of(counting.operations, few, 150)
    for at in drawn:
        # Chunks of one row, which would be remembered soon, are halved no more.
        batching._forced.clear()
        with BreaksAtOperation(at, OUT_OF_MEMORY) as live:
            result, error = outcome(
                lambda: explain(name, net, net, internal_batch_size=None)
            )

        assert_nothing_is_left(net, before)
        if error is None:
            torch.testing.assert_close(result, expected, **SAME)
        else:
            assert error is OUT_OF_MEMORY
            assert live.backward or alive_after(live) == 0

    ledger.survived(
        "Faults",
        "Memory that runs out in any operation of torch ends in the same map or in "
        "that error, with nothing left behind.",
        len(drawn),
    )


@every_method
def test_ctrl_c_may_come_in_any_operation_and_any_line(name, net, ledger):
    run = {"call": lambda: explain(name, net, net)}
    count = 0
    for kind in (BreaksAtOperation, BreaksAtLine):
        with kind() as counting:
            outcome(run["call"])
        total = getattr(counting, "operations", None) or counting.lines
        before = snapshot(net)
        for at in drawn_of(total, 10, 150):
            with kind(at) as breaking:
                _, error = outcome_of_any(run["call"])

            assert isinstance(error, KeyboardInterrupt)
            assert_nothing_is_left(net, before)
            if kind is BreaksAtOperation:
                del error
                assert alive_after(breaking) == 0
            count += 1

    ledger.survived(
        "Faults",
        "Ctrl-C in any operation of torch and any line of the package leaves nothing "
        "behind.",
        count,
    )
