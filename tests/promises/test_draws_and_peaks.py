"""Random draws of a method, and scores explained where their gradient says nothing."""

import warnings
from functools import partial

import pytest
import torch
from captum.attr import LayerGradCam
from reference.networks import ConvNet, images
from scipy.stats import uniform
from torch import nn

from captum_iscam import (
    RISE,
    LayerGradCAMPlusPlus,
    LayerHiResCAM,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerXGradCAM,
)
from captum_iscam.attr import RandomMap
from captum_iscam.metrics import (
    adcc,
    arcc,
    coherency,
    parameter_randomization,
    sensitivity_max,
    target_sensitivity,
)
from captum_iscam.targets import multi_label, regression, similarity

X, TARGETS = images(2).float(), [0, 3]
DRAWS = "explanation_func draws other random numbers in every call"


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def net():
    return ConvNet()


def said(call):
    """Returns the texts of all warnings of a call."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call()
    return [str(warning.message) for warning in found]


METRICS = {
    "sensitivity_max": lambda f, net: sensitivity_max(f, X, TARGETS),
    "coherency": lambda f, net: coherency(f, X, f(X, target=TARGETS), TARGETS),
    "adcc": lambda f, net: adcc(
        net, X, f(X, target=TARGETS), TARGETS, explanation_func=f
    ),
    "arcc": lambda f, net: arcc(
        net, X, f(X, target=TARGETS), TARGETS, explanation_func=f, percentiles=[50]
    ),
    "parameter_randomization": lambda f, net: parameter_randomization(
        f, net, X, TARGETS
    ),
}


def noise(draw):
    def explain(inputs, target):
        return draw((len(inputs), 1, 3, 4))

    return explain


class Noisy:
    """A method of the user's own, with a generator of its own."""

    def __init__(self, net):
        self.random = seeded()

    def attribute(self, inputs, target):
        return torch.rand(len(inputs), 1, 3, 4, generator=self.random)


RANDOM = {
    "torch": lambda net: noise(torch.rand),
    "numpy": lambda net: noise(lambda shape: torch.from_numpy(uniform.rvs(size=shape))),
    "RISE": lambda net: partial(RISE(net).attribute, n_masks=5),
    "RISE, one generator": lambda net: partial(
        partial(RISE(net).attribute, n_masks=5), generator=seeded()
    ),
    "SS-CAM": lambda net: partial(
        LayerSmoothedScoreCAM(net, net.features).attribute, n_samples=2
    ),
    "random map": lambda net: RandomMap(net, net.features).attribute,
    "random map, one generator": lambda net: (
        RandomMap(net, net.features, generator=seeded()).attribute
    ),
    "own": lambda net: Noisy(net).attribute,
}

STEADY = {
    "Score-CAM": lambda net: LayerScoreCAM(net, net.features).attribute,
    "IS-CAM": lambda net: LayerIntegratedScoreCAM(net, net.features).attribute,
    "Grad-CAM++": lambda net: LayerGradCAMPlusPlus(net, net.features).attribute,
    "RISE, seeded in each call": lambda net: (
        lambda inputs, target: RISE(net).attribute(
            inputs, target, n_masks=5, generator=seeded()
        )
    ),
    "random map, seeded in each call": lambda net: (
        lambda inputs, target: RandomMap(
            net, net.features, generator=seeded()
        ).attribute(inputs, target)
    ),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", RANDOM)
def test_a_method_that_draws_is_said_once(net, metric, method):
    texts = said(lambda: METRICS[metric](RANDOM[method](net), net))

    assert sum(text.startswith(DRAWS) for text in texts) == 1


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("method", STEADY)
def test_a_method_that_draws_the_same_is_not_accused(net, metric, method):
    torch.manual_seed(0)
    texts = said(lambda: METRICS[metric](STEADY[method](net), net))

    assert not any(DRAWS in text for text in texts)


def test_draws_matter_to_two_classes_only_in_two_calls(net):
    rise = partial(RISE(net).attribute, n_masks=5)

    def alone(inputs, target):
        return rise(inputs, target)

    def compare(method):
        return said(lambda: target_sensitivity(method, X, 0, other_target=3))

    assert [DRAWS in " ".join(compare(method)) for method in (rise, alone)] == [
        *(False, True)
    ]


def test_an_error_of_the_method_is_not_hidden_by_a_warning(net):
    def method(inputs, target):
        torch.rand(1)
        raise ArithmeticError

    with pytest.raises(ArithmeticError):  # warnings are errors in these tests
        sensitivity_max(method, X, TARGETS)


def test_watching_draws_takes_no_call_and_no_draw(net):
    before = torch.get_rng_state()
    calls = []

    def method(inputs, target):
        calls.append(len(inputs))
        return LayerGradCAMPlusPlus(net, net.features).attribute(inputs, target)

    coherency(method, X, method(X, TARGETS), TARGETS)

    assert len(calls) == 2  # one of them above: watching takes no call
    assert torch.equal(torch.get_rng_state(), before)


GRADIENTS = {
    "Grad-CAM": lambda f, net: LayerGradCam(f, net.features),
    "Grad-CAM++": lambda f, net: LayerGradCAMPlusPlus(f, net.features),
    "HiResCAM": lambda f, net: LayerHiResCAM(f, net.features),
    "XGrad-CAM": lambda f, net: LayerXGradCAM(f, net.features),
    "Integrated Grad-CAM": lambda f, net: LayerIntegratedGradCAM(f, net.features),
}
SCORES = {
    "Score-CAM": lambda f, net: LayerScoreCAM(f, net.features, score="identity"),
    "IS-CAM": lambda f, net: LayerIntegratedScoreCAM(f, net.features, score="identity"),
}
PEAK = "The score of regression has its peak"


def predicted(net, how):
    with torch.no_grad():
        number = net(X)[0, 2].item()
    return {
        "exactly": number,
        "to three digits": float(f"{number:.3g}"),
        "from the other side": number * (1 + 1e-6),
    }[how]


@pytest.mark.parametrize("how", ["exactly", "to three digits", "from the other side"])
@pytest.mark.parametrize("method", GRADIENTS)
def test_a_gradient_at_the_peak_of_a_regression_is_said(net, method, how):
    near = regression(net, 2, toward=predicted(net, how))
    texts = said(lambda: GRADIENTS[method](near, net).attribute(X))

    assert any(text.startswith(PEAK) for text in texts)


@pytest.mark.parametrize("method", {**GRADIENTS, **SCORES})
def test_a_prediction_far_from_toward_is_not_named(net, method):
    far = regression(net, 2, toward=100.0)
    make = {**GRADIENTS, **SCORES}[method]

    assert not any(PEAK in t for t in said(lambda: make(far, net).attribute(X)))


@pytest.mark.parametrize("method", SCORES)
def test_score_methods_explain_a_regression_at_its_peak(net, method):
    near = regression(net, 2, toward=predicted(net, "exactly"))
    texts = said(lambda: SCORES[method](near, net).attribute(X))

    assert not any(PEAK in text for text in texts)


@pytest.mark.parametrize("method", GRADIENTS)
def test_the_gradient_of_a_similarity_to_itself_is_said(net, method):
    with torch.no_grad():
        itself, another = (similarity(net, net(X)[i]) for i in (0, 1))
    single = X[:1]

    texts = [
        said(lambda of=of: GRADIENTS[method](of, net).attribute(single))
        for of in (itself, another)
    ]

    named = [any("gradient of the similarity" in t for t in of) for of in texts]
    assert named == [True, False]


@pytest.mark.parametrize("method", SCORES)
def test_score_methods_explain_a_similarity_to_itself(net, method):
    with torch.no_grad():
        itself = similarity(net, net(X)[0])
    texts = said(lambda: SCORES[method](itself, net).attribute(X))

    assert not any("gradient of the similarity" in text for text in texts)


@pytest.mark.parametrize("shift", [0, 8, 14, 17, 20, 40])
@pytest.mark.parametrize("labels", [[2], [2, 4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("method", [LayerHiResCAM, LayerGradCAMPlusPlus])
def test_labels_that_are_nearly_sure_keep_their_gradient(net, shift, labels, method):
    with torch.no_grad():
        net.head.bias += shift
    exact = ConvNet().double()
    exact.load_state_dict(net.state_dict())

    found = method(multi_label(net, labels), net.features).attribute(X)

    expected = method(multi_label(exact, labels), exact.features).attribute(X.double())
    distance = (found - expected).norm() / expected.norm()
    # Above 30 a sigmoid in double precision is rounding as well, but for its last form.
    assert distance < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 5.0, 20.0])
@pytest.mark.parametrize("size", [16, 56])
def test_channels_that_a_norm_makes_sum_to_zero_have_no_shares(dtype, offset, size):
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.InstanceNorm2d(16))
    with torch.no_grad():
        features[0].bias += offset
    model = nn.Sequential(features, nn.ReLU(), nn.Flatten(), nn.Linear(16 * size**2, 5))
    model = model.to(dtype).eval()
    found = LayerXGradCAM(model, features)

    with pytest.warns(UserWarning, match="The map is zero everywhere"):
        maps = found.attribute(torch.rand(2, 3, size, size, dtype=dtype), 1)

    assert not maps.any()


@pytest.mark.parametrize("score", ["identity", torch.log_softmax, lambda out: 3 * out])
def test_arcc_takes_probabilities_alone(net, score):
    taken = partial(score, dim=1) if score is torch.log_softmax else score
    method = LayerGradCAMPlusPlus(net, net.features).attribute
    maps = method(X, TARGETS)

    with pytest.raises(ValueError, match="score must be a probability for ARCC, got"):
        arcc(net, X, maps, TARGETS, explanation_func=method, score=taken)


def test_arcc_takes_probabilities_of_any_function(net):
    method = LayerGradCAMPlusPlus(net, net.features).attribute
    own = {"explanation_func": method, "noise": 0.0}
    maps = method(X, TARGETS)

    values = [
        arcc(net, X, maps, TARGETS, score=score, **own)
        for score in ("softmax", lambda out: out.softmax(1))
    ]

    torch.testing.assert_close(*values)
