"""IS-CAM, SS-CAM and Score-CAM for Captum, and the means to judge them."""

__version__ = "0.1.0"

__all__ = [
    "RISE",
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
    "__version__",
]

_MODULES = ("attr", "layers", "reshape_transforms")

# The classes bring torch, for which `captum-iscam --help` need not wait. So they are
# imported when somebody asks for them. Type checkers take this name for true, wherever
# it comes from, and see them at once.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from captum_iscam import attr as attr
    from captum_iscam import layers as layers
    from captum_iscam import reshape_transforms as reshape_transforms
    from captum_iscam.attr import (
        RISE,
        LayerAblationCAM,
        LayerCAM,
        LayerGradCAMPlusPlus,
        LayerHiResCAM,
        LayerIntegratedGradCAM,
        LayerIntegratedScoreCAM,
        LayerPolyCAM,
        LayerReciproCAM,
        LayerScoreCAM,
        LayerSmoothedScoreCAM,
        LayerSmoothGradCAMPlusPlus,
        LayerXGradCAM,
    )
else:

    def __getattr__(name):
        """Imports a public class or a module when it is first asked for."""
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in __all__:
            return getattr(import_module(f"{__name__}.attr"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__, *_MODULES})
