"""The results as a page: `report.html`, which works offline and without a server.

The page is one file, made of the files next to this module: `page.html` and
`style.css`; `elements.js` and `tables.js`, which all tabs use, and `gallery.js` and
`gallery.css`, which the page of `captum-iscam explain` shares; a file for each tab in
`tabs`; and `page.js`, which puts the tabs together. A tab is its file alone: it
registers itself, as `elements.js` describes. :func:`register_tab` adds one from outside
of the package.
"""

from __future__ import annotations

import re
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

from captum_iscam._utils.files import safe_name, write_whole
from captum_iscam.benchmark import storage
from captum_iscam.benchmark.markdown import decided, metric_test_text
from captum_iscam.benchmark.report.parts import (
    as_script,
    colour_filters,
    fill,
    read_part,
)
from captum_iscam.benchmark.results import Results
from captum_iscam.benchmark.significance import MIN_IMAGES
from captum_iscam.benchmark.storage import (
    REPORT,
    REPORT_DATA,
    SUMMARY_LATEX,
    SUMMARY_MARKDOWN,
    SUMMARY_WIDE_CSV,
)
from captum_iscam.benchmark.summary import Summary, summarise, tables
from captum_iscam.metrics._maps import correlation, mean_ranks

EXTRA_TABS: list[Path] = []
"""Files of tabs outside of the package."""


def register_tab(file: Path | str) -> None:
    """Adds a tab to the reports that this process writes.

    Args:
        file (Path or str): A JavaScript file that calls `registerTab({id, title,
            draw})`: `draw(place, model)` shows the results of a network in an element.
            `elements.js` of this folder lists what it can use, and `tabs` holds
            examples.

    Raises:
        ValueError: If the file is missing, or would end the page's script.
    """
    file = Path(file).resolve()
    if file.suffix != ".js" or not file.is_file():
        raise ValueError(
            f"file must be a .js file that is there, got {str(file)!r}. Correct the "
            "path, which may start from Path(__file__).parent."
        )
    if re.search(r"</script|<!--", file.read_text(encoding="utf-8"), re.IGNORECASE):
        raise ValueError(
            "file must not contain </script or <!--, which end a script in a page, got "
            f"{str(file)!r}. Write <\\/script or <\\!--."
        )
    if file not in EXTRA_TABS:
        EXTRA_TABS.append(file)


def write_report(folder: Path | str, summary: Summary | None = None) -> Path:
    """Writes `report.html` and, next to it, the folder `report_data`.

    The page has tables, curves and wins. The values of single images are in
    `report_data`, images and maps in `images` and `maps`; they are loaded when they are
    shown. The page works from the file system. Move the three folders with it.

    Args:
        folder (Path or str): A benchmark's folder.
        summary (Summary, optional): What :func:`summarise` has returned for the folder.
            Default: None, which summarises it again

    Returns:
        *Path* of the page.

    Raises:
        FileNotFoundError: If the folder has no `run.json`.
        ValueError: If its rows do not belong to it.
        OSError: If something cannot be written; the old page is kept then.
    """
    folder = Path(folder)
    summary = summary or summarise(folder)
    data = folder / REPORT_DATA
    written = set()
    for name, content in gallery(folder, summary.results):
        file = data / f"{name}.js"
        line = f"benchmarkReport({as_script(name)}, {as_script(content)});\n"
        write_whole(file, line.encode())
        written.add(file)
    page = folder / REPORT
    extras = {**_extras(summary.results), "files": _files(summary.content)}
    extras["decided"] = decided(summary.content)
    if summary.content["metric_tests"]:
        extras["tested"] = metric_test_text(summary.content)
    html = _page({**summary.content, **extras})
    write_whole(page, html.encode())
    for old in set(data.glob("*.js")) - written:
        old.unlink()
    return page


def _extras(results: Results) -> dict[str, Any]:
    """What the page needs in addition to the summary."""
    titles = [results.title(method) for method in compared(results)]
    return {
        "command": _command(results.run.get("command")),
        "classes": _class_names(results),
        "folders": {model: safe_name(model) for model in results.models},
        "part": PART,
        "min_images": MIN_IMAGES,
        "disagreement": (
            "Disagreement is one minus the mean rank correlation between the maps of "
            f"every two methods ({', '.join(titles)}): 0 where all rank the pixels in "
            "the same order, about 1 where they have nothing in common."
        ),
    }


def _files(content: dict[str, Any]) -> dict[str, str]:
    """Returns the files that the page offers to copy or save."""
    texts = tables(content)
    names = (SUMMARY_LATEX, SUMMARY_WIDE_CSV, SUMMARY_MARKDOWN)
    return {
        **{name: texts[name] for name in names},
        "captum_iscam.bib": content["citation"]["bibtex"],
    }


def _class_names(results: Results) -> dict[str, str]:
    """Returns the names of classes by index, preferably those of the data."""
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
    scripts = [read_part(f"{name}.js") for name in ("elements", "tables", "gallery")]
    return fill(
        read_part("page.html"),
        {
            "style": read_part("style.css") + read_part("gallery.css"),
            "filters": colour_filters(),
            "script": "\n".join([*scripts, *_tabs(), read_part("page.js")]),
            "data": as_script(content),
        },
    )


def _tabs() -> list[str]:
    """Returns the scripts of the tabs, each with a scope of its own for its names."""
    folder = files("captum_iscam.benchmark.report").joinpath("tabs")
    inside = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".js")),
        key=lambda file: file.name,
    )
    return [
        f"(() => {{\n{file.read_text(encoding='utf-8')}\n}})();"
        for file in [*inside, *EXTRA_TABS]
    ]


PART = 50
"""Number of images whose values share a file."""

# Layers of classifiers have 7 x 7 to 14 x 14 positions; more pixels add little.
_COMPARED = (14, 14)


def gallery(folder: Path, results: Results) -> Iterator[tuple[str, Any]]:
    """Yields the name and the content of each file in `report_data`.

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
    """Returns the methods whose maps are compared: no controls, if two are left."""
    methods = [
        method
        for method in results.methods
        if not results.run["methods"][method].get("control")
    ]
    return methods if len(methods) > 1 else results.methods


def disagreement(maps: Tensor) -> float | None:
    """Returns one minus the mean rank correlation of all pairs of maps.

    0 for maps that rank all pixels in the same order, about 1 for unrelated maps, more
    for opposite ones.

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
    first, second = (list(column) for column in zip(*both, strict=True))
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
    """Target, prediction and missing maps of each image on a model."""
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
