"""IS-CAM: Score-CAM integrated while the mask fades in."""

from __future__ import annotations

from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.target import Target
from captum_iscam.attr._base import Explanation, LayerScoreMethod
from captum_iscam.attr._engine import WeightingScheme
from captum_iscam.attr._quadrature import (
    GAUSS_RADAU,
    KRONROD_FURTHER,
    KRONROD_OWN,
    READINGS,
    Checked,
    Quadrature,
    path_points,
    radau_points,
)
from captum_iscam.attr._regression import Screening, check_screening, screened

POINTS = 3
"""Gauss-Radau points by default. Kronrod's extension of three checks them."""
SHARE = 0.45
"""Share of the channels that is scored by default."""
STEPS = {
    "gausslegendre": 5,
    GAUSS_RADAU: 4,
    "riemann_middle": 5,
    "riemann_trapezoid": 8,
}
"""Points of a rule of which only the name is given."""
OTHER_STEPS = 10


class LayerIntegratedScoreCAM(LayerScoreMethod):
    r"""IS-CAM, Integrated Score-CAM: the score averaged while the mask fades in.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big), \qquad
        a_k = \int_0^1 \big[s(b + t\, M_k \odot (x - b)) - s(b)\big]\, dt
            \approx \sum_i w_i \big[s(b + t_i M_k \odot (x - b)) - s(b)\big]

    The letters are those of :class:`LayerScoreCAM`. Score-CAM asks for the confidence
    at full strength only; IS-CAM averages it over all strengths from the baseline on.
    With `method="riemann_right"` and `n_steps=1` it is Score-CAM.

    By default the integral is taken at three Gauss-Radau points (strengths 0.212, 0.591
    and 0.911; the value at 0 is known), for the 45 % of the channels with the largest
    mean of the mask times norm of the activation. The weights of the other channels are
    predicted from theirs by a Gaussian process on the masks: it is
    `method="gaussradau", n_steps=3, screening=0.45`. That takes 1.35 forward passes per
    active (non-constant) channel. Of an example with fewer than 128 active channels all
    are scored. A few more passes (0.1 per channel, or 24) score the most important
    channels at four more points (Kronrod's extension of the three): where these change
    their part of the map by more than 9.5 %, a warning names the example and
    `n_steps=10`.

    Naming `n_steps` or `method` runs exactly that rule on every channel, for `n_steps`
    forward passes per active channel; a step of strength 0 costs none.

    Source: R. Naidu, A. Ghosh, Y. Maurya, S. R. Nayak K, S. S. Kundu, "IS-CAM:
    Integrated Score-CAM for axiomatic-based explanations", 2020,
    https://arxiv.org/abs/2010.03023. Its variants, and how to get each:

    - the integral that its name and its averaged code mean: the default and every rule
      with strengths in [0, 1]. The authors' code of 2020-07-31 is
      `method="riemann_right", n_steps=10` without the term `s(b)`;
    - `method="recurrence"`: as printed on the poster, `M_{i+1} = M_i + M * i / N`,
      i = 1 to N, with the scaled mask `M` and `M_1 = 0`, both our assumptions.
      Strengths `i (i - 1) / 2N`, up to 4.5 times the image for N = 10. It approximates
      no integral over [0, 1];
    - `method="accumulated"`: strengths `i (i + 1) / 2N`, up to 5.5 for N = 10, as in
      the class `IS_CAM` that the evaluation notebook of the public repository
      ankitaghosh9/Variations-on-Score-CAM (17 September 2020) runs, and in torch-cam.

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
        >>> explain = LayerIntegratedScoreCAM(model, features)
        >>> images = torch.rand(2, 3, 16, 16)
        >>> explain.attribute(images, target=1).shape
        torch.Size([2, 1, 7, 7])
        >>> explain.attribute(images, target=[[0, 1, 4]]).shape  # three of each
        torch.Size([2, 3, 7, 7])
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
        n_steps: int | None = None,
        method: str | None = None,
        screening: float | None = None,
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Explanation:
        """Returns the IS-CAM map of each example.

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
            n_steps (int, optional): Points on the path, one forward pass per channel
                each. Default: None, that is, where only `method` is named, 5 for
                "gausslegendre" and "riemann_middle", 4 for "gaussradau", 8 for
                "riemann_trapezoid" (the fewest with a median error of 1 % on real
                photographs), else 10
            method (str, optional): The rule that places them: "gaussradau" (Gauss-Radau
                with the fixed point 0), one of Captum's names ("gausslegendre",
                "riemann_left", "riemann_right", "riemann_middle",
                "riemann_trapezoid"), or a variant of the paper, "recurrence" or
                "accumulated". Default: None, that is "gausslegendre" where only
                `n_steps` is named
            screening (float, optional): The share of the channels, above 0 and up to
                1, that is scored, each at all points of the rule; see
                :meth:`LayerScoreCAM.attribute`. Where no rule is named that takes three
                times the share in passes per channel, and 0.1 for the check.
                Default: None, that is 0.45 where no rule is named, else every channel
            return_convergence_delta (bool, optional): Return, next to the maps, an
                estimate of the relative error of each. By default it costs nothing.
                Under a named rule the most important channels (2.4 %, at least 6) are
                shown at eight Gauss-Legendre points, or twice `n_steps`, to find it.
                Default: False
            internal_batch_size (int, optional): See :meth:`LayerScoreCAM.attribute`.
            show_progress (bool, optional): See :meth:`LayerScoreCAM.attribute`.

        Returns:
            **attributions** as of :meth:`LayerScoreCAM.attribute`: `(N, 1, *spatial)`,
            or `(N, T, *spatial)` for T targets. With `return_convergence_delta=True` in
            a pair with **delta**, `(N,)` or `(N, T)`: twice the standard error of the
            map relative to its norm, a share from 0, lower is better, infinite where
            nothing is known.

        Raises:
            ValueError: If `n_steps` is below 1, `method` unknown, a delta asked for
                with "recurrence", "accumulated" or `channel_softmax=True`, and as in
                :meth:`LayerScoreCAM.attribute`.
            TypeError: As in :meth:`LayerScoreCAM.attribute`.
            AssertionError: As in :meth:`LayerScoreCAM.attribute`.
            RuntimeError: As in :meth:`LayerScoreCAM.attribute`.
        """
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
            scheme=_scheme(n_steps, method, screening, return_convergence_delta),
            return_convergence_delta=return_convergence_delta,
        )


def _scheme(
    n_steps: int | None, method: str | None, screening: float | None, with_error: bool
) -> WeightingScheme:
    """Returns the rule that is named, or the default."""
    if n_steps is None and method is None:
        return _default(screening, with_error)
    method = "gausslegendre" if method is None else method
    if n_steps is None:
        n_steps = STEPS.get(method, OTHER_STEPS)
    rule = Quadrature(path_points(n_steps, method, extra=(GAUSS_RADAU, *READINGS)))
    scheme = screened(rule, screening, with_error)
    if not with_error:
        return scheme
    if method in READINGS:
        raise ValueError(
            f'return_convergence_delta must be False for method="{method}", got True. '
            "It is no rule for an integral that it could miss."
        )
    return Checked(
        scheme, Quadrature(path_points(max(8, 2 * n_steps), "gausslegendre"))
    )


def _default(screening: float | None, with_error: bool) -> WeightingScheme:
    """Returns the scheme where no rule is named, see the class docstring."""
    share = check_screening(screening)
    rule = Quadrature(radau_points(POINTS))
    warns = share is not None and share < 1
    scheme = Screening(rule, share or SHARE, with_error, warns)
    fine, own = Quadrature(KRONROD_FURTHER), Quadrature(KRONROD_OWN)
    return Checked(scheme, fine, own, warns=True)
