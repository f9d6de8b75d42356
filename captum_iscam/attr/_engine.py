"""The one scoring loop of the project.

Every score method is `L = ReLU(sum_k a_k A_k)`. Methods differ only in the masked
inputs that the model scores to find `a_k`. So a method is a `WeightingScheme`:

1. `prepare` lists all masked inputs, given the layer's output alone;
2. `Channels.weigh` runs the model on them, chunk by chunk;
3. `Prepared.finish` turns the increases in confidence into `a_k`.

A note on design: an earlier version let the scores of one round decide what the next
round shows. That saved up to half of the passes on some networks. It was dropped,
because then no two targets could share a pass, an accelerator had to wait between
rounds, rounding could change the selection, and the number of passes was unknown before
the end. So step 2 knows nothing of step 3, and copies everything it needs to the device
before the first pass. Finite scores are checked after the last pass for the same
reason: a check is a wait of the host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from tqdm import tqdm

from captum_iscam._utils.batching import Chunks
from captum_iscam._utils.forward import TargetScore
from captum_iscam._utils.inputs import Batch
from captum_iscam._utils.steadiness import Ends
from captum_iscam._utils.validation import require_finite
from captum_iscam.attr._example_channels import ExampleChannels
from captum_iscam.attr._masking import MaskedInputs, Masking, Noise


@dataclass(frozen=True)
class Request:
    """Masked inputs to be scored: some channels, all at the same strengths.

    Attributes:
        rows (Tensor): Which channels: rows of `Channels.active`, `(P,)`, on the CPU.
        strengths (Sequence[float]): `t` of each of the `V` masked inputs per channel.
        noise (Noise, optional): Added to them, drawn anew for each request.
        signs (Sequence[float]): What the noise is multiplied by in each of them.
    """

    rows: Tensor
    strengths: Sequence[float]
    noise: Noise | None = None
    signs: Sequence[float] = ()

    @property
    def passes(self) -> int:
        """How many masked inputs these are."""
        return len(self.rows) * len(self.strengths)


@dataclass(frozen=True)
class Weights:
    """The weights of some channels, and what is known of their error.

    Attributes:
        values (Tensor): `a`, `(P, T)` for `T` targets.
        squared_error (Tensor): Expected squared norm of the error of the map before
            ReLU, `(N, T)`, on the CPU in double precision. 0 where none was estimated.
    """

    values: Tensor
    squared_error: Tensor


@dataclass(frozen=True)
class Prepared:
    """What a scheme is about to do for some channels.

    Attributes:
        requests (list[Request]): All masked inputs to be scored.
        finish (Callable): Takes `C_k` for each request, `(P, V, T)`, and returns the
            weights of the channels.
    """

    requests: list[Request]
    finish: Callable[[Sequence[Tensor]], Weights]


class WeightingScheme(Protocol):
    """A way to find the weights of channels."""

    def prepare(self, channels: Channels, rows: Tensor) -> Prepared:
        """Returns what is to be done for these rows of `Channels.active`."""


class Units:
    """Channels or positions of a layer, and the scores with a mask for each.

    This is the loop. `Channels` are masks of the input; those of the layer's output are
    in `_layer_masks.py`.

    Args:
        activations (Tensor): `A`, `(N, K, *spatial)`.
        active (Tensor): Example and unit, `(P, 2)`, on the CPU, of each unit to score.
        width (int): How many units an example has, active or not.
        masking (Masking): Makes what is shown.
        score (Callable): Scores it, given the example of each row.
        chunks (Chunks): How many rows go into one forward pass.

    Attributes:
        baseline_score (Tensor): What scores are compared with, `(N, T)`.
    """

    baseline_score: Tensor

    def __init__(
        self,
        activations: Tensor,
        active: Tensor,
        width: int,
        masking: Masking,
        score: Callable[[tuple[Tensor, ...], Tensor], Tensor],
        chunks: Chunks,
    ) -> None:
        self.activations = activations
        self.active = active
        self._width = width
        self._masking = masking
        self._score = score
        self._chunks = chunks

    def increases(
        self, requests: Sequence[Request], update: Callable[[int], Any]
    ) -> list[Tensor]:
        """Returns `C_k`, `(P, V, T)`, for each request.

        Args:
            requests (Sequence[Request]): What is to be scored.
            update (Callable): Told how many passes were made.
        """
        passes = [request.passes for request in requests]
        targets = self.baseline_score.shape[1]
        scores = self.baseline_score.new_empty(sum(passes), targets)
        # All that goes to the device goes in one piece before the first pass, since a
        # copy from the host waits for the passes before it.
        rows = {id(r.rows): r.rows for r in requests}
        together = self._on_device([self.active[of] for of in rows.values()])
        pairs = dict(zip(rows, together, strict=True))
        strengths = self._on_device([_numbers(r.strengths) for r in requests])
        signs = self._on_device([_numbers(r.signs) for r in requests])
        parts = scores.split(passes)
        each = zip(requests, strengths, signs, parts, strict=True)
        for request, strength, sign, part in each:
            if request.noise is not None:
                request.noise.draw(self._masking.masked)
            pair = pairs[id(request.rows)]
            self._run(request.noise, pair, strength, sign, part, update)
        require_finite(scores, lambda row: self._name_of(row, requests))
        return [
            part.view(len(request.rows), len(request.strengths), targets)
            - self.baseline_score[pairs[id(request.rows)][:, 0]].unsqueeze(1)
            for part, request in zip(parts, requests, strict=True)
        ]

    def _run(
        self,
        noise: Noise | None,
        pairs: Tensor,
        strengths: Tensor,
        signs: Tensor,
        scores: Tensor,
        update: Callable[[int], Any],
    ) -> None:
        """Scores one request's masked inputs, a unit's one after the other."""
        count = len(strengths)

        def body(start: int, stop: int) -> None:
            first, last = start // count, -(-stop // count)
            examples, units = pairs[first:last].unbind(1)
            rows = slice(start - first * count, stop - first * count)
            shown = self._masking.make(examples, units, strengths, rows, noise, signs)
            index = torch.arange(start, stop, device=pairs.device)
            found = self._score(shown, pairs[index // count, 0])
            scores[start:stop] = found.view(stop - start, -1)
            update(stop - start)

        self._chunks.run(len(scores), body)

    def _on_device(self, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        """Returns tensors of the CPU on the device of the inputs."""
        if not tensors:
            return ()
        together = torch.cat(tensors)
        if together.is_floating_point():
            together = together.to(self.activations.dtype)
        on_device = together.to(self.activations.device)
        lengths = [len(tensor) for tensor in tensors]
        return cast(tuple[Tensor, ...], on_device.split(lengths))

    def _name_of(self, row: int, requests: Sequence[Request]) -> str:
        """Returns a masked pass in words, given its row among those of all requests."""
        for request in requests:
            if row < request.passes:
                unit, strength = divmod(row, len(request.strengths))
                example, number = self.active[request.rows[unit]].tolist()
                return self._masking.name(example, number, request.strengths[strength])
            row -= request.passes
        raise IndexError(row)

    def to_dense(self, values: Tensor) -> Tensor:
        """Returns values `(P, T)` of the rows of `active` as `(N, T, units)`."""
        count = len(self.activations)
        weights = self.baseline_score.new_zeros(count, values.shape[1], self._width)
        examples, units = self.active.to(weights.device).unbind(1)
        weights[examples, :, units] = values.to(weights)
        return weights


class Channels(Units):
    """The channels of a layer, and what the model makes of the input masked by them.

    Args:
        activations (Tensor): `A`, `(N, K, *spatial)`.
        batch (Batch): The inputs and baselines.
        score (TargetScore): Scores them.
        chunks (Chunks): How many of them go into one forward pass.
        input_score (Tensor): `s(x)` of each example and target, `(N, T)`.

    Attributes:
        active (Tensor): Example and channel, `(P, 2)`, on the CPU, of each channel
            that is not constant. The mask of a constant channel is zero, so its
            increase in confidence is 0 without a pass.
        baseline_score (Tensor): `s(b)` of each example and target, `(N, T)`.
        repeated_score (Tensor): `s(x)` once more, of the pass of the baselines.
    """

    _score: TargetScore

    def __init__(
        self,
        activations: Tensor,
        batch: Batch,
        score: TargetScore,
        chunks: Chunks,
        input_score: Tensor,
    ) -> None:
        self._batch = batch
        self._masked_inputs = MaskedInputs(batch, activations)
        flat = activations.flatten(2)
        active = (flat.amax(2) > flat.amin(2)).nonzero().cpu()
        width = activations.shape[1]
        super().__init__(activations, active, width, self._masked_inputs, score, chunks)
        self.input_score = input_score
        ends = self._score_ends()
        self.baseline_score, self.repeated_score = ends.baselines, ends.inputs

    @property
    def masked(self) -> list[Tensor]:
        """`x - b` of the inputs that masks are laid on."""
        return self._masked_inputs.masked

    @property
    def score_gain(self) -> Tensor:
        """`s(x) - s(b)` of each example and target, `(N, T)`."""
        return self.input_score - self.baseline_score

    @cached_property
    def per_example(self) -> list[ExampleChannels]:
        """The channels of each example that has any active ones."""
        maps = self.activations.flatten(2).cpu()
        numbers, counts = self.active[:, 0].unique_consecutive(return_counts=True)
        found, start = [], 0
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            rows = torch.arange(start, start + count, device="cpu")
            which = self.active[rows, 1]
            found.append(ExampleChannels(number, rows, which, maps[number]))
            start += count
        return found

    def no_error(self) -> Tensor:
        """Returns zeros `(N, T)` on the CPU in double precision."""
        shape = self.baseline_score.shape
        return torch.zeros(shape, dtype=torch.double, device="cpu")

    def weigh(
        self, scheme: WeightingScheme, progress: Callable[[int], tqdm[Any]]
    ) -> Weights:
        """Returns the weights of all active channels.

        Args:
            scheme (WeightingScheme): What is shown to find them.
            progress (Callable): Makes a bar for so many passes.
        """
        rows = torch.arange(len(self.active), device="cpu")
        prepared = scheme.prepare(self, rows)
        with progress(sum(request.passes for request in prepared.requests)) as bar:
            gains = self.increases(prepared.requests, bar.update)
        return prepared.finish(gains)

    def _score_ends(self) -> Ends:
        images = self._masked_inputs
        usual = images.layout is not torch.channels_last
        try:
            ends = self._ends()
        except RuntimeError:
            if usual:
                raise
            fits = False
        else:
            fits = usual or not ends.unsteady().any()
        if not fits:
            # Some models reshape with view, or read the memory of their input: both
            # need the usual layout.
            images.lay_out(channels_last=False)
            ends = self._ends()
        ends.warn_of_unsteady()
        return ends

    def _ends(self) -> Ends:
        images = self._masked_inputs
        return Ends(
            self._batch,
            self._score,
            self._chunks,
            self.input_score,
            images.positions,
            images.layout,
        )


def _numbers(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.double, device="cpu")
