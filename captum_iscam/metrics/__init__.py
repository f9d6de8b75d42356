"""Metrics that state what they compute; each declares its direction and its unit."""

from typing import TYPE_CHECKING, Any

from captum_iscam.metrics._base import Metric
from captum_iscam.metrics.attainable import attainable_deletion, attainable_insertion
from captum_iscam.metrics.coherence import adcc, arcc, coherency
from captum_iscam.metrics.complexity import complexity, sparseness
from captum_iscam.metrics.faithfulness import (
    average_drop,
    average_gain,
    average_increase,
    win_rate,
)
from captum_iscam.metrics.infidelity import infidelity
from captum_iscam.metrics.insertion_deletion import (
    CurveMetric,
    Curves,
    deletion,
    insertion,
)
from captum_iscam.metrics.interventions import irrelevant_object_share, object_order
from captum_iscam.metrics.localisation import (
    boxes_to_masks,
    energy_pointing_game,
    mask_iou,
    pointing_game,
    top_k_intersection,
)
from captum_iscam.metrics.patches import single_deletion
from captum_iscam.metrics.quantus import quantus_explain_func
from captum_iscam.metrics.randomisation import (
    Randomization,
    parameter_randomization,
    target_sensitivity,
)
from captum_iscam.metrics.road import (
    road,
    road_least_relevant_first,
    road_most_relevant_first,
)
from captum_iscam.metrics.robustness import sensitivity_max

if TYPE_CHECKING:
    from captum_iscam.attr.controls import (
        CenterMap,
        ChannelMean,
        RandomMap,
        center_map,
        channel_mean,
        random_map,
    )

__all__ = [
    "CenterMap",
    "ChannelMean",
    "CurveMetric",
    "Curves",
    "Metric",
    "RandomMap",
    "Randomization",
    "adcc",
    "arcc",
    "attainable_deletion",
    "attainable_insertion",
    "average_drop",
    "average_gain",
    "average_increase",
    "boxes_to_masks",
    "center_map",
    "channel_mean",
    "coherency",
    "complexity",
    "deletion",
    "energy_pointing_game",
    "infidelity",
    "insertion",
    "irrelevant_object_share",
    "mask_iou",
    "object_order",
    "parameter_randomization",
    "pointing_game",
    "quantus_explain_func",
    "random_map",
    "road",
    "road_least_relevant_first",
    "road_most_relevant_first",
    "sensitivity_max",
    "single_deletion",
    "sparseness",
    "target_sensitivity",
    "top_k_intersection",
    "win_rate",
]

_CONTROLS = (
    "CenterMap",
    "ChannelMean",
    "RandomMap",
    "center_map",
    "channel_mean",
    "random_map",
)


def __getattr__(name: str) -> Any:
    """Hands out the controls, which are attribution methods and live in `attr`."""
    if name in _CONTROLS:
        from captum_iscam.attr import controls

        return getattr(controls, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
