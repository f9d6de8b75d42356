"""Every class and option against the slow float64 reference."""

import pytest
import torch
from reference.networks import ConvNet, images
from reference.score_methods import (
    RULES,
    authors_stdev,
    drawn_fields,
    integrated_grad_cam,
    score_map,
)

from captum_iscam import (
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)
from captum_iscam._utils.captum_compat import SUPPORTED_METHODS

# A random network may well hold nothing for a target; the maps are compared signed.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:channel_soft",
)

TARGETS = [1, 4]
EXACT = {"rtol": 0, "atol": 1e-9}
# Captum computes the points of the Riemann rules in single precision.
SINGLE = {"rtol": 0, "atol": 1e-7}


def without_noise(points):
    return [(t, w, None) for t, w in points]


def reference(net, x, **options):
    maps = [
        score_map(net, net.features, row, target, **options)
        for row, target in zip(x, TARGETS, strict=True)
    ]
    return torch.stack(maps).unsqueeze(1)


def tripled(output):
    return 3 * output.tanh()


@pytest.fixture(params=[1, 2, 3], ids=["1-D", "2-D", "3-D"])
def net_and_inputs(request):
    net = ConvNet(spatial=request.param).double()
    return net, images(spatial=request.param)


@pytest.fixture
def net():
    return ConvNet().double()


def test_score_cam(net_and_inputs):
    net, x = net_and_inputs

    ours = LayerScoreCAM(net, net.features).attribute(
        x, TARGETS, relu_attributions=False
    )

    assert ours.flatten(1).abs().amax(1).min() > 1e-4
    torch.testing.assert_close(ours, reference(net, x, relu=False), **EXACT)


@pytest.mark.parametrize("n_steps", [2, 3, 7])
@pytest.mark.parametrize("method", RULES)
def test_is_cam_follows_its_rule(net, method, n_steps):
    x = images()

    ours = LayerIntegratedScoreCAM(net, net.features).attribute(
        x, TARGETS, n_steps=n_steps, method=method
    )

    steps = without_noise(RULES[method](n_steps))
    tolerance = SINGLE if method.startswith("riemann") else EXACT
    torch.testing.assert_close(ours, reference(net, x, steps=steps), **tolerance)


@pytest.mark.parametrize("n_samples", [1, 4, 5])
@pytest.mark.parametrize("stdevs", [None, 0.3])
def test_ss_cam_with_noise_on_the_input(net, stdevs, n_samples):
    x = images()
    fields = drawn_fields(x, n_samples, channels=3, seed=5)

    ours = LayerSmoothedScoreCAM(net, net.features).attribute(
        x,
        TARGETS,
        n_samples=n_samples,
        stdevs=stdevs,
        generator=torch.Generator().manual_seed(5),
    )

    steps = [
        (
            1.0,
            1 / n_samples,
            lambda mask, shown, e=e: (
                e * (authors_stdev(shown) if stdevs is None else stdevs)
            ),
        )
        for e in fields
    ]
    torch.testing.assert_close(ours, reference(net, x, steps=steps), **EXACT)


def test_ss_cam_with_noise_on_the_mask(net):
    x = images()
    baseline = -0.5

    ours = LayerSmoothedScoreCAM(net, net.features).attribute(
        x,
        TARGETS,
        n_samples=3,
        stdevs=0.4,
        noise="mask",
        baselines=baseline,
        generator=torch.Generator().manual_seed(5),
    )

    expected = []
    for row, target in zip(x, TARGETS, strict=True):
        steps = [
            (1.0, 1 / 3, lambda mask, shown, e=e, row=row: 0.4 * e * (row - baseline))
            for e in drawn_fields(x, 3, channels=1, seed=5)
        ]
        expected.append(
            score_map(net, net.features, row, target, steps, baseline=baseline)
        )
    torch.testing.assert_close(ours, torch.stack(expected).unsqueeze(1), **EXACT)


@pytest.mark.parametrize("score", ["softmax", "sigmoid", "identity", tripled])
@pytest.mark.parametrize("relu", [True, False])
def test_scores_and_signed_maps(net, score, relu):
    x = images()

    ours = LayerScoreCAM(net, net.features, score=score).attribute(
        x, TARGETS, relu_attributions=relu
    )

    torch.testing.assert_close(ours, reference(net, x, score=score, relu=relu), **EXACT)


def test_the_relu_only_clips(net):
    explain = LayerScoreCAM(net, net.features)

    signed = explain.attribute(images(), TARGETS, relu_attributions=False)

    assert signed.min() < 0 < signed.max()
    assert torch.equal(explain.attribute(images(), TARGETS), signed.clamp(min=0))


@pytest.mark.parametrize("score", ["sigmoid", "identity"])
def test_channel_softmax(net, score):
    x = images()

    ours = LayerScoreCAM(net, net.features, score=score).attribute(
        x, TARGETS, channel_softmax=True
    )

    torch.testing.assert_close(
        ours, reference(net, x, score=score, channel_softmax=True), **EXACT
    )


@pytest.mark.parametrize("per_example", [True, False])
def test_tensor_baselines(net, per_example):
    x = images()
    baselines = 0.3 * images(2 if per_example else 1, seed=9)

    ours = LayerIntegratedScoreCAM(net, net.features).attribute(
        x, TARGETS, baselines=baselines
    )

    maps = [
        score_map(
            net,
            net.features,
            x[n],
            TARGETS[n],
            without_noise(RULES["gaussradau"](3)),
            baseline=baselines[n if per_example else 0],
        )
        for n in range(2)
    ]
    torch.testing.assert_close(ours, torch.stack(maps).unsqueeze(1), **EXACT)


@pytest.mark.parametrize("baseline", [0.0, 0.8])
@pytest.mark.parametrize("n_steps", [2, 5])
@pytest.mark.parametrize("method", SUPPORTED_METHODS)
def test_integrated_grad_cam(net, method, n_steps, baseline):
    x = images()

    def rest(activations):
        hidden = torch.relu(net.mix(activations)).flatten(2)
        return net.head(hidden.amax(2) + hidden.mean(2))

    ours = LayerIntegratedGradCAM(net, net.features).attribute(
        x, baseline, TARGETS, n_steps=n_steps, method=method
    )

    maps = [
        integrated_grad_cam(
            net, (net.features, rest), row, target, RULES[method](n_steps), baseline
        )
        for row, target in zip(x, TARGETS, strict=True)
    ]
    tolerance = SINGLE if method.startswith("riemann") else EXACT
    torch.testing.assert_close(ours, torch.stack(maps).unsqueeze(1), **tolerance)
    assert ours.abs().max() > 1e-3
