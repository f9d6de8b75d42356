"""Times what the default IS-CAM does outside of the model.

    python -m experiments.speed.outside OUT --rounds 9

writes OUT.json with the seconds of every round, those inside the model excluded. The
layer has 2048 channels of 7 x 7, as in ResNet-50. So has the image, so that making
masked inputs, whose time `speed.py` measures, costs little here.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_iscam import LayerIntegratedScoreCAM

CHANNELS, SIDE = 2048, 7


class Trivial(nn.Module):
    """Channels that are given, and scores that cost next to nothing to compute."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.maps = torch.rand(1, CHANNELS, SIDE, SIDE, generator=generator) ** 3
        self.layer = nn.Identity()
        self.seconds = 0.0

    def forward(self, image: Tensor) -> Tensor:
        """Returns two numbers for each image, and adds up its own time."""
        started = time.perf_counter()
        self.layer(self.maps.expand(len(image), -1, -1, -1))
        found = torch.stack([image.mean((1, 2, 3)), image.amax((1, 2, 3))], 1)
        self.seconds += time.perf_counter() - started
        return found


def main() -> None:
    """Writes the seconds of all rounds but the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(2)
    model = Trivial().eval()
    explain = LayerIntegratedScoreCAM(model, model.layer, score="identity")
    image = torch.ones(1, 3, SIDE, SIDE)
    options = {"target": 0, "internal_batch_size": 256}
    seconds = []
    for _ in range(args.rounds + 1):
        model.seconds, started = 0.0, time.perf_counter()
        explain.attribute(image, **options)
        seconds.append(time.perf_counter() - started - model.seconds)
    args.out.with_suffix(".json").write_text(json.dumps(seconds[1:]) + "\n")
    print(f"{statistics.median(seconds[1:]):.3f} s")


if __name__ == "__main__":
    main()
