"""SS-CAM: Score-CAM averaged over noise."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_iscam._captum import log_usage
from captum_iscam._inputs import check_generator
from captum_iscam._scoring import Baselines
from captum_iscam._target import Target
from captum_iscam.attr._base import Explanation, LayerScoreMethod
from captum_iscam.attr._noise import (
    GaussianNoise,
    Stdevs,
    check_noise,
    stdevs_for,
)
from captum_iscam.attr._plans import check_tolerance
from captum_iscam.attr._sampling import NoisySamples
from captum_iscam.attr._screening import screened


class LayerSmoothedScoreCAM(LayerScoreMethod):
    r"""SS-CAM, Smoothed Score-CAM: the score averaged over noise on the masked input.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big), \qquad
        a_k = \frac{1}{S} \sum_{i=1}^{S}
            \big[s(b + M_k \odot (x - b) + e_i) - s(b)\big],
            \quad e_i \sim \mathcal{N}(0, \sigma^2)

    The letters are those of :class:`LayerScoreCAM`. With `stdevs=0` it is Score-CAM.
    The cost is `n_samples` forward passes per channel that is not constant, less with a
    `tolerance`. The noise is drawn once per pair of samples, `e` and `-e`, and shared
    by all channels and examples: it depends on `generator` alone, and goes on from
    layer to layer where a list of layers is explained. A constant channel has the
    weight zero, with noise as without.

    Source: H. Wang, R. Naidu, J. Michael, S. S. Kundu, "SS-CAM: Smoothed Score-CAM for
    Sharper Visual Feature Localization", 2020, https://arxiv.org/abs/2006.14255. The
    readings of it, and how to get each:

    - `noise="input"`, the pipeline of the authors' poster and SSCAM2 of their code:
      noise on every value of the masked input. `stdevs=None` is the rule in that code,
      `(2 / range)**2`, where range is that of the masked input. Their code leaves out
      the term `s(b)`;
    - `noise="mask"`: the noise is added to the mask, which lies in [0, 1], before it is
      multiplied in; torch-cam does so with a deviation of 2, which drowns the mask.

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
        tolerance: float | None = None,
        screening: float | None = None,
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Explanation:
        """Returns the SS-CAM map of each example.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): See :meth:`LayerScoreCAM.attribute`.
            target (int, tuple, Tensor or list, optional): See
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
                the inputs or on the CPU. None takes torch's global one. Default: None
            tolerance (float, optional): Relative standard error of the map before ReLU,
                above 0, that is good enough. After eight samples or more of every
                channel the noise is shown to a part of them only, and what it does to
                the others is foretold from those with similar masks; it ends where the
                error is expected to be small enough. A tolerance that `n_samples` do
                not reach asks for their own error, or up to a twentieth more. Which
                samples are left out depends on scores, so a rounding may tip it. None
                takes all samples of every channel. Default: None
            screening (float, optional): See :meth:`LayerScoreCAM.attribute`.
                Default: None
            return_convergence_delta (bool, optional): Return, beside the maps, an
                estimate of the relative error of each, from how it scatters over the
                samples. Default: False
            internal_batch_size (int, optional): See :meth:`LayerScoreCAM.attribute`.
            show_progress (bool, optional): See :meth:`LayerScoreCAM.attribute`.

        Returns:
            **attributions** as of :meth:`LayerScoreCAM.attribute`, with
            `return_convergence_delta=True` in a pair with **delta**, `(N,)` for each
            map: twice the standard error of the map relative to its norm, widened as
            few samples tell little of an error; a share from 0, lower is better;
            infinite for fewer than three samples.

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

        plan = NoisySamples(n_samples, make_noise, check_tolerance(tolerance))
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
            plan=screened(plan, screening),
            return_convergence_delta=return_convergence_delta,
        )
