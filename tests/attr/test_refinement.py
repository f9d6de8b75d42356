"""IS-CAM left to itself: what it costs, what it gives, what it says of its error."""

import numpy as np
import pytest
import torch
from reference.networks import ConvNet, images
from reference.plans import explained_by
from reference.refinement import POINTS, Curves, checked_error, refined_map
from reference.score_methods import score_map
from reference.spies import Calls
from torch import nn

from captum_iscam import LayerIntegratedScoreCAM, LayerScoreCAM
from captum_iscam.attr._path import path_points
from captum_iscam.attr._refinement import Refinement
from captum_iscam.demo import load_network, load_scenes, preprocess

EXACT = {"rtol": 1e-9, "atol": 1e-12}


class Wide(nn.Module):
    """Forty channels of very unequal weight, and scores that saturate."""

    def __init__(self, width=40):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.features = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU())
        self.mix = nn.Conv2d(width, 12, 3)
        self.head = nn.Linear(12, 4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            self.features[0].weight *= torch.linspace(0.2, 2, width).view(-1, 1, 1, 1)
            self.mix.weight /= 6
        self.eval()

    def forward(self, x):
        hidden = torch.tanh(self.mix(self.features(x)))
        return 3 * self.head(hidden.flatten(2).mean(2))


@pytest.fixture
def wide():
    return Wide().double()


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(11)
    return torch.randn(2, 3, 13, 12, dtype=torch.double, generator=generator)


def explained(net, x, target=2, **options):
    explain = LayerIntegratedScoreCAM(net, net.features)
    return explain.attribute(x, target=target, **options)


def test_a_small_layer_is_followed_whole():
    net, x = ConvNet().double(), images(2)

    ours = explained(net, x, relu_attributions=False)

    powers = np.vander([0.0, *POINTS], increasing=True).T
    weights = np.linalg.solve(powers, 1 / np.arange(1, 6))[1:]
    steps = [(t, float(w), None) for t, w in zip(POINTS, weights, strict=True)]
    slow = [score_map(net, net.features, one, 2, steps=steps, relu=False) for one in x]
    torch.testing.assert_close(ours, torch.stack(slow).unsqueeze(1), **EXACT)


@pytest.mark.parametrize(
    ("width", "tolerance", "screening"),
    [
        (40, 0.3, None),
        (40, 0.05, None),
        (40, 0.001, None),
        (110, 0.1, None),
        (120, 0.03, None),
        (40, 0.02, 0.5),
        (40, 0.02, 0.1),
    ],
)
def test_equal_to_the_plan_told_slowly(x, width, tolerance, screening):
    wide = Wide(width).double()
    model = Calls(wide)
    explain = LayerIntegratedScoreCAM(model, wide.features)

    plan = Refinement(tolerance, screening)
    ours, delta = explained_by(explain, plan, x, 2, return_convergence_delta=True)

    passes = 0
    for i, one in enumerate(x):
        curves = Curves(wide, wide.features, one, 2)
        slow, error = refined_map(curves, tolerance, screening)
        torch.testing.assert_close(ours[i, 0], torch.from_numpy(slow), **EXACT)
        stated = 2 * error / np.linalg.norm(slow)
        assert float(delta[i]) == pytest.approx(stated, rel=1e-6, abs=1e-6)
        passes += curves.passes
    assert sum(model.rows) == 2 * len(x) + passes


def test_the_default_tolerance(wide, x):
    torch.testing.assert_close(explained(wide, x), explained(wide, x, tolerance=0.01))


def test_a_straight_curve_needs_one_pass(wide, x):
    """With a score that rises in proportion to the mask one strength tells all."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = wide.features
            self.head = nn.Linear(3 * 13 * 12, 2).double()

        def forward(self, x):
            self.features(x)
            return self.head(x.flatten(1))

    net = Linear().eval()
    model = Calls(net)
    explain = LayerIntegratedScoreCAM(model, net.features, score="identity")

    ours, delta = explain.attribute(
        x, target=0, relu_attributions=False, return_convergence_delta=True
    )

    score_cam = LayerScoreCAM(net, net.features, score="identity")
    whole = score_cam.attribute(x, target=0, relu_attributions=False)
    torch.testing.assert_close(ours, whole / 2, rtol=1e-6, atol=1e-9)
    # Twelve channels at four points, the others once, and twelve at eight for the
    # delta, but for one that was drawn twice.
    assert sum(model.rows) == 2 * (2 + 12 * 4 + 28 + 12 * 8) - 8
    assert delta.max() < 1e-6


class RightHalf(nn.Module):
    """Large channels lie where the score does not look, small ones where it does."""

    def __init__(self):
        super().__init__()
        maps = torch.zeros(1, 40, 12, 12)
        for k in range(40):
            side = 6 if k < 32 else 2 + k % 3
            left = 0 if k < 32 else 6
            maps[0, k, :side, left : left + side] = 1 if k >= 32 else 5 + k
        self.register_buffer("maps", maps.double())
        self.features = nn.Identity()
        self.elsewhere = 0.0
        self.eval()

    def forward(self, x):
        self.features(self.maps * x.mean((1, 2, 3), keepdim=True))
        everything = x.flatten(1).sum(1, keepdim=True)
        right = x[..., 6:].flatten(1).sum(1, keepdim=True)
        return right + self.elsewhere * everything


@pytest.mark.parametrize("elsewhere", [0.0, 1e-12, 1e-3])
def test_a_sample_that_does_nothing_says_nothing_of_the_others(elsewhere):
    net = RightHalf()
    net.elsewhere = elsewhere
    x = torch.ones(1, 3, 12, 12, dtype=torch.double)

    ours = LayerIntegratedScoreCAM(net, net.features, score="identity").attribute(
        x, target=0
    )

    score_cam = LayerScoreCAM(net, net.features, score="identity")
    whole = score_cam.attribute(x, target=0)
    assert whole.max() > 1
    # The last channels may be foretold, well within the tolerance of 1 %.
    assert (ours - whole / 2).norm() <= 0.002 * ours.norm()


def test_less_tolerance_costs_more_and_errs_less(wide, x):
    fine = explained(wide, x, n_steps=24)
    passes, errors = [], []
    for tolerance in (2.0, 0.02, 1e-9):
        model = Calls(wide)
        explain = LayerIntegratedScoreCAM(model, wide.features)
        ours = explain.attribute(x, target=2, tolerance=tolerance)
        passes.append(sum(model.rows))
        errors.append(float((ours - fine).norm() / fine.norm()))

    assert passes[0] < passes[1] < passes[2]
    assert passes[0] == 2 * (2 + 12 * 4 + 4)  # 40 % of the channels are seen at all
    assert passes[2] == 2 * (2 + 12 * 4 + 28 * 4)
    assert errors[2] < errors[0]
    assert errors[2] < 0.03


@pytest.mark.parametrize("width", [13, 15, 16])
def test_the_last_channel_can_be_followed_too(x, width):
    net = Wide(width).double()
    model = Calls(net)
    explain = LayerIntegratedScoreCAM(model, net.features)

    explain.attribute(x, target=0, tolerance=1e-9, relu_attributions=False)

    assert sum(model.rows) == 2 * (2 + 12 * 4 + (width - 12) * 4)


def test_examples_do_not_depend_on_their_batch(wide, x):
    together = explained(wide, x)

    alone = torch.cat([explained(wide, one.unsqueeze(0)) for one in x])

    torch.testing.assert_close(together, alone, **EXACT)
    chunked = explained(wide, x, internal_batch_size=3)
    torch.testing.assert_close(together, chunked, **EXACT)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"tolerance": 0.1},
        {"n_steps": 1},
        {"n_steps": 2},
        {"n_steps": 3},
        {"n_steps": 4, "method": "riemann_right"},
        {"n_steps": 5, "method": "riemann_left"},
    ],
)
def test_the_delta_covers_the_error(wide, x, rule):
    fine = explained(wide, x, n_steps=24)

    ours, delta = explained(wide, x, return_convergence_delta=True, **rule)

    error = (ours - fine).flatten(1).norm(dim=1) / fine.flatten(1).norm(dim=1)
    assert delta.shape == (2,)
    assert (error <= delta).all()
    assert (delta <= 40 * error + 0.02).all()
    torch.testing.assert_close(ours, explained(wide, x, **rule))


@pytest.mark.parametrize("width", [40, 700])
def test_the_delta_equals_the_one_told_slowly(x, width):
    wide = Wide(width).double()
    points = path_points(2, "gausslegendre")
    steps = [(t, w, None) for t, w in points]

    _, delta = explained(wide, x[:1], n_steps=2, return_convergence_delta=True)

    curves = Curves(wide, wide.features, x[0], 2)
    with torch.no_grad():
        weights = {k: sum(w * curves(k, t) for t, w in points) for k in curves.varying}
    error = checked_error(curves, weights, path_points(8, "gausslegendre"))
    slow = score_map(wide, wide.features, x[0], 2, steps=steps)
    assert float(delta) == pytest.approx(2 * error / float(slow.norm()), rel=1e-6)


@pytest.mark.parametrize(
    ("method", "n_steps"), [("riemann_trapezoid", 8), ("riemann_left", 10)]
)
def test_the_delta_of_a_rule_without_steps_is_as_closely_checked(
    wide, x, method, n_steps
):
    found = []
    for steps in (None, n_steps):
        model = Calls(wide)
        explain = LayerIntegratedScoreCAM(model, wide.features)
        _, delta = explain.attribute(
            x, 2, method=method, n_steps=steps, return_convergence_delta=True
        )
        found.append((sum(model.rows), delta.tolist()))

    assert found[0] == found[1]


@pytest.fixture(scope="module")
def objects():
    """Objects of the bundled scenes: the input, the class, and its map to the end."""
    model = load_network()
    explain = LayerIntegratedScoreCAM(model, model.features)
    found = []
    for scene in load_scenes()[:6]:
        inputs = preprocess(scene.image)
        for target in scene.labels[:2]:
            fine = explain.attribute(inputs, target=target, n_steps=10)
            found.append((inputs, target, fine))
    return found


@pytest.mark.parametrize("rule", [{}, {"screening": 0.5}, {"n_steps": 2}])
def test_the_delta_covers_nine_of_ten_errors_on_the_bundled_scenes(objects, rule):
    model = load_network()
    explain = LayerIntegratedScoreCAM(model, model.features)
    held = []
    for inputs, target, fine in objects:
        ours, delta = explain.attribute(
            inputs, target=target, return_convergence_delta=True, **rule
        )
        held.append(bool((ours - fine).norm() <= delta * fine.norm()))
    assert len(held) >= 10
    assert sum(held) >= 0.9 * len(held)


@pytest.mark.parametrize(
    "rule",
    [
        {"n_steps": 1},
        {"n_steps": 1, "method": "riemann_right"},
        {"n_steps": 4, "method": "riemann_right"},
        pytest.param(
            {"screening": 0.9},
            marks=pytest.mark.xfail(
                strict=True, reason="what screening leaves out is unlike what it scores"
            ),
        ),
    ],
)
def test_a_sample_without_weight_does_not_pass_for_an_exact_map(rule):
    net, x = RightHalf(), torch.ones(1, 3, 12, 12, dtype=torch.double)
    explain = LayerIntegratedScoreCAM(net, net.features, score=lambda out: out**2)
    fine = explain.attribute(x, target=0, n_steps=24)

    ours, delta = explain.attribute(x, 0, return_convergence_delta=True, **rule)

    error = (ours - fine).norm() / ours.norm()
    assert error > 0.01
    assert delta >= error


def test_the_delta_of_a_layer_that_is_followed_whole_is_its_error():
    net, x = Wide(6).double(), images(2)
    fine = explained(net, x, n_steps=24)

    ours, delta = explained(net, x, n_steps=2, return_convergence_delta=True)

    error = (ours - fine).flatten(1).norm(dim=1) / fine.flatten(1).norm(dim=1)
    assert (error <= delta).all()
    # Rectified, a map may be nearer than its weights.
    assert (delta <= 10 * error).all()


def test_a_rule_that_is_named_runs_on_every_channel(wide, x):
    for rule, passes in (
        ({"n_steps": 3}, 3),
        ({"n_steps": 2, "method": "gausslegendre"}, 2),
        ({"method": "gausslegendre"}, 5),
        ({"method": "riemann_middle"}, 5),
        ({"method": "riemann_trapezoid"}, 7),
        ({"method": "riemann_right"}, 10),
    ):
        model = Calls(wide)
        explain = LayerIntegratedScoreCAM(model, wide.features)
        explain.attribute(x, target=2, **rule)
        assert sum(model.rows) == 2 * (2 + 40 * passes), rule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": 0.0}, "tolerance must be a number above 0 or None, got 0.0"),
        ({"tolerance": "x"}, "tolerance must be a number above 0 or None, got 'x'"),
        ({"tolerance": 0.1, "n_steps": 3}, "tolerance must be None where n_steps"),
        ({"tolerance": 0.1, "method": "gausslegendre"}, "tolerance must be None where"),
        (
            {"method": "recurrence", "return_convergence_delta": True},
            'return_convergence_delta must be False for method="recurrence"',
        ),
        (
            {"channel_softmax": True, "return_convergence_delta": True},
            "return_convergence_delta must be False with channel_softmax",
        ),
    ],
)
def test_what_cannot_be_asked_for(wide, x, options, message):
    with pytest.raises(ValueError, match=message):
        explained(wide, x, **options)
