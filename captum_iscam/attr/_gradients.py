"""The engine of the gradient methods: checks, passes and backward passes.

A method says how each example is perturbed and what becomes of the gradients
(`_perturbations.py`); most are a row of `WEIGHTINGS` for the inputs as they are.
`LayerGradientMethod` does the rest:

1. It checks the arguments and runs the model once without gradients, which shows the
   layer's output and whether score and target fit.
2. It cuts perturbations times examples into chunks. For each chunk `LayerPass` runs the
   model once and keeps the graph from the layer to the score.
3. Each target takes one backward pass over that graph; the last one frees it.
4. Gradients and activations go to the accumulators, rows of one perturbation at a time.
5. Scores of these passes are compared with those of the first pass, and with that of
   the last row alone (`_steady_gradients.py`).
6. After the last pass everything is checked for NaN and infinity in one go, since a
   check in each pass would wait for the device. The pass at fault is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.captum_compat import (
    GradientAttribution,
    LayerAttribution,
    format_output,
)
from captum_iscam._utils.forward import Baselines, TargetScore, at_least_single
from captum_iscam._utils.inputs import Batch, batch_axis_named, check_inputs
from captum_iscam._utils.scores import Score, score_transform
from captum_iscam._utils.target import Target
from captum_iscam._utils.training import keeping_buffers
from captum_iscam._utils.validation import require_floating
from captum_iscam.attr._base import Attributions, NamedLayerAttribution
from captum_iscam.attr._layer import (
    LayerPass,
    check_layer,
    check_linear,
    check_rows,
    eager,
    evaluate_layer,
    require_floating_maps,
    reshaped,
)
from captum_iscam.attr._layout import warn_of_axes
from captum_iscam.attr._perturbations import (
    Chunk,
    IdentityPerturbation,
    Perturbations,
    Totals,
)
from captum_iscam.attr._steady_gradients import Steadiness
from captum_iscam.attr._weightings import WEIGHTINGS
from captum_iscam.reshape_transforms import READY_MADE, ReshapeTransform


def gradient_batch(
    inputs: Tensor | tuple[Tensor, ...],
    baselines: Baselines,
    forward_func: Callable[..., Any],
) -> Batch:
    """Returns the checked inputs, outside of the caller's graph."""
    batch = check_inputs(inputs, baselines, forward_func)
    for tensor in batch.inputs:
        require_floating(
            "inputs",
            tensor,
            "Convert them with inputs.float(), or pass them as "
            "additional_forward_args.",
        )
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "attribute must be called outside torch.inference_mode for a gradient "
            "method, got a call inside of it. Use torch.no_grad, or a score method."
        )
    return Batch(tuple(x.detach() for x in batch.inputs), batch.baselines)


class LayerGradientMethod(NamedLayerAttribution, GradientAttribution):
    """What all gradient methods share: constructor, checks and passes.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain, usually
            the last one with a spatial output. A list of layers gives a list of maps.
            If a layer runs several times in a forward pass, its last call counts.
            Layers without spatial dimensions `(N, K)` are allowed: each value is a
            channel of one position, and the map `(N, 1)` is one number per example,
            what the layer as a whole contributes. It says nothing of where.
        device_ids (list[int], optional): Device ids of the `DataParallel` model that a
            `forward_func` contains, in the order in which its outputs are joined. Not
            needed where `forward_func` is that model. Default: None
        score (str or Callable, optional): The score `s` of an output: "softmax" over
            dimension 1 (a probability), "sigmoid", "identity" (the output as it is:
            logits, regression, models that end in a softmax), or a function of the
            output. `target` is selected from the result. Default: "identity"
        reshape_transform (Callable, optional): Turns the layer's output into maps
            `(N, K, *spatial)`, for layers that return tokens or have the channels last.
            None takes the output as it is. The gradients of the layer are transformed
            in the same way, so it must be linear. Default: None

    Attributes:
        takes_several_targets (bool): Whether `target` may be `(N, T)`.

    Raises:
        TypeError: If `forward_func` or `reshape_transform` is no callable, or `layer`
            is no module.
        ValueError: If `score` is unknown or `layer` is an empty list.
    """

    takes_several_targets = True

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

    def _weighted(
        self,
        weighting: str,
        inputs: Tensor | tuple[Tensor, ...],
        target: Target,
        additional_forward_args: object,
        attribute_to_layer_input: bool,
        relu_attributions: bool,
        internal_batch_size: int | None,
    ) -> Attributions | list[Attributions]:
        """Returns the maps of a row of `WEIGHTINGS` for the inputs as they are."""
        batch = gradient_batch(inputs, None, self.forward_func)
        return self._attribute(
            batch,
            IdentityPerturbation(batch, WEIGHTINGS[weighting], relu_attributions),
            target,
            additional_forward_args,
            attribute_to_layer_input,
            internal_batch_size,
        )

    def _attribute(
        self,
        batch: Batch,
        perturbations: Perturbations,
        target: Target,
        additional_forward_args: object,
        attribute_to_layer_input: bool,
        internal_batch_size: int | None,
    ) -> Attributions | list[Attributions]:
        """Returns the maps of the method that shows the model these perturbations."""
        chunks = Chunks(
            internal_batch_size,
            batch.inputs,
            forward_func=self.forward_func,
            layer=self.layer,
        )
        # Hooks do not run inside compiled code, and gradients at a layer need hooks.
        hooked = keeping_buffers(eager(self.forward_func))
        device_ids = self.device_ids or getattr(hooked, "device_ids", None)
        count = batch.num_examples
        score = TargetScore(
            hooked, self.score, target, additional_forward_args, count, batch.device
        )

        steady = Steadiness(score, batch, perturbations)

        def attribute(layer: nn.Module) -> Attributions:
            with batch_axis_named(hooked, batch.inputs, score.additional) as taken:
                with score.first_pass():
                    evals, output = evaluate_layer(
                        hooked,
                        layer,
                        perturbations.first,
                        additional_forward_args,
                        self.device_ids,
                        attribute_to_layer_input,
                    )
                score.check(output, batch.inputs)
                steady.note_first(output)
                for value in evals:
                    require_floating_maps(value)
                    check_linear(self.reshape_transform, value)
                first = [self._maps(value, batch, count) for value in evals]
            warn_of_axes(
                taken,
                batch.inputs,
                zip(evals, first, strict=True),
                layer,
                self.reshape_transform,
                attribute_to_layer_input,
            )
            totals = Totals(perturbations, first, score.num_targets or 1)

            def body(start: int, stop: int) -> None:
                chunk = Chunk(perturbations, start, stop, count)
                examples = chunk.examples(batch.device)
                seen = LayerPass(
                    lambda *shown: score(shown, examples),
                    layer,
                    chunk.inputs(),
                    device_ids,
                    attribute_to_layer_input,
                )
                self._accumulate(totals, chunk, seen, batch)
                steady.note(chunk, seen)

            chunks.run(count * len(perturbations), body)
            steady.score_alone(layer, attribute_to_layer_input)
            maps = totals.maps()
            steady.check()
            return cast(Attributions, format_output(len(maps) > 1, maps))

        return self._each_layer(attribute)

    def _accumulate(
        self, totals: Totals, chunk: Chunk, seen: LayerPass, batch: Batch
    ) -> None:
        """Adds the gradients of a pass, those of one target after the other."""
        rows = chunk.stop - chunk.start
        values = [self._maps(value, batch, rows) for value in seen.values()]
        for tensor in (seen.scores, *values):
            totals.watch(chunk, tensor)
        for number in range(seen.num_targets):
            # Without a name, so that they go before those of the next target come.
            totals.add(
                chunk,
                number,
                [self._maps(grad, batch, rows) for grad in seen.grads(number)],
                values,
            )

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
        check_rows(tensor, count)
        return at_least_single(tensor).to(batch.device)
