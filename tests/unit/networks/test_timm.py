import sys

import numpy as np
import pytest
import torch
from PIL import Image
from reference.colours import Colours
from reference.small_classifiers import TIMM, timm_weights

from captum_iscam.layers import (
    check_spatial,
    default_layer,
    reshape_transform_for,
    spatial_layers,
)
from captum_iscam.networks import load_classifier
from captum_iscam.networks.timm import _preprocessing

timm = pytest.importorskip("timm")


@pytest.mark.parametrize("name", TIMM)
def test_the_layer_is_found_and_has_maps(tmp_path, name):
    size, expected = TIMM[name]
    file = timm_weights(tmp_path, name)

    network = load_classifier(f"timm:{name}", file, size=size)

    example = network.example()
    assert example.shape == (1, 3, size, size)
    found, layer = default_layer(network.model, example)
    assert found == expected
    check_spatial(network.model, example, found)
    maps = maps_of(network.model, layer, example)
    assert maps.dim() == 4
    assert maps.shape[2] == maps.shape[3] < maps.shape[1]
    assert network.classes == ("class 0", "class 1", "class 2", "class 3")
    assert network.weights == "random.pt"
    assert network.source == f"timm {timm.__version__}"


def maps_of(model, layer, example):
    seen = []
    handle = layer.register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        model(example)
    handle.remove()
    transform = reshape_transform_for(model, layer)
    return seen[-1] if transform is None else transform(seen[-1])


def test_tokens_are_where_the_patches_are(tmp_path):
    name = "deit_tiny_distilled_patch16_224"
    network = load_classifier(f"timm:{name}", timm_weights(tmp_path, name), size=48)
    block = network.model.blocks[0].norm1
    example = network.example()

    before = maps_of(network.model, block, example)
    example[0, :, 16:32, 32:48] += 1  # the patch in row 1, column 2
    after = maps_of(network.model, block, example)

    moved = (after - before).abs().amax((0, 1)) > 1e-6
    assert moved.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize(
    "layer", ["layers.0.blocks.0.attn.proj", "layers.0.blocks.0.mlp", "head.fc"]
)
def test_windows_are_not_taken_for_maps(tmp_path, layer):
    name = "swin_tiny_patch4_window7_224"
    network = load_classifier(f"timm:{name}", timm_weights(tmp_path, name), size=64)

    with pytest.raises(ValueError, match="layer must have a spatial output"):
        check_spatial(network.model, network.example(), layer)
    check_spatial(network.model, network.example(), "layers.1.blocks.0")


@pytest.mark.parametrize(
    ("name", "layer"), [("mambaout_femto", "stages"), ("sequencer2d_s", "norm")]
)
def test_maps_with_the_channels_last_are_refused(name, layer):
    model, x = timm.create_model(name, num_classes=3).eval(), torch.rand(1, 3, 96, 96)

    with pytest.raises(ValueError, match=r"got the channels last .* such as swin"):
        default_layer(model, x)
    with pytest.raises(ValueError, match="probably with the channels last"):
        check_spatial(model, x, layer)
    assert layer not in spatial_layers(model, x)


def test_maps_in_front_of_a_norm_with_the_channels_last_are_taken():
    model = timm.create_model("nest_tiny", img_size=32, num_classes=3).eval()

    assert default_layer(model, torch.rand(1, 3, 32, 32))[0] == "levels"


def test_other_tokens_are_refused_with_the_layers_that_can_be_named():
    model = timm.create_model("mixer_s32_224", num_classes=3).eval()

    with pytest.raises(ValueError, match=r"Name a layer that has one: stem\.proj"):
        default_layer(model, torch.rand(1, 3, 224, 224))


@pytest.mark.parametrize(
    "name", ["resnet10t", "vit_base_patch16_384", "beit_base_patch16_224"]
)
def test_images_are_what_timm_makes_of_them(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    settings = timm.data.resolve_model_data_config(model)
    noise = np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    image = Image.fromarray(noise)

    own = _preprocessing(timm, model, name)

    theirs = timm.data.create_transform(**settings)(image)
    torch.testing.assert_close(own(image), theirs, rtol=0, atol=1e-6)
    assert own.in_words()["interpolation"] == settings["interpolation"]


def test_a_border_is_no_crop_so_their_transform_is_used():
    model = timm.create_model("resnet10t")
    model.pretrained_cfg = {**model.pretrained_cfg, "crop_mode": "border"}
    with pytest.warns(UserWarning, match="preprocessing of it is more than resizing"):
        own = _preprocessing(timm, model, "it")

    assert type(own).__name__ == "Compose"


def test_a_thousand_classes_have_timms_names(tmp_path):
    file = timm_weights(tmp_path, "mobilenetv3_small_050", 1000)

    network = load_classifier("timm:mobilenetv3_small_050", file)

    assert network.classes[0].startswith("tench")
    assert network.preprocessing["crop"] == 224
    assert network.preprocessing["interpolation"] == "bicubic"


def test_a_registered_model_has_a_name(tmp_path):
    @timm.models.register_model
    def captum_iscam_colours(pretrained=False, num_classes=3, **_):
        model = Colours(num_classes)
        model.pretrained_cfg = {"input_size": (3, 224, 224), "crop_pct": 0.875}
        model.num_classes = num_classes
        return model

    captum_iscam_colours.__module__ = "timm.models"
    torch.save(Colours(4).state_dict(), tmp_path / "colours.pt")

    network = load_classifier("timm:captum_iscam_colours", tmp_path / "colours.pt")

    assert len(network.classes) == 4
    with pytest.raises(ValueError, match="weights must be a file for a model without"):
        load_classifier("timm:captum_iscam_colours")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet10", r"Close to it: (\w+, ){1,4}\w+\. timm\.list_models\("),
        ("hf-hub:someone/model", "must be a model of timm"),
        ("resnet10t.mine", r"Close to it: resnet10t\.c3_in1k\. timm\.list_pretrained"),
    ],
)
def test_an_unknown_name_says_what_is_close(name, said):
    with pytest.raises(ValueError, match=said) as caught:
        load_classifier(f"timm:{name}")

    assert len(str(caught.value)) < 400


def test_weights_that_cannot_be_downloaded_are_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no connection.\nSee the docs")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)

    with pytest.raises(ValueError, match=r"resnet10t \(no connection\)\. Fetch") as e:
        load_classifier("timm:resnet10t")
    assert "\n" not in str(e.value)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)

    with pytest.raises(ValueError, match=r"pip install 'captum_iscam\[timm\]'"):
        load_classifier("timm:resnet10t")
