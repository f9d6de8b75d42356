"""The model from a layer on: what the layer gives is replaced by masked copies of it.

1. `LayerForm` brings masked maps `(rows, K, *spatial)` into the form that the layer
   has, since a `reshape_transform` may stand between the two.
2. `LayerPasses` puts them in the place of what the layer gives, and scores the rest of
   the model. The part before the layer runs with one example, once for all rows.
3. `LayerPasses.fit` checks that the model can do that, and that the score follows. If
   not, the part before the layer runs with the example repeated for each row.

A note on design: calling the rest of the model alone would save the part before the
layer altogether. But nothing tells which code that is: skip connections and branches
around the layer need what was computed before it. A hook needs to know nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.captum_compat import run_forward
from captum_iscam._utils.forward import TargetScore
from captum_iscam._utils.further_arguments import named
from captum_iscam._utils.hooks import thread_local_layer
from captum_iscam._utils.inputs import Batch
from captum_iscam._utils.steadiness import ALONE, FADED, differ, warn_of_unsteady
from captum_iscam.attr._layer import eager, numbers_after
from captum_iscam.attr._row_order import sample
from captum_iscam.reshape_transforms import ReshapeTransform

_CHECKED = (1.0, 0.0, 1.0, FADED)
"""Strengths of the output in the rows of a check; the last row is scored alone too."""


class LayerForm:
    """What a layer gave, and how masked maps are brought into that form.

    A transform that only moves values is undone by numbering them: what becomes of the
    numbers says where each value of a map comes from, and which axis the examples are
    on. Values that are in no map, such as a class token, stay as they are.

    Args:
        output (Tensor): What the layer gave, any shape.
        maps (Tensor): `A`, `(N, K, *spatial)`, made from it.
        transform (Callable, optional): What made them.

    Raises:
        ValueError: If the transform computes anything.
    """

    def __init__(
        self, output: Tensor, maps: Tensor, transform: ReshapeTransform | None
    ) -> None:
        self._axis, self._index = 0, None
        if transform is not None:
            self._axis, self._index = _sources(output, maps, transform)
        self._rows = output.movedim(self._axis, 0)

    def changed(self, found: Sequence[tuple[Tensor, Tensor]], batch: Batch) -> Tensor:
        """Returns of which examples the layer gave something else in other passes.

        Args:
            found (Sequence): Examples, and the layer's output for them, sampled.
            batch (Batch): The inputs.
        """
        before = sample(self._rows)
        which = before.new_zeros(len(before), dtype=torch.bool)
        for examples, rows in found:
            if rows.shape != (len(examples), before.shape[1]):  # nothing to compare
                continue
            same = before[examples.to(before.device)]
            size = same.abs().amax(1, keepdim=True).expand_as(same)
            other = differ(rows, same, size, batch, ALONE).any(1)
            which[examples.to(before.device)] |= other
        return which

    def sampled(self, values: Any, position: int) -> Tensor:
        """Returns some values of each row of what the layer gives in a pass."""
        value = values if isinstance(values, Tensor) else values[position]
        return sample(value.movedim(self._axis, 0))

    def put(self, maps: Tensor, examples: Tensor) -> Tensor:
        """Returns what the layer would have to give for these maps of the examples."""
        maps = maps.to(self._rows)
        if self._index is None:
            return maps.contiguous()
        rows = self._rows.flatten(1)[examples.to(self._rows.device)]
        rows.index_copy_(1, self._index, maps.flatten(1))
        shaped = rows.view(len(maps), *self._rows.shape[1:])
        return shaped.movedim(0, self._axis).contiguous()


def _sources(
    output: Tensor, maps: Tensor, transform: ReshapeTransform
) -> tuple[int, Tensor]:
    """Returns the axis of the examples, and which of its values each of a map is."""
    axes = [axis for axis, size in enumerate(output.shape) if size == len(maps)]
    for axis in axes if output.is_floating_point() else []:
        rows = output.movedim(axis, 0)
        index = numbers_after(transform, rows, axis)
        if index is not None and torch.equal(
            rows.flatten(1)[:, index].to(maps), maps.flatten(1)
        ):
            return axis, index
    raise ValueError(
        "reshape_transform must move the values of the layer and change none for a "
        "method that masks the layer's output, got one that computes others. Choose a "
        "layer that needs no such transform, or another method."
    )


class LayerPasses:
    """Scores what is put in the place of a layer's output, or of its input.

    The rows of a call must be of one example, unless `one_example` is False. Compiled
    code must run eagerly meanwhile, since it calls no hooks.

    Args:
        score (TargetScore): Scores the model.
        batch (Batch): The inputs, which the part before the layer is given.
        layer (torch.nn.Module): The layer.
        position (int): Which of several outputs of the layer is meant.
        device_ids (list[int] or None): The devices of a `DataParallel` model.
        of_input (bool): Whether the layer's input is meant.
        calls (int): How often the layer runs in a pass; its last call counts.
        form (LayerForm): What it gave, and the form of what is put back.

    Attributes:
        one_example (bool): Whether the part before the layer runs with one example.
    """

    def __init__(
        self,
        score: TargetScore,
        batch: Batch,
        layer: nn.Module,
        position: int,
        device_ids: list[int] | None,
        of_input: bool,
        calls: int,
        form: LayerForm,
    ) -> None:
        self.one_example = True
        self._score = score
        self._batch = batch
        self._model = eager(score.forward_func)
        self._layer = thread_local_layer(
            layer, device_ids or getattr(self._model, "device_ids", None)
        )
        self._position = position
        self._of_input = of_input
        self._calls = calls
        self._sizes: list[int] = []
        self._form = form
        self._given: list[tuple[Tensor, Tensor]] = []

    def __call__(self, shown: tuple[Tensor, ...], examples: Tensor) -> Tensor:
        """Returns the score of each row of `shown[0]`, made from these examples."""
        before = self._before = examples[:1] if self.one_example else examples
        inputs = tuple(x[before] for x in self._batch.inputs)
        additional, count = self._score.additional_of(before), self._score.num_examples
        with self._replaced(shown[0]), named(additional, len(examples), count):
            output = run_forward(
                self._model, inputs, additional_forward_args=additional
            )
        return self._score.of_output(output, examples)

    def warn_of_unsteady(self) -> None:
        """Warns of examples for which the part before the layer is unsteady."""
        warn_of_unsteady(self._score, self._form.changed(self._given, self._batch))

    def fit(self, maps: Tensor, input_score: Tensor, chunks: Chunks) -> bool:
        """Returns whether the whole output of an example, put back, gives `s(x)`.

        A row of zeros between two whole ones shows whether the model keeps rows apart,
        and so does a faint one, among them and alone. The example is the one with the
        largest output, of which zeros differ most.

        Args:
            maps (Tensor): `A`, `(N, K, *spatial)`.
            input_score (Tensor): `s(x)`, `(N, T)`.
            chunks (Chunks): Is made to suit the part of the model behind the layer.
        """
        count = min(len(_CHECKED), chunks.size)
        example = maps.abs().flatten(1).amax(1).argmax()
        strengths = maps.new_tensor(_CHECKED).view(-1, *[1] * (maps.dim() - 1))
        shown, examples = maps[example] * strengths, example.expand(len(_CHECKED))
        scores = input_score.new_empty(count, input_score.shape[1])

        def score_rows(start: int, stop: int) -> Tensor:
            of_rows = examples[start:stop]
            # A copy, since what follows may write to it.
            rows = self._form.put(shown[start:stop].clone(), of_rows)
            found = self((rows,), of_rows)
            return found.view(stop - start, -1).clone()

        def body(start: int, stop: int) -> None:
            with chunks.fitted_to(self._model, stop - start) as self._sizes:
                scores[start:stop] = score_rows(start, stop)

        chunks.run(count, body)
        alone = None
        if count == len(_CHECKED):
            alone = score_rows(count - 1, count)
        return not self._mixed(scores, input_score[example], alone)

    def _mixed(self, scores: Tensor, whole: Tensor, alone: Tensor | None) -> bool:
        """Returns whether rows of a check have not the scores that they have alone.

        Args:
            scores (Tensor): Of the checked rows, `(rows, T)`.
            whole (Tensor): `s(x)` of the example, `(T,)`.
            alone (Tensor or None): Of the last row alone, `(1, T)`.
        """
        # The size of the scores, of which that of zeros may be NaN.
        size = scores.nan_to_num(posinf=0, neginf=0).abs().amax(0, keepdim=True)
        found = scores[:3:2]
        ends = whole.expand_as(found), size.expand_as(found)
        changed = differ(found, *ends, self._batch).any()
        if alone is not None:
            faint = scores[-1:]
            both = alone.isnan() & faint.isnan()
            changed |= (differ(alone, faint, size, self._batch, ALONE) & ~both).any()
        return bool(changed.item())

    @contextmanager
    def _replaced(self, shown: Tensor) -> Iterator[None]:
        """Lets the layer give what is shown, or be given it, in its last call."""
        calls = 0

        def replace(_: nn.Module, *values: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls != self._calls:
                return None
            if self.one_example:  # what ran so far is not what the rows cost
                self._sizes[:] = [shown.numel() * shown.element_size()]
            given = self._form.sampled(values[-1], self._position)
            self._given.append((self._before, given))
            return self._put(values[-1], shown)

        register = (
            self._layer.register_forward_pre_hook
            if self._of_input
            else self._layer.register_forward_hook
        )
        with register(replace):
            yield
        if calls != self._calls:
            raise RuntimeError(
                "layer must run as often in every pass, got "
                f"{calls} runs after {self._calls}. Choose another layer, or a method "
                "that masks the input."
            )

    def _put(self, values: Any, shown: Tensor) -> Any:
        if isinstance(values, Tensor):
            return shown
        each = [*values]
        each[self._position] = shown
        make = getattr(values, "_make", type(values))  # of a named tuple
        return make(each)
