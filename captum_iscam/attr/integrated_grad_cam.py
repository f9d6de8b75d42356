"""Integrated Grad-CAM: Grad-CAM summed along the path from the baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_iscam._batching import Chunks
from captum_iscam._captum import (
    GradientAttribution,
    LayerAttribution,
    compute_layer_gradients_and_eval,
    format_output,
    log_usage,
)
from captum_iscam._scoring import (
    Baselines,
    Score,
    Target,
    TargetScore,
    at_least_single,
    check_training_mode,
    score_transform,
)
from captum_iscam.attr._base import Attributions, NamedLayerAttribution
from captum_iscam.attr._inputs import (
    Batch,
    ReshapeTransform,
    check_inputs,
    check_layer,
    eager,
    evaluate_layer,
)
from captum_iscam.attr._path import path_points


class LayerIntegratedGradCAM(NamedLayerAttribution, GradientAttribution):
    r"""Integrated Grad-CAM: Grad-CAM at points between baseline and input, summed.

    .. math::
        L = \sum_i w_i \,\mathrm{ReLU}\Big(\sum_k
            \mathrm{GAP}\Big(\frac{\partial s}{\partial A_k}(x_i)\Big)
            \big(A_k(x_i) - A_k(b)\big)\Big), \qquad x_i = b + t_i (x - b)

    GAP is the mean over the map. With one point at `t = 1`
    (`method="riemann_right", n_steps=1`) and a baseline that leaves the layer at zero
    it is Grad-CAM with `relu_attributions=True`. The cost is `n_steps` forward and
    backward passes per example.

    Source: S. Sattarzadeh, M. Sudhakar, K. N. Plataniotis, J. Jang, Y. Jeong, H. Kim,
    "Integrated Grad-CAM: Sensitivity-Aware Visual Explanation of Deep Convolutional
    Networks via Integrated Gradient-Based Scoring", ICASSP 2021,
    https://arxiv.org/abs/2102.07805, after the figure of the method, whose sum is a
    right Riemann sum (`method="riemann_right"`). The authors' code takes the left sum
    and leaves out `A_k(b)`. A sum of rectified maps has no completeness property.

    Args:
        forward_func (Callable): The model, or any function Captum accepts.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain. A list
            gives a list of maps. Layers without spatial dimensions are allowed: there
            GAP is the gradient itself.
        device_ids (list[int], optional): As in Captum. Default: None
        score (str or Callable, optional): As in
            :class:`~captum_iscam.attr.LayerScoreCAM`, but the raw output is the
            default, as in the authors' code. Default: "identity"
        reshape_transform (Callable, optional): Turns the layer's output, and the
            gradients at it, into `(N, K, *spatial)`. Default: None

    Raises:
        TypeError: If `layer` is no module or `reshape_transform` no callable.
        ValueError: If `score` is unknown.

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

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        *,
        score: Score = "identity",
        reshape_transform: ReshapeTransform | None = None,
    ) -> None:
        score_transform(score)
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)
        self.reshape_transform = check_layer(layer, reshape_transform)
        self.score = score

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
            inputs (Tensor or tuple[Tensor, ...]): Inputs with `N` examples in the
                first dimension; all of them move along the path.
            baselines (Tensor, int, float or tuple, optional): `b`, where the path
                begins: a number, or a tensor like the input or with one example.
                Default: None, that is 0
            target (int, tuple, Tensor or list, optional): See
                :meth:`LayerScoreCAM.attribute`.
            additional_forward_args (Any, optional): See
                :meth:`LayerScoreCAM.attribute`.
            n_steps (int, optional): Points on the path. Default: 50
            method (str, optional): The rule that places them, one of Captum's:
                "gausslegendre", "riemann_left", "riemann_right", "riemann_middle" or
                "riemann_trapezoid". Default: "gausslegendre"
            internal_batch_size (int, optional): Points per forward and backward pass,
                over examples and steps alike. None picks a number and halves it when
                memory runs out. Default: None
            attribute_to_layer_input (bool, optional): Explain the layer's input
                instead of its output. Default: False
            relu_attributions (bool, optional): Rectify the map of every point, as in
                the paper. False sums the signed maps. Default: True

        Returns:
            **attributions** `(N, 1, *spatial)` at the layer's size, detached, in units
            of the score; higher speaks more for the target. A tuple for a layer with
            several outputs, a list for a list of layers.

        Raises:
            ValueError: If the layer did not run, the target is out of range, or an
                argument has a wrong value or shape.
            TypeError: If an input is no floating point tensor, or the model's output
                no tensor.
            RuntimeError: Under `torch.inference_mode`, and if the model gives NaN or
                infinity; the message says at which point.
        """
        points = path_points(n_steps, method)
        batch = check_inputs(inputs, baselines, self.forward_func)
        _check_differentiable(batch)
        chunks = Chunks(internal_batch_size, batch.device)
        check_training_mode(self.forward_func)
        # Hooks do not run inside compiled code, and gradients at a layer need hooks.
        score = TargetScore(
            eager(self.forward_func),
            self.score,
            target,
            additional_forward_args,
            batch.num_examples,
        )

        def attribute(layer: nn.Module) -> Attributions:
            def evaluate(inputs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Any]:
                return evaluate_layer(
                    self.forward_func,
                    layer,
                    inputs,
                    additional_forward_args,
                    self.device_ids,
                    attribute_to_layer_input,
                )

            origin, output = evaluate(
                tuple(
                    b.expand_as(x).contiguous()
                    for b, x in zip(batch.baselines, batch.inputs, strict=True)
                )
            )
            score.check(output)
            score.of_output(output, torch.arange(batch.num_examples))
            path = _Path(
                batch,
                points,
                score,
                [self._maps(activations) for activations in origin],
                relu_attributions,
            )

            def body(start: int, stop: int) -> None:
                examples, shown = path.inputs(start, stop)
                grads, evals = compute_layer_gradients_and_eval(
                    forward_fn=lambda *z: path.check(start, score(z, examples)),
                    layer=layer,
                    inputs=shown,
                    device_ids=self.device_ids
                    or getattr(eager(self.forward_func), "device_ids", None),
                    attribute_to_layer_input=attribute_to_layer_input,
                )
                for place, (grad, value) in enumerate(zip(grads, evals, strict=True)):
                    path.add(place, start, self._maps(grad), self._maps(value))

            chunks.run(path.length, body)
            return cast(
                Attributions, format_output(len(path.maps) > 1, tuple(path.maps))
            )

        return self._each_layer(attribute)

    def _maps(self, tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        if self.reshape_transform is not None:
            tensor = self.reshape_transform(tensor)
        return at_least_single(tensor)


class _Path:
    """The points of all examples, and the maps summed so far."""

    def __init__(
        self,
        batch: Batch,
        points: list[tuple[float, float]],
        score: TargetScore,
        origin: list[Tensor],
        relu: bool,
    ) -> None:
        self._batch = batch
        self._points = points
        self._score = score
        self._origin = origin
        self._relu = relu
        self.length = batch.num_examples * len(points)
        self.maps = [a.new_zeros(a.shape[0], 1, *a.shape[2:]) for a in origin]

    def inputs(self, start: int, stop: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Returns the examples that points `start` to `stop` belong to, and `x_i`."""
        order = torch.arange(start, stop)
        examples = order // len(self._points)
        strengths = [self._points[i % len(self._points)][0] for i in order.tolist()]
        shown = []
        for x, b in zip(self._batch.inputs, self._batch.baselines, strict=True):
            t = at_least_single(x).new_tensor(strengths).view(-1, *[1] * (x.dim() - 1))
            rows = b if b.shape[0] == 1 else b[examples]
            # Outside of the caller's graph, so that nothing of it is kept or changed.
            shown.append((rows + t * (x.detach()[examples] - rows)).to(x.dtype))
        return examples, tuple(shown)

    def check(self, start: int, values: Tensor) -> Tensor:
        """Returns the values of the points from `start` on, if all are finite."""
        finite = torch.isfinite(values.detach()).view(len(values), -1).all(1)
        for (row,) in (~finite).nonzero().tolist():
            example, step = divmod(start + row, len(self._points))
            raise RuntimeError(
                "forward_func must give finite scores and gradients, got NaN or "
                f"infinity in the pass of example {example} at strength "
                f"{self._points[step][0]:g}. Check the model, and use float32 or "
                "bfloat16 where float16 overflows."
            )
        return values

    def add(self, place: int, start: int, grads: Tensor, values: Tensor) -> None:
        """Adds the maps of the points from `start` on."""
        origin, maps = self._origin[place], self.maps[place]
        count = len(self._points)
        owners = torch.arange(start, start + len(values), device=values.device)
        owners = owners // count
        over = tuple(range(2, grads.dim()))
        pooled = grads.mean(over, keepdim=True) if over else grads
        summed = (pooled * (values - origin[owners])).sum(1, keepdim=True)
        self.check(start, summed)
        weights = values.new_tensor(
            [self._points[(start + i) % count][1] for i in range(len(values))]
        )
        summed = summed.relu() if self._relu else summed
        maps.index_add_(0, owners, summed * weights.view(-1, *[1] * (maps.dim() - 1)))


def _check_differentiable(batch: Batch) -> None:
    for tensor in batch.inputs:
        if not tensor.is_floating_point():
            raise TypeError(
                f"inputs must be floating point, got {tensor.dtype}. Convert them with "
                "inputs.float(), or pass them as additional_forward_args."
            )
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "attribute must be called outside torch.inference_mode, since it needs "
            "gradients. torch.no_grad is fine."
        )
