"""Score-CAM: channels weighed by the confidence they keep."""

from __future__ import annotations

from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.target import Target
from captum_iscam.attr._base import Explanation, LayerScoreMethod
from captum_iscam.attr._quadrature import SCORE_CAM
from captum_iscam.attr._regression import screened


class LayerScoreCAM(LayerScoreMethod):
    r"""Score-CAM: weighs each channel by the confidence the model keeps in its mask.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big), \qquad
        a_k = s(b + M_k \odot (x - b)) - s(b)

    `A_k` is channel k of the layer, `M_k` that channel upsampled linearly to the input
    and then scaled to [0, 1], `b` the baseline and `s` the score of the target. No
    gradients are used. The cost is one forward pass per channel that is not constant.

    This is the definition in the text of H. Wang, Z. Wang, M. Du, F. Yang, Z. Zhang,
    S. Ding, P. Mardziel, X. Hu, "Score-CAM: Score-Weighted Visual Explanations for
    Convolutional Neural Networks", CVPR Workshops 2020, https://arxiv.org/abs/1910.01279
    (equations 6 to 10), with the probability the text argues for. Its Algorithm 1
    instead takes a softmax of logits over the channels: `score="identity"` and
    `channel_softmax=True`. The authors' code omits `s(b)`.

    A constant channel has the mask zero and so the weight zero.

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
        >>> images = torch.rand(2, 3, 16, 16)
        >>> explain = LayerScoreCAM(model, features)
        >>> attributions = explain.attribute(images, target=[1, 3])
        >>> attributions.shape
        torch.Size([2, 1, 7, 7])
        >>> explain.interpolate(attributions, (16, 16), "bilinear").shape
        torch.Size([2, 1, 16, 16])
        >>> explain.attribute(images, target=[[1, 3, 4]]).shape  # three classes of each
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
        screening: float | None = None,
        return_convergence_delta: bool = False,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Explanation:
        r"""Returns the Score-CAM map of each example.

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
                estimate does not include. Default: False
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
            share from 0, lower is better, infinite where nothing is known. It is the
            error that `screening` leaves and, from 1 % of the map, the rounding of the
            scores; otherwise 0 where every channel was scored.

        Raises:
            ValueError: If the layer did not run or has no spatial output, the target is
                out of range, one-hot, or `(N, T)` for an output of more than two
                dimensions, or an argument has a wrong value or shape.
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
            scheme=screened(SCORE_CAM, screening, return_convergence_delta),
            return_convergence_delta=return_convergence_delta,
        )
