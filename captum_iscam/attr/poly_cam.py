"""Poly-CAM: Score-CAM's maps of several layers, multiplied from coarse to fine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.forward import Baselines
from captum_iscam._utils.interpolate import upsample
from captum_iscam._utils.target import Target
from captum_iscam._utils.validation import require_choice
from captum_iscam.attr._base import LayerScoreMethod, Seen, rectified, weighted_sum
from captum_iscam.attr._engine import Channels, Prepared, Request, Weights
from captum_iscam.attr._regression import screened

_T = TypeVar("_T")


class _WholeInput:
    """`x - b` in the place of noise: with it `x_k(-1)` is the input without the mask.

    `b - M_k (x - b) + (x - b) = x - M_k (x - b)`, so one upsampled mask serves both.
    """

    def draw(self, inputs: Sequence[Tensor]) -> None:
        """Draws nothing."""

    def field(
        self, position: int, shown: Callable[[], Tensor], delta: Tensor
    ) -> Tensor:
        """Returns `x - b`."""
        return delta


class _InsertionAndDeletion:
    """The weights of Poly-CAM: what a mask alone keeps, and what is lost without it.

    Args:
        variant (str): One of `VARIANTS`.
    """

    def __init__(self, variant: str) -> None:
        # Strength of the mask, and whether the whole input is added, for each pass.
        self._shown = VARIANTS[variant]

    def prepare(self, channels: Channels, rows: Tensor) -> Prepared:
        """Returns what is to be done for these rows of `Channels.active`."""
        strengths, signs = zip(*self._shown, strict=True)
        gain = channels.score_gain
        whole = gain[channels.active[rows, 0].to(gain.device)]

        def finish(gains: Sequence[Tensor]) -> Weights:
            total = torch.zeros_like(whole)
            for number, (_, deleted) in enumerate(self._shown):
                found = gains[0][:, number]
                total += whole - found if deleted else found
            if any(signs):
                total = total.relu()
            return Weights(total, channels.no_error())

        noise = _WholeInput() if any(signs) else None
        return Prepared([Request(rows, strengths, noise, signs)], finish)


VARIANTS = {
    "insertion": ((1.0, 0.0),),
    "deletion": ((-1.0, 1.0),),
    "both": ((1.0, 0.0), (-1.0, 1.0)),
}
"""PCAM+, PCAM- and PCAM+-: the strength of the mask in each pass of a channel, and how
much of the whole input is added to it."""


class LayerPolyCAM(LayerScoreMethod):
    r"""Poly-CAM: multiplies maps of several layers, for a class at high resolution.

    .. math::
        P_1 = L_1, \qquad
        P_i = \frac{L_i}{\mathrm{Up}(\mathrm{Pool}(L_i))} \odot \mathrm{Up}(P_{i-1}),
        \qquad L_i = \mathrm{ReLU}\Big(\sum_k a_k A_k\Big)

    `L_1` is the map of the coarsest layer, with the fewest positions, and the last
    `P_i`, that of the finest layer, is returned: 56 x 56 for layers 1 to 4 of a ResNet
    and images of 224 x 224. `A_k` is channel k of layer i. Its weight is what the score
    keeps with the mask `M_k` alone (PCAM+), loses without it (PCAM-), or both (PCAM+-):

    .. math::
        I_k = s(b + M_k \odot (x - b)) - s(b), \qquad
        D_k = s(x) - s(x - M_k \odot (x - b))

    .. math::
        a_k = I_k \text{ (insertion)}, \qquad
        a_k = \mathrm{ReLU}(D_k) \text{ (deletion)}, \qquad
        a_k = \mathrm{ReLU}(I_k + D_k) \text{ (both)}

    `M_k` is the channel upsampled linearly to the input and then scaled to [0, 1], `b`
    the baseline and `s` the score of the target. The division is the local
    normalisation (LNorm): `Pool` is the mean over the positions of layer i that one
    position of layer i - 1 covers, `Up` linear interpolation (`align_corners=False`).
    So a coarse map decides how much each region counts, and a finer map only
    says where within the region. Where `L_i` is 0, so is the quotient.

    The method is that of A. Englebert, O. Cornu, C. De Vleeschouwer, "Poly-CAM: High
    resolution class activation map for convolutional neural networks", ICPR 2022,
    https://arxiv.org/abs/2204.13359. The product, the normalisation, the three weights
    and their ReLU follow the authors' code (andralex8/polycam). It differs from this
    class in four details. Its `Pool` is bilinear interpolation, which is the same mean
    where sizes are halved, but skips positions where they shrink by more. It scales a
    mask by its 0.1 and 99.9 percentiles, and before the upsampling. PCAM+ omits
    `s(b)`. The last map is scaled to [0, 1] and resized to the input. The printed
    equations were not compared.

    No gradients are used. The cost is one forward pass ("both": two) per channel that
    is not constant, over all layers: 960 channels for layers 1 to 4 of a ResNet-18,
    3840 of a ResNet-50.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        layer (torch.nn.Module or list[torch.nn.Module]): The layers to combine, in any
            order: usually the last one of each size. Their sizes must differ. A single
            layer gives its own map, for "insertion" that of Score-CAM. If a layer runs
            several times in a forward pass, its last call counts.
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
        >>> _ = torch.manual_seed(5)
        >>> early = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        >>> late = nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(4, 6, 3), nn.ReLU())
        >>> model = nn.Sequential(early, late, nn.Flatten(), nn.Linear(24, 5)).eval()
        >>> images = torch.rand(2, 3, 16, 16)
        >>> explain = LayerPolyCAM(model, [early, late], score="identity")
        >>> explain.attribute(images, target=[1, 3]).shape
        torch.Size([2, 1, 16, 16])
        >>> explain.attribute(images, target=[[1, 3, 4]], variant="both").shape
        torch.Size([2, 3, 16, 16])
    """

    def _each_layer(self, attribute: Callable[[nn.Module], _T]) -> _T | list[_T]:
        """Returns what is seen of each layer, before any channel is scored."""
        found = super()._each_layer(attribute)
        seen = found if isinstance(found, list) else [found]
        _check_sizes([one.maps for one in cast(list[Seen], seen)])
        return found

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        variant: str = "insertion",
        baselines: Baselines = None,
        screening: float | None = None,
        internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> Tensor:
        r"""Returns the Poly-CAM map of each example.

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
            relu_attributions (bool, optional): Set negative values of each layer's map
                to 0 and so keep only what supports the target, as in the paper. False
                returns the signed map of a single layer; maps of several layers are
                multiplied, which needs True. Default: True
            variant (str, optional): The weights: "insertion" (PCAM+), "deletion"
                (PCAM-) or "both" (PCAM+-, two passes per channel). Default: "insertion"
            baselines (Tensor, int, float or tuple, optional): `b`, the value of masked
                pixels: a number, or a tensor like the input or with one example; a
                tuple has one entry for each input. For normalised images 0 is the mean
                colour. Default: None, that is 0
            screening (float, optional): Share of the channels, above 0 and up to 1,
                that is scored: those with the largest mean of the mask times norm of
                the activation. The weights of the others are predicted from theirs by a
                Gaussian process on the masks. The cost falls to that share of the
                passes. At 0.4 the error of the map is 1 to 3 % in the median on layers
                of 500 channels and more, and far larger where channels that support and
                oppose the target cancel. Examples with fewer than 128 active
                (non-constant) channels are scored in full, with a warning if
                `screening` is given. Default: None, that is every active channel
            internal_batch_size (int, optional): Masked inputs per forward pass; a pass
                may hold several examples and masks. It bounds the memory. None picks a
                number for the device and halves it when memory runs out. Default: None
            show_progress (bool, optional): Show a progress bar on standard error for
                work of more than a second. Default: False

        Returns:
            *Tensor* of **attributions**: `(N, 1, *spatial)`, or `(N, T, *spatial)` for
            T targets, at the size of the finest layer, detached, in the units of the
            coarsest layer's activations (the other factors are ratios); higher supports
            the target more. float32 for half-precision layers, otherwise the layer's
            type.

        Raises:
            ValueError: If a layer did not run or has no spatial output, two layers
                have the same size, the target is
                out of range, one-hot, or `(N, T)` for an output of more than two
                dimensions, or an argument has a wrong value or shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: If the model gives NaN or infinity; the message says in which
                pass.
        """
        require_choice("variant", variant, VARIANTS)
        if not relu_attributions and len(self._layers) > 1:
            raise ValueError(
                "relu_attributions must be True for several layers, got False. Their "
                "maps are multiplied, and two negative values would count as positive."
            )
        found = self._attribute(
            inputs,
            target,
            additional_forward_args,
            attribute_to_layer_input,
            # At the end, where the warning is of the map that is returned.
            relu_attributions=False,
            baselines=baselines,
            channel_softmax=False,
            internal_batch_size=internal_batch_size,
            show_progress=show_progress,
            scheme=screened(_InsertionAndDeletion(variant), screening, False),
        )
        maps = cast(list[Tensor], found if isinstance(found, list) else [found])
        product = multiplied([one.relu() for one in maps])
        return rectified(
            product if relu_attributions else maps[0],
            relu_attributions,
            "no position supports the target in all layers. Explain fewer layers, or "
            "each with LayerScoreCAM.",
        )

    def _combine(self, weights: Tensor, channels: Channels, relu: bool) -> Tensor:
        """Returns the signed map of one layer, of which nothing is said."""
        return weighted_sum(weights, channels.activations)

    @property
    def _layers(self) -> list[nn.Module]:
        return self.layer if isinstance(self.layer, list) else [self.layer]


def multiplied(maps: Sequence[Tensor]) -> Tensor:
    """Returns the product of rectified maps `(N, T, *spatial)` at the finest size.

    Args:
        maps (Sequence[Tensor]): A map of each layer, at least 0, in any order.
    """
    coarse, *finer = sorted(maps, key=_positions)
    for fine in finer:
        size = fine.shape[2:]
        # Every position is in a region whose mean weighs on it, so none is divided by
        # 0 unless it is 0.
        regions = F.interpolate(fine, size=coarse.shape[2:], mode="area")
        mean = upsample(regions, size)
        relative = fine / torch.where(mean > 0, mean, 1)
        coarse = relative * upsample(coarse, size)
    return coarse


def _positions(maps: Tensor) -> int:
    return maps.shape[2:].numel()


def _check_sizes(layers: Sequence[list[Tensor]]) -> None:
    """Raises unless each layer gives one tensor, and each is finer than the last."""
    if any(len(maps) != 1 for maps in layers):
        raise ValueError(
            "layer must give one tensor each, got a tuple of several. Choose a layer "
            "inside of it."
        )
    ordered = sorted(layers, key=lambda maps: _positions(maps[0]))
    sizes = [tuple(m.shape[2:]) for (m,) in ordered]
    for coarse, fine in pairwise(sizes):
        alike = coarse == fine or len(coarse) != len(fine)
        if alike or any(a > b for a, b in zip(coarse, fine, strict=True)):
            raise ValueError(
                "layer must hold layers of different sizes, each as large as the next "
                f"coarser one along every axis, got {coarse} and {fine}. Keep the last "
                "layer of each size."
            )
