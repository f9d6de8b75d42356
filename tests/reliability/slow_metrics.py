"""The metrics again, slowly: one example and one pixel at a time."""

import torch
import torch.nn.functional as F
from reference.score_methods import MODES
from reliability.slow_maps import TRANSFORMS, Row


def brought(maps, size):
    """One map `(1, *spatial)` at the size of the input."""
    flat = maps.double()[None]
    if flat.min() == flat.max():
        return torch.full(size, float(flat.min()), dtype=torch.float64)
    mode = MODES[len(size)]
    return F.interpolate(flat, size=size, mode=mode, align_corners=False)[0, 0]


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
        return drop if own.get("absolute") else drop / before
    if name == "average_increase":
        return 100.0 * (after > before)
    if name == "average_gain":
        return 100 * max(0.0, after - before) / (1 - before) if before < 1 else 0.0
    other = left(row, own["rival"][number], own, baseline)
    ours, theirs = max(0.0, before - after), max(0.0, before - other)
    return 100.0 * (ours < theirs) + 50.0 * (ours == theirs)


def curve_metric(name, row, maps, own):
    """With a single step: from nothing changed to everything changed."""
    substrate = torch.full_like(row.x, float(own.get("substrate", 0)))
    ends = [score_of(row, row.x), score_of(row, substrate)]
    return sum(ends) / 2


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


def slow_value(name, case, net, number):
    """The value of one example, None where there is no reference."""
    s, own = case.situation, case.own
    maps = case.maps[0] if isinstance(case.maps, tuple) else case.maps
    if name in ("complexity", "sparseness"):
        return map_metric(name, maps[number])
    if case.masks is not None:
        return mask_metric(name, maps[number], case.masks[number], own)
    row = Row(s, net, number)
    if name in ("insertion", "deletion"):
        blurred = own.get("substrate") == "blur"
        return None if blurred else curve_metric(name, row, maps[number], own)
    if name in ("average_drop", "average_increase", "average_gain", "win_rate"):
        return confidence_metric(name, row, maps[number], own, number)
    return None
