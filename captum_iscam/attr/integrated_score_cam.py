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
"""Number of points of a rule of which only the name is given."""
OTHER_STEPS = 10


class LayerIntegratedScoreCAM(LayerScoreMethod):
    r"""IS-CAM, Integrated Score-CAM: the score averaged while the mask fades in.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big), \qquad
        a_k = \int_0^1 \big[s(b + t\, M_k \odot (x - b)) - s(b)\big]\, dt
            \approx \sum_i w_i \big[s(b + t_i M_k \odot (x - b)) - s(b)\big]

    `A_k` is channel k of the layer, `M_k` that channel upsampled linearly to the input
    and then scaled to [0, 1], `b` the baseline and `s` the score of the target.
    Score-CAM uses the confidence at full strength (`t = 1`) only; IS-CAM averages it
    over all strengths from the baseline on. With `method="riemann_right"` and
    `n_steps=1` it is Score-CAM.

    By default the integral is taken at three Gauss-Radau points (strengths 0.212, 0.591
    and 0.911; the value at 0 is known), for the 45 % of the channels with the largest
    mean of the mask times norm of the activation. The weights of the other channels are
    predicted from theirs by a Gaussian process on the masks: it is
    `method="gaussradau", n_steps=3, screening=0.45`. The most important channels are
    also scored at four more points (Kronrod's extension of the three): where these
    change their part of the map by more than 9.5 %, a warning names the example and
    `n_steps=10`. All of this takes 1.45 forward passes per active (non-constant)
    channel. An example with fewer than 128 active channels is scored in full, for 3
    passes per active channel and 24 more.

    With `n_steps` or `method` given, exactly that rule runs on every channel, for
    `n_steps` forward passes per active channel; a step of strength 0 costs none.

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
            n_steps (int, optional): Number of points on the path, one forward pass per
                channel each. Without `n_steps` and `method`: three Gauss-Radau points
                on 45 % of the channels. With `method` alone: 5 for "gausslegendre" and
                "riemann_middle", 4 for "gaussradau", 8 for "riemann_trapezoid" (the
                fewest with a median error of 1 % on real photographs), else 10.
                Default: None
            method (str, optional): The rule that chooses the strengths: "gaussradau"
                (Gauss-Radau with the fixed point 0), one of Captum's names
                ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle",
                "riemann_trapezoid"), or a variant of the paper, "recurrence" or
                "accumulated". With `n_steps` alone: "gausslegendre". Default: None
            screening (float, optional): Share of the channels, above 0 and up to 1,
                that is scored: those with the largest mean of the mask times norm of
                the activation. The weights of the others are predicted from theirs by a
                Gaussian process on the masks. The cost falls to that share of the
                passes. At 0.4 the error of the map is 1 to 3 % in the median on layers
                of 500 channels and more, and far larger where channels that support and
                oppose the target cancel. Examples with fewer than 128 active
                (non-constant) channels are scored in full, with a warning if
                `screening` is given. A scored channel is scored at all points of the
                rule. Without `n_steps` and `method` the cost in passes per channel is
                three times the share, and 0.1 for the check. Default: None, that is
                0.45 where neither `n_steps` nor `method` is given, else every active
                channel
            return_convergence_delta (bool, optional): Return, next to the maps, an
                estimate of the relative error of each. Not available with
                `channel_softmax=True`, nor in half precision, whose rounding the
                estimate does not include. By default the estimate costs no further
                passes. With `n_steps` or `method` given, the most important channels
                (2.4 %, at least 6) are also scored at max(8, 2 * n_steps)
                Gauss-Legendre points to find it. Default: False
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
            or `(N, T)`: twice the standard error of the map relative to its norm, a
            share from 0, lower is better, infinite where nothing is known. The rounding
            of the scores counts from 1 % of the map.

        Raises:
            ValueError: If `n_steps` is below 1, `method` is unknown,
                `return_convergence_delta=True` is passed with "recurrence",
                "accumulated" or `channel_softmax=True`, the layer did not run or has no
                spatial output, the target is out of range, one-hot, or `(N, T)` for an
                output of more than two dimensions, or an argument has a wrong value or
                shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: If the model gives NaN or infinity; the message says in which
                pass.
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
