"""ImageNet networks and photographs on this machine, for measurements on real data.

`CAPTUM_ISCAM_REALDATA` names the folder: `weights/NAME.pt` (torchvision state dicts),
`images/labels.csv` with the columns `file` and `class_index`, and the photographs.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import get_model
from torchvision.transforms.functional import (
    InterpolationMode,
    center_crop,
    normalize,
    pil_to_tensor,
    resize,
)

FOLDER = Path(
    os.environ.get("CAPTUM_ISCAM_REALDATA")
    or Path(__file__).parents[3] / "shared" / "realdata"
)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
LAYERS = {
    "squeezenet1_1": "features",
    "squeezenet1_0": "features",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "mobilenet_v2": "features",
    "vgg16": "features",
}


def asked(about: str) -> argparse.Namespace:
    """Returns where to write, how many photographs and which networks with weights."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--photographs", type=int, default=40)
    trained = [name for name in LAYERS if name != "vgg16"]
    parser.add_argument("--networks", nargs="+", default=trained)
    return parser.parse_args()


def network(name: str) -> tuple[nn.Module, nn.Module]:
    """Returns a network with its weights, random ones where there is no file, and
    the layer that is explained."""
    torch.manual_seed(0)
    model = get_model(name)
    weights = FOLDER / "weights" / f"{name}.pt"
    if weights.is_file():
        model.load_state_dict(torch.load(weights, weights_only=True))
    return model.eval(), model.get_submodule(LAYERS[name])


def photographs(count: int, seed: int = 0) -> list[Path]:
    """Returns the first of all photographs in a shuffled order that is always the
    same, so that fewer photographs are a part of more."""
    with (FOLDER / "images" / "labels.csv").open() as table:
        files = sorted(row["file"] for row in csv.DictReader(table))
    random.Random(seed).shuffle(files)
    return [FOLDER / "images" / file for file in files[:count]]


def as_input(file: Path) -> Tensor:
    """Returns the photograph as `(1, 3, 224, 224)`, normalised."""
    with Image.open(file) as image:
        pixels = pil_to_tensor(image.convert("RGB"))
    pixels = center_crop(resize(pixels, [256], antialias=True), [224])
    return normalize(pixels.float() / 255, MEAN, STD).unsqueeze(0)


def cropped(mask: Tensor) -> Tensor:
    """Returns a mask `(H, W)` of a photograph's pixels as `as_input` crops these."""
    nearest = InterpolationMode.NEAREST_EXACT
    return center_crop(resize(mask[None].byte(), [256], nearest), [224])[0].bool()
