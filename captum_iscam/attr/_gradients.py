"""Gradients and activations at a layer: what the gradient methods share.

A method says how each example is perturbed (`Perturbations`) and what becomes of the
gradients (`GradientAccumulator`). `LayerGradientMethod` does the rest:

1. It checks the arguments and runs the model once without gradients, which shows the
   layer's output and whether score and target fit.
2. It cuts perturbations times examples into chunks. For each chunk `_LayerPass` runs
   the model once and keeps the graph from the layer to the score.
3. Each target takes one backward pass over that graph; the last one frees it.
4. Gradients and activations go to the accumulators, rows of one perturbation at a time.
5. After the last pass everything is checked for NaN and infinity in one go, since a
   check in each pass would wait for the device. The pass at fault is named.

When memory runs out, a chunk is tried again in halves. So an accumulator changes
nothing before all that needs memory is done, and `Totals` remembers how far each output
is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.captum_compat import (
    GradientAttribution,
    LayerAttribution,
    format_output,
    forward_layer_distributed_eval,
    gather_distributed_tensors,
)
from captum_iscam._utils.forward import (
    Baselines,
    Score,
    TargetScore,
    at_least_single,
    score_transform,
)
from captum_iscam._utils.hooks import eager_passes, thread_local_layer
from captum_iscam._utils.inputs import Batch, batch_axis_named, check_inputs
from captum_iscam._utils.target import Target
from captum_iscam._utils.training import keeping_buffers
from captum_iscam._utils.validation import require_floating
from captum_iscam.attr._base import Attributions, NamedLayerAttribution
from captum_iscam.attr._layer import (
    check_layer,
    check_rows,
    eager,
    evaluate_layer,
    require_floating_maps,
    reshaped,
    warn_of_layout,
)
from captum_iscam.reshape_transforms import READY_MADE, ReshapeTransform


class GradientAccumulator(Protocol):
    """What becomes of the gradients of one target at one output of the layer."""

    def add(self, index: int, rows: slice, grads: Tensor, values: Tensor) -> None:
        """Adds what one perturbation of some examples gives; nothing if it raises.

        Whatever needs memory comes before the first change, so that rows that are
        tried again in a smaller chunk count once.

        Args:
            index (int): Which perturbation.
            rows (slice): Which examples.
            grads (Tensor): Their gradients `(rows, K, *spatial)`.
            values (Tensor): Their activations, of the same shape.
        """

    def maps(self) -> Tensor:
        """Returns the maps `(N, 1, *spatial)`."""


class Perturbations(Protocol):
    """The perturbed inputs of each example, one perturbation after the other."""

    @property
    def first(self) -> tuple[Tensor, ...]:
        """What the pass without gradients shows, which checks model and target."""

    def __len__(self) -> int:
        """How many perturbations there are."""

    def make(self, index: int, rows: slice) -> tuple[Tensor, ...]:
        """Returns the inputs under one perturbation, for the examples in `rows`."""

    def name(self, index: int) -> str:
        """Returns the perturbation in words that follow "the pass of example 3"."""

    def accumulator(self, activations: Tensor) -> GradientAccumulator:
        """Returns a place for the gradients, given what the first pass gave."""

    def finish(self, maps: Tensor) -> Tensor:
        """Returns the maps `(N, T, *spatial)` of all targets, rectified on request."""


class Chunk:
    """The rows of one pass: perturbations of examples, examples varying fastest.

    Args:
        perturbations (Perturbations): All perturbations.
        start (int): The first row of all `N * len(perturbations)`.
        stop (int): The row after the last.
        count (int): `N`.
    """

    def __init__(
        self, perturbations: Perturbations, start: int, stop: int, count: int
    ) -> None:
        self._perturbations = perturbations
        self.start = start
        self.stop = stop
        self._count = count

    def examples(self, device: torch.device) -> Tensor:
        """Returns the example of each row."""
        return torch.arange(self.start, self.stop, device=device) % self._count

    def inputs(self) -> tuple[Tensor, ...]:
        """Returns what the model is shown."""
        shown = [
            self._perturbations.make(index, rows) for index, rows, _ in self.runs(0)
        ]
        return tuple(torch.cat(column) for column in zip(*shown, strict=True))

    def runs(self, begin: int) -> Iterator[tuple[int, slice, slice]]:
        """Yields perturbation, examples and their place, from row `begin` on."""
        first, count = max(begin, self.start), self._count
        while first < self.stop:
            index, example = divmod(first, count)
            last = min(self.stop, (index + 1) * count)
            rows = slice(example, example + last - first)
            yield index, rows, slice(first - self.start, last - self.start)
            first = last


class Totals:
    """The sums of all targets at all outputs of the layer.

    Every row is added once, even when memory runs out after the first targets and the
    chunk is tried again in halves.

    Args:
        perturbations (Perturbations): All perturbations.
        outputs (Sequence[Tensor]): What the first pass gave, for `N` examples.
        num_targets (int): `T`.
    """

    def __init__(
        self, perturbations: Perturbations, outputs: Sequence[Tensor], num_targets: int
    ) -> None:
        self._perturbations = perturbations
        self._count = len(outputs[0])
        self._sums = [
            [perturbations.accumulator(output) for output in outputs]
            for _ in range(num_targets)
        ]
        self._done = [[0] * len(outputs) for _ in range(num_targets)]
        # Asked at the end, so that no pass waits for an answer of the one before.
        self._first_finite = torch.stack([torch.isfinite(o).all() for o in outputs])
        self._finite = torch.ones(
            self._count * len(perturbations), dtype=torch.bool, device=outputs[0].device
        )

    def watch(self, chunk: Chunk, values: Tensor) -> None:
        """Notes which rows of a chunk are finite."""
        finite = torch.isfinite(values.detach()).reshape(len(values), -1).all(1)
        self._finite[chunk.start : chunk.stop] &= finite.to(self._finite.device)

    def add(
        self, chunk: Chunk, target: int, grads: list[Tensor], values: list[Tensor]
    ) -> None:
        """Adds gradients and activations of a chunk, one of each for each output."""
        done = self._done[target]
        for output, total in enumerate(self._sums[target]):
            self.watch(chunk, grads[output])
            for index, rows, place in chunk.runs(done[output]):
                total.add(index, rows, grads[output][place], values[output][place])
                done[output] = chunk.start + place.stop

    def maps(self) -> tuple[Tensor, ...]:
        """Returns the maps of each output, if all that was seen is finite."""
        self._check()
        return tuple(
            self._perturbations.finish(torch.cat([total.maps() for total in totals], 1))
            for totals in zip(*self._sums, strict=True)
        )

    def _check(self) -> None:
        """Raises for the first pass that was not finite."""
        if not bool(self._first_finite.all().item()):
            raise RuntimeError(
                "forward_func must give finite activations, got NaN or infinity from "
                "the layer in the first pass, of the inputs or of the baselines. Check "
                "them, and use float32 or bfloat16 where float16 overflows."
            )
        for row in (~self._finite).nonzero()[:1].reshape(-1).tolist():
            index, example = divmod(row, self._count)
            raise RuntimeError(
                "forward_func must give finite scores and gradients, got NaN or "
                f"infinity in the pass of example {example} "
                f"{self._perturbations.name(index)}. "
                "Check the model, and use float32 or bfloat16 where float16 overflows."
            )


class LayerGradientMethod(NamedLayerAttribution, GradientAttribution):
    """What all gradient methods share: constructor, checks and passes.

    Args:
        forward_func (Callable): The model, or any function Captum accepts. It is called
            with `inputs` and `additional_forward_args` and returns a tensor with one
            row per example.
        layer (torch.nn.Module or list[torch.nn.Module]): The layer to explain, usually
            the last one with a spatial output. A list of layers gives a list of maps.
            If a layer runs several times in a forward pass, its last call counts.
            Layers without spatial dimensions are allowed.
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
            in the same way. Default: None

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

    def _batch(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Baselines = None,
    ) -> Batch:
        """Returns the checked inputs, outside of the caller's graph."""
        batch = check_inputs(inputs, baselines, self.forward_func)
        for tensor in batch.inputs:
            require_floating(
                "inputs",
                tensor,
                "Convert them with inputs.float(), or pass them as "
                "additional_forward_args.",
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

        def attribute(layer: nn.Module) -> Attributions:
            with batch_axis_named(hooked, batch.inputs, score.additional):
                evals, output = evaluate_layer(
                    hooked,
                    layer,
                    perturbations.first,
                    additional_forward_args,
                    self.device_ids,
                    attribute_to_layer_input,
                )
                score.check(output, batch.inputs)
                score.of_output(output, torch.arange(count, device=batch.device))
                for value in evals:
                    require_floating_maps(value)
                first = [self._maps(value, batch, count) for value in evals]
            for value in first:
                warn_of_layout(value, batch.inputs)
            totals = Totals(perturbations, first, score.num_targets or 1)

            def body(start: int, stop: int) -> None:
                chunk = Chunk(perturbations, start, stop, count)
                examples = chunk.examples(batch.device)
                seen = _LayerPass(
                    lambda *shown: score(shown, examples),
                    layer,
                    chunk.inputs(),
                    device_ids,
                    attribute_to_layer_input,
                )
                self._accumulate(totals, chunk, seen, batch)

            chunks.run(count * len(perturbations), body)
            maps = totals.maps()
            return cast(Attributions, format_output(len(maps) > 1, maps))

        return self._each_layer(attribute)

    def _accumulate(
        self, totals: Totals, chunk: Chunk, seen: _LayerPass, batch: Batch
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


class _LayerPass:
    """One forward pass, of which each target's gradients at the layer are asked.

    Args:
        score (Callable): Gives scores `(rows,)` or `(rows, T)`.
        layer (torch.nn.Module): The layer.
        inputs (tuple[Tensor, ...]): What the model is shown.
        device_ids (list[int] or None): The devices of a `DataParallel` model.
        attribute_to_layer_input (bool): Whether the layer's input is meant.
    """

    def __init__(
        self,
        score: Callable[..., Tensor],
        layer: nn.Module,
        inputs: tuple[Tensor, ...],
        device_ids: list[int] | None,
        attribute_to_layer_input: bool,
    ) -> None:
        self._layer = layer
        self._device_ids = device_ids
        with torch.enable_grad(), eager_passes:
            saved, scores = forward_layer_distributed_eval(
                score,
                inputs,
                thread_local_layer(layer, device_ids),
                attribute_to_layer_input=attribute_to_layer_input,
                # The model goes on with copies, which it may change in place.
                forward_hook_with_return=True,
                require_layer_grads=True,
            )
            self._columns = scores.reshape(len(scores), -1).unbind(1)
        self.scores = scores.detach()
        self.num_targets = len(self._columns)
        # A tuple of outputs for each device.
        (self._saved,) = saved.values()

    def values(self) -> tuple[Tensor, ...]:
        """Returns what the layer gave."""
        return self._gathered(self._saved)

    def grads(self, number: int) -> tuple[Tensor, ...]:
        """Returns the gradients of one target, of which the last frees the graph."""
        column = self._columns[number]
        outputs = list(self._saved.values())
        try:
            grads = torch.autograd.grad(
                column,
                [x for of_device in outputs for x in of_device],
                torch.ones_like(column),
                retain_graph=number + 1 < self.num_targets,
            )
        except RuntimeError as error:
            # Autograd's words for it, of which neither names the layer.
            if not re.search("used in the graph|does not require grad", str(error)):
                raise
            raise ValueError(
                "layer must lead to the score by gradients, got a "
                f"{type(self._layer).__name__} that the target does not depend on, or "
                "only through code without gradients. Choose another layer, or a score "
                "method, which needs none."
            ) from error
        each = iter(grads)
        return self._gathered(
            {key: tuple(next(each) for _ in of) for key, of in self._saved.items()}
        )

    def _gathered(
        self, of_devices: dict[torch.device, tuple[Tensor, ...]]
    ) -> tuple[Tensor, ...]:
        if len(of_devices) == 1:  # without a copy
            return next(iter(of_devices.values()))
        return cast(
            tuple[Tensor, ...], gather_distributed_tensors(of_devices, self._device_ids)
        )
