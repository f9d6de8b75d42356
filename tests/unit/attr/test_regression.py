"""Fewer passes than channels: screening, and the error of SS-CAM's samples."""

import warnings

import numpy as np
import pytest
import torch
from reference.networks import ConvNet, images
from reference.regression import predicted
from reference.schemes import explained_by
from reference.spies import Calls, LiveBytes
from torch import nn

from captum_iscam import (
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)
from captum_iscam.attr import _regression
from captum_iscam.attr._quadrature import SCORE_CAM
from captum_iscam.attr._regression import (
    MIN_SCREENED_CHANNELS,
    MaskRegression,
    Screening,
)

CHANNELS = 160


class Patches(nn.Module):
    """Each channel shows a square of its own size, and the class likes all of them.

    The score of a masked input rises with what the mask shows, which is what screening
    counts on; `twist` adds a part that it cannot know.
    """

    def __init__(self, twist=0.0):
        super().__init__()
        self.features = nn.Conv2d(3, CHANNELS, 1)
        generator = torch.Generator().manual_seed(0)
        shapes = torch.zeros(1, CHANNELS, 16, 16)
        for k in range(CHANNELS):
            side = 2 + k % 13
            row, column = k % 3, k % 2
            shapes[0, k, row : row + side, column : column + side] = 0.3 + torch.rand(
                (), generator=generator
            )
        self.register_buffer("shapes", shapes)
        self.register_buffer(
            "taste", 1 + twist * torch.randn(16, 16, generator=generator)
        )
        self.double().eval()

    def forward(self, x):
        self.features(x)
        return (x.sum(1) * self.taste).flatten(1).sum(1, keepdim=True)


class Shapes(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net.shapes.expand(len(x), -1, -1, -1) * x.mean()


def explained(cls, net, x, model=None, **options):
    if not isinstance(net.features, Shapes):
        net.features = Shapes(net).eval()
    explain = cls(model or net, net.features, score="identity")
    return explain.attribute(x, target=0, **options)


@pytest.fixture
def x():
    return torch.ones(2, 3, 16, 16, dtype=torch.double)


@pytest.mark.parametrize("screening", [0.02, 0.25, 0.6])
@pytest.mark.parametrize("rule", [None, {"n_steps": 2}])
@pytest.mark.filterwarnings("ignore:The error of the map is probably")
def test_screening_equals_the_regression_told_slowly(x, screening, rule):
    net = Patches(twist=0.5)
    cls = LayerScoreCAM if rule is None else LayerIntegratedScoreCAM
    generator = torch.Generator().manual_seed(1)
    net.shapes += 0.1 * torch.rand(net.shapes.shape, generator=generator)
    net.shapes[0, 7] = 0.5  # constant: its mask is zero, and it counts for no share
    options = {"relu_attributions": False, **(rule or {})}

    ours, delta = explained(
        cls, net, x, screening=screening, return_convergence_delta=True, **options
    )

    maps = {k: a.flatten().numpy() for k, a in enumerate(net.shapes[0]) if k != 7}
    masks = {k: (a - a.min()) / (a.max() - a.min()) for k, a in maps.items()}
    order = sorted(maps, key=lambda k: -masks[k].mean() * np.linalg.norm(maps[k]))
    taste = (x[0].sum(0) * net.taste).flatten().numpy()
    # The score is linear, so a path of any rule comes to half of it.
    whole = {k: (masks[k] @ taste) / (1 if rule is None else 2) for k in maps}
    count = max(1, round(screening * (CHANNELS - 1)))
    known = {k: whole[k] for k in order[:count]}
    weights, squared = predicted(maps, known)
    slow = sum(weights[k] * maps[k] for k in maps)
    torch.testing.assert_close(ours[0].flatten(), torch.from_numpy(slow))
    if rule is None:
        error = np.sqrt(squared)
        assert float(delta[0]) == pytest.approx(2 * error / np.linalg.norm(slow))


@pytest.mark.parametrize(("screening", "scored"), [(0.25, 40), (0.5, 80), (1.0, 160)])
def test_screening_scores_its_share_of_the_channels(x, screening, scored):
    net = Patches(twist=0.5)
    model = Calls(net)

    explained(LayerScoreCAM, net, x, model, screening=screening)

    assert sum(model.rows) == 2 * (3 + scored) + 3


def test_more_screening_errs_less_and_the_delta_says_how_much(x):
    net = Patches(twist=2.0)
    whole = explained(LayerScoreCAM, net, x)
    errors, deltas = [], []
    for share in (0.2, 0.6, 1.0):
        ours, delta = explained(
            LayerScoreCAM, net, x, screening=share, return_convergence_delta=True
        )
        errors.append(float((ours - whole).norm() / whole.norm()))
        deltas.append(float(delta.max()))

    assert errors[0] > errors[1] > errors[2] == 0
    assert deltas[0] > deltas[1] > deltas[2] == 0
    # An estimate from a few channels, and most of these have each other's mask.
    assert errors[0] <= 3 * deltas[0]
    assert errors[1] <= 3 * deltas[1]


def test_blocks_of_channels_change_nothing(x, monkeypatch):
    options = {"screening": 0.3, "return_convergence_delta": True}
    whole = explained(LayerScoreCAM, Patches(twist=2.0), x, **options)
    monkeypatch.setattr(_regression, "BLOCK", 3)

    blocks = explained(LayerScoreCAM, Patches(twist=2.0), x, **options)

    assert whole[1].min() > 0
    torch.testing.assert_close(whole, blocks)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_the_regression_holds_one_table_of_what_is_known(share):
    count, positions = 1500, 49
    masks = torch.rand(count, positions, dtype=torch.double)
    is_known = torch.arange(count) < share * count
    weights = torch.rand(int(is_known.sum()), 4, dtype=torch.double)

    with LiveBytes() as live:
        regression = MaskRegression(masks, is_known)
        regression.predict(regression.solve(weights))

    known = int(is_known.sum())
    tables = known**2 + known * (count - known)
    # Blocks of channels by all of them, and copies of the masks, come on top.
    assert live.peak <= 8 * (1.1 * tables + 5 * 64 * count + 6 * positions * count)


@pytest.mark.parametrize("jitter", [0.0, 1e-14])
def test_channels_with_one_mask_have_one_weight(x, jitter):
    net = Patches(twist=0.5)
    for k in range(CHANNELS):
        net.shapes[0, k] = (1 + k) * net.shapes[0, 7]
    net.shapes += jitter * torch.rand_like(net.shapes)
    whole = explained(LayerScoreCAM, net, x)

    ours, delta = explained(
        LayerScoreCAM, net, x, screening=0.5, return_convergence_delta=True
    )

    # A twentieth of a hundredth is the channels' own.
    torch.testing.assert_close(ours, whole, rtol=1e-3, atol=0)
    assert delta.max() < 0.1


def test_a_score_that_rises_faster_than_what_is_shown_is_predicted(x):
    net = Patches()

    def square(inputs):
        return net(inputs) ** 2 / 1e3

    whole = explained(LayerScoreCAM, net, x, square)

    ours, delta = explained(
        LayerScoreCAM, net, x, square, screening=0.6, return_convergence_delta=True
    )

    error = float((ours - whole).norm() / whole.norm())
    assert 1e-6 < error < 0.001
    assert error <= delta.max() <= 0.05


class Noted:
    """Score-CAM that notes which channels it was asked for."""

    def prepare(self, channels, rows):
        self.channels = channels.active[rows, 1].tolist()
        return SCORE_CAM.prepare(channels, rows)


def test_what_shows_most_of_the_input_and_weighs_most_is_scored():
    net = Patches()
    net.shapes[0, ::2] *= 3  # a larger norm, the same mask
    net.shapes[0, 1::4] += 2  # nor does what all positions share change the mask
    maps = net.shapes[0].flatten(1)
    low, high = maps.amin(1), maps.amax(1)
    shown = (maps.mean(1) - low) / (high - low)
    expected = (shown * maps.norm(dim=1)).argsort(descending=True)[:40]
    net.features = Shapes(net).eval()
    scheme = Noted()

    explain = LayerScoreCAM(net, net.features, score="identity")
    x = torch.ones(1, 3, 16, 16, dtype=torch.double)
    explained_by(explain, Screening(scheme, 0.25, with_error=False), x, 0)

    assert scheme.channels == sorted(expected.tolist())


def test_screening_is_of_the_default_rule_too(x):
    net = Patches(twist=0.5)
    model = Calls(net)

    explained(LayerIntegratedScoreCAM, net, x, model, screening=0.5)

    # Half of the channels at three points, and six of them at four more.
    assert sum(model.rows) == 2 * (3 + 3 * 80 + 4 * 6) + 3


@pytest.mark.parametrize(
    ("cls", "options", "passes"),
    [
        (LayerScoreCAM, {}, 1),
        (LayerIntegratedScoreCAM, {"n_steps": 2}, 2),
        (LayerSmoothedScoreCAM, {"n_samples": 3, "stdevs": 0.1}, 3),
    ],
)
def test_an_example_with_few_channels_is_scored_in_full_and_says_so(
    x, cls, options, passes
):
    net = Patches(twist=0.5)
    # The first example keeps all its channels, the second one fewer than it takes.
    shapes = net.shapes.repeat(2, 1, 1, 1)
    shapes[1, MIN_SCREENED_CHANNELS - 1 :] = 0.5

    class Unequal(nn.Module):
        def forward(self, x):
            return shapes[: len(x)] if len(x) == 2 else shapes[:1]

    net.features = Unequal().eval()
    model = Calls(net)
    explain = cls(model, net.features, score="identity")

    with pytest.warns(UserWarning, match="screening is ignored for example 1:") as said:
        explain.attribute(x, target=0, screening=0.25, **options)

    assert len(said) == 1
    assert "fewer than 128 active channels" in str(said[0].message)
    assert sum(model.rows) == 9 + passes * (40 + MIN_SCREENED_CHANNELS - 1)


def test_a_small_layer_is_exact_without_a_word_where_all_is_asked_for():
    net = ConvNet().double()
    explain = LayerScoreCAM(net, net.features)

    options = {"target": 0, "relu_attributions": False}
    ours = explain.attribute(images(2), screening=1.0, **options)

    assert torch.equal(ours, explain.attribute(images(2), **options))


@pytest.mark.parametrize("cls", [LayerScoreCAM, LayerIntegratedScoreCAM])
def test_channels_that_cancel_are_warned_of(x, cls):
    """The class likes a corner, and dislikes the rest just as much on the whole."""
    net = Patches()
    maps = net.shapes[0].flatten(1)
    masks = (maps / maps.amax(1, keepdim=True)).view(-1, 16, 16)
    inside = masks[:, :7, :7].sum((1, 2))
    likes, dislikes = inside @ maps, (masks.sum((1, 2)) - inside) @ maps
    for balanced in (False, True):
        net.taste.fill_(-float(likes @ dislikes / dislikes.square().sum()) * balanced)
        net.taste[:7, :7] = 1
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            explained(cls, net, x, screening=0.4, relu_attributions=False)
            explained(cls, net, x, screening=1.0, relu_attributions=False)
        said = [str(w.message) for w in caught if "nearly cancel" in str(w.message)]
        # Once: where all channels are scored nothing is predicted.
        assert len(said) == balanced
    assert "examples 0, 1" in said[0]
    assert "screening=1" in said[0]


@pytest.mark.parametrize("screening", [0, -0.1, 1.1, True, "half", float("nan")])
def test_screening_must_be_a_share(x, screening):
    with pytest.raises(ValueError, match="screening must be a share of the channels"):
        explained(LayerScoreCAM, Patches(), x, screening=screening)


def smoothed(net, x, model=None, seed=1, **options):
    generator = torch.Generator().manual_seed(seed)
    return explained(
        LayerSmoothedScoreCAM, net, x, model, generator=generator, **options
    )


@pytest.mark.filterwarnings("ignore:The map is zero")
def test_nothing_is_guessed_where_every_channel_is_scored():
    net = ConvNet().double()
    explain = LayerScoreCAM(net, net.features, score=lambda out: out * 0)

    maps, delta = explain.attribute(
        images(2),
        target=0,
        screening=1.0,
        relu_attributions=False,
        return_convergence_delta=True,
    )

    assert torch.equal(maps, torch.zeros_like(maps))
    assert torch.equal(delta, torch.zeros_like(delta))


@pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The score of example",
    "ignore:Channels that support",
)
def test_a_constant_example_is_exact_alone_and_in_a_batch():
    net = ConvNet().double()
    varied = images(1)
    constant = torch.zeros_like(varied)
    options = {"n_samples": 2, "stdevs": 0.1, "return_convergence_delta": True}
    explain = LayerSmoothedScoreCAM(net, net.features)

    _, alone = explain.attribute(constant, target=0, **options)
    _, both = explain.attribute(torch.cat([constant, varied]), target=0, **options)

    assert alone.tolist() == [0.0]
    assert both.tolist() == [0.0, torch.inf]


def square_of(net):
    """A score whose noise does not cancel within a pair."""
    return lambda inputs: net(inputs) ** 2 / 1e5


@pytest.mark.slow
@pytest.mark.parametrize("screening", [None, 0.5])
def test_the_delta_of_samples_is_their_standard_error(x, screening):
    """Over many seeds the maps scatter by what each one says of itself."""
    net = Patches(twist=0.5)
    maps, deltas = [], []
    for seed in range(40):
        ours, delta = smoothed(
            net,
            x[:1],
            model=square_of(net),
            seed=seed,
            stdevs=2.0,
            n_samples=32,
            screening=screening,
            relu_attributions=False,
            return_convergence_delta=True,
        )
        maps.append(ours)
        deltas.append(delta)

    mean = torch.stack(maps).mean(0)
    scatter = (torch.stack(maps) - mean).flatten(1).norm(dim=1) / mean.norm()
    # Half a delta is the standard error: the root mean square of the scatter.
    told = torch.stack(deltas).square().mean().sqrt() / 2
    ratio = float(told / scatter.square().mean().sqrt())
    # What screening leaves comes on top, whatever the noise.
    assert 0.75 <= ratio <= (1.25 if screening is None else 3)
    covered = (scatter <= torch.stack(deltas).squeeze(1)).double().mean()
    assert covered >= 0.85


def test_the_delta_of_three_pairs_is_their_scatter_and_more(x):
    """As so few tell little of it: the square root of 3 is that of four pairs."""
    net = Patches(twist=0.5)
    options = {"model": square_of(net), "stdevs": 2.0, "relu_attributions": False}
    sums = [n * smoothed(net, x[:1], n_samples=2 * n, **options) for n in (1, 2)]

    mean, delta = smoothed(
        net, x[:1], n_samples=6, return_convergence_delta=True, **options
    )

    pairs = torch.stack([sums[0], sums[1] - sums[0], 3 * mean - sums[1]])
    squared = float((pairs - mean).square().sum()) / (3 * 2)
    assert float(delta) == pytest.approx(
        2 * (3 * squared) ** 0.5 / float(mean.norm()), rel=1e-6
    )


@pytest.mark.parametrize("n_samples", [1, 2, 3, 4])
def test_two_pairs_say_nothing_of_their_error(x, n_samples):
    _, delta = smoothed(
        Patches(), x, stdevs=0.1, n_samples=n_samples, return_convergence_delta=True
    )

    assert torch.isinf(delta).all()


def test_lists_of_layers_give_lists_of_deltas(x):
    net = Patches(twist=0.5)
    net.features = Shapes(net).eval()
    explain = LayerScoreCAM(net, [net.features, net.features], score="identity")

    maps, deltas = explain.attribute(
        x, target=0, screening=0.5, return_convergence_delta=True
    )

    assert len(maps) == len(deltas) == 2
    assert deltas[0].shape == (2,)
