"""The metrics again, slowly: one example and one pixel at a time."""

import bisect
import itertools
import math
import statistics

import pytest
import torch
from promises.fuzzing.method_options import SEED
from promises.fuzzing.metric_situations import (
    BY_PATCHES,
    EXPLAINED,
    FORWARD,
    IMPUTING,
    OF_OBJECTS,
    picture,
)
from promises.fuzzing.slow_maps import TRANSFORMS, Row
from reference.interpolation import enlarged, in_double

NAN = float("nan")


def brought(maps, size):
    """One map `(1, *spatial)` at the size of the input."""
    return in_double(enlarged(maps[0], size))


def scaled(values):
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def ranking(values):
    """The places from the best to the worst, ties in row order."""
    flat = values.flatten().tolist()
    return sorted(range(len(flat)), key=lambda place: (-flat[place], place))


def score_of(row, x):
    transform = TRANSFORMS.get(row.score, row.score)
    return float(transform(row.model(x[None]))[0, row.target])


def left(row, maps, own, baseline):
    """The score where only the map shows."""
    values = brought(maps, tuple(row.x.shape[1:]))
    mask = scaled(values)
    if own.get("keep") is not None:
        kept = torch.zeros(values.numel(), dtype=torch.float64)
        kept[ranking(values)[: max(1, round(own["keep"] * values.numel()))]] = 1
        kept = kept.view(values.shape)
        mask = kept if own.get("binary") else mask * kept
    return score_of(row, baseline + mask * (row.x - baseline))


def confidence_metric(name, row, maps, own, number):
    baseline = row.baseline(own.get("baselines"), number)
    before, after = score_of(row, row.x), left(row, maps, own, baseline)
    if name == "average_drop":
        drop = 100 * max(0.0, before - after)
        if own.get("absolute"):
            return drop
        return drop / before if before else NAN
    if name == "average_increase":
        return 100.0 * above(after, before, max(abs(after), abs(before)))
    if name == "average_gain":
        return 100 * max(0.0, after - before) / (1 - before) if before < 1 else 0.0
    other = left(row, own["rival"][number], own, baseline)
    ours, theirs = max(0.0, before - after), max(0.0, before - other)
    largest = max(abs(before), abs(after), abs(other))
    won, lost = above(theirs, ours, largest), above(ours, theirs, largest)
    return 50.0 * (1 + won - lost)


def above(high, low, largest):
    """Whether a score is higher by more than rounding."""
    return high - low > 1e-5 * largest


def curve_metric(name, row, maps, own):
    """The trapezoids below the scores, a step after the other."""
    size, steps = tuple(row.x.shape[1:]), own["steps"]
    best, substrate = ranking(brought(maps, size)), float(own.get("substrate", 0))
    fractions, scores = [], []
    for step in range(steps + 1):
        changed = step * len(best) // steps
        kept = best[:changed] if name == "insertion" else best[changed:]
        shown = torch.full_like(row.x, substrate).flatten(1)
        shown[:, kept] = row.x.flatten(1)[:, kept]
        fractions.append(changed / len(best))
        scores.append(score_of(row, shown.view(row.x.shape)))
    widths = [b - a for a, b in itertools.pairwise(fractions)]
    means = [(a + b) / 2 for a, b in itertools.pairwise(scores)]
    return sum(w * m for w, m in zip(widths, means, strict=True))


def infidelity_metric(row, maps, own, baseline):
    """Squares hidden one after the other, and what the map says of each."""
    size, patch = tuple(row.x.shape[1:]), own.get("patch", 0.25)
    values, before = brought(maps, size), score_of(row, row.x)
    drawn = torch.Generator().manual_seed(SEED)
    places = torch.rand(own["n_perturb_samples"], len(size), generator=drawn)
    told, lost = [], []
    for place in places:
        where = []
        for share, length in zip(place, size, strict=True):
            side = max(1, round(patch * length))
            start = int(share * (length - side + 1))
            where.append(slice(start, start + side))
        hidden = torch.zeros(size, dtype=torch.bool)
        hidden[tuple(where)] = True
        told.append(float(values[hidden].sum()))
        shown = torch.where(hidden, baseline, row.x)
        lost.append(before - score_of(row, shown))
    if max(map(abs, told)) < 1e-12 * float(values.abs().sum()):
        return None  # parts that cancel: rounding decides whether there is a factor
    square = sum(t * t for t in told)
    both = sum(t * c for t, c in zip(told, lost, strict=True))
    beta = (both / square if square else 0.0) if own.get("normalize", True) else 1.0
    return sum((beta * t - c) ** 2 for t, c in zip(told, lost, strict=True)) / len(told)


def pearson(first, second):
    """The correlation of two lists; equal ones have 1, else a constant one has 0."""
    if first == second:
        return 1.0
    if len(set(first)) == 1 or len(set(second)) == 1:
        return 0.0
    return statistics.correlation(first, second)


def mean_ranks(values):
    flat = values.flatten().tolist()
    ordered = sorted(flat)
    pairs = [(bisect.bisect_left(ordered, v), bisect.bisect(ordered, v)) for v in flat]
    return [(first + last + 1) / 2 for first, last in pairs]


def explanation_metric(name, row, maps, own, number):
    """Of `picture`, by the class asked for, with noise on the input or masked."""
    x = row.x
    if name == "coherency":
        baseline = row.baseline(own.get("baselines"), number)
        return coherency_metric(x, maps[number], baseline)
    if name == "target_sensitivity":
        if own["target"] == own["other_target"]:
            return math.nan
        maps = [picture(x[None], own[key]) for key in ("target", "other_target")]
        return 1 - pearson(*map(mean_ranks, maps))
    radius, shape = own.get("perturb_radius", 0.02), (own["n_perturb_samples"],)
    drawn = torch.Generator().manual_seed(SEED)
    noise = torch.empty(*shape, *x.shape).uniform_(-radius, radius, generator=drawn)
    maps = picture(x[None])
    moved = max(float((picture((x + e)[None]) - maps).norm()) for e in noise)
    return moved / (float(maps.norm()) or 1.0)


def coherency_metric(x, maps, baseline, target=None):
    """The correlation with the explanation of what the map leaves."""
    shown = baseline + scaled(maps.double()[0]) * (x - baseline)
    both = [m.flatten().tolist() for m in (maps.double(), picture(shown[None], target))]
    if any(len(set(values)) == 1 for values in both):
        return 0.0
    return (1 + pearson(*both)) / 2


def adcc_metric(row, maps, own, baseline, number, target):
    coherent = coherency_metric(row.x, maps, baseline, target)
    if coherent == 0:
        return 0.0
    drop = confidence_metric("average_drop", row, maps, own, number) / 100
    parts = [coherent, 1 - float(scaled(maps.double()).mean()), 1 - min(drop, 1.0)]
    return 0.0 if 0 in parts else 3 / sum(1 / part for part in parts)


def rounded(drops, scores):
    """Drops in millionths of the largest score."""
    unit = 1e-6 * max(map(abs, scores)) or 1.0
    return [round(drop / unit) for drop in drops]


def single_deletion_metric(row, maps, own, baseline):
    """A patch hidden after the other, and the rank correlation with the sums."""
    size, patches = tuple(row.x.shape[1:]), own["patches"]
    values, scores, sums = brought(maps, size), [], []
    largest = float(values.abs().max()) or 1.0
    for number in itertools.product(range(patches), repeat=len(size)):
        hidden = torch.zeros(size, dtype=torch.bool)
        for place in itertools.product(*map(range, size)):
            patch = [p * patches // n for p, n in zip(place, size, strict=True)]
            hidden[place] = patch == list(number)
        scores.append(score_of(row, torch.where(hidden, baseline, row.x)))
        sums.append(round(float(values[hidden].sum()) / largest, 9))
    whole = score_of(row, row.x)
    drops = rounded([whole - score for score in scores], [*scores, whole])
    if len(set(drops)) == 1 or len(set(sums)) == 1:
        return NAN
    return pearson(*(mean_ranks(torch.tensor(v).double()) for v in (drops, sums)))


def objects_metric(name, row, maps, own, number):
    """Two objects: what the score loses without them, and their shares of the map."""
    values = brought(maps, tuple(row.x.shape[1:])).clamp_min(0)
    scores = [score_of(row, x) for x in own["interventions"][number].to(row.x)]
    whole = score_of(row, row.x)
    worth = rounded([whole - score for score in scores], [*scores, whole])
    total = float(values.sum())
    shares = [
        float(values[mask].sum()) / total if total else 0.0
        for mask in own["object_masks"][number]
    ]
    if name == "object_order":
        if worth[0] == worth[1]:
            return NAN
        if shares[0] == pytest.approx(shares[1], rel=1e-9):
            return 0.5 if shares[0] == shares[1] else None
        return float((worth[0] > worth[1]) == (shares[0] > shares[1]))
    limit = own.get("negligible", 0.05) * max(worth)
    found = [share for w, share in zip(worth, shares, strict=True) if w <= limit]
    return sum(found) if found and max(worth) > 0 and total else NAN


def map_metric(name, maps):
    values = maps.double()[0]
    if name == "complexity":
        return float(scaled(values).mean())
    ordered, count = sorted(values.abs().flatten().tolist()), values.numel()
    total = sum(ordered)
    signed = sum((2 * i - count - 1) * a for i, a in enumerate(ordered, 1))
    return signed / (count * total) if total else 0.0


def mask_metric(name, maps, mask, own):
    inside = mask.bool().flatten().tolist()
    values = brought(maps, tuple(mask.shape[-(maps.dim() - 1) :]))
    flat = values.flatten().tolist()
    pairs = list(zip(flat, inside, strict=True))
    if name == "energy_pointing_game":
        total = sum(max(v, 0) for v in flat)
        return sum(max(v, 0) for v, m in pairs if m) / total if total else 0.0
    if name == "pointing_game":
        hits = [m for v, m in pairs if v == max(flat)]
        return sum(hits) / len(hits)
    if name == "mask_iou":
        threshold = own.get("threshold", 0.5)
        above = [v > threshold for v in scaled(values).flatten().tolist()]
        both = sum(a and m for a, m in zip(above, inside, strict=True))
        return both / sum(a or m for a, m in zip(above, inside, strict=True))
    k = own.get("k") or sum(inside)
    least = sorted(flat, reverse=True)[k - 1]
    sure = [m for v, m in pairs if v > least]
    tied = [m for v, m in pairs if v == least]
    return (sum(sure) + (k - len(sure)) * sum(tied) / len(tied)) / k


def forward_metric(name, row, maps, own, number, target):
    """The value of a metric that asks the model, None for a blurred substrate."""
    baseline = row.baseline(own.get("baselines"), number)
    if name == "adcc":
        return adcc_metric(row, maps, own, baseline, number, target)
    if name == "infidelity":
        return infidelity_metric(row, maps, own, baseline)
    if name == "single_deletion":
        return single_deletion_metric(row, maps, own, baseline)
    if name in OF_OBJECTS:
        return objects_metric(name, row, maps, own, number)
    if name in ("insertion", "deletion"):
        blurred = own.get("substrate") == "blur"
        return None if blurred else curve_metric(name, row, maps, own)
    return confidence_metric(name, row, maps, own, number)


def scores_of_batch(s):
    """The score of each example, in the precision of the situation."""
    images = s.inputs if isinstance(s.inputs, tuple) else (s.inputs,)
    further = [] if s.scale is None else [s.scale]
    with torch.no_grad():
        out = s.model(*(x.clone() for x in images), *further)
    out = out.float() if out.dtype.itemsize < 4 else out
    scored = TRANSFORMS.get(s.score, s.score)(out)
    rows = s.rows or [(0,) * (scored.dim() > 1)] * len(scored)
    picked = [one[row] for one, row in zip(scored, rows, strict=True)]
    return torch.stack(picked) if s.net.form != "flat" else scored


def slow_value(name, case, net, number):
    """The value of one example, None where there is no reference."""
    s, own = case.situation, case.own
    maps = case.maps[0] if isinstance(case.maps, tuple) else case.maps
    if name in ("complexity", "sparseness"):
        return map_metric(name, maps[number])
    if case.masks is not None:
        return mask_metric(name, maps[number], case.masks[number], own)
    row = Row(s, net, number)
    if name in EXPLAINED:
        return explanation_metric(name, row, maps, own, number)
    if name in FORWARD and name not in (*IMPUTING, *BY_PATCHES[1:]):
        return forward_metric(name, row, maps[number], own, number, s.target)
    return None
