"""Weights predicted from masks, and IS-CAM's default, told slowly in NumPy."""

import numpy as np
import torch
from reference.score_methods import RULES, confidence, scaled_mask


class Curves:
    """`C_k(t)` of one example `x`, and how many passes were spent on it."""

    def __init__(self, net, layer, x, target):
        self.net, self.x, self.target = net.requires_grad_(False), x, target
        self.maps = layer(x[None])[0]
        self.active = [k for k, a in enumerate(self.maps) if a.max() > a.min()]
        self.flat = {k: self.maps[k].flatten().numpy() for k in self.active}
        self.at_baseline = confidence(net(0 * x[None]), target, "softmax")
        self.passes = 0

    def __call__(self, k, t):
        self.passes += 1
        mask = scaled_mask(self.maps[k], tuple(self.x.shape[1:]))
        z = t * mask * self.x
        return confidence(self.net(z[None]), self.target, "softmax") - self.at_baseline

    def integral(self, k, points):
        return sum(w * self(k, t) for t, w in points)

    def map_of(self, weights):
        return sum(weights[k] * self.flat[k] for k in self.active)


def masks_of(maps):
    return {k: (a - a.min()) / (a.max() - a.min()) for k, a in maps.items()}


def by_importance(maps):
    """The channels, the largest mean of the mask times norm of the map first."""
    masks = masks_of(maps)
    return sorted(maps, key=lambda k: -masks[k].mean() * np.linalg.norm(maps[k]))


def alike(masks):
    """The correlation of the weights of channels, by pairs."""
    pairs = [(j, k) for j in masks for k in masks]
    distances = {(j, k): np.sum((masks[j] - masks[k]) ** 2) for j, k in pairs}
    d = np.mean(list(distances.values()))
    sizes = {k: np.linalg.norm(mask) for k, mask in masks.items()}
    return {
        (j, k): (masks[j] @ masks[k] / sizes[j] / sizes[k]) ** 2
        * (np.exp(-distances[j, k] / d) if d else 1)
        for j, k in pairs
    }


def one_after_the_other(masks, pairs, known):
    """The weights of all channels, the scale, and the covariance of the unknown by it.

    A Gaussian process that learns one known channel after the other; its scale is the
    error of what was predicted for each from those before it.
    """

    def covariance(first, second):
        table = [[pairs[j, k] + 0.01 * (j == k) for k in second] for j in first]
        return np.array(table).reshape(len(first), len(second))

    def given(some, others):
        weight = covariance(others, some) @ np.linalg.inv(covariance(some, some))
        mean = weight @ np.array([known[k] / (masks[k] @ masks[k]) for k in some])
        return mean, covariance(others, others) - weight @ covariance(some, others)

    some, others = sorted(known), [k for k in masks if k not in known]
    surprise = []
    for i, k in enumerate(some):
        mean, variance = given(some[:i], [k])
        off = known[k] / (masks[k] @ masks[k]) - mean[0]
        surprise.append(off**2 / variance[0, 0])
    mean, spread = given(some, others)
    sizes = np.array([masks[k] @ masks[k] for k in others])
    weights = known | dict(zip(others, mean * sizes, strict=True))
    return weights, np.mean(surprise), spread * np.outer(sizes, sizes)


def predicted(maps, known):
    """The weights of all channels, and the expected squared error of the map.

    The scale is that of the known channels or, if larger, the one that the less
    important of them show, predicted from the others: the less important half, and as
    large a share as is unknown. The error is doubled for caution.
    """

    def expected(covariance, others):
        grams = np.array([[maps[j] @ maps[k] for k in others] for j in others])
        return np.sum(covariance * grams)

    masks = masks_of(maps)
    weights, scale, covariance = one_after_the_other(masks, alike(masks), known)
    shown = {k: masks[k] for k in known}
    order = [k for k in by_importance(maps) if k in known]
    for part in (0.5, len(known) / len(maps)):
        head = {k: known[k] for k in order[: max(1, round(part * len(order)))]}
        tail = [k for k in shown if k not in head]
        guess, _, spread = one_after_the_other(shown, alike(shown), head)
        off = sum((known[k] - guess[k]) * maps[k] for k in tail)
        scale = max(scale, off @ off / expected(spread, tail))
    others = [k for k in maps if k not in known]
    return weights, 2 * scale * expected(covariance, others)


# Kronrod's further points of three Gauss-Radau points.
FURTHER = [0.068396180358, 0.397295005719, 0.770624767886, 0.985906268259]


def interpolating(strengths):
    """The weights that are exact for the powers 1 to n, for 0 at 0."""
    powers = np.array([[t**k for t in strengths] for k in range(1, len(strengths) + 1)])
    integrals = [1 / (k + 1) for k in range(1, len(strengths) + 1)]
    return list(zip(strengths, np.linalg.solve(powers, integrals), strict=True))


def relative_difference(curves, weights, fine, count):
    """How much the fine rule changes the part of the most important channels."""
    maps = curves.flat
    few = by_importance(maps)[:count]
    true = {k: curves.integral(k, fine) for k in few}
    off = np.linalg.norm(sum((weights[k] - true[k]) * maps[k] for k in few))
    return off / np.linalg.norm(sum(true[k] * maps[k] for k in few))


@torch.no_grad()
def default_map(curves, share, least):
    """IS-CAM's default before ReLU, and its squared error."""
    order = by_importance(curves.flat)
    whole = len(order) < least
    count = len(order) if whole else max(1, round(share * len(order)))
    points = RULES["gaussradau"](3)
    known = {k: curves.integral(k, points) for k in order[:count]}
    weights, squared = known, 0.0
    if not whole:
        weights, squared = predicted(curves.flat, known)
    few = max(6, round(0.024 * len(order)))
    finer = interpolating([t for t, _ in points] + FURTHER)
    relative = relative_difference(curves, weights, finer, few)
    curves.passes -= 3 * few  # scored before
    total = curves.map_of(weights)
    squared += (1.5 if whole else 1) ** 2 * (relative * np.linalg.norm(total)) ** 2
    return total.reshape(curves.maps[0].shape), squared
