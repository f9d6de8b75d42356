"""How the time of a method grows with channels, images and pixels.

    python -m experiments.speed.scaling OUT

explains photographs with Score-CAM at layers of SqueezeNet 1.1 with more and more
channels, in larger and larger batches, and at larger and larger sizes. The exponent is
the slope of a line through the logarithms of time and amount: 1 is linear. Beside the
pixels stand the bare passes, whose growth is the network's own.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import environment, save
from experiments.quality.photographs import as_input, network, photographs
from experiments.speed.contenders import ours, raw, rows_of
from experiments.speed.speed import timed

LAYERS = {64: "features.2", 128: "features.4", 256: "features.7", 512: "features.12"}
IMAGES = (1, 2, 4, 8)
SIDES = (112, 224, 448)
Run = Callable[[Tensor, int], Tensor]
Case = tuple[float, Run, Tensor]


def by_channels(model: nn.Module, x: Tensor) -> list[Case]:
    """Returns layers with more and more channels; constant ones are not counted."""
    found = []
    for layer in LAYERS.values():
        run = ours("score-cam", model, model.get_submodule(layer))
        found.append((rows_of(run, model, x, 0), run, x))
    return found


def by_images(model: nn.Module, x: Tensor) -> list[Case]:
    """Returns larger and larger batches of the same photograph."""
    run = ours("score-cam", model, model.get_submodule(LAYERS[128]))
    return [(n, run, x.expand(n, -1, -1, -1).contiguous()) for n in IMAGES]


def by_pixels(model: nn.Module, x: Tensor) -> list[Case]:
    """Returns larger and larger copies of a photograph."""
    run = ours("score-cam", model, model.get_submodule(LAYERS[128]))
    return [(side**2, run, _resized(x, side)) for side in SIDES]


def bare_by_pixels(model: nn.Module, x: Tensor) -> list[Case]:
    """Returns the bare passes of the same number of inputs at the same sizes."""
    found = []
    for pixels, run, copy in by_pixels(model, x):
        rows = rows_of(run, model, copy, 0)
        batch = max(1, round(8 * 224**2 / pixels))
        found.append((pixels, raw(model, rows, batch, channels_last=True), copy))
    return found


AXES = {
    "active channels": by_channels,
    "images": by_images,
    "pixels": by_pixels,
    "pixels, bare passes": bare_by_pixels,
}


def _resized(x: Tensor, side: int) -> Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)


def measure(cases: dict[str, list[Case]], rounds: int) -> list[dict[str, object]]:
    """Returns the samples of each axis and the exponent of their medians."""
    seconds = {axis: [[] for _ in of_axis] for axis, of_axis in cases.items()}
    for turn in range(rounds + 1):
        for axis, of_axis in cases.items():
            for place, (_, run, x) in enumerate(of_axis):
                taken, _ = timed(run, x, 0)
                if turn:  # the first round warms up
                    seconds[axis][place].append(taken)
    found = []
    for axis, of_axis in cases.items():
        amounts = [amount for amount, _, _ in of_axis]
        middle = [statistics.median(samples) for samples in seconds[axis]]
        slope = np.polyfit(np.log(amounts), np.log(middle), 1)[0]
        found.append(
            {
                "axis": axis,
                "amounts": amounts,
                "seconds": seconds[axis],
                "times": [one / middle[0] for one in middle],
                "exponent": float(slope),
            }
        )
    return found


def table(found: list[dict]) -> str:
    """Returns a Markdown table, a row for each axis."""
    lines = []
    for row in found:
        amounts = ", ".join(f"{amount:,}" for amount in row["amounts"])
        times = ", ".join(f"{time:.2f}" for time in row["times"])
        lines.append([row["axis"], amounts, times, f"{row['exponent']:.2f}"])
    heading = ["", "amounts", "time over the first", "exponent"]
    return markdown_table(heading, lines, left=None)


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu"
    )
    args = parser.parse_args()
    torch.set_num_threads(2)
    model, _ = network("squeezenet1_1")
    model.to(args.device)
    x = as_input(photographs(1)[0]).to(args.device)
    found = measure({axis: make(model, x) for axis, make in AXES.items()}, args.rounds)
    figures = {"axes": found, "environment": environment(args.device)}
    save(args.out, figures, table(found))
    print(table(found))


if __name__ == "__main__":
    main()
