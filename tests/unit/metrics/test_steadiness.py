"""Models whose scores change by chance or with the rest of a pass are warned of."""

import gc
import warnings

import pytest
import torch
import torch.nn.functional as F
from reference.spies import Calls
from torch import nn

from captum_iscam.metrics import average_drop, infidelity, insertion, road, win_rate
from captum_iscam.metrics._steadiness import _STEADY

UNSTEADY = r"The score of example 0 changes .* and so does the value of the metric"
NOISE = torch.Generator().manual_seed(0)
IMAGE = torch.rand(1, 3, 16, 16, generator=NOISE)
MAPS = torch.rand(1, 1, 7, 7, generator=NOISE)


def net():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 49, 5)
    return nn.Sequential(*layers).eval()


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, x):
        return self.net[3](F.dropout(self.net[:3](x), 0.5))


def of_the_batch(model):
    def centred(x):
        output = model(x)
        return output - output.mean(0, keepdim=True)

    return centred


METRICS = {
    "average_drop": average_drop,
    "insertion": insertion,
    "road": road,
    "infidelity": lambda *args, **kwargs: infidelity(
        *args, generator=torch.Generator().manual_seed(0), **kwargs
    ),
    "win_rate": lambda *args, **kwargs: win_rate(*args, rival=1 - MAPS, **kwargs),
}
every_metric = pytest.mark.parametrize("name", METRICS)


@every_metric
def test_dropout_that_is_always_on_is_warned_of_in_every_call(name):
    model = Dropping().eval()

    for _ in range(2):
        with pytest.warns(UserWarning, match=UNSTEADY) as caught:
            METRICS[name](model, IMAGE, MAPS, 0)
        assert len(caught) == 1


@pytest.mark.parametrize("name", ["insertion", "road", "infidelity"])
def test_scores_that_depend_on_the_batch_are_warned_of(name):
    model = of_the_batch(net())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        METRICS[name](model, IMAGE, MAPS, 0, internal_batch_size=1)
    with pytest.warns(UserWarning, match=UNSTEADY):
        METRICS[name](model, IMAGE, MAPS, 0)


def test_what_brighter_inputs_of_a_pass_change_is_warned_of():
    plain = net()

    def by_the_largest(x):
        return plain(x / (x.abs().amax() + 1e-6))

    with pytest.warns(UserWarning, match=UNSTEADY):
        insertion(by_the_largest, IMAGE, MAPS, 0)


def test_the_examples_of_the_pass_are_named():
    model, images = of_the_batch(net()), IMAGE.repeat(3, 1, 1, 1)
    brighter = torch.tensor([0.0, 0.7, 2.0]).view(3, 1, 1, 1)

    with pytest.warns(UserWarning, match="score of example 2 changes"):
        average_drop(model, images + brighter, MAPS.repeat(3, 1, 1, 1), 0)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_pass_of_few_rows_is_enough(size):
    model = of_the_batch(net())
    images = IMAGE * torch.tensor([1.0, 2.0, 4.0, 8.0]).view(4, 1, 1, 1)

    named = f"The score of example {size - 1} .* the metric"
    with pytest.warns(UserWarning, match=named):
        average_drop(model, images[:size], MAPS.expand(size, -1, -1, -1), 0)


@every_metric
@pytest.mark.parametrize("size", [None, 1, 3])
def test_a_steady_model_is_asked_once(name, size):
    if name == "road" and size == 1:
        size = 2
    model, shown = Calls(net()), []
    for _ in range(3):
        model.rows.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            METRICS[name](model, IMAGE, MAPS, 0, internal_batch_size=size)
        shown.append(sum(model.rows))

    assert 1 <= shown[0] - shown[1] <= 4
    assert shown[1] == shown[2]


def test_a_model_whose_passes_were_of_one_row_is_asked_again_for_several():
    model = Calls(net())
    insertion(model, IMAGE, MAPS, 0, steps=4, internal_batch_size=1)
    assert sum(model.rows) == 5 + 1
    insertion(model, IMAGE, MAPS, 0, steps=4, internal_batch_size=1)
    assert sum(model.rows) == 5 + 1 + 5
    for _ in range(2):
        insertion(model, IMAGE, MAPS, 0, steps=4)
    assert sum(model.rows) == 5 + 1 + 5 + 5 + 4 + 5


def test_no_model_is_kept_alive_and_one_without_a_hash_is_asked_in_each_call():
    class Unhashable(Calls):
        __hash__ = None

        def __eq__(self, other):
            return self is other

    gc.collect()  # models of other tests
    before = len(_STEADY)
    model = net()
    average_drop(model, IMAGE, MAPS, 0)
    assert len(_STEADY) == before + 1
    del model
    gc.collect()
    assert len(_STEADY) == before

    model = Unhashable(net())
    for _ in range(2):
        average_drop(model, IMAGE, MAPS, 0)
    assert sum(model.rows) == 2 * (2 + 1)


def test_a_model_that_writes_to_its_input_is_steady():
    inner = net()

    def model(x):
        return inner(x.mul_(0.5))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        insertion(model, IMAGE.clone(), MAPS, 0)
