"""How far a Score-CAM map under bfloat16 autocast is from the one in float32.

    python -m experiments.speed.precision OUT --networks squeezenet1_1 resnet18

explains photographs in both and writes the relative difference of the maps, `||L - L'||
/ ||L'||`, its median, 95th percentile and largest value by network.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import load, save
from experiments.quality.photographs import as_input, network, photographs
from experiments.speed.contenders import ours


def errors(name: str, count: int, device: str) -> list[float]:
    """Returns the difference for each photograph."""
    model, layer = network(name)
    model.to(device)
    single = ours("score-cam", model, layer)
    half = ours("score-cam", model, layer, autocast=True)
    found = []
    for file in photographs(count):
        x = as_input(file).to(device)
        with torch.no_grad():
            target = int(model(x).argmax())
        whole, rounded = single(x, target), half(x, target)
        found.append(float((rounded - whole).norm() / whole.norm()))
        print(f"{name} {file.stem}: {found[-1]:.2%}", flush=True)
    return found


def table(found: dict[str, list[float]]) -> str:
    """Returns a Markdown table, a row for each network."""
    heading = ["network", "photographs", "median", "95th percentile", "largest"]
    lines = []
    for name, off in found.items():
        cells = [*np.quantile(off, [0.5, 0.95]), max(off)]
        lines.append([name, str(len(off)), *(f"{100 * cell:.1f} %" for cell in cells)])
    return markdown_table(heading, lines, left=None)


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--networks", nargs="+", default=["squeezenet1_1", "resnet18"])
    parser.add_argument("--photographs", type=int, default=10)
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu"
    )
    args = parser.parse_args()
    torch.set_num_threads(2)
    found = load(args.out) or {}
    for name in args.networks:
        found[name] = errors(name, args.photographs, args.device)
        save(args.out, found, table(found))


if __name__ == "__main__":
    main()
