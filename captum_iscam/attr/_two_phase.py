"""Averages over noise of which some channels see only the first rounds.

All channels of a round share its noise, and channels with similar masks are moved by it
alike. So once all channels have been through some rounds, a part of them will do: what
a later round moves the others by is foretold from their masks. It is a regression
estimate under two-phase sampling (Cochran 1977, Sampling Techniques, chapter 12), the
first rounds of which tell how well the foretelling does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

import torch
from torch import Tensor

from captum_iscam.attr._engine import OfExample
from captum_iscam.attr._regression import foretell
from captum_iscam.attr._screening import most_shown

FEWEST_ROUNDS = 4
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
SLACK = 0.1
"""How much larger the variance may be than that of all samples."""


@dataclass(frozen=True)
class Schedule:
    """Which channels of an example are sampled how long.

    Attributes:
        until (int): After how many rounds some may be left out, or all.
        known (Tensor): The channels that are sampled on, `(P,)` of bool.
        last (int): After how many rounds these are left out too.
    """

    until: int
    known: Tensor
    last: int

    @property
    def cost(self) -> float:
        """How many rounds of all channels take as many passes."""
        return self.until + (self.last - self.until) * float(self.known.double().mean())


def cheapest(
    channels: OfExample, rounds: Tensor, total: int, tolerance: float
) -> Schedule:
    """Returns the schedule with the fewest passes that is good enough.

    The squared error of the map is the variance of a round over the number of rounds,
    that of what is foretold wrongly over the number of those which all channels were
    in. The first rounds tell both.

    Args:
        channels (OfExample): The channels.
        rounds (Tensor): What all of them scored in each round so far, `(rounds, P)`.
        total (int): How many rounds there may be.
        tolerance (float): Error of the map before ReLU, relative to its norm, that is
            good enough. Where all samples leave more, what they leave is, and a little
            more.
    """
    done, mean = len(rounds), rounds.mean(0)
    moves = (rounds - mean).T
    spread = _squared(channels, moves.T) / (done - 1)
    enough = tolerance * tolerance * channels.squared_norm(mean)
    enough = max(enough, (1 + SLACK) * spread / total)
    everyone = torch.ones(len(mean), dtype=torch.bool)
    # Looked at once more before it ends, when more is known.
    last = max(done, int(min(_rounds_for(spread, enough), total)))
    best = Schedule(last, everyone, last)
    order = most_shown(channels, 1.0)
    for share in SHARES:
        known = ~everyone
        known[order[: max(1, round(share * len(order)))]] = True
        if Schedule(done, known, last).cost >= best.cost:
            break  # nor would it be less if all were foretold rightly
        wrong = (moves - foretell(channels, known, moves)).T
        missed = _squared(channels, wrong) / (done - 1)
        for until in range(done, total):
            more = _rounds_for(spread - missed, enough - missed / until)
            if more > total:
                continue
            found = Schedule(until, known, max(until, int(more)))
            if found.cost < best.cost:
                best = found
    return best


def _rounds_for(variance: float, enough: float) -> float:
    """Returns how many rounds bring the variance of their mean down to so much."""
    if variance <= 0 <= enough:
        return 0
    # What comes out whole must not depend on how it is rounded.
    return ceil(variance / enough - 1e-9) if enough > 1e-9 * variance else inf


def average(
    channels: OfExample, rounds: Tensor, asked: Tensor, counts: Sequence[int]
) -> tuple[Tensor, float]:
    """Returns the mean increase of each channel, and the standard error of the map.

    Args:
        channels (OfExample): The channels.
        rounds (Tensor): What they scored in each round, `(rounds, P)`.
        asked (Tensor): Where they were asked at all: first all of them, then some, the
            same ones in each round, then none.
        counts (Sequence[int]): How many samples each round has, or was to have.
    """
    taken = asked.any(1)
    rounds, asked = rounds[taken], asked[taken]
    shares = torch.tensor(counts[: len(rounds)], dtype=torch.double)
    shares /= shares.sum()
    of_all = asked.all(1)
    begun = (shares * of_all / shares[of_all].sum()) @ rounds
    moves = torch.where(asked, rounds - begun, 0)
    told = foretell(channels, asked.all(0), moves.T).T
    further = shares @ told
    count = len(rounds)
    if count < 2:
        return begun + further, inf
    squared = _squared(channels, (told - further) * shares.unsqueeze(1))
    squared *= count / (count - 1) * _widened(count)
    if not asked.all():
        squared += _of_wrong(channels, told[of_all], (moves - told)[of_all], count)
    return begun + further, squared**0.5


def _of_wrong(channels: OfExample, told: Tensor, wrong: Tensor, count: int) -> float:
    """Returns what is added to the squared error by moves that are foretold wrongly.

    The first rounds alone tell that, and what they tell is all that is known of moves
    which nothing foretells. As a rule too little is foretold: what is left then has the
    sign of what is told, and their errors add up. Where it is the other way round they
    are taken to be independent, for so few rounds do not tell that surely.
    """
    rounds = len(wrong)
    own, foretold = _squared(channels, wrong), _squared(channels, told)
    along = _squared(channels, told + wrong) - foretold - own
    own *= _widened(rounds) / rounds
    return (own + max(along, 0.0) / count) / (rounds - 1)


def _widened(rounds: int) -> float:
    """Returns the variance of Student's t of so few rounds, beside that of many."""
    rounds = max(rounds, FEWEST_ROUNDS)  # fewer have none
    return (rounds - 1) / (rounds - 3)


def _squared(channels: OfExample, rows: Tensor) -> float:
    """Returns the sum of the squared norms of `sum_k a_k A_k`."""
    return float(sum(map(channels.squared_norm, rows)))
