"""Linear interpolation in fractions, without any rounding."""

from fractions import Fraction

import numpy as np
import torch


def enlarged(values, size):
    """One map `(*spatial)` at `size`, as an array of fractions."""
    grid = np.vectorize(Fraction, otypes=[object])(values.double().numpy())
    for dim, length in enumerate(size):
        count = grid.shape[dim]
        places = [
            Fraction(2 * i + 1, 2 * length) * count - Fraction(1, 2)
            for i in range(length)
        ]
        places = [min(max(place, 0), count - 1) for place in places]
        left = [int(place) for place in places]
        right = [min(place + 1, count - 1) for place in left]
        share = np.array(places, dtype=object) - np.array(left, dtype=object)
        share = share.reshape([-1 if d == dim else 1 for d in range(grid.ndim)])
        grid = grid.take(left, dim) * (1 - share) + grid.take(right, dim) * share
    return grid


def in_double(grid):
    """Fractions as the nearest numbers in double precision; equal ones stay equal."""
    return torch.from_numpy(grid.astype(float))
