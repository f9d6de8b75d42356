"""Real ImageNet networks and photographs, where a machine has them."""

import csv
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

_DEFAULT = Path(__file__).parents[3] / "shared" / "realdata"
FOLDER = Path(os.environ.get("CAPTUM_ISCAM_REALDATA") or _DEFAULT)
needs_real_data = pytest.mark.skipif(
    not (FOLDER / "images" / "labels.csv").is_file(),
    reason="needs ImageNet networks and photographs in CAPTUM_ISCAM_REALDATA",
)
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SIZE = 224


def network(name):
    from torchvision.models import get_model

    model = get_model(name)
    state = torch.load(FOLDER / "weights" / f"{name}.pt", weights_only=True)
    model.load_state_dict(state)
    return model.eval()


def rows(table="labels.csv", **where):
    with (FOLDER / "images" / table).open() as file:
        found = list(csv.DictReader(file))
    return [r for r in found if all(r[key] == value for key, value in where.items())]


def photograph(row):
    """Returns the normalised image `(1, 3, 224, 224)` and its boxes as a mask."""
    from torchvision.transforms.functional import (
        center_crop,
        pil_to_tensor,
        resize,
    )

    with Image.open(FOLDER / "images" / row["file"]) as file:
        image = pil_to_tensor(file.convert("RGB"))
    image = center_crop(resize(image, 256, antialias=True), SIZE).float() / 255
    image = (image - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)
    return image.unsqueeze(0), _boxes(row)


def _boxes(row):
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    for box in rows("boxes.csv", file=row["file"]):
        width, height = int(box["width"]), int(box["height"])
        scale = 256 / min(width, height)
        left = (round(width * scale) - SIZE) // 2
        top = (round(height * scale) - SIZE) // 2
        x0, x1 = (max(0, round(float(box[k]) * scale) - left) for k in ("x0", "x1"))
        y0, y1 = (max(0, round(float(box[k]) * scale) - top) for k in ("y0", "y1"))
        inside[y0:y1, x0:x1] = True
    return inside
