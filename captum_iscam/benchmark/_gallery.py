"""What the report's gallery loads image by image, and how much the maps disagree."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from captum_iscam.benchmark import layout
from captum_iscam.benchmark._results import Results
from captum_iscam.metrics._maps import correlation

PART = 50
"""Images whose values share a file."""

# Layers of classifiers have 7 x 7 to 14 x 14 places: more pixels tell little more.
_COMPARED = (14, 14)


def gallery(folder: Path, results: Results) -> Iterator[tuple[str, Any]]:
    """Yields name and content of each file: images, then for each model all values.

    Args:
        folder (Path): The benchmark's folder, with its maps.
        results (Results): Its rows.
    """
    yield "images", [_image(folder, results, image) for image in results.images]
    for number, model in enumerate(results.models):
        yield f"model{number}", _seen(folder, results, model)
        values = _values(results, model)
        for part, start in enumerate(range(0, len(values), PART)):
            yield f"model{number}_part{part}", values[start : start + PART]


def compared(results: Results) -> list[str]:
    """Returns the methods whose maps are compared: no controls, if others are there."""
    methods = [
        method
        for method in results.methods
        if not results.run["methods"][method].get("control")
    ]
    return methods if len(methods) > 1 else results.methods


def disagreement(maps: Tensor) -> float | None:
    """Returns one minus the mean rank correlation of all pairs of maps.

    0 for maps that rank all places alike, about 1 for maps that have nothing to do with
    each other, more for opposite ones.

    Args:
        maps (Tensor): `(methods, 1, h, w)`.

    Returns:
        *float*, or None for fewer than two maps.

    Examples::

        >>> ramp = torch.arange(16.0).view(1, 1, 4, 4)
        >>> disagreement(torch.cat([ramp, ramp**2])), disagreement(ramp)
        (0.0, None)
    """
    both = list(combinations(range(len(maps)), 2))
    if not both:
        return None
    first, second = (list(places) for places in zip(*both, strict=True))
    # Ranked once, not once per pair.
    ranks = torch.stack([_ranks(one) for one in maps.flatten(1).numpy()])
    return 1 - float(correlation(ranks[first], ranks[second]).mean())


def _ranks(values: npt.NDArray[np.float32]) -> Tensor:
    """Ranks of all values; equal values share their mean rank."""
    ordered = np.sort(values)
    ends = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return torch.from_numpy(sum(ends) / 2)


def _image(folder: Path, results: Results, image: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": image["id"],
        "key": image["key"],
        "label": image.get("label"),
        "group": image.get("class"),
        "error": results.unreadable.get(image["id"]),
        "picture": layout.image_file(folder, image["key"]).is_file(),
    }


def _seen(folder: Path, results: Results, model: str) -> list[dict[str, Any] | None]:
    """What each image was to a model; the page asks for no map that is not there."""
    methods = compared(results)
    seen: list[dict[str, Any] | None] = []
    for image, row in zip(results.images, results.seen[model], strict=True):
        if row is None:
            seen.append(None)
            continue
        files = {
            method: layout.map_file(folder, model, method, image["key"])
            for method in results.methods
        }
        there = {method for method, file in files.items() if file.is_file()}
        maps = [_map(files[method]) for method in methods if method in there]
        seen.append(
            {
                "target": row.target,
                "prediction": row.prediction,
                "probability": row.probability,
                "disagreement": disagreement(torch.stack(maps)) if maps else None,
                "without": [m for m in results.methods if m not in there],
            }
        )
    return seen


def _map(file: Path) -> Tensor:
    """A small map `(1, h, w)`."""
    with Image.open(file) as picture:
        small = picture.convert("L").resize(_COMPARED, Image.Resampling.BOX)
    return torch.from_numpy(np.array(small, dtype=np.float32)).unsqueeze(0)


def _values(results: Results, model: str) -> list[list[list[float | None]]]:
    """Values of each image, method and metric."""
    metrics = results.metrics(model)
    if not metrics:
        return [[] for _ in results.images]
    values = np.stack([results.tables[model, metric].values for metric in metrics], 2)
    return [
        [[None if np.isnan(v) else float(f"{v:.5g}") for v in row] for row in image]
        for image in values
    ]
