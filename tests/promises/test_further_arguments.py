"""Further arguments of a model: tensors with a row per example, wherever they are."""

from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pytest
import torch
from reference.every_call import ALL, explain
from reference.methods import SCORE_METHODS
from reference.networks import ConvNet, images
from torch import nn

from captum_iscam import LayerScoreCAM, metrics

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example.*abruptly",
    "ignore:Channels that support",
    "ignore:The noise",
)
Pair = namedtuple("Pair", ["own", "shared"])
# A way to pack a tensor with a row per example and one that all share, and back.
FORMS = {
    "alone": (lambda own, shared: (own, shared), lambda *args: args),
    "dict": (lambda own, shared: {"own": own, "shared": shared}, lambda d: d.values()),
    "list": (lambda own, shared: [own, shared], lambda pair: pair),
    "tuple": (lambda own, shared: ((own, shared),), lambda pair: pair),
    "named tuple": (lambda own, shared: (Pair(own, shared),), lambda pair: pair),
    "ordered dict": (
        lambda own, shared: OrderedDict(own=own, shared=shared),
        lambda d: d.values(),
    ),
    "user dict": (
        lambda own, shared: UserDict(own=own, shared=shared),
        lambda d: d.values(),
    ),
    "nested": (
        lambda own, shared: {"all": [{"own": own}, (shared, "text", 3)]},
        lambda d: (d["all"][0]["own"], d["all"][1][0]),
    ),
}


class Weighted(nn.Module):
    """Logits times a row of factors per example, plus a vector that all share."""

    def __init__(self, unpack):
        super().__init__()
        self.net = ConvNet().double()
        self.features = self.net.features
        self.unpack = unpack
        self.eval()

    def forward(self, x, *args):
        own, shared = self.unpack(*args)
        assert own.shape == (len(x), 5)
        assert shared.shape == (3, 5)
        return self.net(x) * own + shared.sum(0)


def packed(form):
    pack, unpack = FORMS[form]
    generator = torch.Generator().manual_seed(5)
    own = torch.rand(2, 5, generator=generator, dtype=torch.float64)
    shared = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    return Weighted(unpack), pack(own, shared), pack(own[1:], shared)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("form", FORMS)
def test_rows_of_further_arguments_follow_their_example(name, form):
    model, both, second = packed(form)
    x, layer = images(2), model.features
    options = {"internal_batch_size": 3} if name in ("score-cam", "rise") else {}

    found = explain(name, model, layer, x, 1, additional_forward_args=both, **options)

    expected = explain(name, model, layer, x[1:], 1, additional_forward_args=second)
    torch.testing.assert_close(found[1:], expected)


JUDGES = {
    "average_drop": {},
    "insertion": {"steps": 4},
    "deletion": {"steps": 4},
    "road": {"percentiles": (20, 50)},
    "infidelity": {"n_perturb_samples": 5},
}


@pytest.mark.parametrize("name", JUDGES)
@pytest.mark.parametrize("form", FORMS)
def test_rows_of_further_arguments_follow_their_example_in_metrics(name, form):
    model, both, second = packed(form)
    x = images(2)
    maps = torch.rand(2, 1, *x.shape[2:], generator=torch.Generator().manual_seed(1))

    def value(x, maps, further):
        options = dict(JUDGES[name])
        if name in ("road", "infidelity"):
            options["generator"] = torch.Generator().manual_seed(0)
        found = getattr(metrics, name)(model, x, maps, 1, further, **options)
        return found if isinstance(found, torch.Tensor) else found[0]

    found = value(x, maps.double(), both)

    torch.testing.assert_close(found[1:], value(x[1:], maps[1:].double(), second))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [None, 4, 7])
def test_sensitivity_repeats_what_has_a_row_per_example_alone(form, size):
    model, both, second = packed(form)
    x = images(2)
    method = LayerScoreCAM(model, model.features).attribute

    def value(x, further, size):
        return metrics.sensitivity_max(
            method,
            x,
            1,
            further,
            n_perturb_samples=3,
            generator=torch.Generator().manual_seed(0),
            internal_batch_size=size,
        )

    found = value(x, both, size)

    torch.testing.assert_close(found[1:], value(x[1:], second, None))


# Rows that do not follow, and values that follow though they should not.


class Conditional(nn.Module):
    """Logits times whatever comes as further argument."""

    def __init__(self):
        super().__init__()
        self.net = ConvNet().double()
        self.features = self.net.features
        self.eval()

    def forward(self, x, *args):
        (value,) = args[0].values() if isinstance(args[0], dict) else args
        return self.net(x) * torch.as_tensor(value, dtype=torch.double)


@pytest.mark.parametrize("name", [n for n in ALL if n != "channel mean"])
@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 5)])
@pytest.mark.parametrize("pack", [lambda a: a, lambda a: {"value": a}])
def test_arrays_with_a_row_per_example_are_named(name, shape, pack):
    model, rows = Conditional(), pack(np.ones(shape))

    with pytest.raises(TypeError, match=r"tensors for rows.*torch\.as_tensor"):
        explain(name, model, model.features, images(2), 1, additional_forward_args=rows)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "value", [np.ones(5), np.float64(2), torch.ones(1), np.ones((1, 5)), 2.0]
)
def test_values_that_all_examples_share_are_taken(name, value):
    model = Conditional()
    given = {"additional_forward_args": value}
    expected = explain(name, lambda x: model(x, value), model.features, images(3), 1)

    found = explain(name, model, model.features, images(3), 1, **given)

    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", [*SCORE_METHODS, "rise"])
@pytest.mark.parametrize("value", [torch.ones(1), [torch.ones(1)]])
def test_a_value_that_follows_the_only_example_names_the_function(name, value):
    model = Conditional()
    model.forward = lambda x, v: model.net(x) * (v[0] if isinstance(v, list) else v)
    given = {"additional_forward_args": (value,)}

    with pytest.raises(ValueError, match=r"must fit passes of any .* lambda x: model"):
        explain(name, model, model.features, images(1), 1, **given)

    # The way that is named.
    explain(name, lambda x: model(x, value), model.features, images(1), 1)


@pytest.mark.parametrize("name", [*SCORE_METHODS, "ablation-cam", "recipro-cam"])
def test_a_factor_for_each_of_as_many_classes_as_examples_names_the_function(name):
    net = ConvNet().double()
    factors = torch.tensor([1.0, 2.0, 0.5, 3.0, 1.5]).double()

    # Of one example more than a check of the layer has rows.
    with pytest.raises(ValueError, match=r"must fit passes of any .* lambda x: model"):
        explain(
            name,
            lambda x, f: net(x) * f,
            net.features,
            images(5),
            1,
            additional_forward_args=factors,
        )


@pytest.mark.parametrize("name", SCORE_METHODS)
def test_vectors_of_classes_as_many_as_examples_name_the_function(name):
    net, texts = ConvNet().double(), torch.rand(2, 5).double()

    with pytest.raises(ValueError, match=r"as many rows as there are exam.*lambda x"):
        explain(
            name,
            lambda x, t: net(x) @ t.T,
            net.features,
            images(2),
            1,
            additional_forward_args=texts,
        )


def test_errors_of_the_model_that_are_of_no_shape_pass_as_they_are():
    net = ConvNet().double()

    def tired(x, value):
        if len(x) > 1:
            raise RuntimeError("the model is tired")
        return net(x)

    with pytest.raises(RuntimeError, match=r"^the model is tired$"):
        LayerScoreCAM(tired, net.features).attribute(
            images(1), 1, additional_forward_args=torch.ones(1)
        )


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("baseline", [None, 0])
def test_the_order_of_integrated_gradients_is_named(name, baseline):
    model, given = ConvNet().double(), {"additional_forward_args": 1}

    with pytest.raises(TypeError, match=r"got int \(.*order is.*target=\.\.\., base"):
        explain(name, model, model.features, images(1), baseline, **given)
