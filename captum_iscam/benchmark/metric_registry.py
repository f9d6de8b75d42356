"""Every metric by name: what it needs to know, and how it is asked."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from captum_iscam import metrics
from captum_iscam.metrics import Curves


@dataclass(frozen=True)
class MetricContext:
    """All that a metric may want to know of one map.

    Attributes:
        model (torch.nn.Module): The model.
        inputs (Tensor): The input `(1, C, H, W)`.
        attributions (Tensor): Its map `(1, 1, h, w)`.
        target (int): The class the map explains.
        other_target (int): The most probable of the other classes.
        mask (Tensor or None): The pixels of the target's class, `(1, 1, H, W)`.
        explain (Callable): The method: `explain(inputs, target=...)` gives maps.
        explain_again (Callable): The same, which remembers its last answer.
        seed (int): Where noise comes from.
        internal_batch_size (int or None): Inputs per forward pass.
    """

    model: nn.Module
    inputs: Tensor
    attributions: Tensor
    target: int
    other_target: int
    mask: Tensor | None
    explain: Callable[..., Tensor]
    explain_again: Callable[..., Tensor]
    seed: int
    internal_batch_size: int | None = None

    def generator(self) -> torch.Generator:
        """Returns where noise comes from, the same at every call."""
        return torch.Generator().manual_seed(self.seed)


class MetricResult(NamedTuple):
    """A metric's value, None where it has none, and the curve behind it."""

    value: float | None
    fractions: list[float] | None = None
    scores: list[float] | None = None


Ask = Callable[[Callable[..., Any], MetricContext, Mapping[str, Any]], Any]


@dataclass(frozen=True)
class MetricSpec:
    """One metric of the table.

    Attributes:
        metric (Callable): The function, which declares direction and unit.
        ask (Callable): Calls it with a context and settings.
        group (str): "default"; "further", which default leaves out since it repeats
            others or costs much; "localisation", part of default where objects
            are marked; "sanity", which is expensive and runs when named.
        chosen (Mapping[str, Any]): Settings other than the function's own defaults.
    """

    metric: Any
    ask: Ask
    group: str = "default"
    chosen: Mapping[str, Any] = field(default_factory=dict)

    @property
    def needs_regions(self) -> bool:
        """Whether it asks where the object is."""
        return self.group == "localisation"

    @property
    def settings(self) -> dict[str, Any]:
        """All settings it runs with, as a record of it."""
        parameters = inspect.signature(self.metric).parameters.values()
        plain = (bool, int, float, str, tuple, type(None))
        own = {
            p.name: list(p.default) if isinstance(p.default, tuple) else p.default
            for p in parameters
            if p.kind is p.KEYWORD_ONLY
            and isinstance(p.default, plain)
            and p.name not in _NO_SETTING
        }
        return {**own, **self.chosen}

    def evaluate(self, context: MetricContext) -> MetricResult:
        """Returns the value of one map; a value that is not finite is none."""
        found = self.ask(self.metric, context, self.chosen)
        if not isinstance(found, Curves):
            return MetricResult(_finite(found))
        scores = found.scores[0].tolist()
        if not all(map(math.isfinite, scores)):
            return MetricResult(None)
        return MetricResult(_finite(found.auc), found.fractions.tolist(), scores)


# Where it runs, and what the context holds, is no setting.
_NO_SETTING = ("generator", "internal_batch_size", "return_curves", "size")


def _finite(value: Tensor) -> float | None:
    number = float(value.item())
    return number if math.isfinite(number) else None


def _of_scores(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    size = q.internal_batch_size
    return metric(
        q.model, q.inputs, q.attributions, q.target, internal_batch_size=size, **chosen
    )


def _with_noise(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    return _of_scores(metric, q, {"generator": q.generator(), **chosen})


def _with_curve(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    return _of_scores(metric, q, {"return_curves": True, **chosen})


def _of_map(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    return metric(q.attributions, size=q.inputs.shape[2:], **chosen)


def _on_object(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    if q.mask is None:
        return torch.tensor(torch.nan, device="cpu")
    return metric(q.attributions, q.mask, **chosen)


def _coherency(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    return metric(q.explain_again, q.inputs, q.attributions, q.target, **chosen)


def _adcc(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    return _of_scores(metric, q, {"explanation_func": q.explain_again, **chosen})


def _sensitivity(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    noise = q.generator()
    return metric(q.explain, q.inputs, q.target, generator=noise, **chosen)


def _randomization(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    noise = q.generator()
    found = metric(q.explain, q.model, q.inputs, q.target, generator=noise, **chosen)
    return found.rank_correlation.mean()


def _other_class(metric: Any, q: MetricContext, chosen: Mapping[str, Any]) -> Any:
    other = q.other_target
    return metric(q.explain, q.inputs, q.target, other_target=other, **chosen)


METRICS: dict[str, MetricSpec] = {
    "average_drop": MetricSpec(metrics.average_drop, _of_scores),
    "average_increase": MetricSpec(metrics.average_increase, _of_scores),
    "average_gain": MetricSpec(metrics.average_gain, _of_scores),
    "insertion": MetricSpec(metrics.insertion, _with_curve),
    "deletion": MetricSpec(metrics.deletion, _with_curve),
    # On a CPU a removal costs more than a small network's pass of what is left.
    "road": MetricSpec(metrics.road, _with_noise, "further"),
    "road_most_relevant_first": MetricSpec(
        metrics.road_most_relevant_first, _with_noise, "further"
    ),
    "road_least_relevant_first": MetricSpec(
        metrics.road_least_relevant_first, _with_noise, "further"
    ),
    "complexity": MetricSpec(metrics.complexity, _of_map),
    "sparseness": MetricSpec(metrics.sparseness, _of_map),
    "coherency": MetricSpec(metrics.coherency, _coherency, "further"),
    "adcc": MetricSpec(metrics.adcc, _adcc, "further"),
    "energy_pointing_game": MetricSpec(
        metrics.energy_pointing_game, _on_object, "localisation"
    ),
    "pointing_game": MetricSpec(metrics.pointing_game, _on_object, "localisation"),
    "mask_iou": MetricSpec(metrics.mask_iou, _on_object, "localisation"),
    "top_k_intersection": MetricSpec(
        metrics.top_k_intersection, _on_object, "localisation"
    ),
    "infidelity": MetricSpec(metrics.infidelity, _with_noise, "sanity"),
    "sensitivity_max": MetricSpec(metrics.sensitivity_max, _sensitivity, "sanity"),
    # Its value is the mean rank correlation over the layers.
    "parameter_randomization": MetricSpec(
        metrics.parameter_randomization, _randomization, "sanity"
    ),
    # Against the most probable of the other classes.
    "target_sensitivity": MetricSpec(
        metrics.target_sensitivity, _other_class, "sanity"
    ),
}


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
    lost = [n for n in found if METRICS[n].needs_regions and not has_regions]
    if lost or not found:
        got = f"{lost[0]!r}, which needs boxes or masks" if lost else f"{names!r}"
        raise ValueError(
            f"metric must be a list of metrics the data can answer, got {got}. "
            "Mark the objects in the data, or name other metrics."
        )
    return {name: METRICS[name] for name in dict.fromkeys(found)}


_GROUPS: dict[str, Sequence[str]] = {
    "default": ("default", "localisation"),
    "all": ("default", "further", "localisation"),
    "localisation": ("localisation",),
    "sanity": ("sanity",),
}


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
