"""Metrics that state what they compute; each declares its direction and its unit."""

from typing import TYPE_CHECKING, Any

from captum_iscam.metrics._curves import CurveMetric, Curves
from captum_iscam.metrics._declare import Metric
from captum_iscam.metrics._regions import boxes_to_masks
from captum_iscam.metrics.captum_infidelity import infidelity
from captum_iscam.metrics.captum_sensitivity import sensitivity_max
from captum_iscam.metrics.coherence import adcc, coherency
from captum_iscam.metrics.curves import deletion, insertion
from captum_iscam.metrics.faithfulness import average_drop, average_increase
from captum_iscam.metrics.gain import average_gain, win_rate
from captum_iscam.metrics.localisation import (
    energy_pointing_game,
    mask_iou,
    pointing_game,
    top_k_intersection,
)
from captum_iscam.metrics.quality import complexity, sparseness
from captum_iscam.metrics.quantus_adapter import quantus_explain_func
from captum_iscam.metrics.remove_and_debias import (
    road,
    road_least_relevant_first,
    road_most_relevant_first,
)
from captum_iscam.metrics.sanity import (
    Randomization,
    parameter_randomization,
    target_sensitivity,
)

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
    "mask_iou",
    "parameter_randomization",
    "pointing_game",
    "quantus_explain_func",
    "random_map",
    "road",
    "road_least_relevant_first",
    "road_most_relevant_first",
    "sensitivity_max",
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
