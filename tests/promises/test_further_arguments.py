"""Further arguments of a model: tensors with a row per example, wherever they are."""

from collections import OrderedDict, UserDict, namedtuple

import pytest
import torch
from reference.every_call import ALL, explain
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
