"""Whether the default IS-CAM warns where a score is too steep for its points.

    python -m experiments.passes.steep_scores OUT

makes up layers (16 to 256 channels of smooth random maps) and scores (one to three
sigmoids of slope 2 to 60 of a weighted mean of the image), and compares the default map
with the one of 200 Gauss-Legendre points. It writes `OUT.csv.gz` with a row for each
layer, and `OUT.md` with how many maps were warned of, by their error.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from captum_iscam import LayerIntegratedScoreCAM
from captum_iscam.benchmark.markdown import markdown_table
from experiments._common import save_rows

LAYERS = 400
BOUNDS = (0.03, 0.1)
"""Errors below the first ask for no warning, above the second for one."""


class SteepModel(nn.Module):
    """A layer whose channels are given, and a score that is a sum of sigmoids.

    Args:
        maps (Tensor): `A`, `(K, side, side)`.
        patterns (Tensor): What each sigmoid looks at, `(J, side, side)`; sums to 1.
        slopes (Tensor): `(J,)`.
        places (Tensor): The mean of the image at which each sigmoid is at half height.
        heights (Tensor): How much each adds, `(J,)`.
    """

    def __init__(
        self,
        maps: Tensor,
        patterns: Tensor,
        slopes: Tensor,
        places: Tensor,
        heights: Tensor,
    ) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self._maps, self._patterns = maps, patterns
        self._slopes, self._places, self._heights = slopes, places, heights

    def forward(self, image: Tensor) -> Tensor:
        """Returns the score `(N,)` of images `(N, 1, side, side)`."""
        self.layer(self._maps.expand(len(image), *self._maps.shape))
        seen = image.flatten(1) @ self._patterns.flatten(1).T
        return torch.sigmoid(self._slopes * (seen - self._places)) @ self._heights


def draw(generator: torch.Generator) -> SteepModel:
    """Returns a layer and a score made up at random."""

    def uniform(low: float, high: float, *size: int) -> Tensor:
        return low + (high - low) * torch.rand(*size, generator=generator).double()

    side, coarse = int(uniform(5, 15, 1)), int(uniform(2, 6, 1))
    count = int(torch.exp2(uniform(4, 8, 1)))
    noise = torch.randn(count, 1, coarse, coarse, generator=generator).double()
    smooth = nn.functional.interpolate(noise, size=(side, side), mode="bicubic")
    maps = (smooth[:, 0] + uniform(-0.5, 1, count, 1, 1)).relu()
    maps = maps * torch.exp(uniform(-1, 1, count, 1, 1))
    terms = int(uniform(1, 4, 1))
    patterns = uniform(0, 1, terms, side, side) ** uniform(0, 6, terms, 1, 1)
    patterns = patterns / patterns.sum((1, 2), keepdim=True)
    slopes = uniform(2, 60, terms)
    heights = uniform(0.2, 1, terms)
    places = uniform(0.05, 0.6, terms)
    return SteepModel(maps, patterns, slopes, places, heights).eval()


class Row(NamedTuple):
    """What became of one layer."""

    channels: int
    steepest: float
    error: float
    delta: float
    warned: bool


def measure(model: SteepModel) -> Row | None:
    """Returns error, delta and whether a warning was given; None for a zero map."""
    explain = LayerIntegratedScoreCAM(model, model.layer, score="identity")
    image = torch.ones(1, 1, *model._maps.shape[1:]).double()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The map is zero")
        true = explain.attribute(image, n_steps=200)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found, delta = explain.attribute(image, return_convergence_delta=True)
    if not true.any():
        return None
    warned = any("n_steps=10" in str(warning.message) for warning in caught)
    error = float((found - true).norm() / true.norm())
    relative = float(delta) * float(found.norm() / true.norm())
    active = int(
        (model._maps.flatten(1).amax(1) > model._maps.flatten(1).amin(1)).sum()
    )
    return Row(active, float(model._slopes.max()), error, relative, warned)


def table(rows: Sequence[Row]) -> str:
    """Returns a Markdown table of how many maps were warned of, by their error."""
    low, high = BOUNDS
    groups = (
        (f"below {low:.0%}", [r for r in rows if r.error < low]),
        (f"{low:.0%} to {high:.0%}", [r for r in rows if low <= r.error <= high]),
        (f"above {high:.0%}", [r for r in rows if r.error > high]),
    )
    heading = ["error of the map", "maps", "warned of", "delta covers the error"]
    lines = []
    for name, group in groups:
        count = max(len(group), 1)
        warned = 100 * sum(r.warned for r in group) / count
        held = 100 * sum(r.error <= r.delta for r in group) / count
        lines.append([name, str(len(group)), f"{warned:.0f} %", f"{held:.0f} %"])
    return markdown_table(heading, lines, left=None) + "\n"


def main() -> None:
    """Writes all rows and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="without a suffix")
    parser.add_argument("--layers", type=int, default=LAYERS)
    args = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    found = [measure(draw(generator)) for _ in range(args.layers)]
    rows = [row for row in found if row is not None]
    save_rows(args.out, rows)
    args.out.with_suffix(".md").write_text(table(rows))


if __name__ == "__main__":
    main()
