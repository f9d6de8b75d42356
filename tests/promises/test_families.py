"""Every family of torchvision's classifiers, through every method.

The networks are as small as their family allows, with random weights whose batch norms
were settled on a few images. The layer is the one that the command line picks. Score
methods pay for each channel, so they are given the first few channels of the layer.
"""

import pytest
import torch
from reference.transformers import MODELS, SIZES
from torch import nn
from torchvision.models import get_model

from captum_iscam import (
    RISE,
    LayerAblationCAM,
    LayerCAM,
    LayerGradCAMPlusPlus,
    LayerHiResCAM,
    LayerIntegratedGradCAM,
    LayerIntegratedScoreCAM,
    LayerReciproCAM,
    LayerScoreCAM,
    LayerSmoothedScoreCAM,
    LayerSmoothGradCAMPlusPlus,
    LayerXGradCAM,
)
from captum_iscam.attr.grad_cam import GradCAM
from captum_iscam.layers import default_layer, reshape_transform_for

CLASSES, CHANNELS = 4, 6
# The smaller the image the faster; below these sizes the default layer is one place.
FAMILIES = {
    "alexnet": 96,
    "convnext_tiny": 64,
    "densenet121": 64,
    "efficientnet_b0": 64,
    "googlenet": 64,
    "inception_v3": 107,
    "maxvit": SIZES["maxvit"],
    "mnasnet0_5": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "regnet_y_400mf": 64,
    "resnet18": 64,
    "resnext50_32x4d": 64,
    "shufflenet_v2_x0_5": 64,
    "squeezenet1_1": 64,
    "swin": SIZES["swin"],
    "vgg11": 64,
    "vit": SIZES["vit"],
}
LAYERS = {
    "alexnet": "features",
    "convnext_tiny": "features",
    "densenet121": "features",
    "efficientnet_b0": "features",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "maxvit": "blocks.3",
    "mnasnet0_5": "layers",
    "mobilenet_v2": "features",
    "mobilenet_v3_small": "features",
    "regnet_y_400mf": "trunk_output",
    "resnet18": "layer4",
    "resnext50_32x4d": "layer4",
    "shufflenet_v2_x0_5": "conv5",
    "squeezenet1_1": "features",
    "swin": "permute",
    "vgg11": "features",
    "vit": "encoder.layers.encoder_layer_1.ln_1",
}
QUICK = {
    LayerScoreCAM: {},
    LayerIntegratedScoreCAM: {"n_steps": 2},
    LayerSmoothedScoreCAM: {"n_samples": 1, "stdevs": 0.1},
    LayerIntegratedGradCAM: {"n_steps": 2},
    LayerGradCAMPlusPlus: {},
    LayerSmoothGradCAMPlusPlus: {"n_samples": 2},
    LayerCAM: {},
    LayerHiResCAM: {},
    LayerXGradCAM: {},
    LayerAblationCAM: {},
    LayerReciproCAM: {},
    GradCAM: {},
}


def build(family):
    if family in MODELS:
        return MODELS[family]()
    options = {"num_classes": CLASSES}
    if family in ("googlenet", "inception_v3"):
        options.update(init_weights=False, aux_logits=False)
    if family.startswith("vgg"):
        options.update(init_weights=False)
    return settled(get_model(family, **options), FAMILIES[family])


def settled(model, side):
    """Returns the model with batch norms that fit its weights: else nothing is left
    of an image after fifty random layers."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all that is shown, here of one batch
            module.train()
    with torch.no_grad():
        model(torch.rand(4, 3, side, side))
    return model.eval()


def state_of(model):
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        [m.training for m in model.modules()],
        [p.grad for p in model.parameters()],
        [p.requires_grad for p in model.parameters()],
    )


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings(
    # Without training, some networks give all images the same score but for rounding.
    "ignore:The scores of masked inputs differ by little more than their last digit",
)
def test_every_method_explains_the_default_layer(family):
    model, side = build(family), FAMILIES[family]
    x = torch.rand(1, 3, side, side)
    name, layer = default_layer(model, x)
    whole = reshape_transform_for(model, layer) or (lambda output: output)
    size = tuple(whole(output_of(model, layer, x)).shape[2:])
    target = int(model(x).argmax())  # others may have nothing that supports them
    before, rest = state_of(model)[0], state_of(model)[1:]

    maps = {
        method.__name__: explain(method, own, model, layer, x, target, whole)
        for method, own in QUICK.items()
    }

    assert name == LAYERS[family]
    for title, out in maps.items():
        assert out.shape == (1, 1, *size), title
        assert torch.isfinite(out).all(), title
        assert out.max() > out.min(), title
    out = RISE(model).attribute(x, target, n_masks=4, grid=3)
    assert out.shape == (1, 1, side, side)
    assert torch.isfinite(out).all()
    assert out.max() > out.min()
    after = state_of(model)
    assert all(torch.equal(tensor, after[0][key]) for key, tensor in before.items())
    assert rest == after[1:]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def explain(method, own, model, layer, x, target, whole):
    built = {"reshape_transform": whole}
    if "Score" in method.__name__:
        built = {"reshape_transform": lambda output: whole(output)[:, :CHANNELS]}
    if method is LayerReciproCAM:  # untrained networks have equal probabilities
        built["score"] = "identity"
    attribution = method(model, layer, **built)
    return attribution.attribute(x, target=target, relu_attributions=False, **own)


def output_of(model, layer, x):
    seen = []
    handle = layer.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[-1]
