"""Noisy linear imputation: removed pixels as weighted means of their neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the largest known pixel. The solution then is off by less than a thousandth of
# it, far below the noise, as the test against a dense solution shows.
_TOLERANCE = 1e-5


def impute(images: Tensor, known: Tensor) -> Tensor:
    """Returns images whose unknown pixels solve ROAD's linear system.

    Each unknown pixel is the weighted mean of its up to eight neighbours, 1/6 for the
    four beside it and 1/12 for the four across, rescaled at the image's border. The
    system is symmetric and positive definite as long as one pixel is known, and is
    solved by conjugate gradients for all images and channels at once; each stops by
    itself, so that a result does not depend on the others.

    Args:
        images (Tensor): `(N, C, H, W)`.
        known (Tensor): Which pixels are known, `(N, 1, H, W)`, at least one each.
    """
    unknown = (~known).to(images.dtype)
    given = torch.where(known, images, 0)
    shares = _neighbours(torch.ones_like(unknown))
    over = (-2, -1)
    limit = _TOLERANCE * given.abs().amax(over, keepdim=True)
    solution = torch.zeros_like(given)
    residual = unknown * _neighbours(given)
    step = scaled = residual / shares
    energy = (residual * scaled).sum(over, keepdim=True)
    for _ in range(known[0].numel()):
        active = residual.abs().amax(over, keepdim=True) > limit
        if not bool(active.any().item()):
            break
        image = unknown * (shares * step - _neighbours(step))
        curvature = (step * image).sum(over, keepdim=True)
        length = torch.where(active, energy / curvature, 0)
        solution = solution + length * step
        residual = residual - length * image
        scaled = residual / shares
        previous, energy = energy, (residual * scaled).sum(over, keepdim=True)
        turn = torch.where(active, energy / previous, 0)
        step = scaled + turn * step
    return given + solution


def _neighbours(images: Tensor) -> Tensor:
    """Returns the weighted sum of the neighbours that lie in the image."""
    padded = F.pad(images, (1, 1, 1, 1))
    middle = padded[..., 1:-1, :]
    around = padded[..., :-2, :] + padded[..., 2:, :]
    diagonal = around[..., :-2] + around[..., 2:]
    beside = around[..., 1:-1] + middle[..., :-2] + middle[..., 2:]
    return diagonal / 12 + beside / 6
