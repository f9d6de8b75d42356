"""IS-CAM by default: what it costs, what it gives, what it says of its error."""

import warnings

import numpy as np
import pytest
import torch
from reference.networks import ConvNet, WideNet, images
from reference.regression import Curves, default_map, relative_difference
from reference.score_methods import RULES, score_map
from reference.spies import Calls
from torch import nn

from captum_iscam import LayerIntegratedScoreCAM, LayerScoreCAM
from captum_iscam.attr._quadrature import (
    KRONROD_FURTHER,
    KRONROD_OWN,
    MIN_SAMPLED,
    SAMPLED_SHARE,
    radau_points,
)
from captum_iscam.attr._regression import MIN_SCREENED_CHANNELS
from captum_iscam.attr.integrated_score_cam import SHARE
from captum_iscam.demo import load_network, load_scenes, preprocess

EXACT = {"rtol": 1e-9, "atol": 1e-12}


class Linear(nn.Module):
    """The channels of a layer, and scores that rise in proportion to the mask."""

    def __init__(self, features):
        super().__init__()
        self.features = features
        self.head = nn.Linear(3 * 13 * 12, 2).double()
        self.eval()

    def forward(self, x):
        self.features(x)
        return self.head(x.flatten(1))


@pytest.fixture
def wide():
    return WideNet().double()


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(11)
    return torch.randn(2, 3, 13, 12, dtype=torch.double, generator=generator)


# A random network may well be steep.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
)


def explained(net, x, target=2, **options):
    explain = LayerIntegratedScoreCAM(net, net.features)
    return explain.attribute(x, target=target, **options)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 30])
def test_radau_points_are_those_of_the_tables(count):
    ours, expected = radau_points(count), RULES["gaussradau"](count)

    np.testing.assert_allclose(ours, expected, rtol=1e-10)
    # They integrate every power up to 2n, with 0 at 0.
    for power in range(1, 2 * count + 1):
        found = sum(w * t**power for t, w in ours)
        assert found == pytest.approx(1 / (power + 1), rel=1e-10)


def test_kronrods_points_extend_the_rule_to_degree_11():
    own, further = KRONROD_OWN, KRONROD_FURTHER

    np.testing.assert_allclose(*[[t for t, _ in p] for p in (own, radau_points(3))])
    for power in range(1, 12):
        found = sum(w * t**power for t, w in own + further)
        assert found == pytest.approx(1 / (power + 1), rel=1e-12)
    assert all(w > 0 for _, w in own + further)


def test_a_layer_with_few_channels_is_scored_in_full():
    net, x = ConvNet().double(), images(2)

    ours = explained(net, x, relu_attributions=False)

    steps = [(t, w, None) for t, w in RULES["gaussradau"](3)]
    slow = [score_map(net, net.features, one, 2, steps=steps, relu=False) for one in x]
    torch.testing.assert_close(ours, torch.stack(slow).unsqueeze(1), **EXACT)


@pytest.mark.parametrize(
    "width", [40, MIN_SCREENED_CHANNELS - 1, MIN_SCREENED_CHANNELS, 150]
)
@pytest.mark.filterwarnings("ignore:The error of the map is probably")
def test_equal_to_the_default_told_slowly(x, width):
    wide = WideNet(width).double()
    model = Calls(wide)
    explain = LayerIntegratedScoreCAM(model, wide.features)

    ours, delta = explain.attribute(
        x, target=2, relu_attributions=False, return_convergence_delta=True
    )

    passes = 0
    for i, one in enumerate(x):
        curves = Curves(wide, wide.features, one, 2)
        slow, squared = default_map(curves, SHARE, MIN_SCREENED_CHANNELS)
        torch.testing.assert_close(ours[i, 0], torch.from_numpy(slow), **EXACT)
        stated = 2 * squared**0.5 / np.linalg.norm(slow)
        assert float(delta[i]) == pytest.approx(stated, rel=1e-6)
        passes += curves.passes
    assert sum(model.rows) == 3 * len(x) + 3 + passes


def test_the_default_is_a_rule_that_can_be_named(x):
    wide = WideNet(150).double()

    named = explained(wide, x, method="gaussradau", n_steps=3, screening=SHARE)

    torch.testing.assert_close(explained(wide, x), named, **EXACT)


def test_a_straight_curve_is_exact(wide, x):
    """With a score that rises in proportion to the mask every rule is exact."""
    net = Linear(wide.features)
    explain = LayerIntegratedScoreCAM(net, net.features, score="identity")

    ours, delta = explain.attribute(
        x, target=0, relu_attributions=False, return_convergence_delta=True
    )

    score_cam = LayerScoreCAM(net, net.features, score="identity")
    whole = score_cam.attribute(x, target=0, relu_attributions=False)
    torch.testing.assert_close(ours, whole / 2, rtol=1e-6, atol=1e-9)
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
        self.eval()

    def forward(self, x):
        self.features(self.maps * x.mean((1, 2, 3), keepdim=True))
        return x[..., 6:].flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"n_steps": 1},
        {"n_steps": 1, "method": "riemann_right"},
        {"n_steps": 4, "method": "riemann_right"},
        {"n_steps": 4, "method": "riemann_right", "screening": 0.5},
    ],
)
@pytest.mark.filterwarnings("ignore:screening is ignored")
def test_a_sample_without_weight_does_not_pass_for_an_exact_map(rule):
    net, x = RightHalf(), torch.ones(1, 3, 12, 12, dtype=torch.double)
    explain = LayerIntegratedScoreCAM(net, net.features, score=lambda out: out**2)
    fine = explain.attribute(x, target=0, n_steps=24)

    ours, delta = explain.attribute(x, 0, return_convergence_delta=True, **rule)

    error = (ours - fine).norm() / ours.norm()
    assert delta >= error
    assert torch.isinf(delta).all()


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"n_steps": 1},
        {"n_steps": 2},
        {"n_steps": 3},
        {"n_steps": 4, "method": "riemann_right"},
        {"n_steps": 5, "method": "riemann_left"},
    ],
)
@pytest.mark.filterwarnings("ignore:The error of the map is probably")
def test_the_delta_covers_the_error(wide, x, rule):
    fine = explained(wide, x, n_steps=24)

    ours, delta = explained(wide, x, return_convergence_delta=True, **rule)

    error = (ours - fine).flatten(1).norm(dim=1) / fine.flatten(1).norm(dim=1)
    assert delta.shape == (2,)
    assert (error <= delta).all()
    assert (delta <= 40 * error + 0.02).all()
    torch.testing.assert_close(ours, explained(wide, x, **rule))


@pytest.mark.parametrize("width", [40, 700])
def test_the_delta_of_a_rule_equals_the_one_told_slowly(x, width):
    wide = WideNet(width).double()
    points = RULES["gausslegendre"](2)
    steps = [(t, w, None) for t, w in points]

    _, delta = explained(wide, x[:1], n_steps=2, return_convergence_delta=True)

    curves = Curves(wide, wide.features, x[0], 2)
    with torch.no_grad():
        weights = {k: curves.integral(k, points) for k in curves.active}
        count = max(6, round(0.024 * len(weights)))
        fine = RULES["gausslegendre"](8)
        relative = relative_difference(curves, weights, fine, count)
    slow = score_map(wide, wide.features, x[0], 2, steps=steps)
    # Wider for a layer of few channels.
    error = (1.5 if width < MIN_SCREENED_CHANNELS else 1) * relative
    error *= np.linalg.norm(curves.map_of(weights))
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


def test_the_delta_of_a_layer_of_which_all_is_sampled_is_its_error():
    net, x = WideNet(MIN_SAMPLED).double(), images(2)
    fine = explained(net, x, n_steps=24)

    ours, delta = explained(net, x, n_steps=2, return_convergence_delta=True)

    error = (ours - fine).flatten(1).norm(dim=1) / fine.flatten(1).norm(dim=1)
    assert (error <= delta).all()
    # Rectified, a map may be nearer than its weights.
    assert (delta <= 10 * error).all()


@pytest.mark.parametrize("scale", [1.0, 1e22, 1e-22])
def test_the_delta_does_not_overflow_in_single_precision(wide, x, scale):
    net, x = wide.float(), x.float()
    explain = LayerIntegratedScoreCAM(
        net, net.features, score=lambda out: scale * out.softmax(1)
    )

    _, delta = explain.attribute(x, 2, n_steps=2, return_convergence_delta=True)

    usual = explained(net, x, n_steps=2, return_convergence_delta=True)[1]
    torch.testing.assert_close(delta, usual, rtol=1e-3, atol=0)


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


@pytest.mark.slow
@pytest.mark.parametrize("rule", [{}, {"n_steps": 2}])
def test_error_and_delta_on_the_bundled_scenes(objects, rule):
    model = load_network()
    explain = LayerIntegratedScoreCAM(model, model.features)
    held, errors = [], []
    for inputs, target, fine in objects:
        ours, delta = explain.attribute(
            inputs, target=target, return_convergence_delta=True, **rule
        )
        errors.append(float((ours - fine).norm() / fine.norm()))
        held.append(errors[-1] <= float(delta))

    assert len(held) >= 10
    assert sum(held) >= 0.9 * len(held)
    if not rule:
        assert np.median(errors) <= 0.02
        assert max(errors) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("overconfident", [1, 100])
def test_a_steep_score_is_warned_of(overconfident):
    """Logits times 100 on scene 4, where three points cannot integrate a step."""
    model, scene = load_network(), load_scenes()[4]
    inputs, target = preprocess(scene.image), scene.labels[0]

    def confident(x):
        return overconfident * model(x)

    explain = LayerIntegratedScoreCAM(confident, model.features)
    fine = explain.attribute(inputs, target=target, n_steps=40)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ours = explain.attribute(inputs, target=target)
        explain.attribute(inputs, target=target, n_steps=3)

    said = [str(w.message) for w in caught if "abruptly" in str(w.message)]
    error = float((ours - fine).norm() / fine.norm())
    if overconfident == 1:
        assert not said
        assert error < 0.03
    else:
        # Once, by the default: a rule that is named shows just what it names.
        assert len(said) == 1
        assert "example 0" in said[0]
        assert "n_steps=10" in said[0]
        assert error > 0.1


def test_a_steep_score_is_named_with_its_example_and_target(wide, x):
    """The score of class 1 takes steps, that of class 0 is a ramp."""
    net = Linear(wide.features)

    def scores(out):
        return torch.stack([out[:, 0], (3 * out[:, 1]).floor()], dim=1)

    explain = LayerIntegratedScoreCAM(net, net.features, score=scores)
    with pytest.warns(
        UserWarning, match=r"The score of example.* \(column 1 of target\)"
    ) as caught:
        found = explain.attribute(x, target=[[0, 1]])

    said = [str(w.message) for w in caught if "abruptly" in str(w.message)]
    assert len(said) == 1
    assert "column 0" not in said[0]
    torch.testing.assert_close(found[:, :1], explain.attribute(x, target=0))


def test_a_rule_that_is_named_runs_on_every_channel(wide, x):
    for rule, passes in (
        ({"n_steps": 3}, 3),
        ({"n_steps": 2, "method": "gausslegendre"}, 2),
        ({"n_steps": 1, "method": "gaussradau"}, 1),
        ({"method": "gaussradau"}, 4),
        ({"method": "gausslegendre"}, 5),
        ({"method": "riemann_middle"}, 5),
        ({"method": "riemann_trapezoid"}, 7),
        ({"method": "riemann_right"}, 10),
        ({"method": "recurrence"}, 9),
        ({"method": "accumulated"}, 10),
    ):
        model = Calls(wide)
        explain = LayerIntegratedScoreCAM(model, wide.features)
        explain.attribute(x, target=2, **rule)
        assert sum(model.rows) == 2 * (3 + 40 * passes) + 3, rule


@pytest.mark.parametrize("width", [200, 512])
def test_the_default_takes_no_more_than_it_says(x, width):
    wide = WideNet(width).double()
    model = Calls(wide)

    LayerIntegratedScoreCAM(model, wide.features).attribute(x, target=2)

    active = [len(Curves(wide, wide.features, one, 2).active) for one in x]
    rule = sum(3 * round(SHARE * count) for count in active)
    estimate = sum(4 * max(MIN_SAMPLED, round(SAMPLED_SHARE * n)) for n in active)
    assert sum(model.rows) == 3 * len(x) + 3 + rule + estimate
    # A share of the channels is rounded.
    assert rule <= 1.35 * sum(active) + 2 * 3 / 2
    assert estimate <= sum(max(0.1 * count, 24) for count in active) + 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"method": "recurrence", "return_convergence_delta": True},
            'return_convergence_delta must be False for method="recurrence"',
        ),
        (
            {"method": "accumulated", "return_convergence_delta": True},
            'return_convergence_delta must be False for method="accumulated"',
        ),
        (
            {"channel_softmax": True, "return_convergence_delta": True},
            "return_convergence_delta must be False with channel_softmax",
        ),
        ({"method": "gaussradau", "n_steps": 0}, "n_steps must be an integer of at"),
    ],
)
def test_what_cannot_be_asked_for(wide, x, options, message):
    with pytest.raises(ValueError, match=message):
        explained(wide, x, **options)


def test_rounding_is_no_steep_score(wide, x):
    """Logits times 1e-6: what the mask changes in the probability is rounding."""
    net = wide.float()

    def dull(x):
        return 1e-6 * net(x)

    explain = LayerIntegratedScoreCAM(dull, net.features)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The map is zero")
        warnings.filterwarnings("ignore", message="The scores of masked inputs differ")
        warnings.filterwarnings("error", message="The score of example")
        explain.attribute(x.float(), 2, relu_attributions=False)


@pytest.mark.parametrize("kind", ["autocast", "half"])
@pytest.mark.parametrize("cls", [LayerIntegratedScoreCAM, LayerScoreCAM])
def test_no_delta_in_half_precision(wide, x, kind, cls):
    net, x = wide.float(), x.float()
    if kind == "half":
        net, x = net.bfloat16(), x.bfloat16()
    explain = cls(net, net.features)

    with (
        torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"),
        pytest.raises(ValueError, match="return_convergence_delta must be False for a"),
    ):
        explain.attribute(x, 2, return_convergence_delta=True)

    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        assert explain.attribute(x, 2).dtype == torch.float32
