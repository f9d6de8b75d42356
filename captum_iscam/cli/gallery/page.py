"""The results of a folder as a page: `index.html`, which works without a server.

The page is one file, made of those next to this module and of the ones that it shares
with the benchmark's report. It shows the small images in the folder `page` of each
folder of results, which are loaded when they are seen.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from captum_iscam._utils.files import write_whole
from captum_iscam.benchmark.report.parts import (
    as_script,
    colour_filters,
    fill,
    read_part,
)
from captum_iscam.cli.output import ARRAYS, PAGE, PAGE_MARK, RECORD, records_in
from captum_iscam.cli.record import delta_text
from captum_iscam.cli.results import INPUT

_PACKAGE = "captum_iscam.cli.gallery"


def write_page(folder: Path, cmap: str | None = None) -> Path:
    """Writes the page that shows all results in a folder, earlier ones included.

    Args:
        folder (Path): The output folder.
        cmap (str, optional): Name of matplotlib's colour map. Default: None, that is
            the one of `visualize`

    Returns:
        *Path* of the page.

    Raises:
        OSError: If it cannot be written; the old page is kept then.
    """
    images, unreadable = [], []
    for name, record in records_in(folder):
        try:
            images.append(_entry(name, record))
        # A record that somebody has written or changed.
        except (AttributeError, KeyError, TypeError, ValueError):
            unreadable.append(_text(name))
    methods = {call["method"]: call["title"] for i in images for call in i["calls"]}
    content = {
        "run": {
            "methods": {name: {"title": title} for name, title in methods.items()},
            "models": {},
        },
        "images": images,
        "unreadable": unreadable,
    }
    page = folder / PAGE
    write_whole(page, _filled(content, cmap).encode())
    return page


def _filled(content: dict[str, Any], cmap: str | None) -> str:
    shared = ("elements.js", "tables.js", "gallery.js")
    scripts = [*map(read_part, shared), read_part("page.js", _PACKAGE)]
    styles = [read_part("style.css"), read_part("gallery.css")]
    return fill(
        read_part("page.html", _PACKAGE),
        {
            "mark": PAGE_MARK.decode(),
            "style": "".join([*styles, read_part("page.css", _PACKAGE)]),
            "filters": colour_filters(cmap),
            "script": "\n".join(scripts),
            "data": as_script(content),
        },
    )


def _entry(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """Returns what the page shows of a record."""
    place = {target["index"]: i for i, target in enumerate(record["targets"])}
    calls = {m["method"]: _call(m) for m in record["maps"]}
    height, width = record.get("input_shape", [3, 1, 1])[1:]
    links = [file for file in record["files_sha256"] if file.startswith("overlay.")]
    return {
        "name": _text(name),
        "image": _text(str(record["image"])),
        "input": {"src": _url(name, INPUT), "width": width, "height": height},
        "size": record.get("image_size"),
        "model": _text(record["model"]),
        "layer": record["layer"],
        "score": record.get("score"),
        "targets": [
            {"name": t["class_name"], "value": t["probability"]}
            for t in record["targets"]
        ],
        "calls": list(calls.values()),
        "maps": [_map(name, m, place[m["target"]]) for m in record["maps"]],
        "links": [[file, _url(name, file)] for file in (*links, ARRAYS, RECORD)],
    }


def _call(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns what one call of a method took, for all targets."""
    names = ("method", "title", "seconds", "forward_passes", "warnings")
    return {name: entry[name] for name in names}


def _map(name: str, entry: dict[str, Any], target: int) -> dict[str, Any]:
    kinds = [kind for kind in ("overlay", "original") if kind in entry]
    delta = delta_text(entry["delta"]) if "delta" in entry else None
    return {
        "method": entry["method"],
        "target": target,
        "src": _url(name, entry["grey"]),
        "empty": not entry["maximum"],
        "delta": delta,
        "links": [[kind, _url(name, entry[kind])] for kind in kinds],
    }


def _url(name: str, file: str) -> str:
    # A name may be bytes that are no text.
    return f"{quote(os.fsencode(name))}/{quote(file)}"


def _text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()
