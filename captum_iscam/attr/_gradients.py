"""Gradients and activations at a layer: what the gradient methods share.

A method says which views of an example the model is shown and what becomes of the
gradients; `LayerGradientMethod` checks the arguments and does the passes.
"""

from __future__ import annotations

import re
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
)
from captum_iscam._hooks import heard_in_this_thread
from captum_iscam._inputs import Batch, check_inputs
from captum_iscam._scoring import (
    Baselines,
    Score,
    TargetScore,
    at_least_single,
    check_training_mode,
    score_transform,
)
from captum_iscam._target import Target
from captum_iscam.attr._base import Attributions, NamedLayerAttribution
from captum_iscam.attr._layer import (
    ReshapeTransform,
    check_layer,
    eager,
    evaluate_layer,
    reshaped,
)
from captum_iscam.attr._views import Part, Views
from captum_iscam.reshape_transforms import READY_MADE


class LayerGradientMethod(NamedLayerAttribution, GradientAttribution):
    """What all gradient methods share: constructor, checks and passes.

    Args:
        forward_func (Callable): The model, or any function Captum accepts.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain.
        device_ids (list[int], optional): As in Captum. Default: None
        score (str or Callable, optional): As in the score methods, but the output
            itself is the default, as gradient methods use it. Default: "identity"
        reshape_transform (Callable, optional): Turns the layer's output, and the
            gradients at it, into `(N, K, *spatial)`. Default: None

    Raises:
        TypeError: If `layer` is no module or `reshape_transform` no callable.
        ValueError: If `score` is unknown.
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
        self.reshape_transform = check_layer(forward_func, layer, reshape_transform)
        self.score = score

    def _batch(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Baselines = None,
    ) -> Batch:
        """Returns the checked inputs, outside of the caller's graph."""
        batch = check_inputs(inputs, baselines, self.forward_func)
        for tensor in batch.inputs:
            if not tensor.is_floating_point():
                raise TypeError(
                    f"inputs must be floating point, got {tensor.dtype}. Convert them "
                    "with inputs.float(), or pass them as additional_forward_args."
                )
        if torch.is_inference_mode_enabled():
            raise RuntimeError(
                "attribute must be called outside torch.inference_mode, since it needs "
                "gradients. torch.no_grad is fine."
            )
        return Batch(tuple(x.detach() for x in batch.inputs), batch.baselines)

    def _attribute(
        self,
        batch: Batch,
        views: Views,
        target: Target,
        additional_forward_args: object,
        attribute_to_layer_input: bool,
        internal_batch_size: int | None,
    ) -> Attributions | list[Attributions]:
        """Returns the maps of the method that shows the model these views."""
        chunks = Chunks(internal_batch_size, batch.inputs)
        check_training_mode(self.forward_func)
        # Hooks do not run inside compiled code, and gradients at a layer need hooks.
        hooked = eager(self.forward_func)
        device_ids = self.device_ids or getattr(hooked, "device_ids", None)
        count = batch.num_examples
        score = TargetScore(hooked, self.score, target, additional_forward_args, count)

        def attribute(layer: nn.Module) -> Attributions:
            evals, output = evaluate_layer(
                self.forward_func,
                layer,
                views.first,
                additional_forward_args,
                self.device_ids,
                attribute_to_layer_input,
            )
            score.check(output)
            score.of_output(output, torch.arange(count))
            first = [self._maps(value, batch, count) for value in evals]
            for value in first:
                _check_finite(value)
            sums = [views.sums(value) for value in first]

            def body(start: int, stop: int) -> None:
                part = Part(views, start, stop, count)
                grads, values = _gradients(
                    lambda *shown: part.check(score(shown, part.examples)),
                    layer=layer,
                    inputs=part.inputs(),
                    device_ids=device_ids,
                    attribute_to_layer_input=attribute_to_layer_input,
                )
                pairs = [
                    [self._maps(x, batch, stop - start) for x in pair]
                    for pair in zip(grads, values, strict=True)
                ]
                # All that may run out of memory comes before the first sum is changed,
                # so that a part that is tried again in halves counts once.
                changes = [
                    change
                    for total, (grad, value) in zip(sums, pairs, strict=True)
                    for change in part.changes(total, grad, value)
                ]
                for place, amount in changes:
                    place += amount

            chunks.run(count * len(views), body)
            maps = tuple(total.maps() for total in sums)
            return cast(Attributions, format_output(len(maps) > 1, maps))

        return self._each_layer(attribute)

    def _maps(self, tensor: Tensor, batch: Batch, count: int) -> Tensor:
        """Returns gradients or activations as maps, in at least float32."""
        tensor = reshaped(self.reshape_transform, tensor.detach())
        shape, ranks = tuple(tensor.shape), {x.dim() for x in batch.inputs}
        if len(shape) == 3 and 3 not in ranks and max(ranks) > 3:
            raise ValueError(
                f"layer must give maps (N, K, *spatial), got tokens {shape} for inputs "
                f"of {max(ranks)} dimensions. {READY_MADE}"
            )
        if len(shape) < 2:
            raise ValueError(
                f"layer must give channels (N, K, ...), got the shape {shape}. "
                "Choose a layer further up."
            )
        if shape[0] != count:
            raise ValueError(
                "layer must keep one row per example, got an output of shape "
                f"{shape} for {count} examples. Choose a layer that keeps them apart, "
                "or pass reshape_transform."
            )
        return at_least_single(tensor).to(batch.device)


def _check_finite(activations: Tensor) -> None:
    if not bool(torch.isfinite(activations).all().item()):
        raise RuntimeError(
            "forward_func must give finite activations, got NaN or infinity from the "
            "layer in the first pass, of the inputs or of the baselines. Check them, "
            "and use float32 or bfloat16 where float16 overflows."
        )


def _gradients(
    score: Callable[..., Tensor],
    layer: nn.Module,
    device_ids: list[int] | None,
    **options: Any,
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Returns the gradients of the scores at the layer, and what the layer gave."""
    try:
        grads, values = compute_layer_gradients_and_eval(
            forward_fn=score,
            layer=heard_in_this_thread(layer, device_ids),
            device_ids=device_ids,
            **options,
        )
    except RuntimeError as error:
        # Autograd's words for it, of which neither names the layer.
        if not re.search("used in the graph|does not require grad", str(error)):
            raise
        raise ValueError(
            "layer must lead to the score by gradients, got a "
            f"{type(layer).__name__} that the target does not depend on, or only "
            "through code without gradients. Choose another layer, or a score method, "
            "which needs none."
        ) from error
    return grads, values
