"""Masks on the layer's output: the scoring loop, and what such methods share.

The loop is that of `Units`. A method supplies a `LayerMask`: which channels or
positions are masked, and what is left of the output. There is a request for each
example, so that a chunk holds rows of one example only, as `LayerPasses` needs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_iscam._utils.batching import Chunks, is_out_of_memory
from captum_iscam._utils.captum_compat import format_output
from captum_iscam._utils.hooks import eager_passes, thread_local_layer
from captum_iscam._utils.steadiness import warn_of_unsteady
from captum_iscam.attr._base import (
    Attributions,
    LayerScoreMethod,
    Seen,
    Task,
    progress_bar,
)
from captum_iscam.attr._engine import Request, Units
from captum_iscam.attr._layer_output import LayerForm, LayerPasses

_OF_SHAPES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
"""What models raise where one example does not do for all rows."""


class LayerMask(Protocol):
    """What a method leaves of a layer's output, and what it makes of the scores."""

    def units(self, activations: Tensor) -> Tensor:
        """Returns which are masked, `(N, units)` of bool: channels or positions."""

    def masked(self, maps: Tensor, units: Tensor) -> Tensor:
        """Returns maps `(rows, K, *spatial)` with the mask of one unit on each."""

    def name(self, unit: int, spatial: torch.Size) -> str:
        """Returns what is left of the output, in words."""

    def attributions(self, scores: Tensor, seen: Seen, activations: Tensor) -> Tensor:
        """Returns the maps `(N, T, *spatial)`.

        Args:
            scores (Tensor): Of each masked output, `(N, T, units)`; 0 for those that
                are not masked.
            seen (Seen): The pass of the unmasked inputs.
            activations (Tensor): `A`, `(N, K, *spatial)`.
        """


class MaskedOutputs:
    """The outputs of a layer with a mask on each, for one chunk at a time.

    Args:
        activations (Tensor): `A`, `(N, K, *spatial)`.
        form (LayerForm): Brings masked maps into the form of the layer.
        mask (LayerMask): What is masked.
    """

    def __init__(self, activations: Tensor, form: LayerForm, mask: LayerMask) -> None:
        self._activations = activations
        self._form = form
        self._mask = mask

    @property
    def masked(self) -> list[Tensor]:
        """Nothing: there is no noise."""
        return []

    def name(self, example: int, unit: int, strength: float) -> str:
        """Returns the pass of a masked output in words."""
        left = self._mask.name(unit, self._activations.shape[2:])
        return f"the pass of example {example} {left}"

    def make(
        self, examples: Tensor, units: Tensor, _strengths: Tensor, rows: slice, *_: Any
    ) -> tuple[Tensor, ...]:
        """Returns a masked output for each unit; there is no other strength than 1."""
        examples, units = examples[rows], units[rows]
        masked = self._mask.masked(self._activations[examples], units)
        return (self._form.put(masked, examples),)


class LayerUnits(Units):
    """Channels or positions of a layer that are masked in its output.

    Args:
        activations (Tensor): `A`, `(N, K, *spatial)`.
        form (LayerForm): Brings masked maps into the form of the layer.
        mask (LayerMask): What is masked.
        passes (LayerPasses): Scores the masked outputs.
        chunks (Chunks): How many of them go into one forward pass.
        input_score (Tensor): `s(x)`, `(N, T)`.
    """

    def __init__(
        self,
        activations: Tensor,
        form: LayerForm,
        mask: LayerMask,
        passes: LayerPasses,
        chunks: Chunks,
        input_score: Tensor,
    ) -> None:
        which = mask.units(activations)
        masking = MaskedOutputs(activations, form, mask)
        active, width = which.nonzero().cpu(), which.shape[1]
        super().__init__(activations, active, width, masking, passes, chunks)
        self.baseline_score = torch.zeros_like(input_score)

    def scores(self, progress: Callable[[int], tqdm[Any]]) -> Tensor:
        """Returns the score of each masked output, `(N, T, units)`.

        Args:
            progress (Callable): Makes a bar for so many passes.
        """
        counts = self.active[:, 0].bincount(minlength=len(self.activations)).tolist()
        rows = torch.arange(len(self.active), device="cpu").split(counts)
        requests = [Request(of_example, (1.0,)) for of_example in rows]
        with progress(len(self.active)) as bar:
            found = self.increases(requests, bar.update)
        return self.to_dense(torch.cat(found).squeeze(1))


class LayerMaskMethod(LayerScoreMethod):
    """What methods share that mask the layer's output instead of the input."""

    def _see(self, layer: nn.Module, task: Task) -> Seen:
        """Returns what the layer gives, and counts how often it runs."""
        counted = thread_local_layer(layer, None)
        with counted.register_forward_pre_hook(lambda *_: None):
            seen = super()._see(layer, task)
        return seen._replace(calls=max(1, int(getattr(counted, "calls", 1))))

    def _explain(self, seen: Seen, task: Task) -> tuple[Attributions, Attributions]:
        """Returns the maps, and zeros: nothing is estimated."""
        progress = partial(progress_bar, self.get_name(), task.show_progress)
        maps = []
        for position, activations in enumerate(seen.maps):
            transform, output = self.reshape_transform, seen.outputs[position]
            form = LayerForm(output, activations, transform)
            with eager_passes:
                passes, chunks = self._passes(seen, task, position, form)
                units = LayerUnits(
                    activations, form, task.scheme, passes, chunks, seen.input_score
                )
                found = units.scores(progress)
                passes.warn_of_unsteady()
            maps.append(task.scheme.attributions(found, seen, activations))
        several = len(maps) > 1
        zeros = tuple(torch.zeros_like(seen.input_score) for _ in maps)
        return (
            cast(Attributions, format_output(several, tuple(maps))),
            cast(Attributions, format_output(several, zeros)),
        )

    def _passes(
        self, seen: Seen, task: Task, position: int, form: LayerForm
    ) -> tuple[LayerPasses, Chunks]:
        """Returns how masked outputs are scored, and how many at a time."""
        passes = LayerPasses(
            task.score,
            task.batch,
            seen.layer,
            position,
            self.device_ids,
            task.attribute_to_layer_input,
            seen.calls,
            form,
        )
        maps, score = seen.maps[position], seen.input_score
        chunks = Chunks(
            task.internal_batch_size,
            (maps,),
            forward_func=self.forward_func,
            layer=seen.layer,
        )
        try:
            if passes.fit(maps, score, chunks):
                return passes, chunks
        except _OF_SHAPES as error:
            if is_out_of_memory(error):
                raise
        passes.one_example = False
        fits = passes.fit(maps, score, task.chunks)
        warn_of_unsteady(task.score, torch.tensor([not fits], device="cpu"))
        return passes, task.chunks
