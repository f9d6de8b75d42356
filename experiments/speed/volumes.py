"""Forward passes and peak memory of maps of a 3-D network, each in its own process.

    python -m experiments.speed.volumes OUT --edge 64

The network is MONAI's DenseNet-121 with random weights, which cost what trained ones
cost. A process first runs the model on one volume, then the method; reported is by how
much the peak of its memory rises. Needs `pip install monai`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn

from captum_iscam import LayerReciproCAM, LayerScoreCAM
from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import environment, save
from experiments.speed.memory import answer, peak

Method = Callable[[nn.Module, nn.Module, Tensor], Tensor]


def score_cam(
    model: nn.Module, layer: nn.Module, scan: Tensor, internal_batch_size: int
) -> Tensor:
    """Returns Score-CAM's map, of a twentieth of the channels."""
    return LayerScoreCAM(model, layer).attribute(
        scan, 0, screening=0.05, internal_batch_size=internal_batch_size
    )


# To score few channels shortens the time and not the passes' memory.
METHODS: dict[str, Method] = {
    **{
        f"Score-CAM, screening=0.05, internal_batch_size={size}": partial(
            score_cam, internal_batch_size=size
        )
        for size in (1, 4)
    },
    "Recipro-CAM": lambda model, layer, scan: LayerReciproCAM(model, layer).attribute(
        scan, 0
    ),
    "Grad-CAM": lambda model, layer, scan: LayerGradCam(model, layer).attribute(
        scan, 0
    ),
}


def measure(label: str, edge: int) -> dict[str, float]:
    """Returns the passes and the megabytes of a map."""
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    model = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval()
    scan = torch.randn(1, 1, edge, edge, edge)
    with torch.no_grad():
        model(scan)
    bare = peak("cpu")
    passes = [0]

    def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        passes[0] += len(inputs[0])

    handle = model.register_forward_pre_hook(count)
    METHODS[label](model, model.features, scan)
    handle.remove()
    return {"passes": passes[0], "bare": bare, "added": peak("cpu") - bare}


def main() -> None:
    """Measures in processes of their own and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--edge", type=int, default=64, help="voxels of a side")
    parser.add_argument("--only", choices=METHODS, help="run it here")
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.only:
        print(json.dumps(measure(args.only, args.edge)))
        return
    this = [sys.executable, "-m", "experiments.speed.volumes", "-", "--edge"]
    found = {m: answer([*this, str(args.edge), "--only", m]) for m in METHODS}
    heading = ["method", "forward passes", "bare pass, MB", "more, MB"]
    lines = [
        [name, f"{run['passes']:.0f}", f"{run['bare']:.0f}", f"{run['added']:.0f}"]
        for name, run in found.items()
    ]
    record = {"edge": args.edge, "methods": found, "environment": environment("cpu")}
    save(args.out, record, markdown_table(heading, lines, left=None))


if __name__ == "__main__":
    main()
