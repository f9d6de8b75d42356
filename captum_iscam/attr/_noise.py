"""Gaussian noise for the masked inputs of SS-CAM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import torch
from torch import Tensor

from captum_iscam._utils.validation import as_number

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
    if place not in PLACES:
        names = ", ".join(f'"{name}"' for name in PLACES)
        raise ValueError(f"noise must be one of {names}, got {place!r}. Choose one.")
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
