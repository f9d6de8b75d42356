"""The table of methods: every class, with arguments that keep tests quick."""

from contextlib import contextmanager
from unittest import mock

import torch

from captum_iscam import (
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
from captum_iscam.attr import _regression
from captum_iscam.attr._base import LayerScoreMethod

METHODS = {
    "score-cam": (LayerScoreCAM, {}),
    "is-cam": (LayerIntegratedScoreCAM, {}),
    "is-cam recurrence": (
        LayerIntegratedScoreCAM,
        {"n_steps": 4, "method": "recurrence"},
    ),
    "is-cam accumulated": (
        LayerIntegratedScoreCAM,
        {"n_steps": 3, "method": "accumulated"},
    ),
    "is-cam radau": (LayerIntegratedScoreCAM, {"n_steps": 2, "method": "gaussradau"}),
    "ss-cam": (LayerSmoothedScoreCAM, {"n_samples": 3, "stdevs": 0.2}),
    "ss-cam authors' rule": (LayerSmoothedScoreCAM, {"n_samples": 2}),
    "ss-cam mask": (
        LayerSmoothedScoreCAM,
        {"n_samples": 2, "stdevs": 0.2, "noise": "mask"},
    ),
    "poly-cam": (LayerPolyCAM, {}),
    "integrated grad-cam": (LayerIntegratedGradCAM, {"n_steps": 4}),
    "grad-cam++": (LayerGradCAMPlusPlus, {}),
    "grad-cam++ products": (LayerGradCAMPlusPlus, {"denominator": "products"}),
    "smooth grad-cam++": (
        LayerSmoothGradCAMPlusPlus,
        {"n_samples": 3, "stdevs": 0.2},
    ),
    "layer-cam": (LayerCAM, {}),
    "hires-cam": (LayerHiResCAM, {}),
    "xgrad-cam": (LayerXGradCAM, {}),
    "ablation-cam": (LayerAblationCAM, {}),
    "recipro-cam": (LayerReciproCAM, {}),
}
SHORTCUTS = {
    "score-cam screened": (LayerScoreCAM, {"screening": 0.5}),
    "is-cam screened": (LayerIntegratedScoreCAM, {"screening": 0.5}),
    "is-cam rule screened": (
        LayerIntegratedScoreCAM,
        {"n_steps": 3, "screening": 0.5},
    ),
    "ss-cam screened": (
        LayerSmoothedScoreCAM,
        {"n_samples": 3, "stdevs": 0.2, "screening": 0.5},
    ),
}
"""The same methods with fewer passes. They keep every promise."""
EVERY = {
    **METHODS,
    **SHORTCUTS,
    "poly-cam both": (LayerPolyCAM, {"variant": "both"}),
}
LAYER_MASK_METHODS = ["ablation-cam", "recipro-cam"]
SCORE_METHODS = [
    name
    for name, (method, _) in METHODS.items()
    if issubclass(method, LayerScoreMethod) and name not in LAYER_MASK_METHODS
]
"""Those that mask the input."""
POSITION_METHODS = [*SCORE_METHODS, *LAYER_MASK_METHODS]
"""Those that need a layer of several positions."""
GRADIENT_METHODS = [name for name in METHODS if name not in POSITION_METHODS]
BASELINE_METHODS = [*SCORE_METHODS, "integrated grad-cam"]
NOISY_METHODS = [
    name
    for name, (method, _) in EVERY.items()
    if issubclass(method, (LayerSmoothedScoreCAM, LayerSmoothGradCAMPlusPlus))
]


@contextmanager
def small_layers_screened(name):
    """Lets shortcuts be what they are on the small layers of the tests, too."""
    fewest = 2 if name in SHORTCUTS else _regression.MIN_SCREENED_CHANNELS
    with mock.patch.object(_regression, "MIN_SCREENED_CHANNELS", fewest):
        yield


def attribute(name, model, layer, inputs, target=None, constructor=None, **options):
    """Runs one row of the table; noise always comes from seed 7."""
    method, own = EVERY[name]
    if name in NOISY_METHODS:
        own = {**own, "generator": torch.Generator().manual_seed(7)}
    explain = method(model, layer, **(constructor or {}))
    with small_layers_screened(name):
        return explain.attribute(inputs, target=target, **{**own, **options})
