"""Times Ablation-CAM and Recipro-CAM next to as many whole passes, interleaved.

    python -m experiments.speed.layer_masks OUT.md --rounds 7

writes the share of the time of whole passes that each takes, on an untrained ResNet-18
at `layer4`: times do not depend on the weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torchvision.models import resnet18

from captum_iscam import LayerAblationCAM, LayerReciproCAM
from captum_iscam.benchmark.markdown import markdown_table

CHUNK = 8
"""Images in a whole pass: what is chosen on a CPU, where more are slower."""


def seconds(call: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Writes the median share over the rounds, and the least and the largest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rounds = args.rounds
    torch.manual_seed(0)
    model, image = resnet18().eval(), torch.rand(1, 3, 224, 224)
    several = image.repeat(CHUNK, 1, 1, 1)
    several = several.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        model(several)
    methods = {
        "Ablation-CAM": (LayerAblationCAM(model, model.layer4), 512),
        "Recipro-CAM": (LayerReciproCAM(model, model.layer4), 49),
    }
    shares: dict[str, list[float]] = {name: [] for name in methods}
    warnings.simplefilter("ignore")  # an untrained network supports no class
    for _ in range(rounds):
        for name, (method, masks) in methods.items():
            with torch.no_grad():
                whole = seconds(lambda: model(several)) / CHUNK
            ours = seconds(lambda method=method: method.attribute(image, 3))
            shares[name].append(ours / masks / whole)
    lines = [
        [name, *(f"{of(found):.3f}" for of in (statistics.median, min, max))]
        for name, found in shares.items()
    ]
    heading = ["method", f"median of {rounds} rounds", "least", "largest"]
    args.out.write_text(markdown_table(heading, lines) + "\n")
    print(args.out.read_text())


if __name__ == "__main__":
    main()
