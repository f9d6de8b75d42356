"""Fewer channels than the layer has: the weights of the others from their masks.

What a channel scores depends on its mask alone, and smoothly: channels with similar
masks score alike. `MaskRegression` takes the weights as a Gaussian process on the masks
`m_k` at the layer's size, with the covariance

    sigma^2 [(m_j . m_k)^2 exp(-||m_j - m_k||^2 / d) + NUGGET ||m_k||^4 [j = k]],

`d` being the mean squared distance of two masks (Rasmussen, Williams 2006, Gaussian
Processes for Machine Learning, chapter 2).

1. `Screening.prepare` chooses the channels to score: the most important ones, by mean
   of the mask times norm of the activation. The layer's output alone decides.
2. The scheme inside is carried out for these channels.
3. `finish` factors the covariance of the known weights (Cholesky) and predicts the
   others from it: `MaskRegression.solve`, then `predict`.
4. If an error is wanted, `variance` sums the expected squared error of the map over all
   pairs of predicted channels, a block of channels at a time to bound the memory. Its
   `sigma` is that of the known weights, or a larger one that covers what is predicted
   for the less important of them from the more important: of an abrupt score the known
   weights can all be alike, and the others jump.
5. Two warnings: of examples with too few channels, and of maps that are the small
   difference of large parts.

A note on design choices, all tried on recorded scores of real photographs. Powers of
the product from 1.5 to 3, widths from `d / 2` to `4 d` and nuggets from 0.0001 to 0.1
were no better on every network. Without the exponential the error grows by 1.2 to 1.7,
without the square by 2 to 4, with the mean of the mask times one factor instead of all
this by 1.5 to 3. Choosing the kernel anew for each image (by likelihood, or leaving one
channel out) was no better, and makes the selection depend on scores. A floor under
`sigma`, by what the whole input scores, was dropped: it covered no error more on 63
photographs and made delta 2.66 where 0.11 covers. The mean or the largest error of
known weights left out one by one finds few of the maps of abrupt scores: what is wrong
there is wrong in the same direction for all unknown channels. Layers with fewer
than a hundred channels or so have too few similar masks: there the regression was wrong
by 14 to 45 % in the median, so `Screening` scores them in full. Where weights of both
signs all but cancel, the map is small next to what it is made of, and so next to the
errors of the prediction. That can be seen at no cost, and a warning says so.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._utils.validation import as_number
from captum_iscam._utils.warn import warn_of_examples
from captum_iscam.attr._engine import (
    Channels,
    Prepared,
    WeightingScheme,
    Weights,
)
from captum_iscam.attr._example_channels import ExampleChannels

NUGGET = 0.01
"""Share of the variance that is each channel's own, whatever its mask."""
SAME_MASKS = 1e-9
"""Masks no further apart than this share of their mean squared size are the same."""
BLOCK = 64
"""Channels whose covariance with all others is held at a time."""
VARIANCE_INFLATION = 2.0
"""How much larger the variance is than the regression knows, whose kernel is a guess
as well. With it delta covered the error of 96 of 101 maps of Score-CAM with 0.4 of the
channels on five networks, of 35 of 40 on ResNet-18."""
MIN_SCREENED_CHANNELS = 128
"""Active channels of an example below which all of them are scored."""
CANCELLATION = 2.0
"""How much larger the map would be if all weights had one sign, above which a warning
says that the channels cancel. On 101 photographs of five networks it was below 1.3, but
for one with 3.4, whose map had an error of 86 %."""


def check_screening(screening: float | None) -> float | None:
    """Returns the share of the channels, or raises unless it is one or None."""
    share = as_number(screening)
    if screening is not None and not (share is not None and 0 < share <= 1):
        raise ValueError(
            "screening must be a share of the channels above 0 and up to 1, or None, "
            f"got {screening!r}. Leave it out to score every channel."
        )
    return share


def screened(
    scheme: WeightingScheme, screening: float | None, with_error: bool
) -> WeightingScheme:
    """Returns the scheme for the share of the channels that the caller asks for."""
    share = check_screening(screening)
    if share is None:
        return scheme
    return Screening(scheme, share, with_error, warns=share < 1)


class Screening:
    """A scheme carried out for some of the channels; the other weights are predicted.

    The channels with the largest importance (`ExampleChannels.order`) are scored, and
    :class:`MaskRegression` predicts the weights of the others from theirs. Of examples
    with fewer than `MIN_SCREENED_CHANNELS` active channels all are scored.

    Args:
        scheme (WeightingScheme): What is done for the channels that are scored.
        share (float): Share of the active channels that is scored, above 0 and up to 1.
        with_error (bool): Whether the error of the prediction is estimated.
        warns (bool): Whether a warning says that few channels are all scored.
    """

    def __init__(
        self,
        scheme: WeightingScheme,
        share: float,
        with_error: bool,
        warns: bool = False,
    ) -> None:
        self._scheme = scheme
        self._share = share
        self._with_error = with_error
        self._warns = warns

    def prepare(self, channels: Channels, rows: Tensor) -> Prepared:
        """Returns what is to be done for all rows of `Channels.active`."""
        examples = channels.per_example
        few = torch.zeros(len(channels.activations), dtype=torch.bool, device="cpu")
        for example in examples:
            few[example.number] = len(example.rows) < MIN_SCREENED_CHANNELS
        if self._warns:
            _warn_of_few_channels(few)
        chosen = [
            e.rows if few[e.number] else e.rows[top_channels(e, self._share)]
            for e in examples
        ]
        scored = torch.cat([rows[:0], *chosen])
        prepared = self._scheme.prepare(channels, scored)

        def finish(gains: Sequence[Tensor]) -> Weights:
            found = prepared.finish(gains)
            shape = (len(rows), found.values.shape[1])
            values = torch.zeros(shape, dtype=torch.double, device="cpu")
            values[scored] = found.values.cpu().double()
            squared, ratios = found.squared_error, channels.no_error()
            for example, known in zip(examples, chosen, strict=True):
                if len(known) < len(example.rows):
                    squared[example.number] += self._predict(example, known, values)
                    ratios[example.number] = _cancellation(
                        example.maps, values[example.rows]
                    )
            _warn_of_cancellation(ratios)
            return Weights(values, squared)

        return Prepared(prepared.requests, finish)

    def _predict(
        self, example: ExampleChannels, scored: Tensor, values: Tensor
    ) -> Tensor | float:
        """Writes the missing weights of an example; returns the squared error."""
        known = torch.isin(example.rows, scored)
        weights = values[example.rows]
        regression = MaskRegression(example.masks, known)
        solved = regression.solve(weights[known])
        weights[~known] = regression.predict(solved)
        values[example.rows] = weights
        if not self._with_error:
            return 0.0
        maps = example.maps[~known]
        scales = [regression.scale(weights[known], solved)]
        for part in (len(scored) / len(known), 0.5):
            scales.append(_scale_of_held_out(example, known, weights, part))
        scale = torch.stack(scales).amax(0)
        squared = VARIANCE_INFLATION * scale * regression.variance(maps)
        # Channels without weight say nothing of the others, nor does what overflows.
        silent = (weights[known] == 0).all(0)
        return torch.where(silent, torch.inf, squared).nan_to_num(
            nan=torch.inf, posinf=torch.inf
        )


def _scale_of_held_out(
    example: ExampleChannels, known: Tensor, weights: Tensor, part: float
) -> Tensor:
    """Returns the `sigma^2` that covers the less important of the known, `(T,)`.

    They are predicted from the more important ones, as the unknown weights are from all
    that are known, and their part of the map is compared with the true one.

    Args:
        example (ExampleChannels): The channels.
        known (Tensor): Of which of them the weights are known, `(P,)` of bool.
        weights (Tensor): Their weights, `(P, T)`.
        part (float): Share of the known weights that the others are predicted from.
    """
    order = example.order[known[example.order]]
    first = torch.zeros_like(known)
    first[order[: max(1, round(part * len(order)))]] = True
    first, held_out = first[known], known & ~first
    regression = MaskRegression(example.masks[known], first)
    solved = regression.solve(weights[known][first])
    wrong = weights[held_out] - regression.predict(solved)
    maps = example.maps[held_out]
    # Of a single known channel nothing can be held out: 0 over 0.
    return (wrong.T @ maps).square().sum(1) / regression.variance(maps)


def top_channels(example: ExampleChannels, share: float) -> Tensor:
    """Returns a share of an example's channels, the most important ones, sorted."""
    return example.order[: max(1, round(share * len(example.order)))].sort().values


def _cancellation(maps: Tensor, weights: Tensor) -> Tensor:
    """Returns `||sum_k |a_k A_k| || / ||sum_k a_k A_k||`, `(T,)`, or 0 for 0 over 0."""
    gross = (weights.abs().T @ maps.abs()).norm(dim=1)
    return torch.where(gross == 0, gross, gross / (weights.T @ maps).norm(dim=1))


def _warn_of_cancellation(ratios: Tensor) -> None:
    warn_of_examples(
        ratios > CANCELLATION,
        "Channels that support and oppose the target nearly cancel in the map of {}, "
        "so the error of the predicted weights may be as large as the map. Pass "
        "screening=1 to score every channel.",
    )


def _warn_of_few_channels(few: Tensor) -> None:
    warn_of_examples(
        few,
        f"screening is ignored for {{}}: fewer than {MIN_SCREENED_CHANNELS} active "
        "channels do not predict each other, and the map would be wrong. All of them "
        "are scored.",
    )


class MaskRegression:
    """Predicts the weights of some channels from those of others, see the module.

    Args:
        masks (Tensor): `m_k`, `(P, positions)`.
        known (Tensor): Of which of them the weights are known, `(P,)` of bool.
    """

    def __init__(self, masks: Tensor, known: Tensor) -> None:
        sizes = masks.square().sum(1)
        self._distance = _mean_distance(masks, sizes)
        self._hidden = masks[~known]
        self._sizes = sizes[known].unsqueeze(1)
        self._hidden_sizes = sizes[~known].unsqueeze(1)
        self._factor = _factor(shown := masks[known], self._distance)
        self._across = _correlation(shown, self._hidden, self._distance)

    def solve(self, weights: Tensor) -> Tensor:
        """Returns the inverse of the covariance times known weights `(known, T)`.

        Weights and result are relative to the squared size of their masks.
        """
        relative = weights / self._sizes
        below = torch.linalg.solve_triangular(self._factor, relative, upper=False)
        solved: Tensor = torch.linalg.solve_triangular(
            self._factor.mT, below, upper=True
        )
        return solved

    def predict(self, solved: Tensor) -> Tensor:
        """Returns the weights that are not known, `(P - known, T)`."""
        return (self._across.T @ solved) * self._hidden_sizes

    def scale(self, weights: Tensor, solved: Tensor) -> Tensor:
        """Returns the `sigma^2` under which known weights are most likely, `(T,)`."""
        return (weights / self._sizes * solved).mean(0)

    def variance(self, maps: Tensor) -> float:
        """Returns the expected squared norm of what is predicted wrongly.

        It is that for `sigma` 1.

        Args:
            maps (Tensor): `A` of the channels that are not known.
        """
        explained = torch.linalg.solve_triangular(
            self._factor, self._across, upper=False
        )
        maps = maps * self._hidden_sizes
        total = 0.0
        for start in range(0, len(maps), BLOCK):
            rows = slice(start, start + BLOCK)
            left = _correlation(self._hidden[rows], self._hidden, self._distance)
            left.diagonal(start).add_(NUGGET)
            left -= explained[:, rows].T @ explained
            total += float(left.mul_(maps[rows] @ maps.T).sum())
        return max(total, 0.0)


def _mean_distance(masks: Tensor, sizes: Tensor) -> float:
    """Returns the mean squared distance of two masks."""
    mean = float(sizes.mean())
    found = 2 * (mean - float(masks.mean(0).square().sum()))
    return found if found > SAME_MASKS * mean else torch.inf


def _correlation(some: Tensor, others: Tensor, distance: float) -> Tensor:
    """Returns the correlation of the weights over `||m_k||^2` of channels."""
    found = some.new_empty(len(some), len(others))
    sizes = others.square().sum(1)
    for start in range(0, len(some), BLOCK):
        part = some[start : start + BLOCK]
        products = part @ others.T
        mine = part.square().sum(1, keepdim=True)
        apart = products.mul(-2).add_(mine).add_(sizes).clamp_(min=0)
        products.square_().div_(mine).div_(sizes).mul_(apart.div_(-distance).exp_())
        found[start : start + BLOCK] = products
    return found


def _factor(masks: Tensor, distance: float) -> Tensor:
    """Returns the lower Cholesky factor of the covariance of what is known."""
    # In place, which LAPACK does column by column: this is the largest of all tables.
    table = _correlation(masks, masks, distance).mT
    table.diagonal().add_(NUGGET)
    torch.linalg.cholesky(table, out=table)
    return table
