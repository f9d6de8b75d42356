"""Recipro-CAM: the score of each position of a layer, seen alone."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.interpolate import scale
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import require_choice
from captum_iscam._utils.warn import warn_of_examples
from captum_iscam.attr._base import Explanation, Seen, rectified
from captum_iscam.attr._error import half_a_digit, warn_of_overflow, warn_of_rounding
from captum_iscam.attr._layer_masks import LayerMaskMethod

WINDOWS = ("gaussian", "single", "spread")


class LayerReciproCAM(LayerMaskMethod):
    r"""Recipro-CAM: the score of each position of the layer, seen alone.

    .. math::
        L_p = \frac{S_p - \min_q S_q}{\max_q S_q - \min_q S_q}, \qquad
        S_p = s(A \odot G_p)

    `A` is the layer's output, `G_p` a mask that shows position `p` in all channels, `s`
    the score of the target when the layer gives the masked output. Channels have no
    weights, and no gradients are used. The cost is one pass per position.
    The part of the model before the layer runs with one example in each pass, and only
    the rest with all masked outputs, so the cost is little more than that of the rest.
    Where a model does not allow this, all of it runs with all of them. A pass of up to
    three rows checks that.

    Source: S.-Y. Byun, W. Lee, "Recipro-CAM: Fast gradient-free visual explanations for
    convolutional neural networks", 2022, https://arxiv.org/abs/2209.14074, and the
    authors' code, https://github.com/sybyun/ReciproCAM, for the probability and the
    numbers of the mask. The choices made:

    - the mask is a Gaussian of 3 positions along each axis, 1/4, 1/2 and 1/4, so 1/4 at
      the position itself for images. `window="single"` shows one position alone, with
      the factor 1;
    - the authors' code does not show the neighbours: it puts the values at the position
      in their place, times the Gaussian: `window="spread"`;
    - the map is scaled to [0, 1] as in the paper; `normalize=False` gives the scores.

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
            output. `target` is selected from the result. The probability is the
            default, as in the source. Default: "softmax"
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
        >>> _ = torch.manual_seed(0)
        >>> features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
        >>> model = nn.Sequential(features, nn.Flatten(), nn.Linear(4 * 49, 5)).eval()
        >>> images = torch.rand(2, 3, 16, 16)
        >>> explain = LayerReciproCAM(model, features)
        >>> explain.attribute(images, target=[1, 3]).shape
        torch.Size([2, 1, 7, 7])
        >>> explain.attribute(images, target=[[1, 3]]).shape  # two classes of each
        torch.Size([2, 2, 7, 7])
    """

    @classmethod
    def get_name(cls) -> str:
        """Returns the name of the method: "Layer Recipro-CAM"."""
        return "Layer Recipro-CAM"

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        window: str = "gaussian",
        normalize: bool = True,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Explanation:
        """Returns the Recipro-CAM map of each example.

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
            relu_attributions (bool, optional): Set negative values of the map to 0.
                There are none but with `normalize=False` and a score that may be
                negative, such as the raw output. Default: True
            window (str, optional): What is shown of the layer around a position:
                "gaussian" the position and its neighbours, "single" the position alone,
                "spread" the values at the position in the place of its neighbours too,
                as in the authors' code. Default: "gaussian"
            normalize (bool, optional): Scale each map to [0, 1]. False returns the
                scores. Default: True
            internal_batch_size (int, optional): Masked outputs per forward pass, all of
                one example. It bounds the memory. None picks a number for the device
                and halves it when memory runs out. Default: None
            show_progress (bool, optional): Show a progress bar on standard error for
                work of more than a second. Default: False

        Returns:
            *Tensor*, *tuple[Tensor, ...]* or a *list* of these of **attributions**:
            `(N, 1, *spatial)`, or `(N, T, *spatial)` for T targets, at the layer's
            size, detached, from 0 to 1, or in the units of the score with
            `normalize=False`; higher supports the target more. A tuple for a layer with
            several outputs, a list for a list of layers. A map of equal scores is zero,
            with a warning.

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
        require_choice("window", window, WINDOWS)
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
            scheme=_Windows(window, normalize, relu_attributions),
        )


@dataclass(frozen=True)
class _Windows:
    """One position, with or without its neighbours."""

    window: str
    normalize: bool
    relu: bool

    def units(self, activations: Tensor) -> Tensor:
        """Returns all positions."""
        count = activations.shape[2:].numel()
        size = (len(activations), count)
        return torch.ones(size, dtype=torch.bool, device=activations.device)

    def masked(self, maps: Tensor, units: Tensor) -> Tensor:
        """Returns maps of which only these positions are seen."""
        window = self._window(maps, units)
        if self.window == "spread":
            rows = torch.arange(len(maps), device=maps.device)
            values: Tensor = maps.flatten(2)[rows, :, units]
            return values.view(*values.shape, *[1] * (maps.dim() - 2)) * window
        return maps * window

    def _window(self, maps: Tensor, units: Tensor) -> Tensor:
        """Returns the masks, `(rows, 1, *spatial)`: a product over the axes."""
        middle, beside = (1.0, 0.0) if self.window == "single" else (0.5, 0.25)
        spatial = maps.shape[2:]
        window = maps.new_ones((len(maps), 1, *[1] * len(spatial)))
        for axis, size in enumerate(spatial):
            coordinate = units // prod(spatial[axis + 1 :]) % size
            places = torch.arange(size, device=maps.device)
            distance = (places - coordinate.unsqueeze(1)).abs().to(maps)
            along = torch.where(distance < 1, middle, beside) * (distance < 2)
            shape = [len(maps), 1, *[1] * len(spatial)]
            shape[2 + axis] = size
            window = window * along.view(shape).to(maps)
        return window

    def name(self, unit: int, spatial: torch.Size) -> str:
        """Returns which position it is."""
        place = [
            unit // prod(spatial[axis + 1 :]) % size
            for axis, size in enumerate(spatial)
        ]
        return f"at position {tuple(place)} of the layer"

    def attributions(self, scores: Tensor, seen: Seen, activations: Tensor) -> Tensor:
        """Returns the scores where their positions are."""
        maps: Tensor = scores.unflatten(2, activations.shape[2:])
        if not self.normalize:
            return rectified(maps, self.relu, "no position alone scores above 0.")
        flat = scores.amax(2) == scores.amin(2)
        warn_of_examples(
            flat,
            "The map is zero everywhere for {}: every position of the layer has the "
            "same score alone. normalize=False shows it.",
        )
        # Every S of the map (S - min) / range is rounded; divided first, no square
        # overflows.
        largest = scores.abs().amax(2, keepdim=True)
        above = (scores - scores.amin(2, keepdim=True)) / largest
        size = (scores / largest).norm(dim=2) / above.norm(dim=2)
        warn_of_rounding(2 * half_a_digit(scores, seen.outputs) * size)
        return warn_of_overflow(scale(maps))
