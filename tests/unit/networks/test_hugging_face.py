import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from reference.small_classifiers import (
    HUGGING_FACE,
    hugging_face_folder,
    hugging_face_model,
    save_quietly,
)

from captum_iscam.layers import check_spatial, default_layer, reshape_transform_for
from captum_iscam.networks import load_classifier

transformers = pytest.importorskip("transformers")
LABELS = {"id2label": {0: "ant", 1: "bee", 2: "cat", 3: "dog"}}


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_a_folder_gives_the_model_that_was_saved(tmp_path, family):
    size, expected, _ = HUGGING_FACE[family]
    folder = hugging_face_folder(tmp_path / "it", family, **LABELS)

    network = load_classifier(f"hf:{folder}")

    example = network.example()
    assert example.shape == (1, 3, size, size)
    with torch.no_grad():
        same = hugging_face_model(family)(example).logits
        torch.testing.assert_close(network.model(example), same)
    found, _ = default_layer(network.model, example)
    assert found == f"model.{expected}"
    check_spatial(network.model, example, found)
    assert network.classes == ("ant", "bee", "cat", "dog")
    library = f"transformers {transformers.__version__}, settings "
    assert network.source.startswith(library)
    assert len(network.sha256) == 64


def test_a_model_without_names_of_classes_gets_numbers(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    config = json.loads((folder / "config.json").read_text())
    config |= {"id2label": None, "label2id": None, "num_labels": 4}
    (folder / "config.json").write_text(json.dumps(config))

    network = load_classifier(f"hf:{folder}")

    assert network.classes == ("class 0", "class 1", "class 2", "class 3")


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_images_are_what_the_processor_makes_of_them(tmp_path, family):
    folder = hugging_face_folder(tmp_path / "it", family)
    network = load_classifier(f"hf:{folder}")
    rows, columns = np.mgrid[0:255:90j, 0:255:130j]
    pixels = np.stack([rows, columns, 255 - rows], 2).astype(np.uint8)
    image = Image.fromarray(pixels)

    inputs = network.transform(image)

    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    theirs = processor(image, return_tensors="pt")["pixel_values"][0]
    step = 1 / 255 / min(network.preprocessing["std"])
    torch.testing.assert_close(inputs, theirs, rtol=0, atol=2.5 * step)
    assert network.preprocessing["crop"] == HUGGING_FACE[family][0]


def test_what_is_not_understood_is_left_to_the_processor(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ConvNext", processor=False)
    # It resizes to 256 / 224 of the size that it says.
    size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
    transformers.LevitImageProcessor(**size).save_pretrained(folder)

    with pytest.warns(UserWarning, match="is more than resizing"):
        network = load_classifier(f"hf:{folder}")

    assert network.example().shape == (1, 3, 64, 64)
    assert set(network.preprocessing.values()) == {None}


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("classes", [4, 7])
def test_weights_from_a_file(tmp_path, classes, safe):
    folder = hugging_face_folder(tmp_path / "it", "ViT", **LABELS)
    other = hugging_face_model("ViT", classes)
    with torch.no_grad():
        other.classifier.bias += 1
    file = tmp_path / "file.pt"
    torch.save({f"module.{k}": v for k, v in other.state_dict().items()}, file)
    if safe:  # with the names of an earlier release
        save_quietly(other, tmp_path / "other")
        file = tmp_path / "other" / "model.safetensors"

    network = load_classifier(f"hf:{folder}", file)

    x = network.example()
    with torch.no_grad():
        torch.testing.assert_close(network.model(x), other(x).logits)
    assert network.weights == file.name
    assert network.classes[-1] == ("dog" if classes == 4 else "class 6")


def test_weights_of_another_model_are_refused(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    file = tmp_path / "other.pt"
    torch.save(hugging_face_model("DeiT").state_dict(), file)

    with pytest.raises(ValueError, match=r"weights must fit hf:.*Missing: .*Unexp"):
        load_classifier(f"hf:{folder}", file)


@pytest.mark.filterwarnings("ignore:Validating sparse tensor")  # of torch
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (torch.Tensor.to_sparse, "weights must be dense tensors, got torch.sparse_coo"),
        (torch.Tensor.char, "weights must fit hf:.*classifier.bias has torch.int8 ins"),
    ],
)
def test_weights_that_are_other_numbers_are_refused(tmp_path, change, told):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    state, file = hugging_face_model("ViT").state_dict(), tmp_path / "other.pt"
    state["classifier.bias"] = change(state["classifier.bias"])
    torch.save(state, file)

    with pytest.raises(ValueError, match=told):
        load_classifier(f"hf:{folder}", file)


def test_half_precision_becomes_single(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    save_quietly(hugging_face_model("ViT").half(), folder)

    network = load_classifier(f"hf:{folder}")

    assert {p.dtype for p in network.model.parameters()} == {torch.float32}


def test_a_model_without_a_trained_head_is_refused(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    save_quietly(hugging_face_model("ViT").vit, folder)

    with pytest.raises(ValueError, match=r"trained classifier, .*classifier\.bias"):
        load_classifier(f"hf:{folder}")


def test_without_a_processor_the_values_must_be_given(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT", processor=False)

    with pytest.raises(ValueError, match="size, mean and std must be given"):
        load_classifier(f"hf:{folder}", size=32, mean=0.5)

    network = load_classifier(f"hf:{folder}", size=32, mean=0.5, std=[0.5] * 3)
    assert network.preprocessing["crop"] == 32


def test_grey_images_where_the_model_takes_one_channel(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT", num_channels=1)

    network = load_classifier(f"hf:{folder}")

    assert network.example().shape == (1, 1, 32, 32)
    assert network.preprocessing["mean"] == [0.5]


def test_windows_are_not_taken_for_maps(tmp_path):
    network = load_classifier(f"hf:{hugging_face_folder(tmp_path / 'it', 'Swin')}")
    model, example = network.model, network.example()
    block = "model.swin.encoder.layers.0.blocks.0"

    check_spatial(model, example, f"{block}.layernorm_before")
    inside = [
        n for n, _ in model.named_modules() if n.startswith(f"{block}.attention.")
    ]
    for name in inside:
        with pytest.raises(
            ValueError, match=r"Those that have: .*model\.swin\.layernorm"
        ):
            check_spatial(model, example, name)


def test_the_embeddings_need_no_transform(tmp_path):
    network = load_classifier(f"hf:{hugging_face_folder(tmp_path / 'it', 'ViT')}")
    patches = network.model.get_submodule(
        "model.vit.embeddings.patch_embeddings.projection"
    )

    assert reshape_transform_for(network.model, patches) is None


def test_code_in_a_folder_is_not_run(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    written = json.loads((folder / "config.json").read_text())
    written |= {
        "model_type": "mine",
        "auto_map": {
            "AutoConfig": "code.Configuration",
            "AutoModelForImageClassification": "code.Model",
        },
    }
    (folder / "config.json").write_text(json.dumps(written))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    with pytest.raises(ValueError, match="that transformers has code for") as caught:
        load_classifier(f"hf:{folder}")

    assert not (tmp_path / "ran").exists()
    assert "\n" not in str(caught.value)


def test_pickled_code_is_not_run(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    (folder / "model.safetensors").unlink()
    state = {"classifier.bias": Runs(str(tmp_path / "ran"))}
    torch.save(state, folder / "pytorch_model.bin")

    with pytest.raises(ValueError, match="model must be an image classifier"):
        load_classifier(f"hf:{folder}")

    assert not (tmp_path / "ran").exists()


class Runs:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (self.file, "w")


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def unreachable(*_, **__):
        raise OSError("We couldn't connect.\nCheck your connection")

    auto = "transformers.AutoModelForImageClassification.from_pretrained"
    monkeypatch.setattr(auto, unreachable)

    with pytest.raises(ValueError, match=r"couldn't connect\)\. Check the name") as e:
        load_classifier("hf:google/vit-base-patch16-224")
    assert "\n" not in str(e.value)


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="model must be an existing folder"):
        load_classifier(f"hf:{tmp_path / 'gone'}")


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(ValueError, match=r"pip install 'captum_iscam\[huggingface\]'"):
        load_classifier("hf:google/vit-base-patch16-224")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"num_attention_heads": 4}),
        ("preprocessor_config.json", {"do_flip_channel_order": True}),
    ],
)
def test_settings_that_weights_do_not_show_are_told_apart(tmp_path, name, change):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    before, again = (load_classifier(f"hf:{folder}").source for _ in range(2))
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**settings, **change}))

    assert before == again
    assert load_classifier(f"hf:{folder}").source != before


def test_a_processor_with_a_longest_edge_is_no_plain_resizing(tmp_path):
    folder = hugging_face_folder(tmp_path / "it", "ViT")
    size = {"shortest_edge": 40, "longest_edge": 64}
    processor = transformers.CLIPImageProcessor(size=size, crop_size=32)
    processor.save_pretrained(folder)
    image = Image.fromarray(
        np.arange(900 * 300 * 3, dtype=np.uint8).reshape(300, 900, 3)
    )

    with pytest.warns(UserWarning, match="is more than resizing, cropping and normal"):
        network = load_classifier(f"hf:{folder}")

    expected = transformers.AutoImageProcessor.from_pretrained(folder)(
        image, return_tensors="pt"
    )["pixel_values"][0]
    torch.testing.assert_close(network.transform(image), expected)
