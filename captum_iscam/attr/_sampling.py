"""SS-CAM: the increase in confidence averaged over noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_iscam._batching import as_count
from captum_iscam.attr._combine import warn_of_examples
from captum_iscam.attr._engine import Channels, OfExample
from captum_iscam.attr._masking import Noise
from captum_iscam.attr._plans import Weights
from captum_iscam.attr._two_phase import (
    FEWEST_ROUNDS,
    Schedule,
    average,
    cheapest,
)


class NoisySamples:
    """The increase in confidence averaged over samples of noise, in +/- pairs.

    Args:
        n_samples (int): `S`.
        make_noise (Callable): Makes the noise for the inputs that are masked.
        tolerance (float, optional): Relative standard error of the map before ReLU that
            is good enough. None takes all samples of every channel.
    """

    def __init__(
        self,
        n_samples: int,
        make_noise: Callable[[Sequence[Tensor]], Noise],
        tolerance: float | None = None,
    ) -> None:
        n_samples = as_count(
            "n_samples", n_samples, "It counts the noisy copies of each masked input."
        )
        self._rounds = [(1.0, -1.0)] * (n_samples // 2) + [(1.0,)] * (n_samples % 2)
        self._make_noise = make_noise
        self._tolerance = tolerance

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the channels."""
        noise = self._make_noise(channels.masked)
        samples = _Samples(channels, [len(signs) for signs in self._rounds])
        pairs = channels.varying
        channels.expect(len(pairs) * sum(samples.counts))
        for number, signs in enumerate(self._rounds):
            noise.draw(channels.masked)
            asked = samples.wanted.nonzero().squeeze(1)
            if not len(asked):
                continue  # but draw, so that the noise after this map is the same
            ones = torch.ones(len(asked), len(signs))
            samples.add(asked, channels.increase(pairs[asked], ones, noise, signs))
            more = FEWEST_ROUNDS <= number + 1 < len(self._rounds)
            if self._tolerance is not None and more:
                samples.leave_out(self._tolerance)
        means, errors = samples.averages()
        values = channels.scatter(means)
        _warn_of_drowned(values, channels)
        return Weights(values, errors)


class _Samples:
    """What the model made of the noise so far.

    Args:
        channels (Channels): The channels.
        counts (list[int]): How many samples are taken in each round.

    Attributes:
        wanted (Tensor): Which channels are still sampled, `(P,)` of bool.
    """

    def __init__(self, channels: Channels, counts: list[int]) -> None:
        self._channels = channels
        self.counts = counts
        self.wanted = torch.ones(len(channels.varying), dtype=torch.bool)
        self._rounds: list[Tensor] = []
        self._asked: list[Tensor] = []
        self._examples: list[OfExample] | None = None
        self._schedules: dict[int, Schedule] = {}

    @property
    def examples(self) -> list[OfExample]:
        """The channels of each example, looked at no sooner than needed."""
        if self._examples is None:
            self._examples = self._channels.of_examples()
        return self._examples

    def add(self, asked: Tensor, increases: Tensor) -> None:
        """Takes one round of the wanted channels, `(asked, samples)`."""
        row = self._channels.nothing.new_zeros(len(self.wanted))
        row[asked.to(row.device)] = increases.mean(1)
        self._rounds.append(row)
        self._asked.append(self.wanted.clone())

    def leave_out(self, tolerance: float) -> None:
        """Stops sampling channels that are known well enough, or can be foretold."""
        number = len(self._rounds)
        rounds: Tensor | None = None
        for example in self.examples:
            schedule = self._schedules.get(example.number)
            if schedule is None or schedule.until == number:
                if rounds is None:
                    rounds = torch.stack(self._rounds).cpu().double()
                schedule = cheapest(
                    example, rounds[:, example.rows], len(self.counts), tolerance
                )
                self._schedules[example.number] = schedule
            if schedule.until == number:
                self.wanted[example.rows] = schedule.known
            if schedule.last == number:
                self.wanted[example.rows] = False

    def averages(self) -> tuple[Tensor, Tensor]:
        """Returns the mean increase of each channel, and the error of each map."""
        nothing = self._channels.nothing
        means = torch.zeros(len(self.wanted), dtype=torch.double)
        errors = torch.zeros_like(nothing)
        if self._rounds:
            rounds = torch.stack(self._rounds).cpu().double()
            asked = torch.stack(self._asked)
            for example in self.examples:
                mine = example.rows
                means[mine], errors[example.number] = average(
                    example, rounds[:, mine], asked[:, mine], self.counts
                )
        return means, errors


def _warn_of_drowned(weights: Tensor, channels: Channels) -> None:
    """Warns where no channel keeps even a hundredth of the confidence."""
    rise = channels.confidence - channels.nothing
    varies = torch.zeros_like(weights, dtype=torch.bool)
    examples, numbers = channels.varying.to(weights.device).unbind(1)
    varies[examples, numbers] = True
    best = weights.masked_fill(~varies, -torch.inf).amax(1)
    warn_of_examples(
        (rise > 0) & (best < 0.01 * rise),
        "The noise leaves no channel a hundredth of the confidence the input has, "
        "so the map says little about {}. Pass smaller stdevs.",
    )
