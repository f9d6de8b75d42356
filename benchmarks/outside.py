"""Times what the default IS-CAM does outside of the model.

    python benchmarks/outside.py OUT --rounds 9

writes OUT.json with the seconds of every round. The layer has 2048 channels of 7 x 7,
as in ResNet-50; the model is a mean of the image, which costs next to nothing, and the
image has 7 x 7 pixels, so that masks cost little too.
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
    """Channels that are given, and a score that is next to nothing to compute."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.maps = torch.rand(1, CHANNELS, SIDE, SIDE, generator=generator) ** 3
        self.layer = nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Returns two numbers for each image."""
        self.layer(self.maps.expand(len(image), -1, -1, -1))
        return torch.stack([image.mean((1, 2, 3)), image.amax((1, 2, 3))], 1)


def main() -> None:
    """Writes the seconds, less those of the passes alone."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(2)
    model = Trivial().eval()
    explain = LayerIntegratedScoreCAM(model, model.layer, score="identity")
    image = torch.ones(1, 3, SIDE, SIDE)
    options = {"target": 0, "internal_batch_size": 1024}
    seconds = []
    for _ in range(args.rounds + 1):
        started = time.perf_counter()
        explain.attribute(image, **options)
        whole = time.perf_counter() - started
        # The same masked inputs without a prediction: three points, all channels.
        started = time.perf_counter()
        explain.attribute(image, n_steps=3, method="gaussradau", **options)
        passes = (time.perf_counter() - started) * (0.45 + 0.1 / 3)
        seconds.append(whole - passes)
    args.out.with_suffix(".json").write_text(json.dumps(seconds[1:]) + "\n")
    print(f"{statistics.median(seconds[1:]):.3f} s")


if __name__ == "__main__":
    main()
