"""Fewer passes than channels: screening, and samples that no longer matter."""

from types import SimpleNamespace

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
from captum_iscam.attr._sampling import _Samples
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


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_the_regression_holds_one_table_of_what_is_known(share):
    count, places = 1500, 49
    everything = torch.arange(count)
    channels = OfExample(0, everything, everything, torch.rand(count, places), 0.5)
    is_known = everything < share * count
    weights = torch.rand(count, dtype=torch.double)

    with LiveBytes() as live:
        _regression.MaskRegression(channels).fill(is_known, weights)

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


def test_channels_that_no_longer_matter_are_sampled_no_more(x):
    net = Patches(twist=0.5)
    net.shapes[:, 5:] *= 1e-4  # all but five hardly count
    model = Calls(net)

    def square(inputs):  # noise must not cancel within a pair
        return model(inputs) ** 2 / 1e5

    whole = smoothed(net, x, stdevs=0.3, n_samples=32, model=square)
    rows = sum(model.rows)

    ours = smoothed(net, x, stdevs=0.3, n_samples=32, tolerance=0.0001, model=square)

    spent = sum(model.rows) - rows
    # Eight samples of all, then of the five that count, in both examples.
    assert spent == 2 * (2 + 8 * CHANNELS + 24 * 5)
    assert spent < 0.6 * rows
    assert (ours - whole).norm() / whole.norm() < 0.005


def take(samples, increases):
    for row in increases:
        asked = samples.wanted.nonzero().squeeze(1)
        samples.add(asked, torch.tensor(row, dtype=torch.double)[asked].unsqueeze(1))


def samples_of(increases, norms):
    """What `_Samples` holds of channels, `(rounds, P)`, of one place each."""
    count = len(norms)
    maps = torch.tensor(norms, dtype=torch.double).unsqueeze(1)
    example = OfExample(0, torch.arange(count), torch.arange(count), maps, 1.0)
    samples = _Samples(
        SimpleNamespace(
            varying=torch.zeros(count, 2, dtype=torch.long),
            nothing=torch.zeros(1, dtype=torch.double),
            of_examples=lambda: [example],
        )
    )
    take(samples, increases)
    return samples


def test_rounds_that_agree_by_luck_stop_no_channel():
    """The second channel never moves, but its weight is that of the first."""
    increases = [[1.0, 1.0, 1e-6], [1.2, 1.0, 0], [0.8, 1.0, 1e-6], [1.0, 1.0, 0]]
    samples = samples_of(increases, norms=[1.0, 1.0, 1.0])
    # A standard error of 0.0816 for the first, and of that over sqrt(2) on the average
    # of both; the map is 2, and three channels share what is tolerated.
    bound = 0.0816 / 2**0.5 / (2 / 3**0.5)

    samples.drop_settled(0.99 * bound)
    assert samples.wanted.tolist() == [True, True, False]

    samples.drop_settled(1.01 * bound)
    assert samples.wanted.tolist() == [True, False, False]


def test_a_stopped_channel_counts_with_the_rounds_it_had():
    increases = [[1.0, 1.0, 1.0], [1.2, 1.0, 2.0], [0.8, 1.0, 0.0], [1.0, 1.0, 1.0]]
    samples = samples_of(increases, norms=[1.0, 1.0, 0.1])
    samples.drop_settled(0.045)
    assert samples.wanted.tolist() == [True, True, False]
    take(samples, increases)
    # Variances of 0.16 / 7 in eight rounds and 2 / 3 in four; the map is 2.1.
    spread = (0.16 / 7 + 0.01 * 2 / 3) / (1 + 1 + 0.01)
    bound = (spread / 8) ** 0.5 / (2.1 / 3**0.5)

    samples.drop_settled(0.99 * bound)
    assert samples.wanted.tolist() == [True, True, False]

    samples.drop_settled(1.01 * bound)
    assert samples.wanted.tolist() == [True, False, False]


def test_the_last_round_leaves_nothing_out(x):
    net = Patches(twist=0.5)

    def square(inputs):
        return net(inputs) ** 2 / 1e5

    options = {"model": square, "stdevs": 2.0, "return_convergence_delta": True}

    _, whole = smoothed(net, x, n_samples=8, **options)
    _, ours = smoothed(net, x, n_samples=8, tolerance=10.0, **options)

    assert torch.equal(ours, whole)


def test_few_rounds_of_a_stopped_channel_tell_less_of_their_error():
    increases = [[1.0, 0.0], [1.2, 0.0], [0.8, 0.0], [1.0, 0.0]]
    samples = samples_of(increases, norms=[1.0, 1.0])
    usual = float(samples.errors())
    samples.wanted[0] = False

    # Of four rounds three are free: a variance of 3 / (3 - 2).
    assert float(samples.errors()) == pytest.approx(3**0.5 * usual)
    assert usual == pytest.approx(0.0816, rel=1e-3)


def test_the_delta_of_samples_is_their_standard_error(x):
    """Over many seeds the maps scatter by what each one says of itself."""
    net = Patches(twist=0.5)

    def square(inputs):
        return net(inputs) ** 2 / 1e5

    maps, deltas = [], []
    for seed in range(60):
        ours, delta = smoothed(
            net,
            x[:1],
            model=square,
            seed=seed,
            stdevs=2.0,
            n_samples=32,
            relu_attributions=False,
            return_convergence_delta=True,
        )
        maps.append(ours)
        deltas.append(delta)

    mean = torch.stack(maps).mean(0)
    scatter = (torch.stack(maps) - mean).flatten(1).norm(dim=1) / mean.norm()
    # Half a delta is the standard error: the root mean square of the scatter.
    told = torch.stack(deltas).square().mean().sqrt() / 2
    assert told == pytest.approx(scatter.square().mean().sqrt().item(), rel=0.25)
    covered = (scatter <= torch.stack(deltas).squeeze(1)).double().mean()
    assert covered >= 0.85


def test_the_delta_of_two_pairs_is_their_distance(x):
    net = Patches(twist=0.5)

    def square(inputs):
        return net(inputs) ** 2 / 1e5

    options = {"model": square, "stdevs": 2.0, "relu_attributions": False}
    first = smoothed(net, x[:1], n_samples=2, **options)

    both, delta = smoothed(
        net, x[:1], n_samples=4, return_convergence_delta=True, **options
    )

    second = 2 * both - first
    assert float(delta) == pytest.approx(
        float((first - second).norm() / both.norm()), rel=1e-6
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
