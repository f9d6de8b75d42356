"""SS-CAM: Score-CAM averaged over noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import as_count, check_generator
from captum_iscam._utils.warn import warn_of_examples
from captum_iscam.attr._base import Explanation, LayerScoreMethod
from captum_iscam.attr._engine import Channels, Prepared, Request, Weights
from captum_iscam.attr._masking import (
    GaussianNoise,
    Noise,
    Stdevs,
    check_noise,
    stdevs_for,
)
from captum_iscam.attr._regression import screened

MIN_ROUNDS_OF_ERROR = 3
"""Rounds of noise below which nothing is said of the error. The distance of two was
below it for 14 % of the maps of layers and scores made up at random."""
MIN_ROUNDS = 4
"""Rounds of noise below which Student's t has no variance."""


class LayerSmoothedScoreCAM(LayerScoreMethod):
    r"""SS-CAM, Smoothed Score-CAM: the score averaged over noise on the masked input.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big), \qquad
        a_k = \frac{1}{S} \sum_{i=1}^{S}
            \big[s(b + M_k \odot (x - b) + e_i) - s(b)\big],
            \quad e_i \sim \mathcal{N}(0, \sigma^2)

    The letters are those of :class:`LayerScoreCAM`. With `stdevs=0` it is Score-CAM.
    The cost is `n_samples` forward passes per active (non-constant) channel, less with
    `screening`. The noise is drawn once per pair of samples, `e` and `-e`, and shared
    by all channels and examples: it depends on `generator` alone, and goes on from
    layer to layer where a list of layers is explained. A constant channel has the
    weight zero, with noise as without.

    Source: H. Wang, R. Naidu, J. Michael, S. S. Kundu, "SS-CAM: Smoothed Score-CAM for
    Sharper Visual Feature Localization", 2020, https://arxiv.org/abs/2006.14255. The
    variants of it, and how to get each:

    - `noise="input"`, the pipeline of the authors' poster and SSCAM2 of their code:
      noise on every value of the masked input. `stdevs=None` is the rule in that code,
      `(2 / range)**2`, where range is that of the masked input. Their code leaves out
      the term `s(b)`;
    - `noise="mask"`: the noise is added to the mask, which lies in [0, 1], before it is
      multiplied in; torch-cam does so with a deviation of 2, which swamps the mask.

    Whether noise helps depends on the network: where no channel keeps a hundredth of
    the confidence in the input, a warning says so.

    Args:
        forward_func (Callable): See :class:`LayerScoreCAM`.
        layer (torch.nn.Module or list[torch.nn.Module]): See :class:`LayerScoreCAM`.
        device_ids (list[int], optional): See :class:`LayerScoreCAM`.
        score (str or Callable, optional): See :class:`LayerScoreCAM`.
            Default: "softmax"
        reshape_transform (Callable, optional): See :class:`LayerScoreCAM`.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(0)
        >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        >>> model = nn.Sequential(features, nn.Flatten(), nn.Linear(4 * 49, 5)).eval()
        >>> explain = LayerSmoothedScoreCAM(model, features)
        >>> generator = torch.Generator().manual_seed(0)
        >>> images = torch.rand(2, 3, 16, 16)
        >>> explain.attribute(
        ...     images, target=1, stdevs=0.1, n_samples=8, generator=generator
        ... ).shape
        torch.Size([2, 1, 7, 7])
    """

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        baselines: Baselines = None,
        channel_softmax: bool = False,
        n_samples: int = 35,
        stdevs: Stdevs = None,
        noise: str = "input",
        generator: torch.Generator | None = None,
        screening: float | None = None,
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Explanation:
        """Returns the SS-CAM map of each example.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): See :meth:`LayerScoreCAM.attribute`.
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms; an integer tensor or nested list `(N, T)` explains T
                classes of each example with the passes of one. See
                :meth:`LayerScoreCAM.attribute`.
            additional_forward_args (Any, optional): See
                :meth:`LayerScoreCAM.attribute`.
            attribute_to_layer_input (bool, optional): See
                :meth:`LayerScoreCAM.attribute`.
            relu_attributions (bool, optional): See :meth:`LayerScoreCAM.attribute`.
            baselines (Tensor, int, float or tuple, optional): See
                :meth:`LayerScoreCAM.attribute`.
            channel_softmax (bool, optional): See :meth:`LayerScoreCAM.attribute`.
            n_samples (int, optional): `S`, one forward pass per channel each. The
                authors' code takes 35. Default: 35
            stdevs (float or tuple[float, ...], optional): `sigma`, in the units of the
                input, or of the mask for `noise="mask"`; a tuple has one for each
                masked input. None is the authors' rule. Default: None
            noise (str, optional): What the noise is added to, "input" or "mask".
                Default: "input"
            generator (torch.Generator, optional): Source of the noise, on the device of
                the inputs or on the CPU. None takes torch's global one of the CPU, so
                that a seed gives one map on every device. Default: None
            screening (float, optional): See :meth:`LayerScoreCAM.attribute`.
                Default: None
            return_convergence_delta (bool, optional): Return, next to the maps, an
                estimate of the relative error of each, from its variance over the
                samples. Default: False
            internal_batch_size (int, optional): See :meth:`LayerScoreCAM.attribute`.
            show_progress (bool, optional): See :meth:`LayerScoreCAM.attribute`.

        Returns:
            **attributions** as of :meth:`LayerScoreCAM.attribute`: `(N, 1, *spatial)`,
            or `(N, T, *spatial)` for T targets. With `return_convergence_delta=True` in
            a pair with **delta**, `(N,)` or `(N, T)`: twice the standard error of the
            map relative to its norm, widened as few samples tell little of an error; a
            share from 0, lower is better; infinite for fewer than five samples.

        Raises:
            ValueError: If `n_samples` is below 1, `noise` unknown, `stdevs` negative or
                missing for `noise="mask"`, and as in :meth:`LayerScoreCAM.attribute`.
            TypeError: As in :meth:`LayerScoreCAM.attribute`.
            AssertionError: As in :meth:`LayerScoreCAM.attribute`.
            RuntimeError: As in :meth:`LayerScoreCAM.attribute`.
        """
        check_noise(noise, stdevs)
        check_generator(generator)

        def make_noise(masked: Sequence[Tensor]) -> GaussianNoise:
            return GaussianNoise(noise, stdevs_for(masked, stdevs), generator)

        scheme = NoisySamples(n_samples, make_noise, return_convergence_delta)
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            relu_attributions,
            baselines=baselines,
            channel_softmax=channel_softmax,
            internal_batch_size=internal_batch_size,
            show_progress=show_progress,
            scheme=screened(scheme, screening, return_convergence_delta),
            return_convergence_delta=return_convergence_delta,
        )


class NoisySamples:
    """The increase in confidence averaged over samples of noise, in +/- pairs.

    All channels of a round share its noise, so one field is held at a time, and the
    errors of the channels are not independent: the error of the map is estimated from
    the maps of the rounds, not from the weights.

    Tried and dropped: under `screening`, two rounds of all channels and the later ones
    of a part of them, what these do to the others being predicted from the masks. For
    0.4 of the passes it left 0.83 of the error of scoring fewer channels in all rounds
    (median of four photographs on SqueezeNet 1.1, the error of 35 samples included),
    which did not pay for eighty lines.

    Args:
        n_samples (int): `S`.
        make_noise (Callable): Makes the noise for the inputs that are masked.
        with_error (bool): Whether the error of the map is estimated.
    """

    def __init__(
        self,
        n_samples: int,
        make_noise: Callable[[Sequence[Tensor]], Noise],
        with_error: bool,
    ) -> None:
        n_samples = as_count(
            "n_samples", n_samples, "It counts the noisy copies of each masked input."
        )
        self._rounds = [(1.0, -1.0)] * (n_samples // 2) + [(1.0,)] * (n_samples % 2)
        self._make_noise = make_noise
        self._with_error = with_error

    def prepare(self, channels: Channels, rows: Tensor) -> Prepared:
        """Returns what is to be done for these rows of `Channels.active`."""
        noise = self._make_noise(channels.masked)
        requests = [
            Request(rows, [1.0] * len(signs), noise, signs) for signs in self._rounds
        ]

        def finish(gains: Sequence[Tensor]) -> Weights:
            values = torch.cat(list(gains), dim=1).mean(1)
            _warn_of_no_signal(channels, rows, values)
            squared = channels.no_error()
            if self._with_error and len(rows):
                squared = self._squared_error(channels, rows, gains)
            return Weights(values, squared)

        return Prepared(requests, finish)

    def _squared_error(
        self, channels: Channels, rows: Tensor, gains: Sequence[Tensor]
    ) -> Tensor:
        """Returns the squared standard error of the map, `(N, T)`.

        With `r` rounds of weights `q_r` it is `r / (r - 1) sum_r ||q_r (L_r - L)||^2`,
        widened by the variance of Student's t, since few rounds tell little of it, and
        for few channels.
        """
        count, squared = len(gains), channels.no_error()
        if count < MIN_ROUNDS_OF_ERROR:
            squared[channels.active[rows, 0].unique()] = torch.inf
            return squared
        means = torch.stack([gain.mean(1) for gain in gains]).cpu().double()
        counts = [len(signs) for signs in self._rounds]
        sizes = torch.tensor(counts, dtype=torch.double, device="cpu")
        shares = (sizes / sizes.sum()).view(-1, 1, 1)
        moves = shares * (means - (shares * means).sum(0))
        for example in channels.per_example:
            mine = torch.isin(rows, example.rows)
            if not mine.any():
                continue
            weights = moves.new_zeros(len(example.rows), count, moves.shape[2])
            place = torch.isin(example.rows, rows)
            weights[place] = moves[:, mine].transpose(0, 1)
            norms = example.squared_norm(weights.flatten(1))
            squared[example.number] = example.inflation * norms.view(count, -1).sum(0)
        rounds = max(count, MIN_ROUNDS)
        return squared * count / (count - 1) * (rounds - 1) / (rounds - 3)


def _warn_of_no_signal(channels: Channels, rows: Tensor, values: Tensor) -> None:
    """Warns where no channel keeps even a hundredth of the confidence."""
    gain = channels.score_gain
    best = torch.full_like(gain, -torch.inf)
    examples = channels.active[rows, 0].to(values.device)
    index = examples.unsqueeze(1).expand_as(values)
    best.scatter_reduce_(0, index, values.to(best), "amax")
    warn_of_examples(
        (gain > 0) & (best < 0.01 * gain) & best.isfinite(),
        "The noise leaves no channel a hundredth of the confidence the input has, "
        "so the map says little about {}. Pass smaller stdevs.",
    )
