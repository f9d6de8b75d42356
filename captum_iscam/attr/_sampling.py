"""SS-CAM: the increase in confidence averaged over noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_iscam._batching import as_count
from captum_iscam.attr._combine import warn_of_examples
from captum_iscam.attr._engine import Channels
from captum_iscam.attr._masking import Noise
from captum_iscam.attr._plans import Weights

FEWEST_ROUNDS = 4


class NoisySamples:
    """The increase in confidence averaged over samples of noise, in +/- pairs.

    Args:
        n_samples (int): `S`.
        make_noise (Callable): Makes the noise for the inputs that are masked.
        tolerance (float, optional): Relative standard error of the map below which a
            channel's own share no longer matters, so that it is sampled no more. None
            takes all samples of every channel.
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
        samples = _Samples(channels)
        pairs = channels.varying
        channels.expect(len(pairs) * sum(len(signs) for signs in self._rounds))
        for number, signs in enumerate(self._rounds):
            noise.draw(channels.masked)
            asked = samples.wanted.nonzero().squeeze(1)
            if len(asked):
                ones = torch.ones(len(asked), len(signs))
                samples.add(asked, channels.increase(pairs[asked], ones, noise, signs))
            more = FEWEST_ROUNDS <= number + 1 < len(self._rounds)
            if self._tolerance is not None and more:
                samples.drop_settled(self._tolerance)
        values = channels.scatter(samples.means())
        _warn_of_drowned(values, channels)
        return Weights(values, samples.errors())


class _Samples:
    """What the model made of the noise so far."""

    def __init__(self, channels: Channels) -> None:
        self._channels = channels
        count = len(channels.varying)
        self.wanted = torch.ones(count, dtype=torch.bool)
        self._taken = channels.nothing.new_zeros(count)
        self._total = channels.nothing.new_zeros(count)
        self._rounds: list[Tensor] = []

    def add(self, asked: Tensor, increases: Tensor) -> None:
        """Takes one round, `(asked, samples)`."""
        asked = asked.to(self._total.device)
        self._taken[asked] += increases.shape[1]
        self._total[asked] += increases.sum(1)
        row = torch.full_like(self._total, torch.nan)
        row[asked] = increases.mean(1)
        self._rounds.append(row)

    def means(self) -> Tensor:
        """Returns the mean increase of each channel."""
        return self._total / self._taken.clamp(min=1)

    def _deviations(self) -> Tensor:
        """Returns what each round moves the mean by, `(rounds, P)`."""
        rounds, taken = torch.stack(self._rounds), self._rounds_taken()
        centred = (rounds - rounds.nanmean(0)) / taken
        unbiased = (taken / (taken - 1).clamp(min=1)).sqrt()
        return torch.nan_to_num(centred) * unbiased

    def _rounds_taken(self) -> Tensor:
        """Returns how many rounds each channel was in."""
        return (~torch.stack(self._rounds).isnan()).sum(0)

    def _widened(self) -> Tensor:
        """Returns the standard deviation of Student's t where rounds are left out."""
        freedom = (self._rounds_taken() - 1).clamp(min=FEWEST_ROUNDS - 1)
        wide = (freedom / (freedom - 2)).sqrt()
        return torch.where(self.wanted.to(wide.device), torch.ones_like(wide), wide)

    def drop_settled(self, tolerance: float) -> None:
        """Stops sampling the channels whose standard error no longer matters.

        A few rounds may agree by luck, so that no channel passes for better known,
        beside its weight, than all are on the average.
        """
        errors = self._deviations().square().sum(0).cpu().double()
        means = self.means().cpu().double()
        rounds = self._rounds_taken().cpu()
        for example in self._channels.of_examples():
            mine, sizes = example.rows, example.norms.square()
            squares = means[mine].square()
            weight = (squares * sizes).sum().clamp(min=torch.finfo(sizes.dtype).tiny)
            spread = (errors[mine] * rounds[mine] * sizes).sum() / weight
            found = torch.maximum(errors[mine], spread * squares / rounds[mine])
            bound = tolerance**2 * example.squared_norm(means[mine]) / len(mine)
            self.wanted[mine[found * sizes <= bound]] = False

    def errors(self) -> Tensor:
        """Returns the standard error of each example's map.

        All channels of a round share its noise, so the errors of their weights go
        together; the rounds are independent. Of a channel that was sampled no more they
        are few: twice a standard error then covers less, and is widened as the variance
        of Student's t tells.
        """
        nothing = self._channels.nothing
        found = torch.zeros_like(nothing)
        examples = self._channels.of_examples()
        if len(self._rounds) < 2:
            found[[example.number for example in examples]] = torch.inf
            return found
        deviations = self._deviations() * self._widened()
        for example in examples:
            rounds = deviations[:, example.rows.to(nothing.device)]
            found[example.number] = sum(map(example.squared_norm, rounds)) ** 0.5
        return found


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
