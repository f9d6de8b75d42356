"""What the record of a map says."""

import json
import warnings

import pytest
import torch
from torch import nn

from captum_iscam import LayerScoreCAM
from captum_iscam.cli.record import Target, explain
from captum_iscam.methods import METHODS, Method, Options

TARGETS = [Target(2, "cat", 0.7), Target(0, "ant", 0.2)]


class Net(nn.Module):
    def __init__(self, kind=torch.float32):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()).to(kind)
        self.kind = kind

    def forward(self, x):
        return self.features(x.to(self.kind)).mean((2, 3))[:, :5].float()


def explained(options=None, kind=torch.float32, methods=("is-cam",), targets=TARGETS):
    net = Net(kind).eval()
    x = torch.rand(1, 3, 12, 12)
    return explain(net, net.features, x, targets, methods, options or Options())


def test_a_map_has_its_delta_where_that_costs_no_pass():
    methods = ["is-cam", "score-cam", "grad-cam", "integrated-gradients"]
    found = explained(methods=methods)

    known = [e.delta is not None for e in found]
    assert known == [True, True, False, False] * 2
    plain = explained(Options(n_steps=4))
    assert [e.delta for e in plain] == [None, None]
    assert plain[0].forward_passes == 4 * 6 + 5


def test_the_record_has_delta_where_there_is_one():
    known = explained()[0]
    record = known.as_record()
    assert record["delta"] == known.delta > 0
    known.delta = float("inf")
    assert known.as_record()["delta"] is None
    known.delta = None
    assert "delta" not in known.as_record()
    json.dumps(record, allow_nan=False)


def test_half_precision_has_no_delta_and_is_explained():
    # Two of this net's scores differ in nothing but their rounding.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = explained(kind=torch.bfloat16)

    assert [e.delta for e in found] == [None, None]
    assert not found[0].settings["return_convergence_delta"]


def test_the_delta_of_a_method_outside_the_family_is_another_quantity(monkeypatch):
    class Other:
        def __init__(self, model, layer):
            self.model = model

        def attribute(self, inputs, target=None, return_convergence_delta=False):
            assert not return_convergence_delta
            return inputs[:, :1]

    monkeypatch.setitem(METHODS, "other", Method("Other", Other))

    assert explained(methods=["other"])[0].delta is None


def test_a_warning_names_classes_and_no_column():
    class Warns(LayerScoreCAM):
        def attribute(self, *args, **kwargs):
            warnings.warn("Look at example 0 (columns 0, 1 of target).", stacklevel=2)
            warnings.warn("Look at example 0 (column 1 of target).", stacklevel=2)
            warnings.warn("Look at example 0: it is odd.", stacklevel=2)
            return super().attribute(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "warns", Method("Warns", Warns))
        found = explained(methods=["warns"])

    said = ["Look at cat, ant.", "Look at ant.", "Look at this image: it is odd."]
    assert found[0].warnings[:3] == said
