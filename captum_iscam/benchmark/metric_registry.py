"""Every metric by name, and how a benchmark calls it.

A metric is one function and one registration. The function asks for what it needs by
the names of its parameters, which are keys of `ARGUMENTS`: a metric with `attributions`
and `masks` is called with a map and with the object's mask. All other parameters are
settings and need a default. A registered metric has a name on the command line, rows,
and its settings in `run.json`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from captum_iscam import metrics
from captum_iscam._utils.validation import closest
from captum_iscam.benchmark.metric_spec import ARGUMENTS, MetricSpec
from captum_iscam.benchmark.storage import COSTS
from captum_iscam.metrics._base import metric

__all__ = ["METRICS", "find_metrics", "metric", "register_metric", "with_settings"]

_GROUPS: dict[str, Sequence[str]] = {
    "default": ("default", "localisation"),
    "all": ("default", "further", "localisation"),
    "localisation": ("localisation",),
    "sanity": ("sanity",),
}
_GROUPS_OF_ONE = ("default", "further", "localisation", "sanity", "named")

METRICS: dict[str, MetricSpec] = {}

_Function = TypeVar("_Function", bound=Callable[..., Any])


def register_metric(
    function: _Function,
    group: str = "default",
    *,
    name: str | None = None,
    finish: Callable[[Any], Any] | None = None,
    **settings: Any,
) -> _Function:
    """Adds a metric to `METRICS`, by default under the name of its function.

    Args:
        function (Callable): The metric. It declares its direction and unit by
            :func:`metric`. Its parameters without a default are keys of `ARGUMENTS`, or
            are given in `settings`. It returns one number per example, a tensor `(N,)`,
            or `Curves`.
        group (str, optional): "default", "further", "localisation", "sanity" or
            "named", see :class:`MetricSpec`. Default: "default"
        name (str, optional): Its name, if one function is registered with several
            settings. Default: None, the name of the function
        finish (Callable, optional): Turns what the function returns into one number.
            Default: None, it returns one number per example
        **settings: Values for other parameters of the function than its defaults. They
            define the metric: no option of the command line changes them.

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
    if name is None:
        name = str(getattr(function, "__name__", repr(function)))
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
    direction = getattr(function, "higher_is_better", "undeclared")
    unit = getattr(function, "unit", None)
    if not isinstance(direction, bool | None) or not isinstance(unit, str):
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


# A map that is multiplied in directly dims the whole image, which networks bear: the
# plain forms cannot tell a random map from a good one.
register_metric(metrics.average_drop, keep=0.5)
register_metric(metrics.average_increase, keep=0.5)
register_metric(metrics.average_gain, keep=0.5)
register_metric(metrics.average_drop, "further", name="average_drop_plain", keep=None)
register_metric(
    metrics.average_increase, "further", name="average_increase_plain", keep=None
)
register_metric(metrics.average_gain, "further", name="average_gain_plain", keep=None)
register_metric(metrics.insertion)
register_metric(metrics.deletion)
register_metric(metrics.insertion, "further", name="insertion_blur", substrate="blur")
register_metric(metrics.deletion, "further", name="deletion_blur", substrate="blur")
register_metric(metrics.attainable_insertion, "named")
register_metric(metrics.attainable_deletion, "named")
register_metric(metrics.single_deletion)
# On a CPU, filling in the removed pixels takes longer than a small network's pass.
register_metric(metrics.road, "further")
register_metric(metrics.road_most_relevant_first, "further")
register_metric(metrics.road_least_relevant_first, "further")
register_metric(metrics.complexity)
register_metric(metrics.sparseness)
register_metric(metrics.coherency, "further")
register_metric(metrics.adcc, "further")
register_metric(metrics.arcc, "further")
register_metric(metrics.energy_pointing_game, "localisation")
register_metric(metrics.pointing_game, "localisation")
register_metric(metrics.mask_iou, "localisation")
register_metric(metrics.top_k_intersection, "localisation")
register_metric(metrics.object_order)
register_metric(metrics.irrelevant_object_share)
register_metric(metrics.infidelity, "sanity")
register_metric(metrics.sensitivity_max, "sanity")
register_metric(
    metrics.parameter_randomization,
    "sanity",
    finish=lambda found: found.rank_correlation.mean(),  # over the layers
)
register_metric(metrics.target_sensitivity, "sanity")


def find_metrics(
    names: str | None, has_regions: bool, has_interventions: bool = False
) -> dict[str, MetricSpec]:
    """Returns the metrics in a comma-separated list, each once.

    Args:
        names (str or None): Names from `METRICS`; "default"; "all" stands for all but
            the sanity checks and those that run by name only, "localisation" and
            "sanity" for those groups. None is "default".
        has_regions (bool): Whether objects are marked in any image; groups leave
            metrics out that need it, a name does not.
        has_interventions (bool, optional): Whether any image can be drawn without one
            of its objects, likewise. Default: False

    Raises:
        ValueError: If a name is unknown, none is left, or a named metric needs what
            the data do not have.

    Examples::

        >>> list(find_metrics("localisation,road", has_regions=False))
        ['road']
    """
    found: list[str] = []

    def lacks(spec: MetricSpec) -> str | None:
        if spec.needs_interventions and not has_interventions:
            return "the images without each object, which only the bundled scenes have"
        return "boxes or masks" if spec.needs_regions and not has_regions else None

    for name in [part.strip().lower() for part in (names or "default").split(",")]:
        if name in _GROUPS:
            found += [
                member
                for member, spec in METRICS.items()
                if spec.group in _GROUPS[name] and lacks(spec) is None
            ]
        elif name in METRICS:
            found.append(name)
        elif name:
            raise ValueError(
                f"metric must be a list of known metrics, got {name!r}. "
                f"{closest([name], METRICS)}Known are: {', '.join(METRICS)}; default, "
                "all, localisation and sanity for several."
            )
    missing = [
        f"{n!r}, which needs {what}" for n in found if (what := lacks(METRICS[n]))
    ]
    if missing or not found:
        got = missing[0] if missing else f"{names!r}"
        raise ValueError(
            f"metric must be a list of metrics the data can answer, got {got}. "
            "Mark the objects in the data, or name other metrics."
        )
    return {name: METRICS[name] for name in dict.fromkeys(found)}


def with_settings(
    specs: Mapping[str, MetricSpec], chosen: Mapping[str, Any]
) -> dict[str, MetricSpec]:
    """Returns the metrics with settings for those that have one of that name.

    What a metric is registered with stays: `insertion_blur` has no other substrate.

    Examples::

        >>> found = with_settings(METRICS, {"substrate": "blur"})
        >>> found["insertion"].settings["substrate"], found["road"].chosen
        ('blur', {})
    """
    return {
        name: replace(
            m,
            chosen={**{k: v for k, v in chosen.items() if k in m.settings}, **m.chosen},
        )
        for name, m in specs.items()
    }
