"""The results of one image: its maps as pictures, as arrays and in a record."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from captum_iscam._utils.files import as_json, write_folder
from captum_iscam.benchmark.thumbnails import as_jpeg, as_png
from captum_iscam.cli.output import ARRAYS, RECORD
from captum_iscam.cli.record import Explanation, Target, versions
from captum_iscam.methods import METHODS
from captum_iscam.visualization import (
    Row,
    display_image,
    on_original,
    overlay,
    visualize_rows,
)
from captum_iscam.visualization.arrays import Array

INPUT = "page/input.jpg"
"""The input as the model saw it, for the page."""

_LARGEST_INPUT = 448  # pixels of its longer side
# Zlib's default takes four times as long, for files that are 2 % smaller.
_PNG = {"compress_type": zlib.Z_RLE}


@dataclass(frozen=True)
class Look:
    """How results are drawn.

    Attributes:
        format (str, optional): "png", "svg" or "pdf". Default: "png"
        dpi (int, optional): Dots per inch of the panels. Default: 120
        cmap (str, optional): Name of matplotlib's colour map. Default: None, that is
            the one of `visualize`
        alpha (float, optional): Opacity of the largest values. Default: 0.8
        separate (bool, optional): Draw each map in a file of its own, without margins,
            instead of all in one. Default: False
        original (bool, optional): Draw each map over the original photograph as well,
            at its own resolution. Default: False
    """

    format: str = "png"
    dpi: int = 120
    cmap: str | None = None
    alpha: float = 0.8
    separate: bool = False
    original: bool = False

    @property
    def of_maps(self) -> dict[str, Any]:
        """What the functions that draw maps take."""
        return {"cmap": self.cmap, "alpha_overlay": self.alpha}


@dataclass(frozen=True)
class Explained:
    """What was explained.

    Attributes:
        inputs (Tensor): The input `(C, H, W)` as the model saw it.
        mean (Sequence[float], optional): What was subtracted from each channel of an
            image in [0, 1]. Default: None, nothing, or it is not known
        std (Sequence[float], optional): What each channel was divided by then.
            Default: None, nothing
        photograph (Image, optional): The original. Default: None, that is the input
        preprocessing (dict, optional): How the input was cut out of it, as
            `on_original` takes it. Default: None, unknown
    """

    inputs: Tensor
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    photograph: Image.Image | None = None
    preprocessing: dict[str, Any] | None = None


def write_results(
    folder: Path,
    explained: Explained,
    explanations: Sequence[Explanation],
    about: dict[str, Any],
    look: Look | None = None,
) -> Path:
    """Writes the folder of an image, all of it or nothing.

    Args:
        folder (Path): The folder; one of that name is replaced.
        explained (Explained): The input.
        explanations (Sequence[Explanation]): Its maps.
        about (dict): What the record says besides the maps.
        look (Look, optional): How maps are drawn. Default: None, that is `Look()`

    Returns:
        *Path* of the picture with all maps, or of the folder where each map has a
        picture of its own.

    Raises:
        OSError: If it cannot be written.
    """
    look = look or Look()
    contents = _pictures(explained, explanations, about.get("score"), look)
    contents[ARRAYS] = as_npz(explanations)
    targets = dict.fromkeys(e.target for e in explanations)
    record = {
        **about,
        "targets": [asdict(target) for target in targets],
        "maps": [{**e.as_record(), **_files_of(e, contents)} for e in explanations],
        "files_sha256": {
            name: hashlib.sha256(content).hexdigest()
            for name, content in contents.items()
        },
        "versions": versions(),
    }
    write_folder(folder, {**contents, RECORD: as_json(record)})
    together = folder / f"overlay.{look.format}"
    return folder if look.separate else together


def as_npz(explanations: Sequence[Explanation]) -> bytes:
    """Returns the maps as arrays, each by its :attr:`Explanation.key`."""
    arrays = {e.key: e.attributions[0, 0].numpy() for e in explanations}
    packed = io.BytesIO()
    # Its stubs take a further argument of the function for one of the arrays.
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    return packed.getvalue()


def as_panels(
    shown: Image.Image,
    explanations: Sequence[Explanation],
    score: str | None,
    look: Look,
) -> bytes:
    """Returns a picture with all maps over the input, in a row for each target."""
    rows = _rows(shown, explanations, score)
    figure = visualize_rows(rows, show_colorbar=True, **look.of_maps)
    return _drawn(figure, look)


def _pictures(
    explained: Explained,
    explanations: Sequence[Explanation],
    score: str | None,
    look: Look,
) -> dict[str, bytes]:
    """Returns the content of each picture by its path in the folder."""
    shown = as_image(explained)
    pictures = {INPUT: as_jpeg(shown, _LARGEST_INPUT)}
    if not look.separate:
        panels = as_panels(shown, explanations, score, look)
        pictures[f"overlay.{look.format}"] = panels
    for e in explanations:
        pictures[f"page/{e.key}.png"] = as_png(e.attributions)
        if look.separate:
            drawn = overlay(shown, e.attributions, **look.of_maps)
            pictures[f"overlay_{e.key}.{look.format}"] = _exact(drawn, look)
        if look.original and explained.photograph and explained.preprocessing:
            back = on_original(
                explained.photograph, e.attributions, explained.preprocessing
            )
            drawn = overlay(
                explained.photograph,
                back.attributions,
                frame=back.frame,
                **look.of_maps,
            )
            pictures[f"original_{e.key}.{look.format}"] = _exact(drawn, look)
    return pictures


def as_image(explained: Explained) -> Image.Image:
    """Returns the input as an image."""
    inputs = explained.inputs
    if explained.mean is None and (inputs.min() < 0 or inputs.max() > 1):
        # How it was normalised is not known: its own range becomes black to white.
        inputs = inputs - inputs.min()
        inputs = inputs / inputs.max().clamp_min(torch.finfo(inputs.dtype).tiny)
    pixels = display_image(inputs, explained.mean, explained.std)
    return Image.fromarray(np.rint(pixels * 255).astype(np.uint8))


def _files_of(e: Explanation, contents: dict[str, bytes]) -> dict[str, str]:
    """Returns the files that have this map alone, by what they are."""
    found = {"grey": f"page/{e.key}.png"}
    for kind in ("overlay", "original"):
        for name in contents:
            if name.startswith(f"{kind}_{e.key}."):
                found[kind] = name
    return found


def _rows(
    image: Image.Image, explanations: Sequence[Explanation], score: str | None
) -> list[Row]:
    maps: dict[Target, dict[str, Tensor]] = {}
    for e in explanations:
        maps.setdefault(e.target, {})[METHODS[e.method].title] = e.attributions
    return [
        Row(f"{target.class_name}\n{target.value(score)}", image, maps_of_target)
        for target, maps_of_target in maps.items()
    ]


def _drawn(figure: Figure, look: Look) -> bytes:
    if look.format == "png":
        # As `savefig` does, but without transparency: smaller and sooner written.
        figure.set_dpi(look.dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return _png(np.asarray(canvas.buffer_rgba())[..., :3], look)
    stream = io.BytesIO()
    figure.savefig(stream, format=look.format, dpi=look.dpi)
    return stream.getvalue()


def _exact(pixels: Array, look: Look) -> bytes:
    """Returns a picture with exactly these pixels `(H, W, 3)`, without margins."""
    if look.format == "png":
        return _png(pixels, look)
    height, width = pixels.shape[:2]
    figure = Figure((width / look.dpi, height / look.dpi))
    FigureCanvasAgg(figure)
    panel = figure.add_axes((0, 0, 1, 1))
    panel.imshow(pixels, interpolation="none", aspect="auto")
    panel.set_axis_off()
    return _drawn(figure, look)


def _png(pixels: Array, look: Look) -> bytes:
    stream = io.BytesIO()
    resolution = (look.dpi, look.dpi)
    Image.fromarray(pixels).save(stream, "PNG", dpi=resolution, **_PNG)
    return stream.getvalue()
