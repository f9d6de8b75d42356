"""Delta where the scores differ by little more than their last digit."""

import pytest
import torch
from torch import nn

from captum_iscam import LayerIntegratedScoreCAM, LayerScoreCAM

pytestmark = pytest.mark.filterwarnings("ignore:The map is zero")
METHODS = [(LayerScoreCAM, {}), (LayerIntegratedScoreCAM, {"n_steps": 10})]
ROUNDED = "differ by little more than their last digit"


def network(lead=0.0):
    """A network that is sure of class 0 by so much, whatever it sees."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.ReLU())
    head = nn.Linear(6 * 49, 5)
    with torch.no_grad():
        head.bias.copy_(torch.tensor([lead, 0, 0, 0, 0]))
    return nn.Sequential(features, nn.Flatten(), head).eval()


def images():
    torch.manual_seed(1)
    return torch.rand(1, 3, 16, 16)


def both(method, settings, single, double, layers, **score):
    """The map in single precision, its delta, and its true relative error."""
    x, signed = images(), {"target": 0, "relu_attributions": False, **settings}
    found, delta = method(single, layers[0], **score).attribute(
        x, return_convergence_delta=True, **signed
    )
    true = method(double, layers[1], **score).attribute(x.double(), **signed)
    return float(delta), float((found - true).norm() / true.norm())


@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize("lead", [10.0, 12.0, 14.0, 20.0])
@pytest.mark.filterwarnings(f"ignore:The scores of masked inputs {ROUNDED}")
def test_a_network_that_is_sure_of_all_has_an_honest_delta(method, settings, lead):
    single, double = network(lead), network(lead).double()

    delta, error = both(method, settings, single, double, (single[0], double[0]))

    # Below a hundredth, rounding is left out.
    assert delta >= error or error < 0.01
    assert delta > 0.01 or lead < 12


@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize("offset", [10.0, 100.0, 1000.0])
@pytest.mark.filterwarnings(f"ignore:The scores of masked inputs {ROUNDED}")
def test_an_output_with_an_offset_has_an_honest_delta(method, settings, offset):
    single, double = network(), network().double()

    delta, error = both(
        method,
        settings,
        lambda x: single(x) * 1e-3 + offset,
        lambda x: double(x) * 1e-3 + offset,
        (single[0], double[0]),
        score="identity",
    )

    assert delta >= error or error < 0.01
    assert delta > 0.01 or offset < 100


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_a_map_of_rounding_is_warned_of(method, settings):
    model = network(lead=13.0)

    with pytest.warns(
        UserWarning, match=f"The scores of masked inputs {ROUNDED} for example 0"
    ):
        method(model, model[0]).attribute(images(), target=0, **settings)


@pytest.mark.parametrize(("method", "settings"), METHODS)
def test_usual_scores_are_not_warned_of_and_stay_exact(method, settings):
    model = network()

    _, delta = method(model, model[0]).attribute(
        images(), target=0, return_convergence_delta=True, **settings
    )

    if method is LayerScoreCAM:
        assert delta == 0
    assert delta < 0.2
