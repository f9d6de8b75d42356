"""The answer as a page: `report.html`, which needs no network and no server."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_iscam._utils.files import write_whole
from captum_iscam.benchmark import storage
from captum_iscam.benchmark.results import Results
from captum_iscam.benchmark.storage import REPORT, REPORT_DATA
from captum_iscam.benchmark.summary import Summary, summarise
from captum_iscam.metrics._maps import correlation, mean_ranks

# In the order in which they are read; each uses what stands before it.
_SCRIPTS = ("elements", "tables", "compare", "curves", "gallery", "page")


def write_report(folder: Path | str, summary: Summary | None = None) -> Path:
    """Writes `report.html` and, beside it, the folder `report_data`.

    The page holds tables, curves and wins; values of single images lie in
    `report_data`, pictures in `images` and `maps`, and are loaded when they are shown.
    It works from the file system. Whoever moves the page takes the three folders along.

    Args:
        folder (Path or str): A benchmark's folder.
        summary (Summary, optional): What :func:`summarise` has just returned for it.
            Default: None, which summarises anew

    Returns:
        *Path* of the page.

    Raises:
        FileNotFoundError: If the folder holds no `run.json`.
        ValueError: If its rows do not belong to it.
        OSError: If something cannot be written; the page that was there stays.
    """
    folder = Path(folder)
    summary = summary or summarise(folder)
    data = folder / REPORT_DATA
    written = set()
    for name, content in gallery(folder, summary.results):
        file = data / f"{name}.js"
        line = f"benchmarkReport({_script(name)}, {_script(content)});\n"
        write_whole(file, line.encode())
        written.add(file)
    page = folder / REPORT
    html = _page({**summary.content, **_extras(summary.results)})
    write_whole(page, html.encode())
    for old in set(data.glob("*.js")) - written:
        old.unlink()
    return page


def _extras(results: Results) -> dict[str, Any]:
    """What the page needs beyond the summary."""
    titles = [results.title(method) for method in compared(results)]
    return {
        "command": _command(results.run.get("command")),
        "classes": _class_names(results),
        "part": PART,
        "disagreement": (
            "Disagreement is one minus the mean rank correlation between the maps of "
            f"every two methods ({', '.join(titles)}): 0 where all rank the places of "
            "the image alike, about 1 where they have nothing in common."
        ),
    }


def _class_names(results: Results) -> dict[str, str]:
    """Returns names by index: the data's own, for other classes the networks'."""
    names: dict[str, str] = {}
    for model in results.run["models"].values():
        names |= model.get("class_names") or {}
    for image in results.images:
        if image.get("label") is not None and image.get("class") is not None:
            names[str(image["label"])] = image["class"]
    return names


def _command(command: object) -> str:
    if isinstance(command, list):
        return shlex.join(map(str, command))
    return str(command or "")


def _page(content: dict[str, Any]) -> str:
    parts = files("captum_iscam.benchmark.report")

    def read(name: str) -> str:
        return parts.joinpath(name).read_text(encoding="utf-8")

    fills = {
        "style": read("style.css"),
        "script": "\n".join(read(f"{name}.js") for name in _SCRIPTS),
        "data": _script(content),
    }
    # Split once and join: what is filled in is never searched for places again.
    pieces = read("page.html").split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [fills[name], rest]
    return "".join(filled)


def _script(content: object) -> str:
    """Returns JSON that no HTML parser can take for a tag and that is plain ASCII."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


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
    ranks = mean_ranks(maps.flatten(1))
    return 1 - float(correlation(ranks[first], ranks[second]).mean())


def _image(folder: Path, results: Results, image: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": image["id"],
        "key": image["key"],
        "label": image.get("label"),
        "group": image.get("class"),
        "error": results.unreadable.get(image["id"]),
        "picture": storage.image_file(folder, image["key"]).is_file(),
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
            method: storage.map_file(folder, model, method, image["key"])
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
