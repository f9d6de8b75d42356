"""Integrated Grad-CAM: Grad-CAM summed along the path from the baseline."""

from __future__ import annotations

from torch import Tensor

from captum_iscam._utils.captum_compat import log_usage
from captum_iscam._utils.forward import Baselines, at_least_single
from captum_iscam._utils.inputs import Batch
from captum_iscam._utils.target import Target
from captum_iscam.attr._base import Attributions, rectified
from captum_iscam.attr._gradients import LayerGradientMethod, gradient_batch
from captum_iscam.attr._quadrature import path_points


class LayerIntegratedGradCAM(LayerGradientMethod):
    r"""Integrated Grad-CAM: Grad-CAM at points between baseline and input, summed.

    .. math::
        L = \sum_i w_i \,\mathrm{ReLU}\Big(\sum_k
            \mathrm{GAP}\Big(\frac{\partial s}{\partial A_k}(x_i)\Big)
            \big(A_k(x_i) - A_k(b)\big)\Big), \qquad x_i = b + t_i (x - b)

    GAP is the mean over the map. With one point at `t = 1`
    (`method="riemann_right", n_steps=1`) and a baseline whose activations are zero it
    is Grad-CAM with `relu_attributions=True`. The cost is `n_steps` forward passes per
    example, each with a backward pass for each of its `T` targets. Of all points the
    first and the last are passed once more, each alone, which shows whether scores
    depend on anything but the input.

    Source: S. Sattarzadeh, M. Sudhakar, K. N. Plataniotis, J. Jang, Y. Jeong, H. Kim,
    "Integrated Grad-CAM: Sensitivity-Aware Visual Explanation of Deep Convolutional
    Networks via Integrated Gradient-Based Scoring", ICASSP 2021,
    https://arxiv.org/abs/2102.07805, after the figure of the method, whose sum is a
    right Riemann sum (`method="riemann_right"`). The authors' code takes the left sum
    and omits `A_k(b)`. A sum of rectified maps has no completeness property.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain, usually
            the last one with a spatial output. A list of layers gives a list of maps.
            If a layer runs several times in a forward pass, its last call counts.
            Layers without spatial dimensions `(N, K)` are allowed: each value is a
            channel of one position, and the map `(N, 1)` is one number per example,
            what the layer as a whole contributes. It says nothing of where. For them
            GAP is the gradient itself.
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
            None takes the output as it is. The gradients of the layer are transformed
            in the same way, so it must be linear. Default: None

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
        >>> explain = LayerIntegratedGradCAM(model, features)
        >>> explain.attribute(torch.rand(2, 3, 16, 16), target=1, n_steps=5).shape
        torch.Size([2, 1, 7, 7])
    """

    @log_usage
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
    ) -> Attributions | list[Attributions]:
        """Returns the Integrated Grad-CAM map of each example.

        The order of the arguments is that of `captum.attr.LayerIntegratedGradients`.

        Args:
            inputs (Tensor or tuple[Tensor, ...]): Inputs `(N, C, H, W)`, with one or
                three spatial dimensions, or `(N, features)`, floating point. Of several
                inputs all move along the path.
            baselines (Tensor, int, float or tuple, optional): `b`, where the path
                begins: a number, or a tensor like the input or with one example; a
                tuple has one entry for each input. For normalised images 0 is the mean
                colour. Default: None, that is 0
            target (int, tuple, Tensor or list, optional): The output to explain, in
                Captum's forms: one index for all examples, a list or 1-D tensor with
                one per example, tuples for outputs of more than two dimensions. None
                for a model with one number per example. An integer tensor or nested
                list `(N, T)`, or one row `(1, T)` for all examples, explains T classes
                of each example, with T backward passes for each forward pass.
                Default: None
            additional_forward_args (Any, optional): Further arguments of the model, one
                or a tuple. A tensor whose first dimension is `N` follows its example,
                in a list, tuple or dict too; everything else is passed on unchanged.
                Default: None
            n_steps (int, optional): Number of points on the path. Default: 50
            method (str, optional): The rule that chooses the points, one of Captum's:
                "gausslegendre", "riemann_left", "riemann_right", "riemann_middle" or
                "riemann_trapezoid". Default: "gausslegendre"
            internal_batch_size (int, optional): Inputs per forward and backward pass.
                It bounds the memory. None picks a number for the device and halves it
                when memory runs out. Each point of each example is one input.
                Default: None
            attribute_to_layer_input (bool, optional): Explain the layer's input instead
                of its output. Default: False
            relu_attributions (bool, optional): Set negative values of the map to 0 and
                so keep only what supports the target, as in the papers. False returns
                the signed map. Captum's `LayerGradCam` has the default False. This is
                done in the map of each point, before the sum. Default: True

        Returns:
            *Tensor*, *tuple[Tensor, ...]* or a *list* of these of **attributions**:
            `(N, 1, *spatial)`, or `(N, T, *spatial)` for T targets, at the layer's
            size, detached, in units of the score; higher values support the target
            more. A tuple for a layer with several outputs, a list for a list of layers.

        Raises:
            ValueError: If the layer did not run or gives tokens, the target is out of
                range, or an argument has a wrong value or shape.
            TypeError: If an input is no floating point tensor, `target` holds no
                integers, or the model's output is no tensor.
            AssertionError: From Captum, if the form of `target` does not fit.
            RuntimeError: Under `torch.inference_mode`, and if the model gives NaN or
                infinity; the message says for which example and point.
        """
        points = path_points(n_steps, method)
        batch = gradient_batch(inputs, baselines, self.forward_func)
        return self._attribute(
            batch,
            _Path(batch, points, relu_attributions),
            target,
            additional_forward_args,
            attribute_to_layer_input,
            internal_batch_size,
        )


class _Path:
    """The points between baselines and inputs, one perturbation each."""

    shows_first = False

    def __init__(
        self, batch: Batch, points: list[tuple[float, float]], relu: bool
    ) -> None:
        self._batch = batch
        self._points = points
        self._relu = relu

    @property
    def first(self) -> tuple[Tensor, ...]:
        """The baselines."""
        pairs = zip(self._batch.baselines, self._batch.inputs, strict=True)
        return tuple(b.expand_as(x).contiguous() for b, x in pairs)

    def __len__(self) -> int:
        """Returns the number of points."""
        return len(self._points)

    def make(self, index: int, rows: slice) -> tuple[Tensor, ...]:
        """Returns `b + t (x - b)`."""
        shown = []
        for x, b in zip(self._batch.inputs, self._batch.baselines, strict=True):
            z, b = (at_least_single(v if len(v) == 1 else v[rows]) for v in (x, b))
            shown.append((b + self._points[index][0] * (z - b)).to(x.dtype))
        return tuple(shown)

    def name(self, index: int) -> str:
        """Returns where on the path the input is."""
        return f"at strength {self._points[index][0]:g}"

    def accumulator(self, activations: Tensor) -> _PathSum:
        """Returns the empty sum over the path."""
        weights = [weight for _, weight in self._points]
        return _PathSum(activations, weights, self._relu)

    def finish(self, maps: Tensor) -> Tensor:
        """Returns the maps as they are: those of the points are rectified."""
        return rectified(
            maps,
            self._relu,
            "at no point of the path does a position of the layer support the target. "
            "relu_attributions=False shows what opposes it.",
        )


class _PathSum:
    """The maps summed so far, less what the layer gives for the baselines."""

    def __init__(self, origin: Tensor, weights: list[float], relu: bool) -> None:
        self._origin = origin
        self._weights = weights
        self._relu = relu
        self._maps = origin.new_zeros(origin.shape[0], 1, *origin.shape[2:])

    def add(self, index: int, rows: slice, grads: Tensor, values: Tensor) -> None:
        """Adds the map of one point."""
        over = tuple(range(2, grads.dim()))
        pooled = grads.mean(over, keepdim=True) if over else grads
        summed = (pooled * (values - self._origin[rows])).sum(1, keepdim=True)
        summed = summed.relu() if self._relu else summed
        self._maps[rows].add_(self._weights[index] * summed)

    def maps(self) -> Tensor:
        """Returns the sum."""
        return self._maps
