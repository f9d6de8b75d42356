"""The masked inputs `x_k(t) = b + t * M_k * (x - b)`, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.inputs import Batch, rows_of
from captum_iscam._utils.interpolate import scale, upsample


class Noise(Protocol):
    """Where the noise of the views comes from."""

    def draw(self, inputs: Sequence[Tensor]) -> None:
        """Draws the noise that all views of one round share."""

    def field(
        self, position: int, shown: Callable[[], Tensor], delta: Tensor
    ) -> Tensor:
        """Returns `e` for input number `position`, a row per channel or one for all.

        Args:
            position (int): Which of the masked inputs.
            shown (Callable): Makes `x_k(1)`, one row per channel asked for.
            delta (Tensor): `x - b` of the same rows, or one row for all.
        """


class MaskedInputs:
    """The inputs masked by channels of a layer.

    Args:
        batch (Batch): Inputs and baselines. Inputs with as many dimensions as the
            activations are masked, the others are passed on.
        activations (Tensor): `A`, `(N, K, *spatial)`, single precision or better.
    """

    def __init__(self, batch: Batch, activations: Tensor) -> None:
        self._batch = batch
        self._activations = activations
        self.positions = [
            i for i, x in enumerate(batch.inputs) if x.dim() == activations.dim()
        ]
        self._deltas = [
            at_least_single(batch.inputs[i]) - at_least_single(batch.baselines[i])
            for i in self.positions
        ]
        self._layout = torch.contiguous_format
        if batch.device.type == "cpu" and activations.dim() == 4:
            # Convolutions on a CPU are about twice as fast in this layout, which all
            # that is made from a delta inherits.
            self.lay_out(channels_last=True)

    @property
    def masked(self) -> list[Tensor]:
        """`x - b` of the inputs that masks are laid on, in the layout of images."""
        return list(self._deltas)

    def lay_out(self, channels_last: bool) -> None:
        """Chooses the memory layout of images that are made from now on."""
        self._layout = torch.channels_last if channels_last else torch.contiguous_format
        self._deltas = [
            delta.contiguous(memory_format=self._layout) for delta in self._deltas
        ]

    @property
    def channels_last(self) -> bool:
        """Whether images are made with the channels in the last place of memory."""
        return self._layout is torch.channels_last

    def baseline(self, examples: Tensor) -> tuple[Tensor, ...]:
        """Returns the inputs of these examples with nothing shown, `x_k(0) = b`."""
        rows = list(self._others(examples))
        for i in self.positions:
            shape = (len(examples), *self._batch.inputs[i].shape[1:])
            baseline = rows_of(self._batch.baselines[i], examples).expand(shape)
            rows[i] = baseline.clone(memory_format=self._layout)
        return tuple(rows)

    def show(
        self,
        examples: Tensor,
        channels: Tensor,
        strengths: Tensor,
        rows: slice,
        noise: Noise | None = None,
        signs: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Returns `x_k(t) + sign * e` for views of the channels, views varying fastest.

        Args:
            examples (Tensor): The example of each channel asked for.
            channels (Tensor): The channels.
            strengths (Tensor): `t` of every view of each of them, `(views,)`.
            rows (slice): Which of the rows, channels times views, to make.
            noise (Noise, optional): Where `e` comes from. Default: None
            signs (Tensor, optional): The sign of `e` in each view, `(views,)`; needed
                where there is noise. Default: None
        """
        count = len(strengths)
        index = torch.arange(rows.start, rows.stop, device=channels.device)
        owner, turn = index // count, index % count
        shown = list(self._others(examples[owner]))
        maps = self._activations[examples, channels].unsqueeze(1)
        for place, i in enumerate(self.positions):
            like = self._batch.inputs[i]
            masks = scale(upsample(maps, like.shape[2:]))
            baseline, delta = self._batch.baselines[i], self._deltas[place]
            column = (-1, *[1] * (like.dim() - 1))
            strength = strengths[turn].to(masks).view(column)
            view = masks[owner] * strength * rows_of(delta, examples[owner])
            view += rows_of(baseline, examples[owner])
            if noise is not None:
                whole = rows_of(delta, examples)
                full = partial(self._full, i, masks, whole, examples)
                field = rows_of(noise.field(place, full, whole), owner).to(view)
                sign = cast(Tensor, signs)[turn].to(view).view(column)
                view.addcmul_(sign, field)
            shown[i] = view.to(like.dtype)
        return tuple(shown)

    def _full(self, i: int, masks: Tensor, whole: Tensor, examples: Tensor) -> Tensor:
        """Returns `x_k(1)`."""
        return masks * whole + rows_of(self._batch.baselines[i], examples)

    def _others(self, examples: Tensor) -> tuple[Tensor, ...]:
        """Returns the inputs without a mask, row by row, and gaps for the others."""
        return tuple(
            x if i in self.positions else x[examples]
            for i, x in enumerate(self._batch.inputs)
        )
