"""The masked inputs `x_k(t) = b + t * M_k * (x - b)`, made for one chunk at a time.

1. `MaskedInputs` keeps `x - b` of every input that has as many dimensions as the
   layer's output. Other inputs are passed on as they are.
2. `make` gets the channels and strengths of a chunk. It upsamples each `A_k` to the
   input's size and then scales it to [0, 1]. In the other order a mask would not reach
   0 and 1, and the same strength would mean something else in every layer.
3. It multiplies `x - b` by mask and strength, adds `b`, and for SS-CAM the noise.

Rows of a chunk are channels times strengths, with strengths varying fastest, so that
one upsampled mask serves all strengths of its channel. Masks live for one chunk: those
of all channels of a ResNet-50 at 224 x 224 would take 400 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import Protocol, cast

import torch
from torch import Tensor

from captum_iscam._utils.forward import at_least_single
from captum_iscam._utils.inputs import Batch, rows_of
from captum_iscam._utils.interpolate import scale, upsample
from captum_iscam._utils.validation import as_number, require_choice


class Noise(Protocol):
    """Where the noise of the masked inputs comes from."""

    def draw(self, inputs: Sequence[Tensor]) -> None:
        """Draws the noise that all masked inputs of one request share."""

    def field(
        self, position: int, shown: Callable[[], Tensor], delta: Tensor
    ) -> Tensor:
        """Returns `e` for input number `position`, a row per channel or one for all.

        Args:
            position (int): Which of the masked inputs.
            shown (Callable): Makes `x_k(1)`, one row per channel asked for.
            delta (Tensor): `x - b` of the same rows, or one row for all.
        """


class Masking(Protocol):
    """Makes what the model is shown with masks of some units."""

    @property
    def masked(self) -> list[Tensor]:
        """What noise is drawn for."""

    def name(self, example: int, unit: int, strength: float) -> str:
        """Returns the pass of a masked input in words."""

    def make(
        self,
        examples: Tensor,
        units: Tensor,
        strengths: Tensor,
        rows: slice,
        noise: Noise | None,
        signs: Tensor | None,
        /,
    ) -> tuple[Tensor, ...]:
        """Returns the rows asked for, units times strengths, as `MaskedInputs.make`."""


def masked_inputs(inputs: Sequence[Tensor], rank: int) -> list[int]:
    """Returns which of the inputs masks are laid on: those of the layer's rank.

    Next to larger ones, inputs of one position are passed on: a mask of one position is
    constant, so a noise level or a time step `(N, 1, 1, 1)` would be the baseline.
    """
    found = [i for i, x in enumerate(inputs) if x.dim() == rank]
    larger = [i for i in found if inputs[i].shape[2:].numel() > 1]
    return larger or found


class MaskedInputs:
    """The inputs masked by channels of a layer.

    Args:
        batch (Batch): Inputs and baselines. Inputs with as many dimensions as the
            activations are masked, the others are passed on.
        activations (Tensor): `A`, `(N, K, *spatial)`, single precision or better.

    Attributes:
        positions (list[int]): Which of the inputs are masked.
        layout (torch.memory_format): The layout of masked inputs in memory.
    """

    def __init__(self, batch: Batch, activations: Tensor) -> None:
        self._batch = batch
        self._activations = activations
        self.positions = masked_inputs(batch.inputs, activations.dim())
        self._baselines = [at_least_single(batch.baselines[i]) for i in self.positions]
        self._deltas = [
            at_least_single(batch.inputs[i]) - baseline
            for i, baseline in zip(self.positions, self._baselines, strict=True)
        ]
        self.layout = torch.contiguous_format
        if batch.device.type == "cpu" and activations.dim() == 4:
            # Convolutions on a CPU are about twice as fast in this layout, which all
            # that is made from a delta inherits.
            self.lay_out(channels_last=True)

    @property
    def masked(self) -> list[Tensor]:
        """`x - b` of the inputs that masks are laid on, in the layout of images."""
        return list(self._deltas)

    def name(self, example: int, unit: int, strength: float) -> str:
        """Returns the pass of a masked input in words."""
        where = f"example {example}, channel {unit}"
        return f"the masked pass of {where}, at strength {strength:g}"

    def lay_out(self, channels_last: bool) -> None:
        """Chooses the memory layout of images that are made from now on."""
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        for tensors in (self._baselines, self._deltas):
            tensors[:] = [x.contiguous(memory_format=self.layout) for x in tensors]

    def make(
        self,
        examples: Tensor,
        channels: Tensor,
        strengths: Tensor,
        rows: slice,
        noise: Noise | None = None,
        signs: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Returns `x_k(t) + sign * e` for some channels, strengths varying fastest.

        Args:
            examples (Tensor): The example of each channel asked for.
            channels (Tensor): The channels.
            strengths (Tensor): `t` of the `V` masked inputs of each channel, `(V,)`.
            rows (slice): Which of the rows, channels times strengths, to make.
            noise (Noise, optional): Where `e` comes from. Default: None
            signs (Tensor, optional): The sign of `e` at each strength, `(V,)`;
                needed where there is noise. Default: None
        """
        count = len(strengths)
        index = torch.arange(rows.start, rows.stop, device=channels.device)
        example_index, strength_index = index // count, index % count
        shown = list(self._others(examples[example_index]))
        maps = self._activations[examples, channels].unsqueeze(1)
        for place, i in enumerate(self.positions):
            like = self._batch.inputs[i]
            masks = scale(upsample(maps, like.shape[2:]))
            baseline, delta = self._baselines[place], self._deltas[place]
            column = (-1, *[1] * (like.dim() - 1))
            strength = strengths[strength_index].to(masks).view(column)
            # With few copies: it is memory that takes the time.
            each = masks.index_select(0, example_index) if count > 1 else masks
            made = torch.addcmul(
                rows_of(baseline, examples[example_index]),
                each * strength,
                rows_of(delta, examples[example_index]),
            )
            if noise is not None:
                whole = rows_of(delta, examples)
                full = partial(self._full, place, masks, whole, examples)
                field = rows_of(noise.field(place, full, whole), example_index).to(made)
                sign = cast(Tensor, signs)[strength_index].to(made).view(column)
                made.addcmul_(sign, field)
            shown[i] = made.to(like.dtype)
        return tuple(shown)

    def _full(
        self, place: int, masks: Tensor, whole: Tensor, examples: Tensor
    ) -> Tensor:
        """Returns `x_k(1)`."""
        return torch.addcmul(rows_of(self._baselines[place], examples), masks, whole)

    def _others(self, examples: Tensor) -> tuple[Tensor, ...]:
        """Returns the inputs without a mask, row by row, and gaps for the others."""
        return tuple(
            x if i in self.positions else x[examples]
            for i, x in enumerate(self._batch.inputs)
        )


Stdevs = float | tuple[float, ...] | None
PLACES = ("input", "mask")


class GaussianNoise:
    """One standard normal field per round and input, shared by all channels.

    Sharing costs almost nothing to draw, gives the same error as a field for every
    channel, and makes the noise depend on the generator alone: neither the batch nor
    the chunks matter.

    Args:
        place (str): "input" adds the field to the masked input, "mask" to the mask.
        stdevs (tuple[float, ...] or None): Standard deviation for each masked input.
            None is the SS-CAM authors' rule `(2 / range)**2`, with the range of the
            masked input, for each row of its own.
        generator (torch.Generator or None): Where the numbers come from.
    """

    def __init__(
        self,
        place: str,
        stdevs: tuple[float, ...] | None,
        generator: torch.Generator | None,
    ) -> None:
        self._place = place
        self._stdevs = stdevs
        self._generator = generator
        self._fields: list[Tensor] = []

    def draw(self, inputs: Sequence[Tensor]) -> None:
        """Draws one field per input, with one channel for a mask."""
        self._fields = [self._draw(x) for x in inputs]

    def _draw(self, like: Tensor) -> Tensor:
        channels = 1 if self._place == "mask" else like.shape[1]
        # On the CPU without a generator, and always in single precision: a seed means
        # one noise for every device and type.
        device = self._generator.device if self._generator else "cpu"
        field = torch.randn(
            (1, channels, *like.shape[2:]),
            dtype=torch.float32,
            device=device,
            generator=self._generator,
        )
        # Adding it is fastest in the layout of what it is added to.
        return torch.empty_like(like[:1, :channels]).copy_(field)

    def field(
        self, position: int, shown: Callable[[], Tensor], delta: Tensor
    ) -> Tensor:
        """Returns the noise to add to what is shown."""
        field = self._fields[position]
        if self._stdevs is None:
            return field * _authors_stdev(shown())
        field = field * self._stdevs[position]
        return field * delta if self._place == "mask" else field


def _authors_stdev(shown: Tensor) -> Tensor:
    """Returns `(2 / range)**2` of each row; an input without range gets no noise."""
    over = tuple(range(1, shown.dim()))
    spread = shown.amax(over, keepdim=True) - shown.amin(over, keepdim=True)
    varies = spread > 0
    return torch.where(varies, (2 / torch.where(varies, spread, 1)) ** 2, 0)


def check_noise(place: str, stdevs: Stdevs) -> None:
    """Raises what is wrong with the place of the noise and its deviations."""
    require_choice("noise", place, PLACES)
    if place == "mask" and stdevs is None:
        raise ValueError(
            'stdevs must be given for noise="mask", got None. torch-cam takes 2.0; the '
            "mask itself lies in [0, 1]."
        )
    for value in stdevs if isinstance(stdevs, tuple) else (stdevs,):
        if value is None and not isinstance(stdevs, tuple):
            continue
        deviation = as_number(value)
        if deviation is None or not (isfinite(deviation) and deviation >= 0):
            raise ValueError(
                f"stdevs must be finite and at least 0, got {value!r}. "
                "Pass one number, or a tuple with one for each masked input."
            )


def stdevs_for(inputs: Sequence[Tensor], stdevs: Stdevs) -> tuple[float, ...] | None:
    """Returns one deviation for each masked input."""
    if isinstance(stdevs, tuple) and len(stdevs) != len(inputs):
        raise ValueError(
            "stdevs must hold one number for each masked input, got "
            f"{len(stdevs)} for {len(inputs)}. Pass one number to use it for all."
        )
    if stdevs is None:
        return None
    if isinstance(stdevs, tuple):
        return tuple(float(value) for value in stdevs)
    return (float(stdevs),) * len(inputs)
