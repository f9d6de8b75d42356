"""Ablation-CAM: channels weighed by what the score loses without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.scores import Score
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import require_choice
from captum_iscam._utils.warn import warn_of_examples
from captum_iscam.attr._base import Explanation, Seen, combine, weighted_sum
from captum_iscam.attr._error import half_a_digit, warn_of_rounding
from captum_iscam.attr._layer_masks import LayerMaskMethod
from captum_iscam.reshape_transforms import ReshapeTransform

FILLS = ("zero", "below_minimum")
_BELOW_MINIMUM = 1e7


class LayerAblationCAM(LayerMaskMethod):
    r"""Ablation-CAM: weighs each channel by what the score loses without it.

    .. math::
        L = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big), \qquad
        a_k = \frac{s(A) - s(A \setminus A_k)}{s(A)}

    `A_k` is channel k of the layer, `s(A)` the score of the target, and
    `s(A \ A_k)` its score when channel k is set to zero in the layer's output. No
    gradients are used. The cost is one pass per channel that is not zero everywhere.
    The part of the model before the layer runs with one example in each pass, and only
    the rest with all masked outputs, so the cost is little more than that of the rest.
    Where a model does not allow this, all of it runs with all of them. A pass of up to
    three rows checks that.

    Source: S. Desai, H. G. Ramaswamy, "Ablation-CAM: Visual Explanations for Deep
    Convolutional Network via Gradient-free Localization", WACV 2020,
    https://openaccess.thecvf.com/content_WACV_2020/html/Desai_Ablation-CAM_Visual_Explanations_for_Deep_Convolutional_Network_via_Gradient-free_Localization_WACV_2020_paper.html
    The choices made:

    - the weights are divided by the score as it is. Where it is negative, as raw
      outputs may be, their signs are reversed, so the map shows what opposes the
      target, and a warning says so. Where it is zero, or so small that a weight is
      infinite, the map is zero, with a warning. Probabilities (`score="softmax"`) are
      never negative;
    - grad-cam 1.5.7 computes the same weights where the smallest value of the example
      is zero, as after a ReLU. Elsewhere it sets a channel far below that value:
      `fill="below_minimum"`. It also counts what was filled in other rows of its
      batch, so results are equal only with its `batch_size=1`. It scales the map to
      [0, 1] and resizes it.

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
            output. `target` is selected from the result. The raw output is the default,
            as in the source. Default: "identity"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. It must only move values, as all in
            `captum_iscam.reshape_transforms` do; values that it leaves out, such as a
            class token, are not masked. Default: None

    Raises:
        TypeError: If `forward_func` or `reshape_transform` is no callable, or `layer`
            is no module.
        ValueError: If `score` is unknown or `layer` is an empty list.

    Examples::

        >>> import torch
        >>> from torch import nn
        >>> _ = torch.manual_seed(1)
        >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        >>> model = nn.Sequential(features, nn.Flatten(), nn.Linear(4 * 49, 5)).eval()
        >>> images = torch.rand(2, 3, 16, 16)
        >>> explain = LayerAblationCAM(model, features, score="softmax")
        >>> explain.attribute(images, target=[1, 3]).shape
        torch.Size([2, 1, 7, 7])
        >>> explain.attribute(images, target=[[1, 3]]).shape  # two classes of each
        torch.Size([2, 2, 7, 7])
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        *,
        score: Score = "identity",
        reshape_transform: ReshapeTransform | None = None,
    ) -> None:
        super().__init__(
            forward_func,
            layer,
            device_ids,
            score=score,
            reshape_transform=reshape_transform,
        )

    @classmethod
    def get_name(cls) -> str:
        """Returns the name of the method: "Layer Ablation-CAM"."""
        return "Layer Ablation-CAM"

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        fill: str = "zero",
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Explanation:
        """Returns the Ablation-CAM map of each example.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, or with one or
                three spatial dimensions, floating point. One of several must have as
                many spatial dimensions as the layer.
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
                so keep only what supports the target, as in the paper. False returns
                the signed map. Default: True
            fill (str, optional): What a channel is set to: "zero" as in the paper, or
                "below_minimum", as grad-cam does: 1e7 below the smallest value of the
                example, zero where that is zero. Default: "zero"
            internal_batch_size (int, optional): Masked outputs per forward pass, all of
                one example. It bounds the memory. None picks a number for the device
                and halves it when memory runs out. Default: None
            show_progress (bool, optional): Show a progress bar on standard error for
                work of more than a second. Default: False

        Returns:
            *Tensor*, *tuple[Tensor, ...]* or a *list* of these of **attributions**:
            `(N, 1, *spatial)`, or `(N, T, *spatial)` for T targets, at the layer's
            size, detached, in the units of the activations (their weights are shares of
            the score); higher supports the target more where the score is positive.
            float32 for half-precision layers, otherwise the layer's type. A tuple for a
            layer with several outputs, a list for a list of layers.

        Raises:
            ValueError: If the layer did not run or has no spatial output, the target is
                out of range, one-hot, or `(N, T)` for an output of more than two
                dimensions, `reshape_transform` computes values, or an argument has a
                wrong value or shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: If the model gives NaN or infinity; the message says in which
                pass.
        """
        require_choice("fill", fill, FILLS)
        return self._attribute(
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            relu_attributions,
            baselines=None,
            channel_softmax=False,
            internal_batch_size=internal_batch_size,
            show_progress=show_progress,
            scheme=_Ablation(fill, relu_attributions),
        )


@dataclass(frozen=True)
class _Ablation:
    """One channel less."""

    fill: str
    relu: bool

    def units(self, activations: Tensor) -> Tensor:
        """Returns the channels that are not zero; others are no part of the map."""
        return (activations != 0).flatten(2).any(2)

    def masked(self, maps: Tensor, units: Tensor) -> Tensor:
        """Returns maps without these channels."""
        numbers = torch.arange(maps.shape[1], device=maps.device)
        ones = [1] * (maps.dim() - 2)
        without = (numbers == units.unsqueeze(1)).view(*maps.shape[:2], *ones)
        value = torch.zeros_like(maps[:1])
        if self.fill == "below_minimum":
            low = maps.flatten(1).amin(1).view(-1, 1, *ones)
            value = torch.where(low == 0, 0, low - _BELOW_MINIMUM)
        return torch.where(without, value, maps)

    def name(self, unit: int, spatial: torch.Size) -> str:
        """Returns which channel it is."""
        return f"without channel {unit}"

    def attributions(self, scores: Tensor, seen: Seen, activations: Tensor) -> Tensor:
        """Returns the sum of the channels, weighed by their share of the score."""
        score = seen.input_score.unsqueeze(2)
        weights = (score - scores) / score
        undefined = ~weights.isfinite().all(2)
        warn_of_examples(
            undefined,
            "The score of {} is zero or almost so, of which no channel has a share, so "
            'the map is zero. Use another score, such as score="softmax".',
        )
        warn_of_examples(
            (seen.input_score < 0) & ~undefined,
            "The score of {} is negative, and the weights are shares of it, so the map "
            "shows what opposes the target. Use a score that is positive, such as "
            'score="softmax".',
        )
        weights = weights.masked_fill(undefined.unsqueeze(2), 0)
        _warn_of_rounding(scores / score, weights, seen, activations)
        return combine(weights, activations, self.relu)


def _warn_of_rounding(
    ratios: Tensor, weights: Tensor, seen: Seen, activations: Tensor
) -> None:
    """Warns of maps of weights `1 - ratios`, `(N, T, K)`, that are mostly rounding.

    The error of each score is that of its channel's weight, that of `s(x)` of all.
    """
    largest = activations.flatten(1).abs().amax(1).clamp(min=1e-30)
    maps = activations / largest.view(-1, *[1] * (activations.dim() - 1))
    own = ratios.square() * maps.flatten(2).square().sum(2).unsqueeze(1)
    common = weighted_sum(ratios, maps).flatten(2).square().sum(2)
    size = weighted_sum(weights, maps).flatten(2).norm(dim=2)
    digit = half_a_digit(ratios, seen.outputs)
    warn_of_rounding(2 * digit * (own.sum(2) + common).sqrt() / size)
