"""Cases whose answer is known by hand."""

import pytest
import torch
from reference.methods import SCORE_METHODS, attribute
from reference.networks import ConvNet, images
from torch import nn

from captum_iscam import (
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)

IDENTITY = {"score": "identity"}


class Sum(nn.Module):
    """Score: the weighted sum of the pixels. Layer: two maps as large as the input."""

    def __init__(self, weights):
        super().__init__()
        self.weights = weights
        self.maps = nn.Identity()
        self.eval()

    def forward(self, x):
        left = torch.tensor([[4.0, 0.0], [0.0, 0.0]], dtype=x.dtype)
        lower = torch.tensor([[1.0, 1.0], [3.0, 5.0]], dtype=x.dtype)
        self.maps(torch.stack([left, lower]).expand(len(x), 2, 2, 2))
        return (x * self.weights).flatten(1).sum(1)


@pytest.fixture
def linear():
    weights = torch.tensor([[1.0, 10.0], [100.0, 1000.0]], dtype=torch.float64)
    x = torch.tensor([[[[2.0, 3.0], [5.0, 7.0]]]], dtype=torch.float64)
    return Sum(weights), x


# Masks: [[1, 0], [0, 0]] and [[0, 0], [1/2, 1]]; increase at full strength:
# 1 * 2 = 2 and 100 * 5 / 2 + 1000 * 7 = 7250. The map adds 2 and 7250 times the layer.
FULL = torch.tensor([[7258.0, 7250.0], [21750.0, 36250.0]], dtype=torch.float64)


def test_score_cam_of_four_pixels(linear):
    model, x = linear

    out = LayerScoreCAM(model, model.maps, **IDENTITY).attribute(x)

    torch.testing.assert_close(out[0, 0], FULL)


def test_the_baseline_is_where_nothing_is_shown(linear):
    model, x = linear

    out = LayerScoreCAM(model, model.maps, **IDENTITY).attribute(x, baselines=x - 1)

    # Every pixel rises by one: increases 1 and 50 + 1000.
    expected = torch.tensor([[1054.0, 1050.0], [3150.0, 5250.0]], dtype=torch.float64)
    torch.testing.assert_close(out[0, 0], expected)


@pytest.mark.parametrize(
    ("method", "n_steps", "share"),
    [
        ("gausslegendre", 1, 1 / 2),
        ("gausslegendre", 3, 1 / 2),
        ("riemann_middle", 1, 1 / 2),
        ("riemann_middle", 4, 1 / 2),
        ("riemann_trapezoid", 2, 1 / 2),
        ("riemann_right", 1, 1),
        ("riemann_right", 10, 0.55),
        ("riemann_left", 10, 0.45),
        ("recurrence", 10, 1.65),  # mean of i (i - 1) / 20, i = 1..10
    ],
)
def test_is_cam_of_a_linear_model_is_a_share_of_score_cam(
    linear, method, n_steps, share
):
    model, x = linear

    out = LayerIntegratedScoreCAM(model, model.maps, **IDENTITY).attribute(
        x, n_steps=n_steps, method=method
    )

    torch.testing.assert_close(out[0, 0], share * FULL, rtol=1e-6, atol=0)


def test_one_right_step_is_score_cam():
    net = ConvNet().double()

    one_step = LayerIntegratedScoreCAM(net, net.features).attribute(
        images(), 1, method="riemann_right", n_steps=1
    )

    assert torch.equal(
        one_step, LayerScoreCAM(net, net.features).attribute(images(), 1)
    )


@pytest.mark.parametrize("noise", ["input", "mask"])
def test_noise_in_pairs_cancels_for_a_linear_model(linear, noise):
    model, x = linear

    out = LayerSmoothedScoreCAM(model, model.maps, **IDENTITY).attribute(
        x, n_samples=6, stdevs=3.0, noise=noise
    )

    torch.testing.assert_close(out[0, 0], FULL)


def test_smoothing_without_noise_is_score_cam():
    net = ConvNet().double()

    out = LayerSmoothedScoreCAM(net, net.features).attribute(
        images(), 1, n_samples=3, stdevs=0
    )

    expected = LayerScoreCAM(net, net.features).attribute(images(), 1)
    torch.testing.assert_close(out, expected)


def test_the_size_of_the_noise_is_the_deviation(linear):
    _, x = linear

    class Square(Sum):
        def forward(self, z):
            super().forward(z)
            return (z**2).flatten(1).sum(1)

    model = Square(torch.ones(2, 2))

    out = LayerSmoothedScoreCAM(model, model.maps, **IDENTITY).attribute(
        x, n_samples=10_000, stdevs=0.5, internal_batch_size=4
    )

    # E|z + e|^2 = |z|^2 + 4 sigma^2, so each weight grows by 1: 4 + 1 and 55.25 + 1.
    expected = torch.tensor([[76.25, 56.25], [168.75, 281.25]], dtype=torch.float64)
    torch.testing.assert_close(out[0, 0], expected, rtol=0.02, atol=0)


def test_upsampling_comes_before_scaling():
    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.Identity()

        def forward(self, x):
            self.maps(torch.tensor([[[0.0, 2.0, 0.0]]], dtype=x.dtype))
            return x.sum((1, 2))

    model, x = Row().eval(), torch.ones(1, 1, 4, dtype=torch.float64)

    out = LayerScoreCAM(model, model.maps, **IDENTITY).attribute(x)

    # Three values on four places, align_corners=False: 0, 1.25, 1.25, 0. Scaled to
    # [0, 1] afterwards the increase is 2; scaled before, it would be 1.25.
    torch.testing.assert_close(out[0, 0], torch.tensor([0.0, 4.0, 0.0]).double())


def test_a_channel_softmax_weighs_by_exponentials(linear):
    model, x = linear

    out = LayerScoreCAM(model, model.maps, score=lambda z: z / 7248).attribute(
        x, channel_softmax=True
    )

    # Increases 2 / 7248 and 7250 / 7248 differ by one: shares 1 / (1 + e), e / (1 + e).
    e = torch.e
    expected = torch.tensor([[4 + e, e], [3 * e, 5 * e]], dtype=torch.float64) / (1 + e)
    torch.testing.assert_close(out[0, 0], expected)


def test_probabilities_use_the_softmax_over_classes():
    class TwoClasses(Sum):
        def forward(self, x):
            total = super().forward(x)
            return torch.stack([total, torch.zeros_like(total)], 1)

    model = TwoClasses(torch.tensor([[1.0, 0], [0, 0.5]], dtype=torch.float64))
    x = torch.tensor([[[[1.0, 0.0], [0.0, 4.0]]]], dtype=torch.float64)

    out = LayerScoreCAM(model, model.maps).attribute(x, 0)

    first = torch.sigmoid(torch.tensor(1.0).double()) - 0.5
    second = torch.sigmoid(torch.tensor(2.0).double()) - 0.5
    expected = torch.stack(
        [
            torch.stack([4 * first + second, second]),
            torch.stack([3 * second, 5 * second]),
        ]
    )
    torch.testing.assert_close(out[0, 0], expected)


def test_one_step_of_integrated_grad_cam_by_hand():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.Conv2d(1, 2, 1, bias=False, dtype=torch.float64)
            self.maps.weight.data = torch.tensor([1.0, -1.0]).double().view(2, 1, 1, 1)

        def forward(self, x):
            pooled = self.maps(x).mean((2, 3))
            return 8 * pooled[:, 0] + 4 * pooled[:, 1]

    model = Pooled().eval()
    x = torch.tensor([[[[1.0, 2.0], [3.0, -4.0]]]], dtype=torch.float64)

    out = LayerIntegratedGradCAM(model, model.maps).attribute(
        x, n_steps=2, method="riemann_right"
    )

    # Gradients 2 and 1 everywhere: 2 x - x = x at full strength, half at the other
    # point; the negative pixel is cut at both.
    expected = torch.tensor([[0.75, 1.5], [2.25, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(out[0, 0], expected)


@pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
@pytest.mark.parametrize("name", SCORE_METHODS)
def test_a_constant_added_to_the_scores_changes_nothing(name):
    net = ConvNet().double()

    out = attribute(
        name, lambda x: net(x) + 7, net.features, images(), 1, constructor=IDENTITY
    )

    expected = attribute(name, net, net.features, images(), 1, constructor=IDENTITY)
    torch.testing.assert_close(out, expected)
