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

    `A_k` is channel k of the layer, `M_k` that channel upsampled linearly to the input
    and then scaled to [0, 1], `b` the baseline and `s` the score of the target. With
    `stdevs=0` it is Score-CAM. The cost is `n_samples` forward passes per active
    (non-constant) channel, less with `screening`. Samples come in pairs,
    `e` and `-e`. One noise field per pair serves all channels and examples, so it
    depends on `generator` alone. For a list of layers the generator is not reset
    between them. A constant channel has the weight zero, with noise as without.

    Source: H. Wang, R. Naidu, J. Michael, S. S. Kundu, "SS-CAM: Smoothed Score-CAM for
    Sharper Visual Feature Localization", 2020, https://arxiv.org/abs/2006.14255. The
    variants of it, and how to get each:

    - `noise="input"`, the pipeline of the authors' poster and SSCAM2 of their code:
      noise on every value of the masked input. `stdevs=None` is the rule in that code,
      `(2 / range)**2`, where range is that of the masked input. Their code omits the
      term `s(b)`;
    - `noise="mask"`: the noise is added to the mask, which lies in [0, 1], before it is
      multiplied in; torch-cam does so with a deviation of 2, much larger than the
      mask's range of 1.

    Whether noise helps depends on the network. If under noise no channel reaches 1 % of
    `s(x) - s(b)`, a warning says so.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain, usually
            the last one with a spatial output. A list of layers gives a list of maps.
            If a layer runs several times in a forward pass, its last call counts.
        device_ids (list[int], optional): Device ids of the `DataParallel` model that a
            `forward_func` contains, in the order in which its outputs are joined. Not
            needed where `forward_func` is that model. Default: None
        score (str or Callable, optional): The score `s` of an output: "softmax" over
            dimension 1 (a probability), "sigmoid", "identity" (the output as it is:
            logits, regression, models that end in a softmax), or a function of the
            output. `target` is selected from the result. Default: "softmax"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. Default: None

    Raises:
        TypeError: If `forward_func` or `reshape_transform` is no callable, or `layer`
            is no module.
        ValueError: If `score` is unknown or `layer` is an empty list.

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
            inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, or with one or
                three spatial dimensions, floating point. Of several inputs, each with
                as many spatial dimensions as the layer is masked, at its own size; the
                others are passed on unchanged.
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms: one index for all examples, a list or 1-D tensor with
                one per example, tuples for outputs of more than two dimensions. None
                for a model with one number per example. An integer tensor or nested
                list `(N, T)`, or one row `(1, T)` for all examples, explains T classes
                of each example with the passes of one. Default: None
            additional_forward_args (Any, optional): Further arguments of the model, one
                or a tuple. A tensor whose first dimension is `N` follows its example,
                in a list, tuple or dict too; everything else is passed on unchanged.
                Default: None
            attribute_to_layer_input (bool, optional): Explain the layer's input instead
                of its output. Default: False
            relu_attributions (bool, optional): Set negative values of the map to 0 and
                so keep only what supports the target, as in the papers. False returns
                the signed map. Captum's `LayerGradCam` has the default False.
                Default: True
            baselines (Tensor, int, float or tuple, optional): `b`, the value of masked
                pixels: a number, or a tensor like the input or with one example; a
                tuple has one entry for each input. For normalised images 0 is the mean
                colour. Default: None, that is 0
            channel_softmax (bool, optional): Replace the channel weights by their
                softmax over the channels. For scores that are probabilities the softmax
                makes the weights almost equal. Default: False
            n_samples (int, optional): `S`, the number of noise samples, one forward
                pass per channel each. The authors' code takes 35. Default: 35
            stdevs (float or tuple[float, ...], optional): `sigma`, in the units of the
                input, or of the mask for `noise="mask"`; a tuple has one for each
                masked input. Default: None, that is the authors' rule `(2 / range)**2`,
                where range is that of the masked input
            noise (str, optional): What the noise is added to: "input" (the masked
                input) or "mask", which needs `stdevs`. Default: "input"
            generator (torch.Generator, optional): Source of the noise, on the device of
                the inputs or on the CPU. None takes torch's global CPU generator, so
                that a seed gives one map on every device. Default: None
            screening (float, optional): Share of the channels, above 0 and up to 1,
                that is scored: those with the largest mean of the mask times norm of
                the activation. The weights of the others are predicted from theirs by a
                Gaussian process on the masks. The cost falls to that share of the
                passes. At 0.4 the error of the map is 1 to 3 % in the median on layers
                of 500 channels and more, and far larger where channels that support and
                oppose the target cancel. Examples with fewer than 128 active
                (non-constant) channels are scored in full, with a warning if
                `screening` is given. Default: None, that is every active channel
            return_convergence_delta (bool, optional): Return, next to the maps, an
                estimate of the relative error of each. Not available with
                `channel_softmax=True`, nor in half precision, whose rounding the
                estimate does not include. The estimate comes from the variance of the
                map over the samples. Default: False
            internal_batch_size (int, optional): Masked inputs per forward pass; a pass
                may hold several examples and masks. It bounds the memory. None picks a
                number for the device and halves it when memory runs out. Default: None
            show_progress (bool, optional): Show a progress bar on standard error for
                work of more than a second. Default: False

        Returns:
            *Tensor*, *tuple[Tensor, ...]* or a *list* of these of **attributions**:
            `(N, 1, *spatial)`, or `(N, T, *spatial)` for T targets, at the layer's
            size, detached, in the units of the activations (their weights are
            differences of the score); higher supports the target more. float32 for
            half-precision layers, otherwise the layer's type. A tuple for a layer with
            several outputs, a list for a list of layers.
            With `return_convergence_delta=True` a pair: the maps and **delta**, `(N,)`
            or `(N, T)`: twice the standard error of the map relative to its norm,
            widened because few samples estimate a variance poorly; a share from 0,
            lower is better; infinite above 1, for fewer than five samples, and where
            all samples agree. The rounding of the scores counts from 1 % of the map.

        Raises:
            ValueError: If `n_samples` is below 1, `noise` is unknown, `stdevs` is
                negative or missing for `noise="mask"`, the layer did not run or has no
                spatial output, the target is out of range, one-hot, or `(N, T)` for an
                output of more than two dimensions, or an argument has a wrong value or
                shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: If the model gives NaN or infinity; the message says in which
                pass.
        """
        check_noise(noise, stdevs)
        check_generator(generator)

        def make_noise(masked: Sequence[Tensor]) -> GaussianNoise:
            return GaussianNoise(noise, stdevs_for(masked, stdevs), generator)

        # Without noise one sample is as exact as many.
        noisy = stdevs is None or any(stdevs if isinstance(stdevs, tuple) else [stdevs])
        with_error = return_convergence_delta and noisy
        scheme = NoisySamples(n_samples, make_noise, with_error)
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
        widened by the variance of Student's t, since few rounds estimate it poorly, and
        for few channels. It is infinite where delta would be above 1, and where all
        samples agree: they may have missed what the map is made of, such as rare noise
        that ends a saturated score.
        """
        count, squared = len(gains), channels.no_error()
        if count < MIN_ROUNDS_OF_ERROR:
            squared[channels.active[rows, 0].unique()] = torch.inf
            return squared
        rounds = max(count, MIN_ROUNDS)
        widened = count / (count - 1) * (rounds - 1) / (rounds - 3)
        means = torch.stack([gain.mean(1) for gain in gains]).cpu().double()
        counts = [len(signs) for signs in self._rounds]
        sizes = torch.tensor(counts, dtype=torch.double, device="cpu")
        shares = (sizes / sizes.sum()).view(-1, 1, 1)
        mean = (shares * means).sum(0)
        agree = _samples_agree(channels, rows, gains)
        # The map itself comes last.
        moves = torch.cat([shares * (means - mean), mean.unsqueeze(0)])
        for example in channels.per_example:
            mine = torch.isin(rows, example.rows)
            if not mine.any():
                continue
            weights = moves.new_zeros(len(example.rows), *moves.shape[::2])
            place = torch.isin(example.rows, rows)
            weights[place] = moves[:, mine].transpose(0, 1)
            norms = example.squared_norm(weights.flatten(1)).view(count + 1, -1)
            found = example.inflation * widened * norms[:-1].sum(0)
            # Twice the error is more than the map: it may lie in samples not drawn.
            unknown = (4 * found > norms[-1]) | agree[mine].all(0)
            squared[example.number] = torch.where(unknown, torch.inf, found)
        return squared


def _samples_agree(channels: Channels, rows: Tensor, gains: Sequence[Tensor]) -> Tensor:
    """Returns where all samples score the same, but for rounding: `(P, T)`, on the CPU.

    Pairs of different samples may have the same mean, as those of a linear score do.
    """
    samples = torch.cat(list(gains), dim=1)
    low, high = samples.aminmax(dim=1)
    baseline = channels.baseline_score[channels.active[rows, 0].to(low.device)]
    size = baseline.abs() + torch.maximum(low.abs(), high.abs())
    return (high - low <= 4 * torch.finfo(size.dtype).eps * size).cpu()


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
