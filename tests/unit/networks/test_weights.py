import hashlib
import json
import struct
import sys
import urllib.error
import warnings
from argparse import Namespace

import pytest
import torch
from PIL import Image
from torchvision.models import get_model, get_model_weights

from captum_iscam.networks import load_classifier, model_names

NAME = "squeezenet1_1"


def fresh(classes=7, name=NAME):
    torch.manual_seed(0)
    return get_model(name, weights=None, num_classes=classes).eval()


@pytest.fixture
def weights(tmp_path):
    """Writes a state dict, as it is or changed, and returns the file."""

    def write(state, name="some.pt"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write


def test_classification_models_alone_are_known():
    names = model_names()

    assert {"squeezenet1_1", "resnet18", "vit_b_16"} <= set(names)
    assert not {"fcn_resnet50", "fasterrcnn_resnet50_fpn", "raft_large"} & set(names)


def test_a_file_gives_the_model_that_was_saved(weights):
    model = fresh()
    file = weights(model.state_dict())

    network = load_classifier(NAME, file)

    image = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(network.model(image), model(image))
    assert not network.model.training
    assert network.classes == tuple(f"class {i}" for i in range(7))
    assert network.weights == "some.pt"
    assert network.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_half_precision_becomes_single(weights):
    state = {key: value.half() for key, value in fresh().state_dict().items()}

    network = load_classifier(NAME, weights(state))

    assert {p.dtype for p in network.model.parameters()} == {torch.float32}


def test_a_thousand_classes_are_those_of_imagenet(weights):
    network = load_classifier(NAME, weights(fresh(1000).state_dict()))

    assert len(network.classes) == 1000
    assert network.classes[1] == "goldfish"


@pytest.mark.parametrize(
    ("name", "resize", "crop"), [(NAME, 256, 224), ("mobilenet_v3_large", 256, 224)]
)
def test_a_file_is_evaluated_at_the_usual_size(weights, name, resize, crop):
    network = load_classifier(name, weights(fresh(3, name).state_dict()))

    assert len(repr(network)) < 500  # not the model's layers, nor every class
    said = network.preprocessing
    assert (said["resize"], said["crop"]) == (resize, crop)
    inputs = network.transform(Image.new("RGB", (300, 400), "white"))
    assert inputs.shape == (3, crop, crop)
    white = (1 - torch.tensor(said["mean"])) / torch.tensor(said["std"])
    torch.testing.assert_close(inputs[:, 5, 5], white)


def test_inception_gets_larger_pictures(weights):
    model = get_model("inception_v3", weights=None, num_classes=3, init_weights=False)
    state = model.state_dict()
    without = {k: v for k, v in state.items() if not k.startswith("AuxLogits")}

    network = load_classifier("inception_v3", weights(without))

    assert network.preprocessing["crop"] == 299
    assert network.model.AuxLogits is None


def test_torchvisions_own_weights_bring_names_and_transform(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    chosen = get_model_weights(NAME).DEFAULT
    file = tmp_path / "hub" / "checkpoints" / chosen.url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(fresh(1000).state_dict(), file)

    network = load_classifier(NAME)

    assert network.weights == "IMAGENET1K_V1"
    assert network.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert network.classes[0] == "tench"


def test_weights_that_cannot_be_downloaded_are_told_apart(monkeypatch):
    def unreachable(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)

    with pytest.raises(ValueError, match=r"weights must be downloadable .*no network"):
        load_classifier(NAME)


def test_an_unknown_model_names_close_ones_and_how_to_see_all():
    message = r"got 'resnet19'\. Close to it: (\w+, ){4}\w+\. .*model_names\(\) lists"
    with pytest.raises(ValueError, match=message):
        load_classifier("resnet19")


def test_a_missing_file_lists_what_is_beside_it(weights):
    there = weights({}, "other.pth")

    with pytest.raises(FileNotFoundError, match=r"got '.*gone.pt'\. In .*: other\.pth"):
        load_classifier(NAME, there.with_name("gone.pt"))


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_classifier(NAME, tmp_path / "no" / "gone.pt")


def test_a_folder_without_weights_is_said_to_be_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No \.pt, .* or \.safetensors file"):
        load_classifier(NAME, tmp_path / "gone.pt")


def test_a_file_that_is_no_weights_is_refused(tmp_path):
    file = tmp_path / "notes.pt"
    file.write_text("these are no weights")

    with pytest.raises(ValueError, match="weights must be a file of tensors"):
        load_classifier(NAME, file)


def test_code_in_a_file_is_not_run(weights):
    with pytest.raises(ValueError, match="weights must be a file of tensors"):
        load_classifier(NAME, weights(fresh()))


def test_a_file_of_something_else_is_refused(weights):
    with pytest.raises(ValueError, match="weights must be a state dict, got list"):
        load_classifier(NAME, weights([torch.zeros(2)]))


def test_weights_of_another_model_are_refused(weights):
    told = r"weights must fit resnet18, got .*some.pt'\. Name the model .*Missing"
    with pytest.raises(ValueError, match=told):
        load_classifier("resnet18", weights(fresh().state_dict()))


BESIDE = {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}
ENTRIES = ["state_dict", "model_state_dict", "model", "net", "weights"]
PREFIXES = [
    *("", "module.", "_orig_mod.", "model.", "net.", "backbone."),
    *("module._orig_mod.", "_orig_mod.module.", "model._orig_mod.", "model.model."),
]


def renamed(state, prefix):
    return {f"{prefix}{key}": value for key, value in state.items()}


def safetensors(state):
    """Returns a file of float32 in this format, which the library reads."""
    header, data = {}, b""
    for key, value in state.items():
        content = value.float().numpy().tobytes()
        ends = [len(data), len(data) + len(content)]
        shape = list(value.shape)
        header[key] = {"dtype": "F32", "shape": shape, "data_offsets": ends}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("entry", ["", *ENTRIES, "model.state_dict"])
def test_weights_are_found_in_every_checkpoint(weights, entry, prefix):
    model = fresh(3)
    content = renamed(model.state_dict(), prefix)
    for name in reversed(entry.split(".") if entry else []):
        content = {name: content, **BESIDE}

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = load_classifier(NAME, weights(content))

    torch.testing.assert_close(network.model.state_dict(), model.state_dict())
    assert len(network.classes) == 3


def wrapped():
    """Returns the state dicts that PyTorch's own wrappers give."""
    parts = fresh(3)
    parts.features = torch.compile(parts.features)
    return {
        "DataParallel": torch.nn.DataParallel(fresh(3)),
        "compile": torch.compile(fresh(3)),
        "compile inside DataParallel": torch.nn.DataParallel(torch.compile(fresh(3))),
        "a compiled part": parts,
        "AveragedModel": torch.optim.swa_utils.AveragedModel(fresh(3)),
    }


@pytest.mark.parametrize("wrapper", wrapped())
def test_weights_of_a_wrapped_model_are_those_of_the_model(weights, wrapper):
    network = load_classifier(NAME, weights(wrapped()[wrapper].state_dict()))

    torch.testing.assert_close(network.model.state_dict(), fresh(3).state_dict())


def test_weights_of_a_batch_norm_in_a_wrapper_are_those_of_the_model(weights):
    model = fresh(3, "resnet18")
    state = torch.compile(model).state_dict()

    network = load_classifier("resnet18", weights(state))

    torch.testing.assert_close(network.model.state_dict(), model.state_dict())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_second_head_is_found_behind_a_prefix(weights, prefix):
    model = get_model("googlenet", weights=None, num_classes=3, init_weights=False)

    network = load_classifier("googlenet", weights(renamed(model.state_dict(), prefix)))

    torch.testing.assert_close(network.model.state_dict(), model.state_dict())


needs_safe_globals = pytest.mark.skipif(
    not hasattr(torch.serialization, "safe_globals"), reason="needs torch 2.5"
)


@needs_safe_globals
@pytest.mark.parametrize("allowed", [[], [Namespace]])
def test_weights_of_torchvisions_scripts_are_read(weights, allowed):
    model = fresh(3)
    args = Namespace(lr=0.1, milestones=[30], output_dir=".", device="cuda", gpu=None)
    file = weights({"model": model.state_dict(), "args": args, **BESIDE})
    code = weights({"model": fresh(), "args": args}, "code.pt")
    with torch.serialization.safe_globals(allowed):
        before = set(torch.serialization.get_safe_globals())
        network = load_classifier(NAME, file)
        with pytest.raises(ValueError, match="weights must be a file of tensors"):
            load_classifier(NAME, code)

        assert set(torch.serialization.get_safe_globals()) == before
        assert (Namespace in before) == bool(allowed)

    torch.testing.assert_close(network.model.state_dict(), model.state_dict())


@needs_safe_globals
def test_weights_of_torchvisions_scripts_are_refused_by_an_old_torch(
    weights, monkeypatch
):
    monkeypatch.delattr(torch.serialization, "safe_globals")
    file = weights({"model": fresh().state_dict(), "args": Namespace()})

    with pytest.raises(
        ValueError, match=r"argparse.Namespace, which torch 2\.5 and lat"
    ):
        load_classifier(NAME, file)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_are_read_from_safetensors(tmp_path, prefix, suffix):
    pytest.importorskip("safetensors")
    state = fresh(3).state_dict()
    file = tmp_path / f"some.{suffix}"
    file.write_bytes(safetensors(renamed(state, prefix)))

    network = load_classifier(NAME, file)

    torch.testing.assert_close(network.model.state_dict(), state)


def test_damaged_safetensors_are_refused(tmp_path):
    pytest.importorskip("safetensors")
    whole = safetensors(fresh(3).state_dict())
    for content in (whole[:-1], whole[:500], whole[:8] + b"{" * 10_000):
        (tmp_path / "some.safetensors").write_bytes(content)

        with pytest.raises(
            ValueError, match=r"file of tensors .*\(damaged safetensors"
        ):
            load_classifier(NAME, tmp_path / "some.safetensors")


def test_without_its_library_safetensors_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    (tmp_path / "some.pt").write_bytes(safetensors(fresh(3).state_dict()))

    with pytest.raises(ValueError, match=r"got safetensors in .*pip install safetens"):
        load_classifier(NAME, tmp_path / "some.pt")


@pytest.mark.parametrize("inside", [False, True])
def test_a_whole_model_is_refused_with_the_way_to_save_it(weights, inside):
    content = {"model": fresh(), "epoch": 3} if inside else fresh()
    told = (
        r"it holds torchvision\.models\.squeezenet\.SqueezeNet, and .* code\)\. Write"
    )

    with pytest.raises(ValueError, match=told):
        load_classifier(NAME, weights(content))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_refused_with_the_way_to_save_it(tmp_path):
    torch.jit.script(torch.nn.Conv2d(3, 4, 1)).save(str(tmp_path / "some.pt"))

    told = r"a TorchScript archive.*\. Write it with torch\.save\(model\.state_dict"
    with pytest.raises(ValueError, match=told):
        load_classifier(NAME, tmp_path / "some.pt")


@pytest.mark.parametrize("entry", ["ema", "model_ema", "state_dict_ema"])
def test_averaged_weights_are_never_taken_without_a_word(weights, entry):
    model, averaged = fresh(3), torch.optim.swa_utils.AveragedModel(fresh(3))
    content = {entry: averaged.state_dict(), **BESIDE}

    with pytest.raises(ValueError, match=rf"got averaged ones alone .* '{entry}'"):
        load_classifier(NAME, weights(content))
    told = rf"averaged weights as well \('{entry}'\), and those in 'model' are used"
    with pytest.warns(UserWarning, match=told):
        network = load_classifier(
            NAME, weights({"model": model.state_dict(), **content})
        )

    torch.testing.assert_close(network.model.state_dict(), model.state_dict())


def itself():
    content = {"epoch": 3}
    content["model"] = content
    return content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"model": fresh(3).state_dict(), "net": fresh(3).state_dict()}, "several in"),
        ({}, "must be a state dict, got dict"),
        ({"model": {}}, "got dict with the entries 'model' in"),
        (BESIDE, "got dict with the entries 'epoch', 'optimizer' in"),
        ({str(i): i for i in range(9)}, "entries '0', '1', '2' and 6 more in"),
        ({3: torch.ones(1)}, "got dict with the entries 3 in"),
        (itself(), "got dict with the entries 'epoch', 'model' in"),
        ([torch.ones(1)], "got list in"),
    ],
)
def test_a_file_without_one_state_dict_is_refused(weights, content, told):
    with pytest.raises(ValueError, match=told):
        load_classifier(NAME, weights(content))


def changed(**values):
    return {
        **fresh(3).state_dict(),
        **{k.replace("_", "."): v for k, v in values.items()},
    }


def both_prefixes():
    state = fresh(3).state_dict()
    return {**renamed(state, "student."), **renamed(state, "teacher.")}


WRONG = {
    "another head": (
        changed(classifier_1_weight=torch.zeros(5, 512, 1, 1)),
        r"Of another shape: classifier.1.weight \(5, 512, 1, 1\) instead of \(3, 512",
    ),
    "a new head": (
        {
            k.replace("classifier.1", "head"): v
            for k, v in fresh(3).state_dict().items()
        },
        "Missing: classifier.1.weight, classifier.1.bias. Unexpected: head.weight",
    ),
    "something else": (
        renamed(fresh(3).state_dict(), "model.") | {"loss.weight": torch.ones(3)},
        "Missing: features.0.weight, .*Unexpected: model.features.0.weight, .* more",
    ),
    "two models": (both_prefixes(), "Unexpected: student.features.0.weight, "),
    "twice": (
        fresh(3).state_dict() | renamed(fresh(3).state_dict(), "_orig_mod."),
        "Unexpected: _orig_mod.features.0.weight, ",
    ),
    "a part": (
        {k: v for k, v in fresh(3).state_dict().items() if "features" in k},
        "Missing: classifier.1.weight, classifier.1.bias",
    ),
    "no name": (
        changed() | {"a\x1b[2J\n": torch.ones(1)},
        r"Unexpected: 'a\\x1b\[2J\\n'\.",
    ),
    "8 bits": (
        changed(features_0_bias=torch.ones(64, dtype=torch.int8)),
        "features.0.bias has torch.int8 instead of torch.float32",
    ),
    "no numbers": (
        changed(features_0_bias=torch.ones(64, device="meta")),
        "features.0.bias has no numbers instead of torch.float32",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("entry", ["", "state_dict"])
def test_weights_that_fit_in_part_are_refused_by_what_does_not_fit(
    weights, kind, entry
):
    state, told = WRONG[kind]

    with pytest.raises(ValueError, match=rf"weights must fit squeezenet1_1, .*{told}"):
        load_classifier(NAME, weights({entry: state, **BESIDE} if entry else state))


# What is in the place of which entry, and what is said of it.
NOT_DENSE = {
    "sparse": (torch.Tensor.to_sparse, "torch.sparse_coo", "value.to_dense()"),
    "rows": (
        lambda value: value.flatten(1).to_sparse_csr(),
        "torch.sparse_csr",
        "value.to_dense()",
    ),
    "8 bits": (
        lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        "torch.qint8",
        "value.dequantize()",
    ),
    "8 bits by channel": (
        lambda value: torch.quantize_per_channel(
            value, torch.ones(len(value)), torch.zeros(len(value)), 0, torch.qint8
        ),
        "torch.qint8",
        "value.dequantize()",
    ),
    "nested": (
        lambda _: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
        "a nested tensor",
        "a tensor of one shape",
    ),
}


# Torch warns of each of these kinds of tensors.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", NOT_DENSE)
@pytest.mark.parametrize("key", ["features.0.weight", "classifier.1.weight"])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_entries_that_are_not_dense_are_named(weights, kind, key, prefix):
    change, told, repair = NOT_DENSE[kind]
    state = fresh(3).state_dict()
    state[key] = change(state[key])

    with pytest.raises(ValueError, match="weights must be dense tensors") as caught:
        load_classifier(NAME, weights(renamed(state, prefix)))

    assert f"got {told} for {key} in " in str(caught.value)
    assert repair in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # torch warns of quantisation
def test_a_quantised_model_is_refused_with_the_way_to_save_it(weights):
    model = get_model("resnet18", weights=None, num_classes=3)
    model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear})

    with pytest.raises(ValueError, match=r"that of a quantised model in .*before it"):
        load_classifier("resnet18", weights(model.state_dict()))


@pytest.mark.parametrize("device", [224, "gpu", "cuda:99", ["cpu"], None])
def test_a_third_argument_that_is_no_device_is_named(weights, device):
    # An index is one of an accelerator, and None is torch's default.
    file = weights(fresh().state_dict())

    with pytest.raises(ValueError, match=r"device must be one that .* size=.* by name"):
        load_classifier(NAME, file, device)
