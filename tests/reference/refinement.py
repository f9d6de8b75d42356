"""IS-CAM's default plan told slowly: one example, one channel, one pass at a time."""

import numpy as np
import torch
from reference.score_methods import confidence, scaled_mask

# Gauss-Radau points with 0 fixed: Abramowitz and Stegun, 25.4.31, brought to [0, 1].
POINTS = [0.139759864343781, 0.416409567631083, 0.723156986361876, 0.942895803885482]


class Curves:
    """`C_k(t)` of one example `x`, and how many passes were spent on it."""

    def __init__(self, net, layer, x, target):
        self.net, self.x, self.target = net.requires_grad_(False), x, target
        self.maps = layer(x[None])[0]
        self.varying = [k for k, a in enumerate(self.maps) if a.max() > a.min()]
        self.at_baseline = confidence(net(0 * x[None]), target, "softmax")
        self.passes = 0

    def __call__(self, k, t):
        self.passes += 1
        mask = scaled_mask(self.maps[k], tuple(self.x.shape[1:]))
        z = t * mask * self.x
        return confidence(self.net(z[None]), self.target, "softmax") - self.at_baseline


def polynomial(points, values):
    """The polynomial through `(0, 0)` and the values."""
    nodes = [0.0, *points]
    return np.polynomial.Polynomial(
        np.linalg.solve(np.vander(nodes, increasing=True), [0.0, *values])
    )


def integral(points, values):
    return polynomial(points, values).integ()(1.0)


def stepped(importance, count, phase):
    """The channels met on walking along them in steps of one width."""
    order = sorted(importance, key=lambda k: -importance[k])
    ends = np.cumsum([importance[k] for k in order])
    met = []
    for i in range(count):
        step = (i + phase) / count * ends[-1]
        met.append(next(k for k, end in zip(order, ends, strict=True) if end >= step))
    return met


def drawn(importance, count):
    """A systematic sample in proportion to importance, filled up from the top."""
    count = min(count, len(importance))
    sample = set(stepped(importance, count, 0.5))
    for k in sorted(importance, key=lambda k: -importance[k]):
        if len(sample) < count:
            sample.add(k)
    return sample


def ratio(true, single, norms):
    """Mean ratio, relative spread, and how many channels they stand for."""
    shares = {k: abs(single[k]) * norms[k] for k in true}
    total = sum(shares.values())
    kappa = sum(shares[k] * true[k] / single[k] for k in true) / total
    count = total**2 / sum(share**2 for share in shares.values())
    spread = sum(shares[k] * (true[k] / single[k] - kappa) ** 2 for k in true) / total
    return kappa, spread / kappa**2, count


@torch.no_grad()
def refined_map(curves, tolerance):
    """The map `L`, its standard error, and the strength that was chosen."""
    maps = {k: curves.maps[k].flatten().numpy() for k in curves.varying}
    norms = {k: float(np.linalg.norm(maps[k])) for k in maps}
    importance = {k: norms[k] * float(np.std(maps[k])) for k in maps}
    followed = drawn(importance, max(8, round(0.015 * len(maps))))
    paths = {k: [curves(k, t) for t in POINTS] for k in followed}
    exact = {k: integral(POINTS, values) for k, values in paths.items()}
    sample = set(followed)
    best = None
    for t in np.arange(30, 101) / 100:
        single = {k: polynomial(POINTS, paths[k])(t) for k in followed}
        found = (*ratio(exact, single, norms), t)
        if best is None or found[1] < best[1]:
            best = found
    kappa, spread, count, strength = best
    at_strength = {k: polynomial(POINTS, paths[k])(strength) for k in followed}
    single = {k: curves(k, strength) for k in maps if k not in followed}
    at_strength |= single
    further = sorted(POINTS, key=lambda point: abs(point - strength))[1:]
    while True:
        weights = {k: kappa * value for k, value in single.items()} | exact
        total = sum(weights[k] * maps[k] for k in maps)
        error = 0.0
        if single:
            shared = np.linalg.norm(sum(weights[k] * maps[k] for k in single)) ** 2
            own = sum((weights[k] * norms[k]) ** 2 for k in single)
            variance = spread * count / (count - 2) if count > 2.5 else max(spread, 1)
            error = float(np.sqrt(variance * (shared / count + own)))
        if error <= tolerance * np.linalg.norm(total):
            total = np.maximum(total, 0)
            return total.reshape(curves.maps[0].shape), error, strength
        importance = {k: abs(weights[k]) * norms[k] for k in single}
        order = sorted(single, key=lambda k: -importance[k])
        count = max(1, round(0.01 * len(maps)))
        new = drawn({k: importance[k] for k in order[count:]}, count)
        for k in [*order[:count], *new]:
            values = [curves(k, t) for t in further]
            exact[k] = integral([*further, strength], [*values, single.pop(k)])
        sample |= new
        kappa, spread, count = ratio({k: exact[k] for k in sample}, at_strength, norms)


@torch.no_grad()
def checked_error(curves, weights, points):
    """The standard error that following some channels at `(t, w)` tells of weights."""
    maps = {k: curves.maps[k].flatten().numpy() for k in curves.varying}
    norms = {k: float(np.linalg.norm(maps[k])) for k in maps}
    importance = {k: abs(weights[k]) * norms[k] for k in maps}
    sample = stepped(importance, max(8, round(0.015 * len(maps))), 0.25)
    ratios = [sum(w * curves(k, t) for t, w in points) / weights[k] for k in sample]
    shared = np.linalg.norm(sum(weights[k] * maps[k] for k in maps)) ** 2
    own = sum(value**2 for value in importance.values())
    off = (np.mean(ratios) - 1) ** 2 * shared + np.var(ratios, ddof=1) * own
    return float(np.sqrt(off))
