"""Curves known at a few points, and zero at 0: their integrals and other values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor


def radau_points(count: int) -> list[float]:
    """Returns the Gauss-Radau points on (0, 1) beside the fixed point 0.

    The increase in confidence at strength 0 is 0 without a pass, and with this value
    `count` points integrate polynomials of degree `2 * count` exactly, one degree more
    than as many Gauss-Legendre points.
    """
    both = np.zeros(count + 2)
    both[count:] = 1.0
    roots = np.sort(legendre.legroots(both).real)[1:]
    return [float((1 + root) / 2) for root in roots]


def integral_weights(points: Sequence[float]) -> Tensor:
    """Returns weights for the integral over [0, 1] of the interpolating polynomial."""
    nodes = np.array([0.0, *points])
    powers = np.vander(nodes, increasing=True).T
    weights = np.linalg.solve(powers, 1 / np.arange(1, len(nodes) + 1))
    return torch.from_numpy(weights[1:])


def between(points: Sequence[float], at: Sequence[float]) -> Tensor:
    """Returns a matrix `(points, at)` that interpolates values at the points."""
    nodes = np.array([0.0, *points])
    matrix = np.ones((len(nodes), len(at)))
    for j, node in enumerate(nodes):
        for other in np.delete(nodes, j):
            matrix[j] *= (np.asarray(at) - other) / (node - other)
    return torch.from_numpy(matrix[1:])
