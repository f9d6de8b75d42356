"""IS-CAM, SS-CAM and Score-CAM for Captum, and the means to judge them."""

from captum_iscam.attr import (
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
)

__version__ = "0.1.0"

__all__ = [
    "LayerIntegratedGradCAM",
    "LayerIntegratedScoreCAM",
    "LayerScoreCAM",
    "LayerSmoothedScoreCAM",
    "__version__",
]
