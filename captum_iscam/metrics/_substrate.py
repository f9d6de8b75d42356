"""What a removed pixel shows: zero, a blurred image, or what the caller passes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_iscam._utils.forward import Baselines, at_least_single
from captum_iscam._utils.inputs import check_baseline

_WIDTH, _SIGMA = 11, 5.0


def substrates(substrate: str | Baselines, inputs: list[Tensor]) -> list[Tensor]:
    """Returns one substrate per input, which broadcasts to it."""
    if isinstance(substrate, str):
        if substrate == "blur":
            return [blur(x) for x in inputs]
        if substrate != "zero":
            raise ValueError(
                f'substrate must be "zero", "blur", a number or a tensor, got '
                f"{substrate!r}. Pass a tensor for any other substrate."
            )
        substrate = 0
    values = substrate if isinstance(substrate, tuple) else (substrate,) * len(inputs)
    if len(values) != len(inputs):
        raise ValueError(
            f"substrate must hold one entry per masked input, got {len(values)} for "
            f"{len(inputs)} inputs. Pass a tuple in their order."
        )
    pairs = zip(values, inputs, strict=True)
    return [check_baseline(value, x, "substrate") for value, x in pairs]


def blur_kernel() -> Tensor:
    """Returns RISE's kernel along one dimension, `(11,)`.

    RISE blurs a single point in an 11 x 11 picture with SciPy's Gaussian filter of
    sigma 5, which reaches 20 pixels and folds back at the edges what leaves the
    picture. So the kernel is nearly flat, far from a Gaussian that is cut and rescaled.
    """
    reach = torch.arange(-20, 21, device="cpu")
    gaussian = torch.exp(-0.5 * (reach.double() / _SIGMA).square())
    place = torch.remainder(_WIDTH // 2 + reach, 2 * _WIDTH)
    folded = torch.minimum(place, 2 * _WIDTH - 1 - place)
    kernel = torch.zeros(_WIDTH, dtype=torch.float64, device="cpu")
    return kernel.index_add_(0, folded, gaussian / gaussian.sum())


def blur(inputs: Tensor) -> Tensor:
    """Returns the inputs blurred by RISE's kernel; outside an input there is zero."""
    blurred = at_least_single(inputs)
    kernel = blur_kernel().to(blurred)
    for dim in range(2, inputs.dim()):
        lines = blurred.movedim(dim, -1)
        flat = lines.reshape(-1, 1, lines.shape[-1])
        flat = F.conv1d(flat, kernel.view(1, 1, -1), padding=_WIDTH // 2)
        blurred = flat.view(lines.shape).movedim(-1, dim)
    return blurred.to(inputs.dtype)
