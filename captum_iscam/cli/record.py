"""Makes the maps of an image, and writes them as a figure, arrays and a record."""

from __future__ import annotations

import hashlib
import io
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import captum
import numpy as np
import torch
from torch import Tensor, nn

import captum_iscam
from captum_iscam._utils.batching import synchronize
from captum_iscam._utils.files import as_json, write_together
from captum_iscam._utils.hooks import count_passes
from captum_iscam.methods import METHODS, Options
from captum_iscam.visualization import Row, visualize_rows


@dataclass(frozen=True)
class Target:
    """A class to explain and the probability the model gives it.

    With `--score identity` it is the model's output, which is no probability.
    """

    index: int
    class_name: str
    probability: float

    def value(self, score: str | None) -> str:
        """Returns the probability, or the output, as text."""
        return f"{'score' if score == 'identity' else 'p'} = {self.probability:.3f}"


@dataclass
class Explanation:
    """One map and how it was made.

    One call of a method makes the maps of all targets. They share its seconds, forward
    passes and warnings.
    """

    method: str
    target: Target
    attributions: Tensor  # (1, 1, h, w)
    seconds: float
    forward_calls: int
    forward_passes: int
    targets_explained_together: int
    settings: dict[str, Any]
    warnings: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The map's name in the file of maps."""
        return f"{self.method}_{self.target.index}"

    def as_record(self) -> dict[str, Any]:
        """Returns everything but the arrays."""
        return {
            "method": self.method,
            "target": self.target.index,
            "class_name": self.target.class_name,
            "probability": self.target.probability,
            "map": self.key,
            "map_shape": list(self.attributions.shape[2:]),
            "seconds": round(self.seconds, 4),
            "forward_calls": self.forward_calls,
            "forward_passes": self.forward_passes,
            "targets_explained_together": self.targets_explained_together,
            "settings": self.settings,
            "warnings": self.warnings,
        }


def explain(
    model: nn.Module,
    layer: nn.Module,
    inputs: Tensor,
    targets: Sequence[Target],
    methods: Iterable[str],
    options: Options,
    done: Callable[[int], object] = lambda maps: None,
) -> list[Explanation]:
    """Returns a map for each target and method, those of the first target first.

    Each method is called once, for all targets.

    Args:
        model (torch.nn.Module): A classifier that gives logits.
        layer (torch.nn.Module): The layer to explain.
        inputs (Tensor): One input `(1, C, H, W)`.
        targets (Sequence[Target]): Classes to explain.
        methods (Iterable[str]): Names from `METHODS`.
        options (Options): Their settings.
        done (Callable, optional): Called after each method with the number of its maps.
    """
    by_method = []
    for name in methods:
        by_method.append(
            _explain_together(model, layer, inputs, targets, name, options)
        )
        done(len(targets))
    return [e for of_target in zip(*by_method, strict=True) for e in of_target]


def _explain_together(
    model: nn.Module,
    layer: nn.Module,
    inputs: Tensor,
    targets: Sequence[Target],
    name: str,
    options: Options,
) -> list[Explanation]:
    """Returns the maps of one method, one per target."""
    method = METHODS[name]
    indices = [[target.index for target in targets]]
    # Printed and recorded with the image they are about, not with a line of this file.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with count_passes(model) as passes:
            start = time.perf_counter()
            attributions = method.attribute(model, layer, inputs, indices, options)
            synchronize(attributions.device)
            seconds = time.perf_counter() - start
    # A method that is called for each target gives the same warning for each.
    texts = dict.fromkeys(_with_class_names(str(w.message), targets) for w in caught)
    return [
        Explanation(
            name,
            target,
            of_target.float().cpu(),
            seconds,
            passes.calls,
            passes.rows,
            len(targets),
            method.settings(options),
            list(texts),
        )
        for target, of_target in zip(targets, attributions.split(1, dim=1), strict=True)
    ]


def _with_class_names(text: str, targets: Sequence[Target]) -> str:
    """Returns a warning with class names instead of the columns of `target`."""
    return re.sub(
        r"\(column (\d+) of target\)",
        lambda m: f"({targets[int(m[1])].class_name})",
        text,
    )


def write(
    folder: Path,
    name: str,
    image: Tensor,
    explanations: Sequence[Explanation],
    about: dict[str, Any],
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Path:
    """Writes `name.png`, `name.npz` and `name.json`, or none; returns the first.

    The record is moved to its place last. It has the SHA-256 of the other two files, by
    which the next run checks that all three come from the same run.

    Args:
        folder (Path): The output folder.
        name (str): The name of the files, without a suffix.
        image (Tensor): The input `(C, H, W)` as the model saw it.
        explanations (Sequence[Explanation]): At least one.
        about (dict): Further entries of the record.
        mean (Sequence[float], optional): What was subtracted from the image.
            Default: None
        std (Sequence[float], optional): What it was divided by then. Default: None
    """
    picture, arrays = folder / f"{name}.png", folder / f"{name}.npz"
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure = visualize_rows(
        _rows(image, explanations, about.get("score")), mean=mean, std=std
    )
    figure.savefig(drawn, dpi=120, bbox_inches="tight", pad_inches=0.08)
    maps: dict[str, Any] = {e.key: e.attributions[0, 0].numpy() for e in explanations}
    np.savez_compressed(packed, **maps)
    targets = dict.fromkeys(e.target for e in explanations)
    record = {
        **about,
        "targets": [asdict(target) for target in targets],
        "maps": [e.as_record() for e in explanations],
        "files": {"picture": picture.name, "maps": arrays.name},
        "files_sha256": {
            "picture": hashlib.sha256(drawn.getbuffer()).hexdigest(),
            "maps": hashlib.sha256(packed.getbuffer()).hexdigest(),
        },
        "versions": versions(),
    }
    contents = {picture: drawn.getvalue(), arrays: packed.getvalue()}
    write_together({**contents, folder / f"{name}.json": as_json(record)})
    return picture


def _rows(
    image: Tensor, explanations: Sequence[Explanation], score: str | None
) -> list[Row]:
    maps: dict[Target, dict[str, Tensor]] = {}
    for e in explanations:
        maps.setdefault(e.target, {})[METHODS[e.method].title] = e.attributions
    return [
        Row(f"{target.class_name}\n{target.value(score)}", image, maps_of_target)
        for target, maps_of_target in maps.items()
    ]


def versions() -> dict[str, str]:
    """Returns the versions that can change a result."""
    import torchvision

    return {
        "captum_iscam": captum_iscam.__version__,
        "captum": captum.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
