"""Times five targets in one call next to one target, interleaved.

    python -m experiments.speed.several_targets OUT --rounds 5

writes OUT.json with the ratio of every round, and OUT.md with a table. Both calls
explain one photograph on SqueezeNet 1.1 (see `photographs.py`).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from captum_iscam import (
    RISE,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)
from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import save
from experiments.quality.photographs import as_input, network, photographs

Explain = Callable[..., Tensor]


def methods() -> dict[str, Explain]:
    """Returns methods by name, functions of inputs and target."""
    model, layer = network("squeezenet1_1")

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    smooth = LayerSmoothedScoreCAM(model, layer).attribute
    rise = RISE(model).attribute
    return {
        "Score-CAM": LayerScoreCAM(model, layer).attribute,
        "IS-CAM": LayerIntegratedScoreCAM(model, layer).attribute,
        "SS-CAM, 4 samples": lambda x, target: smooth(
            x, target, n_samples=4, generator=seeded()
        ),
        "RISE, 1000 masks": lambda x, target: rise(
            x, target, n_masks=1000, generator=seeded()
        ),
    }


def seconds(explain: Explain, x: Tensor, target: Tensor) -> tuple[float, Tensor]:
    """Returns how long a call takes, and its maps."""
    started = time.perf_counter()
    maps = explain(x, target=target)
    return time.perf_counter() - started, maps


def main() -> None:
    """Writes figures and table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(2)
    model, _ = network("squeezenet1_1")
    x = as_input(photographs(1)[0])
    with torch.no_grad():
        five = model(x).topk(5).indices
    ratios: dict[str, list[float]] = {}
    lines = []
    for name, explain in methods().items():
        alone = torch.cat([explain(x, target=five[:, t]) for t in range(5)], 1)
        ratios[name], difference = [], 0.0
        for _ in range(args.rounds):
            one, _ = seconds(explain, x, five[:, 0])
            several, maps = seconds(explain, x, five)
            ratios[name].append(several / one)
            relative = (maps - alone).abs().max() / alone.abs().max()
            difference = max(difference, float(relative))
        middle = statistics.median(ratios[name])
        lines.append([name, f"{middle:.3f}", f"{difference:.1e}"])
    heading = ["method", "five targets, of the time of one", "largest difference"]
    save(args.out, ratios, markdown_table(heading, lines, left=None))


if __name__ == "__main__":
    main()
