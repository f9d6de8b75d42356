"""Noisy linear imputation: removed pixels as weighted means of their neighbours."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Of the largest known pixel. On photographs the solution then is off by about a
# ten-thousandth of it, far below the noise.
_TOLERANCE = 1e-5

# Below 1, at which the smoothing would not be positive definite on images one pixel
# wide; any value from 0.8 to 1 needs about as many iterations.
_DAMPING = 0.9

# Images up to so many times as long as wide have needed at most 19 iterations,
# whatever was removed. Longer ones may need more.
_LONG, _ENOUGH = 16, 24


def impute(images: Tensor, known: Tensor) -> Tensor:
    """Returns images whose unknown pixels solve ROAD's linear system.

    Each unknown pixel is the weighted mean of its up to eight neighbours, 1/6 for the
    four beside it and 1/12 for the four across, rescaled at the image's border. The
    system is symmetric and positive definite as long as one pixel is known, and is
    solved by conjugate gradients for all images and channels at once; each stops by
    itself, so that a result does not depend on the others.

    By itself an iteration carries a value by one pixel, and removed regions are large.
    So a cycle over ever coarser grids preconditions the system (A. McAdams, E. Sifakis,
    J. Teran, "A parallel multigrid Poisson solver for fluids simulation on large
    grids", SCA 2010): some 15 iterations at any size, instead of several hundred.

    Args:
        images (Tensor): `(N, C, H, W)`.
        known (Tensor): Which pixels are known, `(N, 1, H, W)`, at least one each.
    """
    grids = _grids(known, images.dtype)
    given = torch.where(known, images, 0)
    over = (-2, -1)
    limit = 12 * _TOLERANCE * given.abs().amax(over, keepdim=True)
    solution = torch.zeros_like(given)
    residual = torch.where(known, 0, _around(given))
    step = cycled = _cycle(residual, grids)
    energy = (residual * cycled).sum(over, keepdim=True)
    # A look at the residual waits for an accelerator; solved images stay as they are.
    short, long = sorted(images.shape[-2:])
    blind = images.device.type != "cpu" and long <= _LONG * short
    for _ in range(_ENOUGH if blind else known[0].numel()):
        active = residual.abs().amax(over, keepdim=True) > limit
        if not (blind or bool(active.any().item())):
            break
        image = torch.where(known, 0, _difference(step, grids[0][0]))
        curvature = (step * image).sum(over, keepdim=True)
        length = torch.where(active, energy / curvature, 0)
        solution += length * step
        residual -= length * image
        cycled = _cycle(residual, grids)
        previous, energy = energy, (residual * cycled).sum(over, keepdim=True)
        step = cycled + torch.where(active, energy / previous, 0) * step
    return given + solution


def _around(images: Tensor) -> Tensor:
    """Returns the neighbours in the image, weighted in twelfths, and 4 of the pixel.

    So the weights are the product of 1 2 1 down and 1 2 1 across. Sums of shifted
    images are faster than a convolution, which some devices round to fewer digits.
    """
    padded = F.pad(images, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + padded[..., 2:, :]
    rows.add_(padded[..., 1:-1, :], alpha=2)
    return (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2)


def _difference(images: Tensor, weights: Tensor) -> Tensor:
    """Returns the system's left side: pixels times their weight, less neighbours."""
    return (weights * images).sub_(_around(images))


def _grids(known: Tensor, dtype: torch.dtype) -> list[tuple[Tensor, Tensor]]:
    """Returns each grid's weights of a pixel, and its steps, 0 where it is known.

    Four pixels become one, known if one of them is. So what a coarser grid corrects
    is unknown on the finer ones, and the steps are all that keeps known pixels known.
    """
    grids = []
    fixed = known.to(dtype)
    while True:
        weights = _around(torch.ones_like(fixed[:1]))
        steps = _DAMPING * (1 - fixed) / (weights - 4).clamp_min(1)
        grids.append((weights, steps))
        if max(fixed.shape[-2:]) <= 2:
            return grids
        fixed = F.max_pool2d(fixed, 2, ceil_mode=True)


def _cycle(residual: Tensor, grids: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Returns a rough solution: smoothed, corrected on the coarser grids, smoothed.

    Symmetric and positive definite in the residual, as conjugate gradients need it:
    the second smoothing mirrors the first, and copying a value to four pixels is the
    transpose of adding four values up.
    """
    (weights, steps), *coarser = grids
    solution = steps * residual
    if coarser:
        left = residual - _difference(solution, weights)
        height, width = residual.shape[-2:]
        added = F.avg_pool2d(left, 2, ceil_mode=True, divisor_override=1)
        copied = F.interpolate(_cycle(added, coarser), scale_factor=2.0)
        solution += copied[..., :height, :width]
        left = residual - _difference(solution, weights)
        solution.addcmul_(steps.expand_as(left), left)
    return solution
