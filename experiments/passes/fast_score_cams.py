"""Score-CAM with a part of its passes: four ways to save them, side by side.

    python -m experiments.passes.fast_score_cams FOLDER OUT

reads what `record_outputs.py` wrote for SqueezeNet 1.1 and ResNet-18. Each way may
spend 5, 10, 20 or 40 % of the passes:

- screening: this package's `screening`. The most important channels are scored, the
  weights of the others predicted from their masks.
- top channels: those whose activations have the largest standard deviation over the
  positions; the others are left out (Faster-Score-CAM, T. Tabayashi 2020).
- groups: channels side by side are summed with Grad-CAM's weights, and each group is
  scored as one (Q. Zhang, L. Rao, Y. Yang, "Group-CAM", 2021, arXiv 2103.13859, without
  its smoothing of masks and its blurred baseline, so that only the grouping differs).
- clusters: k-means on the scaled masks; the channel nearest to the middle of a cluster
  is scored, and all of the cluster have its weight.

The error is that of the map, relative to the norm of Score-CAM's map with all passes;
maps of groups have another unit, so their error counts after the best common factor.
Quality is insertion and deletion from zero and the energy inside of the boxes, for the
predicted class. It writes `OUT.csv.gz` with a row for each map and `OUT.md`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from captum_iscam._utils.interpolate import upsample
from captum_iscam.attr._quadrature import SCORE_CAM
from captum_iscam.attr._regression import Screening
from captum_iscam.benchmark.bootstrap import bootstrap
from captum_iscam.benchmark.dataloader import _cropped
from captum_iscam.benchmark.markdown import markdown_table
from captum_iscam.benchmark.sources import find_data
from captum_iscam.metrics import deletion, energy_pointing_game, insertion
from experiments._common import save_rows
from experiments.passes.passes import NAME, Recorded, quantiles
from experiments.quality.photographs import FOLDER, as_input, network

NETWORKS = ("squeezenet1_1", "resnet18")
SHARES = (0.05, 0.1, 0.2, 0.4)
CHUNK = 16


class Row(NamedTuple):
    """One map."""

    network: str
    image: str
    way: str
    share: float
    passes: int
    error: float
    up_to_a_factor: float
    insertion: float
    deletion: float
    energy: float


class Case(NamedTuple):
    """A photograph whose channels were all scored before."""

    model: nn.Module
    inputs: Tensor
    target: int
    channels: Recorded
    gains: Tensor  # of each active channel, `(P,)`
    gradients: Tensor  # mean over positions, `(P,)`

    @property
    def maps(self) -> Tensor:
        """`A` of the active channels, `(P, h, w)`."""
        return self.channels.activations[0][self.channels.active[:, 1]].double()


def screening(case: Case, count: int) -> Tensor:
    """Returns the map of `count` passes, `(h, w)`."""
    share = count / len(case.gains)
    scheme = Screening(SCORE_CAM, share, with_error=False)
    return summed(case, case.channels.weigh_recorded(scheme).values[:, 0])


def top_channels(case: Case, count: int) -> Tensor:
    """Returns the map of the channels that deviate most over the positions."""
    top = case.maps.flatten(1).std(1).argsort(descending=True)[:count]
    weights = torch.zeros_like(case.gains)
    weights[top] = case.gains[top]
    return summed(case, weights)


def groups(case: Case, count: int) -> Tensor:
    """Returns the map of `count` groups, each scored as one mask."""
    weighted = case.gradients[:, None, None] * case.maps
    parts = torch.tensor_split(weighted, count)
    maps = torch.stack([part.sum(0).relu() for part in parts])
    return (scores(case, maps)[:, None, None] * maps).sum(0).relu()


def clusters(case: Case, count: int) -> Tensor:
    """Returns the map of `count` clusters, each scored at one of its channels."""
    masks = scaled(case.maps).flatten(1).numpy()
    middles, labels = kmeans2(masks, count, minit="++", seed=0)
    weights = torch.zeros_like(case.gains)
    for label in np.unique(labels):
        inside = np.flatnonzero(labels == label)
        far = ((masks[inside] - middles[label]) ** 2).sum(1)
        weights[inside] = case.gains[inside[far.argmin()]]
    return summed(case, weights)


WAYS: dict[str, Callable[[Case, int], Tensor]] = {
    "screening": screening,
    "top channels": top_channels,
    "groups": groups,
    "clusters": clusters,
}


def summed(case: Case, weights: Tensor) -> Tensor:
    """Returns `ReLU(sum_k a_k A_k)`."""
    return (weights.double()[:, None, None] * case.maps).sum(0).relu()


def scaled(maps: Tensor) -> Tensor:
    """Returns maps `(P, H, W)`, each scaled to [0, 1]; a constant one becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp(min=1e-300)


@torch.no_grad()
def scores(case: Case, maps: Tensor) -> Tensor:
    """Returns the increase in confidence of the input masked by each map."""
    size = case.inputs.shape[2:]
    masks = scaled(upsample(maps.unsqueeze(1), size)[:, 0]).unsqueeze(1)
    found = [
        case.model((part * case.inputs.double()).float()) for part in masks.split(CHUNK)
    ]
    return case.channels._scores(torch.cat(found)) - case.channels.baseline_score[0]


def gradients(model: nn.Module, layer: nn.Module, inputs: Tensor, to: int) -> Tensor:
    """Returns the gradient of the class's logit, averaged over positions, `(K,)`."""
    held = []
    handle = layer.register_forward_hook(lambda _, __, output: held.append(output))
    try:
        output = model(inputs)
    finally:
        handle.remove()
    (found,) = torch.autograd.grad(output[0, to], held[0])
    return found[0].mean((1, 2)).double()


def cases(folder: Path, name: str) -> Iterator[tuple[str, Case, Tensor | None]]:
    """Yields image, case and the pixels of the predicted class, if it has boxes."""
    model, layer = network(name)
    images = FOLDER / "images"
    items = {Path(i.id).stem: i for i in find_data(images / "labels.csv").items}
    for file in sorted(folder.glob(f"{name}_*.pt")):
        image = NAME.match(file.stem)[2]
        answers = torch.load(file, weights_only=True)
        channels = Recorded(answers)
        target = int(answers["of_input"].argmax())
        (path,) = images.rglob(f"{image}.jpg")
        inputs = as_input(path)
        slopes = gradients(model, layer, inputs, target)[channels.active[:, 1]]
        weights = channels.weigh_recorded(SCORE_CAM).values[:, 0]
        case = Case(model, inputs, target, channels, weights, slopes)
        _, regions = items[image].read()
        masks = _cropped(regions, {"resize": 256, "crop": 224})
        yield image, case, masks.get(target)


def errors_of(found: Tensor, whole: Tensor) -> tuple[float, float]:
    """Returns the relative error, and the same after the best common factor."""
    factor = (found * whole).sum() / found.square().sum().clamp(min=1e-300)
    norm = whole.norm()
    return float((found - whole).norm() / norm), float(
        (factor * found - whole).norm() / norm
    )


def judged(case: Case, found: Tensor, inside: Tensor | None) -> dict[str, float]:
    """Returns the quality of a map `(h, w)`."""
    maps = found.float()[None, None]
    about = {"target": case.target, "internal_batch_size": CHUNK}
    energy = np.nan
    if inside is not None:
        energy = float(energy_pointing_game(maps, inside))
    return {
        "insertion": float(insertion(case.model, case.inputs, maps, **about)),
        "deletion": float(deletion(case.model, case.inputs, maps, **about)),
        "energy": energy,
    }


def measure(folder: Path) -> list[Row]:
    """Returns a row for each map."""
    rows = []
    for name in NETWORKS:
        for image, case, inside in cases(folder, name):
            whole = summed(case, case.gains)
            count = len(case.gains)
            quality = judged(case, whole, inside)
            rows.append(Row(name, image, "all", 1.0, count, 0.0, 0.0, **quality))
            for share in SHARES:
                passes = round(share * count)
                for way, make in WAYS.items():
                    found = make(case, passes)
                    errors = errors_of(found, whole)
                    quality = judged(case, found, inside)
                    row = Row(name, image, way, share, passes, *errors, **quality)
                    rows.append(row)
            print(name, image, flush=True)
    return rows


def table(rows: list[Row]) -> str:
    """Returns a Markdown table: for each network, way and share the error and quality.

    Quality is the mean difference from Score-CAM with all passes.
    """
    whole = {(r.network, r.image): r for r in rows if r.way == "all"}
    lines = []
    for name in NETWORKS:
        for way in WAYS:
            for share in SHARES:
                some = [
                    r for r in rows if (r.network, r.way, r.share) == (name, way, share)
                ]
                cells = [quantiles([r.error for r in some])]
                cells.append(quantiles([r.up_to_a_factor for r in some]))
                if way == "groups":
                    cells[0] = "-"
                lines.append(
                    [name, way, f"{share:.0%}", *cells]
                    + [
                        difference(some, whole, metric)
                        for metric in ("insertion", "deletion", "energy")
                    ]
                )
    heading = ["network", "way", "passes", "error, median / 95th percentile, %"]
    heading += ["after the best common factor, %"]
    heading += ["insertion ↑", "deletion ↓", "energy in the box ↑"]
    return markdown_table(heading, lines, left=3) + "\n"


def difference(some: list[Row], whole: dict[tuple[str, str], Row], metric: str) -> str:
    """Returns the mean difference from the map of all passes with its interval."""
    pairs = [(r, whole[r.network, r.image]) for r in some]
    values = np.array([[getattr(a, metric) - getattr(b, metric)] for a, b in pairs])
    found = bootstrap(values[~np.isnan(values[:, 0])])
    return f"{found.mean[0]:+.3f} [{found.low[0]:+.3f}, {found.high[0]:+.3f}]"


def main() -> None:
    """Writes the rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, help="without a suffix")
    args = parser.parse_args()
    rows = measure(args.folder)
    save_rows(args.out, rows)
    args.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
