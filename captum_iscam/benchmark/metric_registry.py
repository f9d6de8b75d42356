"""Every metric by name, and how a benchmark calls it.

A metric is one function and one registration. The function asks for what it needs by
the names of its parameters, which are keys of `ARGUMENTS`: a metric with `attributions`
and `masks` is called with a map and with the object's mask. All other parameters are
settings and need a default. A registered metric has a name on the command line, rows,
and its settings in `run.json`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from captum_iscam import metrics
from captum_iscam.benchmark.storage import COSTS
from captum_iscam.metrics import Curves
from captum_iscam.metrics._base import metric

__all__ = [
    "ARGUMENTS",
    "METRICS",
    "MetricContext",
    "MetricResult",
    "MetricSpec",
    "find_metrics",
    "metric",
    "register_metric",
    "with_settings",
]


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


ARGUMENTS: Mapping[str, Callable[[MetricContext], Any]] = {
    "attributions": lambda context: context.attributions,
    "explanation_func": lambda context: context.explanation_func,
    "forward_func": lambda context: context.model,
    # A new one for every metric, so that no metric changes the noise of the next.
    "generator": lambda context: torch.Generator().manual_seed(context.seed),
    "inputs": lambda context: context.inputs,
    "internal_batch_size": lambda context: context.internal_batch_size,
    "masks": lambda context: context.masks,
    "model": lambda context: context.model,
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
            marked; "sanity", expensive checks that run only when they are named.
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

    def evaluate(self, context: MetricContext) -> MetricResult:
        """Returns the value of one map, None where it is not finite."""
        if self.needs_regions and context.masks is None:
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
        shape = tuple(found.shape) if isinstance(found, Tensor) else None
        if shape != (1,):
            got = f"the shape {shape}" if shape is not None else type(found).__name__
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


_GROUPS: dict[str, Sequence[str]] = {
    "default": ("default", "localisation"),
    "all": ("default", "further", "localisation"),
    "localisation": ("localisation",),
    "sanity": ("sanity",),
}
_GROUPS_OF_ONE = ("default", "further", "localisation", "sanity")

METRICS: dict[str, MetricSpec] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def register_metric(
    function: _Function,
    group: str = "default",
    *,
    finish: Callable[[Any], Any] | None = None,
    **settings: Any,
) -> _Function:
    """Adds a metric to `METRICS`, under the name of its function.

    Args:
        function (Callable): The metric. It declares its direction and unit by
            :func:`metric`. Its parameters without a default are keys of `ARGUMENTS`, or
            are given in `settings`. It returns one number per example, a tensor `(N,)`,
            or `Curves`.
        group (str, optional): "default", "further", "localisation" or "sanity", see
            :class:`MetricSpec`. Default: "default"
        finish (Callable, optional): Turns what the function returns into one number.
            Default: None, it returns one number per example
        **settings: Values for other parameters of the function than its defaults.

    Returns:
        The function, so that this is also a decorator.

    Raises:
        ValueError: If the function declares no direction or unit, has a parameter that
            cannot be given, or its name is taken.

    Examples::

        >>> @metric(higher_is_better=False, unit="share")
        ... def positive_share(attributions, threshold=0.0):
        ...     return (attributions > threshold).float().mean((1, 2, 3))
        >>> _ = register_metric(positive_share, "further", threshold=0.1)
        >>> METRICS["positive_share"].settings
        {'threshold': 0.1}
        >>> del METRICS["positive_share"]
    """
    name = getattr(function, "__name__", repr(function))
    _check_name(name, function)
    _check_declaration(name, function)
    if group not in _GROUPS_OF_ONE:
        raise ValueError(
            f"group must be one of {', '.join(_GROUPS_OF_ONE)}, got {group!r} for "
            f"{name}. Leave it out for default."
        )
    spec = MetricSpec(function, group, settings, finish)
    _check_parameters(name, spec)
    METRICS[name] = spec
    return function


def _check_name(name: str, function: Callable[..., Any]) -> None:
    """Raises unless the name can stand in a list of metrics, and is free."""
    if not name.isidentifier() or name != name.lower():
        raise ValueError(
            f"function must have a name in lower case, got {name}. Define it with def."
        )
    old = METRICS.get(name)
    # A cell of a notebook that is run again defines the same metric again.
    again = old is not None and _home(old.metric) == _home(function)
    if name in (*_GROUPS, *COSTS) or (old is not None and not again):
        raise ValueError(
            f"function must have a name that no metric or group has, got {name}. "
            "Rename it."
        )


def _home(function: Any) -> tuple[str, str]:
    return function.__module__, function.__qualname__


def _check_declaration(name: str, function: Callable[..., Any]) -> None:
    direction = getattr(function, "higher_is_better", None)
    unit = getattr(function, "unit", None)
    if not isinstance(direction, bool) or not isinstance(unit, str):
        raise ValueError(
            f"function must declare higher_is_better and unit, got {name} without. "
            'Decorate it with @metric(higher_is_better=..., unit="...").'
        )


def _check_parameters(name: str, spec: MetricSpec) -> None:
    """Raises unless every parameter has a value: given, set, or its default."""
    open_ended = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    unknown = [
        p.name
        for p in spec.parameters.values()
        if p.kind is p.POSITIONAL_ONLY
        or (
            p.default is p.empty
            and p.kind not in open_ended
            and p.name not in ARGUMENTS
            and p.name not in spec.chosen
        )
    ]
    if unknown:
        raise ValueError(
            f"function must have parameters that a benchmark can give, got "
            f"{', '.join(unknown)} in {name}. It gives {', '.join(ARGUMENTS)}; give "
            "any other a default."
        )
    unknown = [setting for setting in spec.chosen if setting not in spec.parameters]
    if unknown:
        raise ValueError(
            f"settings must be parameters of {name}, got {', '.join(unknown)}. Its "
            f"parameters are: {', '.join(spec.parameters)}."
        )


register_metric(metrics.average_drop)
register_metric(metrics.average_increase)
register_metric(metrics.average_gain)
register_metric(metrics.insertion)
register_metric(metrics.deletion)
# On a CPU, filling in the removed pixels takes longer than a small network's pass.
register_metric(metrics.road, "further")
register_metric(metrics.road_most_relevant_first, "further")
register_metric(metrics.road_least_relevant_first, "further")
register_metric(metrics.complexity)
register_metric(metrics.sparseness)
register_metric(metrics.coherency, "further")
register_metric(metrics.adcc, "further")
register_metric(metrics.energy_pointing_game, "localisation")
register_metric(metrics.pointing_game, "localisation")
register_metric(metrics.mask_iou, "localisation")
register_metric(metrics.top_k_intersection, "localisation")
register_metric(metrics.infidelity, "sanity")
register_metric(metrics.sensitivity_max, "sanity")
register_metric(
    metrics.parameter_randomization,
    "sanity",
    finish=lambda found: found.rank_correlation.mean(),  # over the layers
)
register_metric(metrics.target_sensitivity, "sanity")


def find_metrics(names: str | None, has_regions: bool) -> dict[str, MetricSpec]:
    """Returns the metrics in a comma-separated list, each once.

    Args:
        names (str or None): Names from `METRICS`; "default"; "all" stands for all but
            the sanity checks, "localisation" and "sanity" for those groups. None is
            "default".
        has_regions (bool): Whether objects are marked in any image; groups leave
            metrics out that need it, a name does not.

    Raises:
        ValueError: If a name is unknown, none is left, or a named metric needs boxes or
            masks and there are none.

    Examples::

        >>> list(find_metrics("localisation,road", has_regions=False))
        ['road']
    """
    found: list[str] = []
    for name in [part.strip().lower() for part in (names or "default").split(",")]:
        if name in _GROUPS:
            found += [
                member
                for member, spec in METRICS.items()
                if spec.group in _GROUPS[name]
                and (has_regions or not spec.needs_regions)
            ]
        elif name in METRICS:
            found.append(name)
        elif name:
            raise ValueError(
                f"metric must be a list of known metrics, got {name!r}. Known are: "
                f"{', '.join(METRICS)}; default, all, localisation and sanity for "
                "several."
            )
    missing = [n for n in found if METRICS[n].needs_regions and not has_regions]
    if missing or not found:
        got = f"{missing[0]!r}, which needs boxes or masks" if missing else f"{names!r}"
        raise ValueError(
            f"metric must be a list of metrics the data can answer, got {got}. "
            "Mark the objects in the data, or name other metrics."
        )
    return {name: METRICS[name] for name in dict.fromkeys(found)}


def with_settings(
    specs: Mapping[str, MetricSpec], chosen: Mapping[str, Any]
) -> dict[str, MetricSpec]:
    """Returns the metrics with settings for those that have one of that name.

    Examples::

        >>> found = with_settings(METRICS, {"substrate": "blur"})
        >>> found["insertion"].settings["substrate"], found["road"].chosen
        ('blur', {})
    """
    return {
        name: replace(
            m,
            chosen={**m.chosen, **{k: v for k, v in chosen.items() if k in m.settings}},
        )
        for name, m in specs.items()
    }
