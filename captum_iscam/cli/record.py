"""Makes the maps of an image, and describes each for its record."""

from __future__ import annotations

import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import captum
import numpy as np
import torch
from torch import Tensor, nn

import captum_iscam
from captum_iscam._utils.batching import synchronize
from captum_iscam._utils.hooks import count_passes
from captum_iscam.methods import METHODS, Method, Options


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
    delta: float | None = None

    @property
    def key(self) -> str:
        """The map's name in the file of maps."""
        return f"{self.method}_{self.target.index}"

    def as_record(self) -> dict[str, Any]:
        """Returns everything but the arrays."""
        return {
            "method": self.method,
            "title": METHODS[self.method].title,
            "target": self.target.index,
            "class_name": self.target.class_name,
            "probability": self.target.probability,
            "map": self.key,
            "map_shape": list(self.attributions.shape[2:]),
            "maximum": float(self.attributions.max()),
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
    with_delta: bool = False,
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
        with_delta (bool, optional): Also estimate the error of each map, where the
            method can. Default: False
    """
    by_method = []
    for name in methods:
        by_method.append(
            _explain_together(model, layer, inputs, targets, name, options, with_delta)
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
    with_delta: bool,
) -> list[Explanation]:
    """Returns the maps of one method, one per target."""
    method = METHODS[name]
    deltas: list[float | None] = []
    if with_delta and _estimates_error(method):
        method = _recording(method, deltas)
    indices = [[target.index for target in targets]]
    # Printed and recorded with the image they are about, not with a line of this file.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # That somebody left a file open is not about a map.
        warnings.simplefilter("ignore", ResourceWarning)
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
            delta,
        )
        for target, of_target, delta in zip(
            targets,
            attributions.split(1, dim=1),
            deltas or [None] * len(targets),
            strict=True,
        )
    ]


def _estimates_error(method: Method) -> bool:
    # The delta of Captum's own methods is a gap in completeness, not a relative error.
    captums = method.attribution.__module__.partition(".")[0] == "captum"
    return not captums and "return_convergence_delta" in method.settings()


def _recording(method: Method, deltas: list[float | None]) -> Method:
    """Returns the method, which adds the delta of each map to the list."""

    def finish(result: Any) -> Tensor:
        attributions, delta = result
        deltas.extend(delta.flatten().tolist())
        return method.finish(attributions)

    fixed = {**method.fixed, "return_convergence_delta": True}
    return replace(method, fixed=fixed, finish=finish)


def _with_class_names(text: str, targets: Sequence[Target]) -> str:
    """Returns a warning with class names instead of the columns of `target`."""
    return re.sub(
        r"\(column (\d+) of target\)",
        lambda m: f"({targets[int(m[1])].class_name})",
        text,
    )


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
