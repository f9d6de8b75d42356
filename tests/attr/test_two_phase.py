"""SS-CAM's samples that are foretold, against the same told slowly."""

import numpy as np
import pytest
import torch
from reference.two_phase import Layer, averaged, decided

from captum_iscam.attr._engine import OfExample
from captum_iscam.attr._sampling import NoisySamples
from captum_iscam.attr._two_phase import _rounds_for, average, cheapest

COUNT, ROUNDS = 23, 9
TOLERANCES = [1e-9, 0.1, 0.1389, 0.3]


@pytest.fixture
def maps():
    generator = np.random.default_rng(0)
    smooth = generator.random((COUNT, 3)) @ generator.random((3, 16))
    return smooth + 0.2 * generator.random((COUNT, 16))


@pytest.fixture
def channels(maps):
    everything = torch.arange(COUNT)
    return OfExample(0, everything, everything, torch.from_numpy(maps), 1.0)


def scored(maps, twist):
    """What the channels score in each round: their mask under a taste that varies."""
    generator = np.random.default_rng(1)
    masks = np.array(list(Layer(maps).masks.values()))
    taste = 1 + generator.normal(size=(ROUNDS, 16))
    return masks @ taste.T + twist * generator.normal(size=(COUNT, ROUNDS))


def seen(rounds, until, known):
    """What is seen if only the known channels go on, and where."""
    asked = torch.zeros(rounds.shape, dtype=torch.bool)
    asked[:until] = True
    asked[:, list(known)] = True
    return torch.where(asked, torch.as_tensor(rounds), 0), asked


@pytest.mark.parametrize("twist", [0.2, 2.0])
@pytest.mark.parametrize("tolerance", TOLERANCES)
def test_the_schedule_is_the_cheapest(maps, channels, tolerance, twist):
    rounds = scored(maps, twist).T[:4]

    found = cheapest(channels, torch.from_numpy(rounds), ROUNDS, tolerance)

    until, known, last = decided(Layer(maps), rounds, ROUNDS, tolerance)
    assert (found.until, found.last) == (until, last)
    assert found.known.nonzero().squeeze(1).tolist() == sorted(known)


def test_schedules_begin_and_end_in_every_way(maps, channels):
    def plans(twist):
        rounds = torch.from_numpy(scored(maps, twist).T[:4])
        found = [cheapest(channels, rounds, ROUNDS, t) for t in TOLERANCES]
        return [(one.until, int(one.known.sum()), one.last) for one in found]

    assert plans(2.0)[0] == (4, 14, ROUNDS)  # some go on to the last round
    assert plans(0.2)[0] == (5, 2, ROUNDS)  # one more round of all comes first
    assert plans(2.0)[2] == (4, 1, 5)  # that is enough
    assert plans(2.0)[3] == (4, COUNT, 4)  # the first rounds were


@pytest.mark.parametrize("counts", [[2] * ROUNDS, [2] * (ROUNDS - 1) + [1]])
@pytest.mark.parametrize("twist", [0.1, 3.0])
@pytest.mark.parametrize(
    ("until", "share", "last"),
    [(4, 0.2, 9), (6, 0.5, 9), (9, 1.0, 9), (5, 0.8, 9), (4, 0.3, 7), (5, 0.8, 5)],
)
def test_equal_to_the_estimate_told_slowly(
    maps, channels, counts, twist, until, share, last
):
    layer = Layer(maps)
    known = layer.most_shown(share)
    rounds = scored(maps, twist).T
    scores, asked = seen(rounds, until, known)
    asked[last:] = False

    weights, error = average(channels, scores, asked, counts)

    slow, slow_error = averaged(layer, rounds[:last], counts, until, known)
    torch.testing.assert_close(weights, torch.tensor([slow[k] for k in range(COUNT)]))
    assert error == pytest.approx(slow_error)


@pytest.mark.parametrize(("twist", "gain"), [(0.0, 0.45), (0.3, 0.6), (1.0, 0.85)])
def test_foretelling_comes_nearer_than_the_first_rounds_alone(
    maps, channels, twist, gain
):
    rounds = torch.from_numpy(scored(maps, twist).T)
    left, asked = seen(rounds, 4, Layer(maps).most_shown(0.4))

    ours, _ = average(channels, left, asked, [2] * ROUNDS)

    stopped = left.sum(0) / asked.sum(0)
    errors = [
        channels.squared_norm(weights - rounds.mean(0)) ** 0.5
        for weights in (ours, stopped)
    ]
    assert errors[0] < gain * errors[1]


def test_a_change_that_all_channels_share_is_followed_to_the_end(channels):
    """Every channel scores what its mask shows, times what the round is worth."""
    sizes = channels.masks.square().sum(1)
    worth = torch.tensor([1.0, 2.0, 0.5, 1.5, 4.0, 5.0, 3.0], dtype=torch.double)
    rounds = worth.unsqueeze(1) * sizes

    weights, _ = average(channels, *seen(rounds, 4, range(12)), [2] * len(worth))

    whole = channels.squared_norm(rounds.mean(0)) ** 0.5
    assert channels.squared_norm(weights - rounds.mean(0)) ** 0.5 < 0.03 * whole
    first = channels.squared_norm(rounds[:4].mean(0) - rounds.mean(0)) ** 0.5
    assert first > 0.4 * whole


def test_one_round_says_nothing_of_the_error(channels):
    rounds = torch.ones(1, COUNT, dtype=torch.double)

    weights, error = average(channels, rounds, rounds > 0, [2])

    assert error == float("inf")
    assert torch.equal(weights, torch.ones(COUNT, dtype=torch.double))


class Told:
    """Channels of one example that score what a table says, round by round."""

    def __init__(self, channels, rounds):
        self.masked, self.nothing = [], torch.zeros(1, dtype=torch.double)
        self.confidence = torch.ones(1, dtype=torch.double)
        numbers = torch.arange(COUNT)
        self.varying = torch.stack([torch.zeros_like(numbers), numbers], 1)
        self.of_examples = lambda: [channels]
        self.rounds, self.asked = iter(torch.from_numpy(rounds)), []

    def expect(self, passes):
        self.most = passes

    def draw(self, inputs):
        self.round = next(self.rounds)

    def increase(self, pairs, strengths, noise, signs):
        self.asked.append(len(pairs))
        return self.round[pairs[:, 1]].unsqueeze(1).expand_as(strengths)

    def scatter(self, values):
        return values.unsqueeze(0)


@pytest.mark.parametrize("tolerance", TOLERANCES)
@pytest.mark.parametrize("twist", [0.2, 2.0])
def test_the_schedule_is_kept_and_looked_at_again(maps, channels, twist, tolerance):
    layer, rounds = Layer(maps), scored(maps, twist).T
    looks, until = [], 4
    while until not in looks:
        looks.append(until)
        until, known, last = decided(layer, rounds[:until], ROUNDS, tolerance)
    told = Told(channels, rounds)

    weights = NoisySamples(2 * ROUNDS, lambda _: told, tolerance).weigh(told)

    assert told.asked == [COUNT] * until + [len(known)] * (last - until)
    assert told.most == 2 * ROUNDS * COUNT
    slow, error = averaged(layer, rounds[:last], [2] * ROUNDS, until, known)
    expected = torch.tensor([slow[k] for k in range(COUNT)])
    torch.testing.assert_close(weights.values[0], expected)
    assert float(weights.error) == pytest.approx(error)
    if (twist, tolerance) == (0.2, 1e-9):
        assert looks == [4, 5]


@pytest.mark.parametrize("total", [11, 22, 33])
def test_a_number_of_rounds_does_not_hang_on_the_last_bit(total):
    """A tenth more variance than that of all is that of ten elevenths of them."""
    variances = np.random.default_rng(0).random(1000)

    found = {_rounds_for(each, 1.1 * each / total) for each in variances}

    assert found == {total * 10 // 11}
