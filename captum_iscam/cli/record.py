"""Makes the maps of an image, and describes each for its record."""

from __future__ import annotations

import math
import platform
import re
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import captum
import numpy as np
import torch
from torch import Tensor, nn

import captum_iscam
from captum_iscam._utils.batching import synchronize
from captum_iscam._utils.hooks import count_passes
from captum_iscam.attr._base import LayerScoreMethod
from captum_iscam.attr._error import HalfPrecisionError
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
    passes and warnings. `delta` is the estimated relative error of the map, infinite
    where nothing is known, and None where the method estimates none.
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
    def error(self) -> str:
        """The estimated error for people, or "" where there is none."""
        return "" if self.delta is None else delta_text(self.delta)

    @property
    def key(self) -> str:
        """The map's name in the file of maps."""
        return f"{self.method}_{self.target.index}"

    def as_record(self) -> dict[str, Any]:
        """Returns everything but the arrays; an infinite delta is null."""
        delta = {}
        if self.delta is not None:
            delta["delta"] = self.delta if math.isfinite(self.delta) else None
        return {
            "method": self.method,
            "title": METHODS[self.method].title,
            "target": self.target.index,
            "class_name": self.target.class_name,
            "probability": self.target.probability,
            "map": self.key,
            "map_shape": list(self.attributions.shape[2:]),
            "maximum": float(self.attributions.max()),
            **delta,
            "seconds": round(self.seconds, 4),
            "forward_calls": self.forward_calls,
            "forward_passes": self.forward_passes,
            "targets_explained_together": self.targets_explained_together,
            "settings": self.settings,
            "warnings": self.warnings,
        }


def delta_text(delta: float | None) -> str:
    """Returns the estimated relative error of a map for people; None is unknown.

    Examples::

        >>> delta_text(0.0134), delta_text(12.3), delta_text(float("inf"))
        ('delta 1.3 %', 'delta 1230 %', 'delta unknown')
    """
    if delta is None or not math.isfinite(delta):
        return "delta unknown"
    percent = 100 * delta
    return f"delta {percent:.0f} %" if percent >= 100 else f"delta {percent:.1f} %"


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

    Each method is called once, for all targets. It estimates the error of its maps
    where that costs no pass: not under the rule of `n_steps`, nor in half precision.

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
        explain_by = partial(
            _explain_together, model, layer, inputs, targets, name, options
        )
        try:
            by_method.append(explain_by(_estimates_error(METHODS[name], options)))
        except HalfPrecisionError:
            by_method.append(explain_by(False))
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
    if with_delta:
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


def _estimates_error(method: Method, options: Options) -> bool:
    """Whether a method estimates the error of its maps, at no cost."""
    # The delta of Captum's own methods is a gap in completeness, not a relative error.
    ours = issubclass(method.attribution, LayerScoreMethod)
    # Where the rule is named, further points check it.
    free = "n_steps" not in method.takes or options.n_steps is None
    return ours and free and "return_convergence_delta" in method.settings()


def _recording(method: Method, deltas: list[float | None]) -> Method:
    """Returns the method, which adds the delta of each map to the list."""

    def finish(result: Any) -> Tensor:
        attributions, delta = result
        deltas.extend(delta.flatten().tolist())
        return method.finish(attributions)

    fixed = {**method.fixed, "return_convergence_delta": True}
    return replace(method, fixed=fixed, finish=finish)


def _with_class_names(text: str, targets: Sequence[Target]) -> str:
    """Returns a warning of the only example that says what is meant for an image.

    Columns of `target` become class names; without any, the example is this image.
    """

    def named(match: re.Match[str]) -> str:
        columns = (int(column) for column in match[1].split(", "))
        return ", ".join(targets[column].class_name for column in columns)

    text = re.sub(r"\bexample 0 \(columns? ([\d, ]+) of target\)", named, text)
    return re.sub(r"\bexample 0\b", "this image", text)


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
