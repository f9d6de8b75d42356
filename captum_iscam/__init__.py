"""IS-CAM, SS-CAM and Score-CAM for Captum."""

__version__ = "0.1.0"
