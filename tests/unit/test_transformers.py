import pytest
import torch
from reference.transformers import MODELS, SIZES, small_vit
from torch import nn

from captum_iscam.layers import default_layer, reshape_transform_for, token_layer
from captum_iscam.methods import METHODS, Options
from captum_iscam.reshape_transforms import maxvit_grid, maxvit_windows, swin, vit

pytestmark = pytest.mark.filterwarnings(
    "ignore:The map is zero",
    "ignore:The scores of masked inputs differ by little",
    "ignore:The score of example",
    "ignore:Channels that support",
    "ignore:The noise",
)
ATTENTION = "blocks.2.layers.0.layers"


@pytest.mark.parametrize(
    ("model", "layer", "expected"),
    [
        ("vit", "conv_proj", None),
        ("vit", "encoder.ln", vit),
        ("vit", "encoder.layers.encoder_layer_1.ln_1", vit),
        ("vit", "heads", None),
        ("swin", "features.0.0", None),
        ("swin", "features.0.1", swin),
        ("swin", "features.3", swin),
        ("swin", "norm", swin),
        ("swin", "permute", None),
        ("swin", "head", None),
        ("maxvit", "stem.0", None),
        ("maxvit", "blocks.2", None),
        ("maxvit", f"{ATTENTION}.window_attention", None),
        ("maxvit", f"{ATTENTION}.window_attention.mlp_layer.0", maxvit_windows),
        ("maxvit", f"{ATTENTION}.grid_attention.attn_layer", maxvit_grid),
        ("maxvit", "classifier", None),
    ],
)
def test_layers_get_the_transform_they_need(model, layer, expected):
    model = MODELS[model]()

    assert reshape_transform_for(model, model.get_submodule(layer)) is expected


def test_other_models_need_none():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())

    assert token_layer(model) is None
    assert reshape_transform_for(model, model[0]) is None


def test_behind_the_last_attention_the_patches_do_not_matter():
    model, x = small_vit(), torch.rand(1, 3, 32, 32)
    _, before = token_layer(model)
    reach = []
    for layer in (before, model.encoder.layers[-1]):
        seen = []
        handle = layer.register_forward_hook(lambda _, __, out, to=seen: to.append(out))
        score = model(x)[0, 1]
        handle.remove()
        (gradient,) = torch.autograd.grad(score, seen[0])
        reach.append(gradient[:, 1:].abs().max().item())

    assert reach[0] > 0
    assert reach[1] == 0


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", MODELS)
# Without training, MaxViT gives all images the same score but for rounding.
@pytest.mark.filterwarnings("ignore:The scores of masked inputs differ by little")
def test_every_method_of_the_table_explains_transformers(name, kind):
    model, side = MODELS[kind](), SIZES[kind]
    x = torch.rand(2, 3, side, side)
    _, layer = default_layer(model, x[:1])

    out = METHODS[name].attribute(
        model, layer, x, [0, 2], Options(n_samples=2, n_masks=20)
    )

    assert out.shape[:2] == (2, 1)
    assert out.shape[2] == out.shape[3] > 1
    assert out.shape[2] < side or not METHODS[name].of_layer
    assert torch.isfinite(out).all()


def test_grad_cam_of_a_vit_is_that_of_its_maps():
    model, x = small_vit(), torch.rand(1, 3, 32, 32)
    _, layer = token_layer(model)
    seen = []
    handle = layer.register_forward_hook(lambda _, __, out: seen.append(out))
    score = model(x)[0, 1]
    handle.remove()

    out = METHODS["grad-cam"].attribute(model, layer, x, 1)

    (gradient,) = torch.autograd.grad(score, seen[0])
    maps, gradients = vit(seen[0]), vit(gradient)
    weights = gradients.mean((2, 3), keepdim=True)
    expected = (weights * maps).sum(1, keepdim=True).relu()
    torch.testing.assert_close(out, expected.detach())
    assert out.max() > 0
