"""The tables of values that `publish.py` has written, and the names in them."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from pathlib import Path

from captum_iscam.methods import METHODS

ROWS = Path(__file__).parents[1] / "results" / "rows"
NETWORKS = {
    "squeezenet1_1": "SqueezeNet 1.1",
    "squeezenet1_0": "SqueezeNet 1.0",
    "mobilenet_v2": "MobileNetV2",
    "efficientnet": "EfficientNet-Lite0",
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
}
TITLES = {
    "ss-cam-0.1": "SS-CAM, deviation 0.1",
    "random-map": "Random map",
    "center-map": "Centre map",
    "channel-mean": "Channel mean",
}

# The values of a run: by network and metric, then method, then image.
Values = dict[tuple[str, str], dict[str, dict[str, float]]]


def title(method: str) -> str:
    """Returns a method's name for readers."""
    return TITLES.get(method) or METHODS[method].title


def read_run(file: Path) -> Values:
    """Reads the table of a run."""
    found: Values = defaultdict(lambda: defaultdict(dict))
    with gzip.open(file, "rt", newline="") as stream:
        for row in csv.DictReader(stream):
            if row["value"]:
                key = Path(row["model"]).stem, row["metric"]
                found[key][row["method"]][row["image"]] = float(row["value"])
    return found


def claimed_runs(rows: Path = ROWS) -> list[Values]:
    """Returns the runs that answer `claims.toml`."""
    return [read_run(file) for file in sorted(rows.glob("claims_*.csv.gz"))]
