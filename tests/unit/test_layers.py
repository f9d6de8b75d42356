import pytest
import torch
from torch import nn
from torchvision.models import get_model

from captum_iscam.layers import check_spatial, default_layer, find_layer, stages

DEFAULTS = {
    "alexnet": "features",
    "convnext_tiny": "features",
    "densenet121": "features",
    "efficientnet_b0": "features",
    "googlenet": "inception5b",
    "inception_v3": "Mixed_7c",
    "maxvit_t": "blocks.3",
    "mnasnet1_0": "layers",
    "mobilenet_v2": "features",
    "mobilenet_v3_large": "features",
    "mobilenet_v3_small": "features",
    "resnet18": "layer4",
    "resnet50": "layer4",
    "resnext50_32x4d": "layer4",
    "shufflenet_v2_x1_0": "conv5",
    "squeezenet1_0": "features",
    "squeezenet1_1": "features",
    "swin_t": "permute",
    "vgg16": "features",
    "vgg16_bn": "features",
}


def build(name, device="meta", size=224):
    """A torchvision model without numbers: shapes are all that matters here."""
    quiet = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device(device):
        return get_model(name, weights=None, **quiet).eval(), torch.rand(
            1, 3, size, size
        )


def small(*modules):
    return nn.Sequential(*modules).eval()


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # of older torch
@pytest.mark.parametrize("name", DEFAULTS)
def test_the_default_layer_is_the_one_the_papers_take(name):
    model, inputs = build(name)

    found, layer = default_layer(model, inputs)

    assert found == DEFAULTS[name]
    assert layer is model.get_submodule(found)


def test_the_default_layer_of_a_regnet():
    model, inputs = build("regnet_y_400mf", "cpu", 64)

    assert default_layer(model, inputs)[0] == "trunk_output"


def test_the_default_layer_of_a_vit_is_the_input_of_its_last_attention():
    model, inputs = build("vit_b_16")

    name, layer = default_layer(model, inputs)

    assert name == "encoder.layers.encoder_layer_11.ln_1"
    assert layer is model.get_submodule(name)


class Tokens(nn.Module):
    def forward(self, maps):
        return maps.flatten(2).transpose(1, 2)


def test_a_network_that_ends_in_tokens_needs_a_reshape_transform():
    model = small(nn.Conv2d(3, 4, 3), Tokens(), nn.Flatten(), nn.Linear(144, 5))

    with pytest.raises(ValueError, match=r"got tokens from .* reshape_transform"):
        default_layer(model, torch.rand(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vit_b_16", "encoder.layers.encoder_layer_3"),
        ("vit_b_16", "conv_proj"),
        ("swin_t", "features.5"),
        ("swin_t", "features.0.0"),
        ("swin_t", "norm"),
        ("maxvit_t", "blocks.1"),
        ("maxvit_t", "blocks.1.layers.0.layers.grid_attention.attn_layer.0"),
    ],
)
def test_layers_of_transformers_count_as_spatial(name, layer):
    model, inputs = build(name)

    check_spatial(model, inputs, layer)


def test_a_layer_of_a_transformer_that_mixes_its_places_is_refused():
    model, inputs = build("maxvit_t")

    with pytest.raises(ValueError, match=r"layer must have a spatial output .* 1000\)"):
        check_spatial(model, inputs, "classifier")


def test_maps_of_class_scores_are_not_explained():
    features = nn.Conv2d(3, 8, 3)
    scores = small(nn.Conv2d(8, 5, 1), nn.ReLU())
    model = small(features, scores, nn.AdaptiveAvgPool2d(1), nn.Flatten())

    assert default_layer(model, torch.rand(1, 3, 8, 8))[1] is features


def test_as_many_channels_as_classes_do_not_make_class_scores():
    features = small(nn.Conv2d(3, 5, 3), nn.ReLU())
    model = small(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 5))

    assert default_layer(model, torch.rand(1, 3, 8, 8))[1] is features


class Upsampled(nn.Module):
    """A segmentation network as torchvision's, with a second head if asked for."""

    def __init__(self, form, two_heads):
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, stride=2)
        self.head = small(nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 5, 1))
        self.low = nn.Conv2d(8, 5, 1)
        self.aux_head = small(nn.Conv2d(8, 7, 1), nn.Conv2d(7, 5, 1))
        self.form, self.two_heads = form, two_heads

    def forward(self, x):
        features = self.features(x)
        scores = self.head(features) + self.low(features)
        whole = nn.functional.interpolate(scores, x.shape[2:])
        if self.two_heads:
            self.aux_head(features)
        return {"dict": {"out": whole}, "logits": {"logits": scores}}.get(
            self.form, whole
        )


@pytest.mark.parametrize("form", ["tensor", "dict", "logits"])
@pytest.mark.parametrize("two_heads", [False, True])
def test_maps_of_class_scores_of_each_pixel_are_not_explained(form, two_heads):
    model = Upsampled(form, two_heads).eval()

    assert default_layer(model, torch.rand(1, 3, 16, 16))[0] == "head.1"


def test_a_network_that_ends_in_its_features_is_explained_there():
    model = small(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3, stride=2))

    assert default_layer(model, torch.rand(1, 3, 16, 16))[0] == "2"


@pytest.mark.parametrize("last", [nn.Conv2d(8, 5, 1), nn.Conv2d(8, 5, 3, padding=1)])
def test_a_network_that_ends_in_scores_of_each_pixel(last):
    model = small(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), last)

    assert default_layer(model, torch.rand(1, 3, 16, 16))[0] == "1"


@pytest.mark.parametrize(
    ("name", "layer"),
    [("fcn_resnet50", "classifier.2"), ("lraspp_mobilenet_v3_large", "classifier.cbr")],
)
def test_the_default_layer_of_a_segmentation_network(name, layer):
    model = get_model(name, weights=None, weights_backbone=None).eval()

    assert default_layer(model, torch.rand(1, 3, 64, 64))[0] == layer


def test_signals_and_volumes_have_a_default_layer():
    signal = small(nn.Conv1d(2, 4, 3), nn.Flatten(), nn.Linear(4 * 6, 3))
    volume = small(nn.Conv3d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 27, 3))

    assert default_layer(signal, torch.rand(1, 2, 8))[0] == "0"
    assert default_layer(volume, torch.rand(1, 1, 5, 5, 5))[0] == "0"


def test_a_network_without_maps_is_refused():
    model = small(nn.Flatten(), nn.Linear(3 * 64, 5))

    with pytest.raises(ValueError, match="model must have a module with a spatial"):
        default_layer(model, torch.rand(1, 3, 8, 8))


def test_no_hook_is_left_behind_when_the_model_fails():
    model = small(nn.Conv2d(3, 4, 3), nn.Linear(7, 2))

    with pytest.raises(RuntimeError, match="shapes"):
        default_layer(model, torch.rand(1, 3, 8, 8))

    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_is_found_by_its_name():
    model, _ = build("resnet18")

    assert find_layer(model, "layer4.1.conv2") is model.layer4[1].conv2


@pytest.mark.parametrize("name", ["layer5", "", "layer4.9"])
def test_an_unknown_layer_lists_what_exists(name):
    model, _ = build("resnet18")

    with pytest.raises(
        ValueError, match=r"layer must be .* got '.*Take one of .*layer4"
    ):
        find_layer(model, name)


def test_a_layer_without_maps_lists_those_that_have_some():
    model, inputs = build("resnet18")

    with pytest.raises(ValueError, match=r'\(1, 1000\) from "fc".* layer3, layer4'):
        check_spatial(model, inputs, "fc")


def test_a_layer_that_does_not_run_is_named():
    model, inputs = build("googlenet")

    with pytest.raises(ValueError, match='got no tensor from "aux1"'):
        check_spatial(model, inputs, "aux1")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", "layer1 layer2 layer3 layer4"),
        ("vgg11", "features.9 features.14 features.19 features"),
        ("mobilenet_v2", "features.3 features.6 features.13 features"),
        ("convnext_tiny", "features.1 features.3 features.5 features"),
        ("googlenet", "conv3 inception3b inception4e inception5b"),
        ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1"),
    ],
)
def test_the_stages_of_a_network_are_its_last_layers_of_each_size(name, expected):
    model, inputs = build(name)
    names = {module: name for name, module in model.named_modules()}

    found = stages(model, default_layer(model, inputs)[1], inputs)

    assert [names[layer] for layer in found] == expected.split()


def test_a_stage_named_below_all_stages_is_taken_rather_than_the_stem():
    timm = pytest.importorskip("timm")
    model = timm.create_model("convnext_atto").eval()
    names = {module: name for name, module in model.named_modules()}

    found = stages(model, model.stages, torch.rand(1, 3, 64, 64))

    assert [names[layer] for layer in found] == [
        *("stages.0", "stages.1", "stages.2", "stages")
    ]


def test_the_finest_stage_of_a_resnet_has_56_positions_a_side():
    model = get_model("resnet18").eval()
    sizes = []

    for layer in stages(model, model.layer4, torch.rand(1, 3, 224, 224)):
        layer.register_forward_hook(
            lambda module, given, output: sizes.append(output.shape[2:])
        )
    model(torch.rand(1, 3, 224, 224))

    assert [tuple(size) for size in sizes] == [(n, n) for n in (56, 28, 14, 7)]


def test_a_layer_that_does_not_run_or_has_no_maps_stands_alone():
    model, inputs = build("googlenet")

    assert stages(model, model.aux1, inputs) == [model.aux1]
    assert stages(model, model.fc, inputs) == [model.fc]


def test_outputs_with_the_channels_last_are_no_finer_maps():
    """(N, 8, 8, 6) is a grid of 8 x 8, and no 6 maps of 8 x 6."""

    class Last(nn.Module):
        def forward(self, x):
            return x.permute(0, 2, 3, 1).repeat(1, 1, 1, 5)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.early, self.last = nn.Conv2d(3, 6, 1), Last()
            self.late = nn.Conv2d(6, 6, 2, 2)

        def forward(self, x):
            maps = self.early(x)
            self.last(maps)
            return self.late(maps).flatten(1)

    model = Model().eval()

    found = stages(model, model.late, torch.rand(1, 3, 8, 8))

    assert found == [model.early, model.late]


def test_a_module_that_several_stages_share_is_no_stage():
    """As the layer itself it stands for its last run, and for no other."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)

        def forward(self, x):
            x = self.pool(self.relu(self.first(x)))
            return self.pool(self.relu(self.second(x))).flatten(1)

    model = Model().eval()
    inputs = torch.rand(1, 3, 16, 16)

    of_second = stages(model, model.second, inputs)
    of_shared = stages(model, model.pool, inputs)

    assert of_second == [model.first, model.second]
    assert of_shared == [model.first, model.second, model.pool]
