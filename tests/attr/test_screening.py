"""Fewer passes than channels: screening, and samples that are foretold."""

import numpy as np
import pytest
import torch
from reference.networks import ConvNet, images
from reference.plans import explained_by
from reference.refinement import alike, foretold
from reference.spies import Calls, LiveBytes
from torch import nn

from captum_iscam import (
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)
from captum_iscam.attr import _regression
from captum_iscam.attr._engine import OfExample
from captum_iscam.attr._plans import SCORE_CAM
from captum_iscam.attr._screening import Screening

CHANNELS = 40


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
            shapes[0, k, :side, :side] = 0.3 + torch.rand((), generator=generator)
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
    known = {k: whole[k] for k in order[: max(1, round(screening * 39))]}
    weights, others, covariance = foretold(
        masks, alike(masks), known, taste.sum() / len(taste)
    )
    slow = sum(weights[k] * maps[k] for k in maps)
    torch.testing.assert_close(ours[0].flatten(), torch.from_numpy(slow))
    grams = np.array([[maps[j] @ maps[k] for k in others] for j in others])
    if rule is None:
        error = np.sqrt(2 * np.sum(grams * covariance))
        assert float(delta[0]) == pytest.approx(2 * error / np.linalg.norm(slow))


@pytest.mark.parametrize(("screening", "scored"), [(0.25, 10), (0.5, 20), (1.0, 40)])
def test_screening_scores_its_share_of_the_channels(x, screening, scored):
    net = Patches(twist=0.5)
    model = Calls(net)

    explained(LayerScoreCAM, net, x, model, screening=screening)

    assert sum(model.rows) == 2 * (2 + scored)


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


def fill(channels, is_known):
    weights = torch.rand(len(is_known), dtype=torch.double)
    _regression.MaskRegression(channels).fill(is_known, weights)


def foretell(channels, is_known):
    moves = torch.rand(len(is_known), 4, dtype=torch.double)
    _regression.foretell(channels, is_known, moves)


@pytest.mark.parametrize("regress", [fill, foretell])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_the_regression_holds_one_table_of_what_is_known(share, regress):
    count, places = 1500, 49
    everything = torch.arange(count)
    channels = OfExample(0, everything, everything, torch.rand(count, places), 0.5)
    is_known = everything < share * count

    with LiveBytes() as live:
        regress(channels, is_known)

    known = int(is_known.sum())
    tables = known**2 + 2 * known * (count - known)
    # Blocks of channels by all of them, and their masks and maps, come on top.
    assert live.peak <= 8 * (1.1 * tables + 5 * 64 * count + 6 * places * count)


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


def test_a_score_that_rises_faster_than_what_is_shown_is_foretold(x):
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


class Scored:
    """Score-CAM that notes which channels it was asked for."""

    def weigh(self, channels):
        self.channels = channels.varying[:, 1].tolist()
        return SCORE_CAM.weigh(channels)


def test_what_shows_most_of_the_input_and_weighs_most_is_scored():
    net = Patches()
    net.shapes[0, ::2] *= 3  # a larger norm, the same mask
    net.shapes[0, 1::4] += 2  # nor does what all places share change the mask
    maps = net.shapes[0].flatten(1)
    low, high = maps.amin(1), maps.amax(1)
    shown = (maps.mean(1) - low) / (high - low)
    expected = (shown * maps.norm(dim=1)).argsort(descending=True)[:10]
    net.features = Shapes(net).eval()
    plan = Scored()

    explain = LayerScoreCAM(net, net.features, score="identity")
    x = torch.ones(1, 3, 16, 16, dtype=torch.double)
    explained_by(explain, Screening(plan, 0.25), x, 0)

    assert sorted(plan.channels) == sorted(expected.tolist())


def test_screening_and_the_adaptive_plan_go_together(x):
    net = Patches(twist=0.5)
    model = Calls(net)

    explained(LayerIntegratedScoreCAM, net, x, model, screening=0.5, tolerance=0.5)

    # The curves are straight: of the 20 channels 12 at four points, 8 once.
    assert sum(model.rows) == 2 * (2 + 12 * 4 + 8)


@pytest.mark.parametrize("screening", [0, -0.1, 1.1, True, "half", float("nan")])
def test_screening_must_be_a_share(x, screening):
    with pytest.raises(ValueError, match="screening must be a share of the channels"):
        explained(LayerScoreCAM, Patches(), x, screening=screening)


def smoothed(net, x, model=None, seed=1, **options):
    generator = torch.Generator().manual_seed(seed)
    return explained(
        LayerSmoothedScoreCAM, net, x, model, generator=generator, **options
    )


def test_nothing_is_guessed_where_every_channel_is_scored():
    net = ConvNet().double()
    explain = LayerScoreCAM(net, net.features, score=lambda out: out * 0 + 0.5)

    maps, delta = explain.attribute(
        images(2),
        target=0,
        screening=1.0,
        relu_attributions=False,
        return_convergence_delta=True,
    )

    assert torch.equal(maps, torch.zeros_like(maps))
    assert torch.equal(delta, torch.zeros_like(delta))


@pytest.mark.filterwarnings("ignore:The map is zero")
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


def test_channels_whose_samples_can_be_foretold_are_sampled_no_more(x):
    net = Patches(twist=0.5)
    options = {"stdevs": 2.0, "n_samples": 32}
    exact = smoothed(net, x, model=square_of(net), **options)
    model = Calls(net)

    ours = smoothed(net, x, model=square_of(model), tolerance=1e-9, **options)

    # Eight samples of all channels, then 24 of half of them, in both examples.
    assert sum(model.rows) == 2 * (2 + 8 * CHANNELS + 24 * CHANNELS // 2)
    # Another draw of the noise moves the map by ten times as much.
    other = smoothed(net, x, model=square_of(net), seed=2, **options)
    left = (ours - exact).norm() / exact.norm()
    assert 0 < left < 0.002
    assert (other - exact).norm() / exact.norm() > 10 * left


def test_a_map_that_is_known_well_enough_takes_no_more_samples(x):
    model = Calls(net := Patches(twist=0.5))
    options = {"stdevs": 2.0, "tolerance": 0.05}

    ours = smoothed(net, x, model=square_of(model), n_samples=32, **options)

    assert sum(model.rows) == 2 * (2 + 8 * CHANNELS)
    eight = smoothed(net, x, model=square_of(net), n_samples=8, **options)
    torch.testing.assert_close(ours, eight)


def test_what_is_left_out_takes_no_noise_from_others(x):
    """A generator goes on where it would have after all samples."""
    net, after = Patches(twist=0.5), []
    for tolerance in (None, 0.001, 10.0):
        generator = torch.Generator().manual_seed(1)
        options = {"stdevs": 2.0, "n_samples": 16, "tolerance": tolerance}
        explained(LayerSmoothedScoreCAM, net, x, generator=generator, **options)
        after.append(generator.get_state())

    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])


def test_examples_end_when_each_of_them_is_known(x):
    """One of them has no noise to speak of, beside what it scores."""
    net = Patches(twist=0.5)
    model = Calls(net)
    both = torch.cat([x[:1], 300 * x[:1]])
    options = {"stdevs": 2.0, "n_samples": 32, "tolerance": 0.001}
    options["return_convergence_delta"] = True

    together, deltas = smoothed(net, both, model=square_of(model), **options)

    # Four pairs of all channels of both, then pairs of half the channels of the other.
    assert model.rows[2:] == [4 * CHANNELS] * 4 + [CHANNELS] * 12
    for mine, delta, one in zip(together, deltas, both, strict=True):
        alone, its_own = smoothed(net, one[None], model=square_of(net), **options)
        torch.testing.assert_close(its_own[0], delta)
        # The layer of this network is larger the larger the inputs of a batch are.
        torch.testing.assert_close(alone[0] / alone.norm(), mine / mine.norm())


def test_the_last_round_leaves_nothing_out(x):
    net = Patches(twist=0.5)
    options = {"model": square_of(net), "stdevs": 2.0, "return_convergence_delta": True}

    _, whole = smoothed(net, x, n_samples=8, **options)
    _, ours = smoothed(net, x, n_samples=8, tolerance=10.0, **options)

    assert torch.equal(ours, whole)


@pytest.mark.parametrize("tolerance", [None, 0.002, 0.02])
def test_the_delta_of_samples_is_their_standard_error(x, tolerance):
    """Over many seeds the maps scatter by what each one says of itself."""
    net = Patches(twist=0.5)
    maps, deltas = [], []
    for seed in range(60):
        ours, delta = smoothed(
            net,
            x[:1],
            model=square_of(net),
            seed=seed,
            stdevs=2.0,
            n_samples=32,
            tolerance=tolerance,
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
    covered = (scatter <= torch.stack(deltas).squeeze(1)).double().mean()
    if tolerance is None:
        assert 0.75 <= ratio <= 1.25
        assert covered >= 0.85
    else:
        # A few rounds say little, so what they say is widened.
        assert 0.75 <= ratio <= 2
        assert covered >= 0.8


def test_the_delta_of_two_pairs_is_their_distance_and_more(x):
    """As so few tell little of it: the square root of 3 is that of four pairs."""
    net = Patches(twist=0.5)
    options = {"model": square_of(net), "stdevs": 2.0, "relu_attributions": False}
    first = smoothed(net, x[:1], n_samples=2, **options)

    both, delta = smoothed(
        net, x[:1], n_samples=4, return_convergence_delta=True, **options
    )

    second = 2 * both - first
    assert float(delta) == pytest.approx(
        3**0.5 * float((first - second).norm() / both.norm()), rel=1e-6
    )


def test_two_samples_say_nothing_of_their_error(x):
    _, delta = smoothed(
        Patches(), x, stdevs=0.1, n_samples=2, return_convergence_delta=True
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
