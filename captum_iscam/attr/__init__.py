"""Attribution methods, each a `captum.attr.LayerAttribution`."""

from captum_iscam.attr.integrated_grad_cam import LayerIntegratedGradCAM
from captum_iscam.attr.integrated_score_cam import LayerIntegratedScoreCAM
from captum_iscam.attr.score_cam import LayerScoreCAM
from captum_iscam.attr.smoothed_score_cam import LayerSmoothedScoreCAM

__all__ = [
    "LayerIntegratedGradCAM",
    "LayerIntegratedScoreCAM",
    "LayerScoreCAM",
    "LayerSmoothedScoreCAM",
]
