"""IS-CAM, SS-CAM and Score-CAM for Captum, and the means to judge them."""

from captum_iscam.attr import (
    RISE,
    LayerGradCAMPlusPlus,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerSmoothGradCAMPlusPlus,
)

__version__ = "0.1.0"

__all__ = [
    "RISE",
    "LayerGradCAMPlusPlus",
    "LayerIntegratedGradCAM",
    "LayerIntegratedScoreCAM",
    "LayerScoreCAM",
    "LayerSmoothGradCAMPlusPlus",
    "LayerSmoothedScoreCAM",
    "__version__",
]
