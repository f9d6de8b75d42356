"""What each picture of a method's page shows: a title and how the map is made."""

import torch
from captum.attr import LayerGradCam

from captum_iscam import (
    RISE,
    LayerGradCAMPlusPlus,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerSmoothGradCAMPlusPlus,
)
from captum_iscam.metrics import ChannelMean

IS, SS, IGC = LayerIntegratedScoreCAM, LayerSmoothedScoreCAM, LayerIntegratedGradCAM
LOGITS = {"score": "identity"}
WEIGHED = {"channel_softmax": True}
NOISY = {"n_samples": 4}

# For each page: title, class, arguments of the constructor, of `attribute`.
SETTINGS = {
    "score_cam": [
        ("Score-CAM, text of the paper", LayerScoreCAM, {}, {}),
        ("Algorithm 1: logits, channel softmax", LayerScoreCAM, LOGITS, WEIGHED),
        ("probabilities, channel softmax", LayerScoreCAM, {}, WEIGHED),
        ("mean of the channels, knows no class", ChannelMean, {}, {}),
    ],
    "is_cam": [
        ("the default: integral", IS, {}, {}),
        (
            "authors' sum, 10 steps",
            IS,
            {},
            {"n_steps": 10, "method": "riemann_right"},
        ),
        (
            "printed recurrence, 10 steps",
            IS,
            {},
            {"n_steps": 10, "method": "recurrence"},
        ),
        (
            "recurrence, logits, channel softmax",
            IS,
            LOGITS,
            {"n_steps": 10, "method": "recurrence", **WEIGHED},
        ),
    ],
    "ss_cam": [
        ("no noise: Score-CAM", LayerScoreCAM, {}, {}),
        ("deviation 0.1", SS, {}, {"stdevs": 0.1, **NOISY}),
        ("deviation 0.5", SS, {}, {"stdevs": 0.5, **NOISY}),
        ("authors' rule", SS, {}, NOISY),
        ("on the mask, deviation 2", SS, {}, {"noise": "mask", "stdevs": 2.0, **NOISY}),
    ],
    "integrated_grad_cam": [
        ("Grad-CAM", LayerGradCam, {}, {"relu_attributions": True}),
        ("Integrated Grad-CAM", IGC, {}, {}),
        ("figure of the paper", IGC, {}, {"method": "riemann_right"}),
        ("of the probability", IGC, {"score": "softmax"}, {}),
    ],
    "grad_cam_plus_plus": [
        ("Grad-CAM", LayerGradCam, {}, {"relu_attributions": True}),
        ("Grad-CAM++, as printed", LayerGradCAMPlusPlus, {}, {}),
        ("sum of products", LayerGradCAMPlusPlus, {}, {"denominator": "products"}),
        ("Smooth Grad-CAM++", LayerSmoothGradCAMPlusPlus, {}, {}),
    ],
    "rise": [
        ("500 masks", RISE, {}, {"n_masks": 500}),
        ("4000 masks", RISE, {}, {"n_masks": 4000}),
        (
            "4000 masks, a tenth kept",
            RISE,
            {},
            {"n_masks": 4000, "keep_probability": 0.1},
        ),
    ],
}


def maps_of(name, model, inputs, target):
    """Returns the maps of one picture's line by title."""
    maps = {}
    for title, attribution, constructor, own in SETTINGS[name]:
        explained = () if attribution is RISE else (model.features,)
        explain = attribution(model, *explained, **constructor)
        noisy = (RISE, LayerSmoothedScoreCAM, LayerSmoothGradCAMPlusPlus)
        if attribution in noisy:
            own = {**own, "generator": torch.Generator().manual_seed(0)}
        attributions = explain.attribute(inputs, target=target, **own).detach()
        if attribution is RISE:  # its zero means nothing
            attributions = attributions - attributions.min()
        maps[title] = attributions
    return maps
