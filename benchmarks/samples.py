"""SS-CAM with samples that no longer matter left out: error against passes.

    python benchmarks/samples.py OUT

explains one object of each bundled scene with 35 samples, with and without `tolerance`,
and compares with the map of many more samples.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch
from figures import save
from torch import Tensor

from captum_iscam import LayerSmoothedScoreCAM
from captum_iscam._passes import count_passes
from captum_iscam.demo import load_network, load_scenes, preprocess

TOLERANCES = (None, 0.005, 0.01, 0.02, 0.05)


def explain(x: Tensor, target: int, seed: int, **options: object) -> tuple[Tensor, int]:
    """Returns the map and the inputs the model saw."""
    model = load_network()
    method = LayerSmoothedScoreCAM(model, model.features)
    generator = torch.Generator().manual_seed(seed)
    with count_passes(model) as passes:
        found = method.attribute(x, target=target, generator=generator, **options)
    return found, passes.rows


def main() -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--stdevs", type=float, default=0.2)
    parser.add_argument("--reference", type=int, default=350, help="samples of it")
    args = parser.parse_args()
    errors: dict[float | None, list[float]] = {t: [] for t in TOLERANCES}
    costs: dict[float | None, list[float]] = {t: [] for t in TOLERANCES}
    for scene in load_scenes()[: args.scenes]:
        x, target = preprocess(scene.image), scene.labels[0]
        fine, _ = explain(x, target, 1, n_samples=args.reference, stdevs=args.stdevs)
        for tolerance in TOLERANCES:
            found, rows = explain(
                x, target, 0, n_samples=35, stdevs=args.stdevs, tolerance=tolerance
            )
            errors[tolerance].append(float((found - fine).norm() / fine.norm()))
            costs[tolerance].append(rows)
    lines = ["| tolerance | error, median | passes of 35 samples' |", "|---|---|---|"]
    found = []
    for tolerance in TOLERANCES:
        error = statistics.median(errors[tolerance])
        cost = sum(costs[tolerance]) / sum(costs[None])
        found.append({"tolerance": tolerance, "error": error, "passes": cost})
        lines.append(f"| {tolerance} | {100 * error:.2f} % | {cost:.2f} |")
    save(args.out, found, "\n".join(lines))


if __name__ == "__main__":
    main()
