"""Slow Ablation-CAM and Recipro-CAM of one example, a mask and a place at a time."""

from itertools import product

import torch


def ablation_cam(scored, activations, target, fill="zero", relu=True):
    """`sum_k a_k A_k` with `a_k = (s(A) - s(A without k)) / s(A)`.

    Args:
        scored: Scores `(1, classes)` of the layer's output `(1, K, *spatial)`.
        activations: The layer's output of the example, `(K, *spatial)`.
    """
    whole = scored(activations[None])[0, target]
    low = float(activations.min())
    value = low - 1e7 if fill == "below_minimum" and low != 0 else 0.0
    total = torch.zeros_like(activations[0])
    for k in range(len(activations)):
        without = activations.clone()
        without[k] = value
        drop = whole - scored(without[None])[0, target]
        total += drop / whole * activations[k]
    return total.clamp(min=0) if relu else total


def recipro_cam(
    scored, activations, target, window="gaussian", normalize=True, relu=True
):
    """The score of each position that is seen alone."""
    size = activations.shape[1:]
    found = torch.zeros(size, dtype=activations.dtype)
    for place in product(*map(range, size)):
        shown = torch.zeros_like(activations)
        for other in product(*map(range, size)):
            factor = factor_of(place, other, window)
            seen = place if window == "spread" else other
            shown[(slice(None), *other)] = factor * activations[(slice(None), *seen)]
        found[place] = scored(shown[None])[0, target]
    if not normalize:
        return found.clamp(min=0) if relu else found
    return (found - found.min()) / (found.max() - found.min())


def factor_of(place, other, window):
    if window == "single":
        return float(place == other)
    factor = 1.0
    for a, b in zip(place, other, strict=True):
        factor *= {0: 0.5, 1: 0.25}.get(abs(a - b), 0.0)
    return factor
