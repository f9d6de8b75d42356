"""The answer as a page: `report.html`, which needs no network and no server."""

from __future__ import annotations

import json
import shlex
from importlib.resources import files
from pathlib import Path
from typing import Any

from captum_iscam._utils.files import write_whole
from captum_iscam.benchmark._gallery import PART, compared, gallery
from captum_iscam.benchmark._results import Results
from captum_iscam.benchmark.layout import REPORT, REPORT_DATA
from captum_iscam.benchmark.summary import Summary, summarise

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
    parts = files("captum_iscam.benchmark").joinpath("report")

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
