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
        self.rise = float(confidence(net(x[None]), target, "softmax")) - float(
            self.at_baseline
        )
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


def ratio(true, single, norms, chance):
    """Mean ratio, relative spread, and how many channels they stand for.

    A channel counts for as many as its chance of being here is small.
    """
    shares = {k: abs(single[k]) * norms[k] / min(chance[k], 1) for k in true}
    total = sum(shares.values())
    kappa = sum(shares[k] * true[k] / single[k] for k in true) / total
    count = total**2 / sum(share**2 for share in shares.values())
    spread = sum(shares[k] * (true[k] / single[k] - kappa) ** 2 for k in true) / total
    return kappa, spread / kappa**2, count


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


def foretold(masks, pairs, known, floor):
    """The weights of all channels, and the covariance of those that are not known.

    A Gaussian process that learns one known channel after the other; its scale is how
    far each was off from what those before it foretold, or what the whole input scores
    at each place where that is more.
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
    scale = max(np.mean(surprise), floor**2 / len(some))
    return weights, others, scale * spread * np.outer(sizes, sizes)


class Refined:
    """The default plan: what is known so far of each channel."""

    def __init__(self, curves):
        self.curves = curves
        self.maps = {k: curves.maps[k].flatten().numpy() for k in curves.varying}
        self.masks = {
            k: (a - a.min()) / (a.max() - a.min()) for k, a in self.maps.items()
        }
        self.norms = {k: float(np.linalg.norm(a)) for k, a in self.maps.items()}
        self.pairs = alike(self.masks)
        self.single = {}  # at the one strength, of channels that are not followed

    def follow_a_sample(self):
        maps = self.maps
        importance = {k: self.norms[k] * float(np.std(maps[k])) for k in maps}
        count = max(12, round(0.022 * len(maps)))
        self.sample = drawn(importance, count)
        self.chance = dict.fromkeys(maps, 0.0)
        self.expect(importance, maps, min(count, len(maps)))
        paths = {k: [self.curves(k, t) for t in POINTS] for k in self.sample}
        self.exact = {k: integral(POINTS, values) for k, values in paths.items()}
        best = None
        for t in np.arange(30, 101) / 100:
            single = {k: polynomial(POINTS, path)(t) for k, path in paths.items()}
            found = (*ratio(self.exact, single, self.norms, self.chance), t)
            if best is None or found[1] < best[1]:
                best, self.at_strength = found, single
        *self.ratio, self.strength = best

    def expect(self, importance, others, count):
        """Adds how often each channel is met by so many draws, each one of the others.

        A channel that is no longer among them counts as if it were drawn from them too.
        """
        for k, value in importance.items():
            self.chance[k] += count * value / sum(importance[j] for j in others)

    def estimate(self):
        """The weights, the map, and the variances of what was foretold and scaled."""
        maps, (kappa, spread, count) = self.maps, self.ratio
        known = {k: kappa * value for k, value in self.single.items()} | self.exact
        places = len(next(iter(maps.values())))
        weights, others, covariance = foretold(
            self.masks, self.pairs, known, self.curves.rise / places
        )
        total = sum(weights[k] * maps[k] for k in maps)
        grams = np.array([[maps[j] @ maps[k] for k in others] for j in others])
        left = np.sum(covariance * grams) if others else 0.0
        if not self.single:
            return weights, total, left, 0.0
        inexact = [k for k in maps if k not in self.exact]
        shared = np.linalg.norm(sum(weights[k] * maps[k] for k in inexact)) ** 2
        own = sum((weights[k] * self.norms[k]) ** 2 for k in self.single)
        variance = spread * count / (count - 2) if count > 2.5 else max(spread, 1)
        return weights, total, left, variance * (shared / count + own)

    def wanted(self, tolerance, screening):
        """How many channels to show next."""
        seen, all_of_them = len(self.single) + len(self.exact), len(self.maps)
        missing = round((screening or 0.4) * all_of_them) - seen
        if missing > 0:
            return missing
        _, total, left, _ = self.estimate()
        if screening or left <= 0.5 * (tolerance * np.linalg.norm(total)) ** 2:
            return 0
        return max(1, round(0.05 * all_of_them))

    def show(self, tolerance, screening):
        order = sorted(self.maps, key=lambda k: -self.masks[k].mean() * self.norms[k])
        waiting = [k for k in order if k not in self.exact and k not in self.single]
        while waiting and (count := self.wanted(tolerance, screening)):
            new, waiting = waiting[:count], waiting[count:]
            self.single |= {k: self.curves(k, self.strength) for k in new}

    def follow(self, tolerance):
        """Follows two channels of a hundred; whether any had to be."""
        strength = self.strength
        further = sorted(POINTS, key=lambda point: abs(point - strength))[1:]
        weights, total, left, read = self.estimate()
        tolerated = (tolerance * np.linalg.norm(total)) ** 2
        if not self.single or read <= max(left, tolerated - left):
            return False
        importance = {k: abs(weights[k]) * self.norms[k] for k in self.maps}
        order = sorted(self.single, key=lambda k: -importance[k])
        count = max(1, round(0.01 * len(self.maps)))
        new = drawn({k: importance[k] for k in order[count:]}, count)
        if new:
            self.expect(importance, order[count:], len(new))
        for k in [*order[:count], *new]:
            values = [self.curves(k, t) for t in further]
            self.at_strength[k] = value = self.single.pop(k)
            self.exact[k] = integral([*further, strength], [*values, value])
        self.sample |= new
        sampled = {k: self.exact[k] for k in self.sample}
        self.ratio = ratio(sampled, self.at_strength, self.norms, self.chance)
        return True


@torch.no_grad()
def refined_map(curves, tolerance, screening=None):
    """The map `L`, and the standard error of it that the plan states."""
    plan = Refined(curves)
    plan.follow_a_sample()
    plan.show(tolerance, screening)
    while plan.follow(tolerance):
        plan.show(tolerance, screening)
    _, total, left, read = plan.estimate()
    rectified = np.maximum(total, 0).reshape(curves.maps[0].shape)
    return rectified, float(np.sqrt(left + read))


@torch.no_grad()
def checked_error(curves, weights, points):
    """The standard error that following some channels at `(t, w)` tells of weights."""
    maps = {k: curves.maps[k].flatten().numpy() for k in curves.varying}
    norms = {k: float(np.linalg.norm(maps[k])) for k in maps}
    importance = {k: abs(weights[k]) * norms[k] for k in maps}
    sample = stepped(importance, max(12, round(0.022 * len(maps))), 0.25)
    ratios = [sum(w * curves(k, t) for t, w in points) / weights[k] for k in sample]
    shared = np.linalg.norm(sum(weights[k] * maps[k] for k in maps)) ** 2
    own = sum(value**2 for value in importance.values())
    off = (np.mean(ratios) - 1) ** 2 * shared + np.var(ratios, ddof=1) * own
    return float(np.sqrt(off))
