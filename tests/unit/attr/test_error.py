"""Delta where scores are rounded, saturated, abrupt, or change from call to call."""

import pytest
import torch
from torch import nn

from captum_iscam import (
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)
from captum_iscam.attr._error import relative_error

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


@pytest.mark.parametrize(("method", "settings"), METHODS)
@pytest.mark.parametrize(("noise", "known"), [(1e-6, True), (1e-3, False)])
@pytest.mark.filterwarnings("ignore:The score of example 0 changes")
def test_scores_that_change_from_call_to_call_count(method, settings, noise, known):
    model = network()
    generator = torch.Generator().manual_seed(0)

    def unsteady(x):
        out = model(x) * 1e-3
        return out + noise * torch.randn(out.shape, generator=generator)

    _, delta = method(unsteady, model[0], score="identity").attribute(
        images(),
        target=0,
        relu_attributions=False,
        return_convergence_delta=True,
        **settings,
    )

    assert delta.isfinite().item() is known


class Visible(nn.Module):
    """A score of what is left of an image, and a layer that it does not depend on."""

    def __init__(self, score, width=6):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU())
        self.score = score
        self.eval()

    def forward(self, x):
        self.features(x)
        return self.score(x.mean((1, 2, 3))).to(x.dtype).unsqueeze(1)


def explained(method, score, width=6, **options):
    net = Visible(score, width)
    return method(net, net.features, score="identity").attribute(
        images(), target=0, relu_attributions=False, **options
    )


def smoothed(score, n_samples=12, stdevs=0.3):
    return explained(
        LayerSmoothedScoreCAM,
        score,
        n_samples=n_samples,
        stdevs=stdevs,
        generator=torch.Generator().manual_seed(0),
        return_convergence_delta=True,
    )


AGREED = {
    "one decision": lambda shown: shown != 0,
    "a decision that is not reached": lambda shown: shown > 100,
    "saturated": lambda shown: (1e4 * shown.abs()).tanh(),
    "saturated but for the last digit": lambda shown: (shown != 0) + 1e-7 * shown,
}


@pytest.mark.parametrize("score", AGREED.values(), ids=AGREED)
@pytest.mark.filterwarnings("ignore:The noise leaves no channel")
def test_samples_that_agree_say_nothing_of_those_not_drawn(score):
    _, delta = smoothed(score)

    assert delta == torch.inf or not score(torch.tensor(1.0))


def test_samples_without_noise_are_exact_however_few():
    maps, delta = smoothed(lambda shown: shown != 0, n_samples=1, stdevs=0.0)

    torch.testing.assert_close(maps, explained(LayerScoreCAM, lambda x: x != 0))
    assert delta == 0


def test_samples_whose_pairs_agree_are_known():
    """Of a linear score the noise cancels within a pair."""
    maps, delta = smoothed(lambda shown: shown)

    torch.testing.assert_close(maps, explained(LayerScoreCAM, lambda x: x))
    assert delta < 1e-3


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("step", [0.01, 0.05, 0.1, 0.2, 0.3])
@pytest.mark.filterwarnings("ignore:The error of the map is probably")
def test_abrupt_scores_are_within_the_delta_of_screening(share, step):
    def jump(shown):
        return (2000 * (shown - step)).sigmoid()

    found, delta = explained(
        LayerScoreCAM, jump, 200, screening=share, return_convergence_delta=True
    )

    whole = explained(LayerScoreCAM, jump, 200)
    assert (found - whole).norm() <= delta * found.norm()


def test_a_single_channel_says_nothing_of_the_others():
    _, delta = explained(
        LayerScoreCAM,
        lambda shown: shown,
        200,
        screening=0.001,
        return_convergence_delta=True,
    )

    assert delta == torch.inf


def test_a_delta_above_one_is_warned_of_with_its_example():
    maps = torch.ones(3, 1, 2, 2)
    squared = torch.tensor([[0.0], [4.0], [torch.inf]], dtype=torch.double)

    with pytest.warns(UserWarning, match="larger than the map for example 1: delta"):
        delta = relative_error(squared, maps)

    assert delta.flatten().tolist() == [0, 2, torch.inf]
