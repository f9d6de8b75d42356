"""How far a rule on the path may be off, found by following a few channels closely."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_iscam.attr._engine import Channels, OfExample
from captum_iscam.attr._estimates import ratio_of, sample_channels
from captum_iscam.attr._path import path_points
from captum_iscam.attr._plans import Plan, Quadrature, Weights


class Checked:
    """A plan for the integral, and how its weights compare with a fine rule's.

    A sample of the channels is followed at `n_steps` Gauss-Legendre points. Its ratio
    to the plan's weights, their mean and their spread, is what all channels may be off.
    Where the sample is all channels, that is known.

    Args:
        plan (Plan): Whose weights are checked.
        n_steps (int): Points of the fine rule.
    """

    def __init__(self, plan: Plan, n_steps: int) -> None:
        self._plan = plan
        self._fine = Quadrature(path_points(n_steps, "gausslegendre"))

    def weigh(self, channels: Channels) -> Weights:
        """Returns the weights of the plan, with the error that was found added."""
        weights = self._plan.weigh(channels)
        squared = weights.error.double().cpu() ** 2
        examples = channels.of_examples()
        drawn = [sample_channels(example) for example in examples]
        rows = [e.rows[sample] for e, sample in zip(examples, drawn, strict=True)]
        pairs = channels.varying[torch.cat(rows)] if rows else channels.varying[:0]
        fine = self._fine.of(channels, pairs).double().cpu()
        true = fine.split([len(sample) for sample in drawn])
        found = channels.gather(weights.values)
        for example, sample, exact in zip(examples, drawn, true, strict=True):
            mine = found[example.rows]
            squared[example.number] += _squared_error(mine, sample, exact, example)
        return Weights(weights.values, squared.sqrt().to(weights.error))


def _squared_error(
    mine: Tensor, sample: Tensor, exact: Tensor, example: OfExample
) -> float:
    """Returns the expected squared norm of the error of one example's map.

    Args:
        mine (Tensor): The weights of all its channels.
        sample (Tensor): Which of them were followed.
        exact (Tensor): The weights that came out.
        example (OfExample): The channels.
    """
    if len(sample) == len(mine) or not (mine.any() or exact.any()):
        off = torch.zeros_like(mine)
        off[sample] = exact - mine[sample]
        return example.squared_norm(off)
    ratio = ratio_of(exact, mine[sample], example.norms[sample])
    if ratio.variance == torch.inf:
        # The sample says that something is off, and not how far the others are.
        return torch.inf
    bias = (ratio.kappa - 1) ** 2 * example.squared_norm(mine)
    return bias + ratio.kappa**2 * ratio.squared_error(mine, example)
