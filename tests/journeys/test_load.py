"""Ten thousand attributions in one process, and two threads at once."""

import gc
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.breaking import hooks_of
from reference.judging import outcome
from reference.ledger import cases
from reference.methods import METHODS, attribute
from reference.networks import ConvNet, images

from captum_iscam import RISE
from captum_iscam.metrics import channel_mean

ALL = [*METHODS, "rise"]
PAGE, BLOCKS = 4096, 20
SAME = {"rtol": 0, "atol": 1e-9}
pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)


def explain(name, net, x):
    if name == "rise":
        source = torch.Generator().manual_seed(7)
        return RISE(net).attribute(x, 1, n_masks=5, grid=3, generator=source)
    return attribute(name, net, net.features, x, 1, relu_attributions=False)


def resident():
    """Bytes of memory the process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def slope(values):
    """Growth per step of the second half by least squares, and its standard error.

    Memory comes in pages, so one value is much like the next: the means of blocks of
    them are what the error may be told from.
    """
    size = len(values) // (2 * BLOCKS)
    means = values[-BLOCKS * size :].reshape(BLOCKS, size).mean(1)
    steps = size * (np.arange(BLOCKS) - (BLOCKS - 1) / 2)
    growth = (steps * means).sum() / (steps**2).sum()
    left = means - means.mean() - growth * steps
    error = np.sqrt((left**2).sum() / (BLOCKS - 2) / (steps**2).sum())
    return growth, error


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux")
def test_memory_hooks_and_threads_do_not_grow(ledger):
    net, x, count = ConvNet(), images(1, dtype=torch.float32), cases(440, 10_000)
    for name in ALL:
        explain(name, net, x)
    # Written once before, so that to keep the measurements takes no memory.
    memory = np.full(count, 1.0)
    before, tensors = hooks_of(net), live_tensors()

    for number in range(count):
        explain(ALL[number % len(ALL)], net, x)
        memory[number] = resident()

    assert hooks_of(net) == before
    assert live_tensors() == tensors
    growth, error = slope(memory)
    # Pages that the allocator takes now and then, 160 kilobytes in all, are no leak.
    assert growth < 3 * error + 16 * 10_000 / count
    ledger.survived(
        "Load",
        "Attributions one after the other in one process: memory, tensors, hooks and "
        "threads do not grow.",
        count,
        f"{growth:+.1f} ± {error:.1f} bytes a call in the second half",
    )


def live_tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.fixture
def impatient():
    """Threads take turns far more often than they would."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_two_threads(first, second):
    """Runs two calls at the same time, each over and over; returns what they gave."""
    start, rounds = threading.Barrier(2), cases(4, 40)

    def repeat(call):
        start.wait()
        return [call() for _ in range(rounds)]

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(repeat, call) for call in (first, second)]
        return [future.result() for future in both]


def assert_both_right(name, nets, ledger, promise):
    inputs = [images(2, seed=0), images(2, seed=1)]
    calls = [
        lambda net=net, x=x: explain(name, net, x)
        for net, x in zip(nets, inputs, strict=True)
    ]
    expected = [outcome(call)[0] for call in calls]

    found = in_two_threads(*calls)

    for maps, one in zip(found, expected, strict=True):
        for each in maps:
            torch.testing.assert_close(each, one, **SAME)
    assert hooks_of(nets[0])[0] == hooks_of(nets[1])[0] == 0
    ledger.survived("Load", promise, sum(map(len, found)))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ALL)
def test_two_threads_on_two_models(name, ledger):
    nets = [ConvNet().double(), ConvNet().double()]

    assert_both_right(
        name, nets, ledger, "Two threads on two models get the right maps."
    )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ALL)
def test_two_threads_on_one_model(name, ledger):
    net = ConvNet().double()

    assert_both_right(
        name, [net, net], ledger, "Two threads on one model get the right maps."
    )


class MeetsAnotherThread(torch.nn.Module):
    """Between the layer and the head, another thread runs the whole model once."""

    def __init__(self, net):
        super().__init__()
        self.net, self.features = net, net.features
        self.other = images(2, seed=5)

    def forward(self, x):
        maps = self.features(x)
        if threading.current_thread() is threading.main_thread():
            with ThreadPoolExecutor(1) as pool:
                pool.submit(self, self.other).result()
        hidden = torch.relu(self.net.mix(maps)).flatten(2)
        return self.net.head(hidden.amax(2) + hidden.mean(2))


@pytest.mark.parametrize("name", [*METHODS, "channel mean"])
def test_a_prediction_in_another_thread_does_not_change_a_map(name):
    net, x = ConvNet().double(), images(2)
    meeting = MeetsAnotherThread(net).eval()

    def run(model):
        if name == "channel mean":
            return channel_mean(model, model.features).attribute(x)
        return attribute(name, model, model.features, x, 1, relu_attributions=False)

    torch.testing.assert_close(run(meeting), run(net), **SAME)


def test_a_model_that_runs_in_a_thread_of_its_own_is_told_so():
    net = ConvNet().double()

    def elsewhere(z):
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(net, z).result()

    with pytest.raises(ValueError, match="in the thread that calls attribute"):
        attribute("score-cam", elsewhere, net.features, images(2), 1)
