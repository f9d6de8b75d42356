"""Times Ablation-CAM and Recipro-CAM next to as many whole passes, interleaved.

    python -m experiments.speed.layer_masks --rounds 7

prints the share of the time of whole passes that each takes, on an untrained ResNet-18
at `layer4`: times do not depend on the weights.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torchvision.models import resnet18

from captum_iscam import LayerAblationCAM, LayerReciproCAM

CHUNK = 8
"""Images in a whole pass: what is chosen on a CPU, where more are slower."""


def seconds(call: Callable[[], object]) -> float:
    """Returns how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def main() -> None:
    """Prints the median share over the rounds, and the least and the largest."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
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
    for name, found in shares.items():
        middle = statistics.median(found)
        print(f"{name}: {middle:.3f} ({min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    main()
