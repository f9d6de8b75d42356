"""A metric of the table, and what a benchmark calls it with."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_iscam._utils.training import restoring_buffers
from captum_iscam.benchmark.model_traces import difference, traces_of
from captum_iscam.metrics import Curves


@dataclass(frozen=True)
class MetricContext:
    """One map and all that a metric may need to judge it.

    Attributes:
        model (torch.nn.Module): The model.
        inputs (Tensor): The input `(1, C, H, W)`.
        attributions (Tensor): Its map `(1, 1, h, w)`.
        target (int): The class the map explains.
        other_target (int): The most probable of the other classes.
        masks (Tensor or None): The pixels of the target's class, `(1, 1, H, W)`; None
            where they are not known.
        explanation_func (Callable): The method: `explanation_func(inputs, target=...)`
            gives maps.
        cached_explanation_func (Callable): The same, but a call that repeats the last
            one returns the same maps without computing them again.
        seed (int): Seed of the noise.
        internal_batch_size (int or None): Inputs per forward pass. Default: None
        interventions (Tensor or None): The input drawn without each of its `K` objects,
            `(1, K, C, H, W)`. Default: None, where that is not known
        object_masks (Tensor or None): The pixels of these objects, `(1, K, H, W)`.
            Default: None
    """

    model: nn.Module
    inputs: Tensor
    attributions: Tensor
    target: int
    other_target: int
    masks: Tensor | None
    explanation_func: Callable[..., Tensor]
    cached_explanation_func: Callable[..., Tensor]
    seed: int
    internal_batch_size: int | None = None
    interventions: Tensor | None = None
    object_masks: Tensor | None = None

    def copied(self) -> MetricContext:
        """Returns the same with tensors of its own, to which a metric may write."""
        own: dict[str, Any] = {
            name: value.clone()
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **own)


ARGUMENTS: Mapping[str, Callable[[MetricContext], Any]] = {
    "attributions": lambda context: context.attributions,
    "explanation_func": lambda context: context.explanation_func,
    "forward_func": lambda context: context.model,
    # A new one for every metric, so that no metric changes the noise of the next.
    "generator": lambda context: torch.Generator().manual_seed(context.seed),
    "inputs": lambda context: context.inputs,
    "internal_batch_size": lambda context: context.internal_batch_size,
    "interventions": lambda context: context.interventions,
    "masks": lambda context: context.masks,
    "model": lambda context: context.model,
    "object_masks": lambda context: context.object_masks,
    "other_target": lambda context: context.other_target,
    "return_curves": lambda context: True,
    "size": lambda context: context.inputs.shape[2:],
    "target": lambda context: context.target,
}
"""The parameter names that a benchmark fills in, and with what."""

# Arguments that are no settings, and that keep their default.
_NOT_GIVEN = ("additional_forward_args",)


class MetricResult(NamedTuple):
    """A metric's value, None where it has none, and the curve behind it."""

    value: float | None
    fractions: list[float] | None = None
    scores: list[float] | None = None


@dataclass(frozen=True)
class MetricSpec:
    """One metric of the table.

    Attributes:
        metric (Callable): The function, which declares direction and unit.
        group (str): "default"; "further" for metrics that repeat others or are slow,
            which default excludes; "localisation", part of default where objects are
            marked; "sanity", expensive checks that run only when they are named;
            "named", metrics in no group, which run only by their own name.
        chosen (Mapping[str, Any]): Settings other than the function's own defaults.
        finish (Callable, optional): Turns what the function returns into one number.
            Default: None, it returns one number
    """

    metric: Any
    group: str = "default"
    chosen: Mapping[str, Any] = field(default_factory=dict)
    finish: Callable[[Any], Any] | None = None

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of the function by name."""
        return inspect.signature(self.metric).parameters

    @property
    def needs_regions(self) -> bool:
        """Whether it needs to know where the object is."""
        return "masks" in self.parameters

    @property
    def needs_interventions(self) -> bool:
        """Whether it needs the image without each of its objects."""
        return not {"interventions", "object_masks"}.isdisjoint(self.parameters)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings it runs with, for the record."""
        plain = (bool, int, float, str, tuple, type(None))
        own = {
            p.name: list(p.default) if isinstance(p.default, tuple) else p.default
            for p in self.parameters.values()
            if isinstance(p.default, plain)
            and p.name not in ARGUMENTS
            and p.name not in _NOT_GIVEN
        }
        return {**own, **self.chosen}

    @property
    def is_own(self) -> bool:
        """Whether the metric is one of the package."""
        return str(self.metric.__module__).partition(".")[0] == "captum_iscam"

    @contextmanager
    def leaving_the_model(self, model: nn.Module) -> Iterator[None]:
        """Raises a ValueError where a metric that is not the package's changes it.

        Its buffers are restored without a word, since any pass may write to them.
        """
        if self.is_own or {"model", "forward_func"}.isdisjoint(self.parameters):
            yield
            return
        before = traces_of(model)
        with restoring_buffers(model):
            yield
        changed = difference(before, traces_of(model))
        if changed:
            raise ValueError(
                f"{self.metric.__name__} must leave the model as it is, for the "
                f"metrics after it, but it changed {changed}. Let it work on "
                "copy.deepcopy(model)."
            )

    def evaluate(self, context: MetricContext) -> MetricResult:
        """Returns the value of one map, None where it is not finite."""
        if self.needs_regions and context.masks is None:
            return MetricResult(None)
        if self.needs_interventions and context.interventions is None:
            return MetricResult(None)
        found = self.call(context)
        self.check(found)
        if self.finish is not None:
            found = self.finish(found)
        if not isinstance(found, Curves):
            return MetricResult(_finite(found))
        scores = found.scores[0].tolist()
        if not all(map(math.isfinite, scores)):
            return MetricResult(None)
        return MetricResult(_finite(found.auc), found.fractions.tolist(), scores)

    def call(self, context: MetricContext) -> Any:
        """Returns what the function returns for one map."""
        return self.metric(**{**self._arguments(context), **self.chosen})

    def check(self, found: object) -> None:
        """Raises a TypeError unless `found` is one number per example."""
        if self.finish is not None or isinstance(found, Curves):
            return
        got = type(found).__name__
        if isinstance(found, Tensor):
            got = f"the shape {tuple(found.shape)}"
            if found.shape == (1,):
                if not (found.is_complex() or found.dtype == torch.bool):
                    return
                got = f"the type {found.dtype}"
        raise TypeError(
            f"{self.metric.__name__} must return one number per example, a tensor "
            f"(N,), got {got} for one. Return that, or register it with finish=."
        )

    def _arguments(self, context: MetricContext) -> dict[str, Any]:
        asked = self.parameters
        given = {name: of(context) for name, of in ARGUMENTS.items() if name in asked}
        # A metric that compares a given map with others calls the method with the
        # model as it is, and such metrics ask for the same maps. Any other may change
        # the model between two calls, so that a map from before would be wrong.
        if {"attributions", "explanation_func"} <= given.keys():
            given["explanation_func"] = context.cached_explanation_func
        # It counts inputs of the model. A metric that has only the method would take it
        # for inputs per call of the method, which changes the method's noise.
        if "forward_func" not in given:
            given.pop("internal_batch_size", None)
        return given


def _finite(value: Tensor | float) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
