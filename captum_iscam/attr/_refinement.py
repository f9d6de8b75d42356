"""IS-CAM for about one pass per channel: a few curves tell how to read one point.

The curves `C_k(t)` of a layer rise alike. A sample of the channels is followed along
the whole path; it shows at which strength a single value is most nearly proportional
to the integral, and by which factor. The other channels are shown at that strength
only, those that can matter most first, and the last of them not at all where their
masks tell what they would say. Where the spread of the factor says that the map may be
off by more than is tolerated, more channels are followed along the path, half of them
those that matter most, half of them drawn from the others. The first would mislead
about the factor, since what is largest is so by luck as well; the drawn ones sharpen
it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam.attr._curves import between, integral_weights, radau_points
from captum_iscam.attr._engine import Channels, OfExample
from captum_iscam.attr._estimates import (
    Ratio,
    expected_draws,
    ratio_of,
    sample_by_importance,
    sample_channels,
)
from captum_iscam.attr._plans import Weights
from captum_iscam.attr._regression import MaskRegression
from captum_iscam.attr._screening import most_shown

POINTS = radau_points(4)
STEP = 0.02  # of the channels, followed at a time where the map is not good enough
SHOWN = 0.4  # of the channels, shown at the least
MORE = 0.05  # of the channels, shown at a time where the others cannot be foretold
FORETOLD = 0.5  # of the tolerated variance, which what is foretold may have
LEAST = 1e-6  # expected draws of a channel that was drawn for want of others
STRENGTHS = torch.arange(30, 101, dtype=torch.double) / 100


class Refinement:
    """The integral for each channel, as exactly as the map asks for.

    Args:
        tolerance (float): Standard error of the map that is good enough, relative to
            the map.
        screening (float, optional): How many of the channels are shown at all, instead
            of as many as the tolerance asks for.
    """

    def __init__(self, tolerance: float, screening: float | None = None) -> None:
        self._tolerance = tolerance
        self._screening = screening

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the channels."""
        goal = self._tolerance, self._screening
        examples = [_Example(one, *goal) for one in channels.of_examples()]
        asked = [(e.channels.rows[e.followed], POINTS) for e in examples]
        for example, curves in _answers(channels, examples, asked):
            example.take_curves(curves)
        waiting = examples
        while waiting:
            showing = waiting
            while showing := [e for e in showing if e.choose_to_show()]:
                asked = [(e.channels.rows[e.chosen], [e.strength]) for e in showing]
                for example, curves in _answers(channels, showing, asked):
                    example.take_values(curves[:, 0])
            waiting = [e for e in waiting if e.choose_to_follow()]
            asked = [(e.channels.rows[e.chosen], e.further) for e in waiting]
            for example, curves in _answers(channels, waiting, asked):
                example.take_more(curves)
        values = torch.zeros(len(channels.varying), dtype=torch.double)
        error = torch.zeros(len(channels.activations), dtype=torch.double)
        for example in examples:
            weights, foretold, scaled = example.estimate()
            values[example.channels.rows] = weights
            error[example.channels.number] = (foretold + scaled) ** 0.5
        return Weights(channels.scatter(values), error.to(channels.nothing))


class _Example:
    """What is known of one example's channels, in the order of `OfExample`."""

    def __init__(
        self, channels: OfExample, tolerance: float, screening: float | None
    ) -> None:
        self.channels = channels
        self._tolerance = tolerance
        self._screening = screening
        count = len(channels.rows)
        self.followed = torch.zeros(count, dtype=torch.bool)
        sample, self._draws = sample_channels(channels)
        self.followed[sample] = True
        self._drawn = self.followed.clone()
        self.chosen = torch.empty(0, dtype=torch.long)
        self.strength = 1.0
        self._order = most_shown(channels, 1.0)
        self._regression = MaskRegression(channels)
        self._seen = self.followed.clone()
        self._shown = torch.zeros(count, dtype=torch.double)
        self._exact = torch.zeros(count, dtype=torch.double)
        self._ratio = Ratio(0.0, 0.0, 1.0)
        # Asked for several times between two answers of the model.
        self._estimate: tuple[Tensor, float, float] | None = None

    def take_curves(self, curves: Tensor) -> None:
        """Takes the sampled curves, and finds the strength that tells most."""
        self._estimate = None
        exact = (curves * integral_weights(POINTS)).sum(1)
        values = (curves.unsqueeze(2) * between(POINTS, STRENGTHS.tolist())).sum(1)
        importance = self._importance
        ratios = [ratio_of(exact, column, importance) for column in values.unbind(1)]
        best = min(range(len(ratios)), key=lambda i: ratios[i].spread)
        self.strength = float(STRENGTHS[best])
        self._ratio = ratios[best]
        self._exact[self.followed] = exact
        self._shown[self.followed] = values[:, best]

    @property
    def further(self) -> list[float]:
        """The points of a channel that was shown once: the nearest one is saved."""
        nearest = min(POINTS, key=lambda point: abs(point - self.strength))
        return [point for point in POINTS if point != nearest]

    def take_more(self, curves: Tensor) -> None:
        """Takes the curves of the chosen channels at the further points."""
        self._estimate = None
        values = torch.cat([curves, self._shown[self.chosen].unsqueeze(1)], dim=1)
        weights = integral_weights([*self.further, self.strength])
        self._exact[self.chosen] = (values * weights).sum(1)
        self.followed[self.chosen] = True
        drawn = self._drawn
        exact, shown = self._exact[drawn], self._shown[drawn]
        self._ratio = ratio_of(exact, shown, self._importance)

    @property
    def _importance(self) -> Tensor:
        """What each drawn channel counts in ratios, for itself and those like it.

        A channel that was sure to be drawn stands for itself, an unlikely one for many.
        """
        importance: Tensor = self.channels.norms / self._draws.clamp(LEAST, 1)
        return importance[self._drawn]

    def take_values(self, values: Tensor) -> None:
        """Takes the chosen channels' values at the one strength."""
        self._estimate = None
        self._shown[self.chosen] = values
        self._seen[self.chosen] = True

    def estimate(self) -> tuple[Tensor, float, float]:
        """Returns the weights, and the expected squared norm of the error of the map.

        The latter twice: from channels that were not shown, whose weights are foretold,
        and from those shown once, whose values are scaled.
        """
        if self._estimate is None:
            self._estimate = self._estimated()
        return self._estimate

    def _estimated(self) -> tuple[Tensor, float, float]:
        once = self._seen & ~self.followed
        weights = torch.where(once, self._ratio.kappa * self._shown, self._exact)
        weights, foretold = self._regression.fill(self._seen, weights)
        if not once.any():
            return weights, foretold, 0.0
        scaled = torch.where(once, weights, 0)
        # What is foretold from scaled values goes up and down with them.
        going_along = torch.where(self.followed, 0, weights)
        error = self._ratio.squared_error(scaled, going_along, self.channels)
        return weights, foretold, error

    def choose_to_show(self) -> bool:
        """Chooses channels to show next; returns False where enough were shown."""
        waiting = self._order[~self._seen[self._order]]
        share = SHOWN if self._screening is None else self._screening
        missing = round(share * len(self._order)) - int(self._seen.sum())
        if missing <= 0:
            if not len(waiting) or self._screening is not None:
                return False
            weights, foretold, _ = self.estimate()
            if foretold <= FORETOLD * self._tolerated(weights):
                return False
            missing = max(1, round(MORE * len(self._order)))
        self.chosen = waiting[:missing]
        return True

    def choose_to_follow(self) -> bool:
        """Chooses channels to follow next; returns False where the map will do."""
        guessed = (self._seen & ~self.followed).nonzero().squeeze(1)
        if not len(guessed):
            return False
        weights, foretold, scaled = self.estimate()
        # To know the others better than those left out would be in vain.
        if scaled <= max(foretold, self._tolerated(weights) - foretold):
            return False
        matter = weights.abs() * self.channels.norms
        order = guessed[matter[guessed].argsort(descending=True, stable=True)]
        count = max(1, round(STEP * len(weights) / 2))
        most, others = order[:count], order[count:]
        drawn = others[sample_by_importance(matter[others], count)]
        self._drawn[drawn] = True
        # What was drawn before would have been drawn as well.
        self._draws += expected_draws(matter, matter[others], len(drawn))
        self.chosen = torch.cat([most, drawn])
        return True

    def _tolerated(self, weights: Tensor) -> float:
        return self._tolerance**2 * self.channels.squared_norm(weights)


def _answers(
    channels: Channels,
    examples: list[_Example],
    asked: list[tuple[Tensor, list[float]]],
) -> list[tuple[_Example, Tensor]]:
    """Returns each example with the increases of its channels at its strengths.

    All examples are asked for in one go, rows of `Channels.varying` and as many
    strengths for each.
    """
    if not examples:
        return []
    pairs = channels.varying[torch.cat([rows for rows, _ in asked])]
    table = torch.cat(
        [
            torch.tensor([points], dtype=torch.double).expand(len(rows), -1)
            for rows, points in asked
        ]
    )
    channels.expect(table.numel())
    found = channels.increase(pairs, table).cpu().double()
    parts = found.split([len(rows) for rows, _ in asked])
    return list(zip(examples, parts, strict=True))
