"""Attribution methods: of layers, RISE, and what combines the maps of layers."""

from captum_iscam.attr.ablation_cam import LayerAblationCAM
from captum_iscam.attr.controls import CenterMap, ChannelMean, RandomMap
from captum_iscam.attr.fuse import fuse
from captum_iscam.attr.grad_cam_plus_plus import LayerGradCAMPlusPlus
from captum_iscam.attr.hires_cam import LayerHiResCAM
from captum_iscam.attr.integrated_grad_cam import LayerIntegratedGradCAM
from captum_iscam.attr.integrated_score_cam import LayerIntegratedScoreCAM
from captum_iscam.attr.layer_cam import LayerCAM
from captum_iscam.attr.poly_cam import LayerPolyCAM
from captum_iscam.attr.recipro_cam import LayerReciproCAM
from captum_iscam.attr.rise import RISE
from captum_iscam.attr.score_cam import LayerScoreCAM
from captum_iscam.attr.smooth_grad_cam_plus_plus import LayerSmoothGradCAMPlusPlus
from captum_iscam.attr.smoothed_score_cam import LayerSmoothedScoreCAM
from captum_iscam.attr.xgrad_cam import LayerXGradCAM

__all__ = [
    "RISE",
    "CenterMap",
    "ChannelMean",
    "LayerAblationCAM",
    "LayerCAM",
    "LayerGradCAMPlusPlus",
    "LayerHiResCAM",
    "LayerIntegratedGradCAM",
    "LayerIntegratedScoreCAM",
    "LayerPolyCAM",
    "LayerReciproCAM",
    "LayerScoreCAM",
    "LayerSmoothGradCAMPlusPlus",
    "LayerSmoothedScoreCAM",
    "LayerXGradCAM",
    "RandomMap",
    "fuse",
]
