"""SS-CAM that leaves out samples, told slowly: one example, channel by channel."""

import numpy as np
from reference.refinement import alike, foretold

SHARES = [0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]


class Layer:
    """Maps `A_k` of channels that vary, and what follows from them."""

    def __init__(self, maps):
        self.maps = dict(enumerate(maps))
        self.masks = {
            k: (a - a.min()) / (a.max() - a.min()) for k, a in self.maps.items()
        }
        self.pairs = alike(self.masks)

    def total(self, weights):
        return sum(weights[k] * a for k, a in self.maps.items())

    def most_shown(self, share):
        shown = {
            k: mask.mean() * np.linalg.norm(self.maps[k])
            for k, mask in self.masks.items()
        }
        order = sorted(shown, key=lambda k: -shown[k])
        return order[: max(1, round(share * len(order)))]

    def told(self, known, moves):
        """What all channels are moved by, from what the known ones are."""
        if len(known) == len(self.maps):
            return dict(moves)
        some = {k: moves[k] for k in known}
        if not any(some.values()):
            return {k: moves[k] if k in known else 0.0 for k in self.maps}
        return foretold(self.masks, self.pairs, some, 0.0)[0]

    def wrong(self, known, moves):
        told = self.told(known, moves)
        return self.total({k: moves[k] - told[k] for k in self.maps})


def decided(layer, rounds, total, tolerance):
    """Until when all are sampled, who is then, and until when, for fewest passes."""
    done = len(rounds)
    mean = {k: np.mean([row[k] for row in rounds]) for k in layer.maps}
    moves = [{k: row[k] - mean[k] for k in layer.maps} for row in rounds]
    variance = sum(np.sum(layer.total(move) ** 2) for move in moves) / (done - 1)
    enough = tolerance**2 * np.sum(layer.total(mean) ** 2)
    enough = max(enough, 1.1 * variance / total)
    last = next(n for n in range(done, total + 1) if variance / n <= enough)
    plans = [(last, last, last, list(layer.maps))]
    for share in SHARES:
        known = layer.most_shown(share)
        wrong = sum(np.sum(layer.wrong(known, move) ** 2) for move in moves)
        wrong /= done - 1
        for until in range(done, total):
            for last in range(until, total + 1):
                if (variance - wrong) / last + wrong / until <= enough:
                    cost = until + (last - until) * len(known) / len(layer.maps)
                    plans.append((cost, until, last, known))
                    break
    _, until, last, known = min(plans, key=lambda plan: plan[0])
    return until, known, last


def averaged(layer, rounds, counts, until, known):
    """Weights of all channels and the standard error of the map."""
    counts = counts[: len(rounds)]
    if until == len(rounds):
        known = list(layer.maps)
    share = [count / sum(counts) for count in counts]
    first = sum(share[:until])
    start = {
        k: sum(share[r] * rounds[r][k] for r in range(until)) / first
        for k in layer.maps
    }
    told = []
    for r, row in enumerate(rounds):
        seen = layer.maps if r < until else known
        told.append(
            layer.told(
                known, {k: row[k] - start[k] if k in seen else 0 for k in layer.maps}
            )
        )
    further = {
        k: sum(share[r] * told[r][k] for r in range(len(rounds))) for k in layer.maps
    }
    squared = 0.0
    for r in range(len(rounds)):
        apart = layer.total(
            {k: share[r] * (told[r][k] - further[k]) for k in layer.maps}
        )
        squared += np.sum(apart**2) * len(rounds) / (len(rounds) - 1)
    # The variance of Student's t with a degree of freedom less than there are rounds.
    squared *= (len(rounds) - 1) / (len(rounds) - 3)
    if len(known) < len(layer.maps):
        along = 0.0
        for row, of_row in zip(rounds[:until], told, strict=False):
            moves = {k: row[k] - start[k] for k in layer.maps}
            wrong = layer.wrong(known, moves)
            variance = (until - 1) / (until - 3) * np.sum(wrong**2) / (until - 1)
            squared += variance / until
            along += 2 * np.sum(wrong * layer.total(of_row)) / (until - 1)
        squared += max(along, 0.0) / len(rounds)
    return {k: start[k] + further[k] for k in layer.maps}, squared**0.5
