import hashlib
import urllib.error

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


@pytest.mark.parametrize("wrapper", ["model", "state_dict"])
def test_what_training_scripts_save_is_unpacked(weights, wrapper):
    model = fresh()
    inside = {f"module.{key}": value for key, value in model.state_dict().items()}

    network = load_classifier(NAME, weights({wrapper: inside, "epoch": 3}))

    loaded = network.model.state_dict()
    torch.testing.assert_close(loaded, model.state_dict())


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


def test_an_unknown_model_lists_what_exists():
    with pytest.raises(ValueError, match=r"got 'resnet19'\. Close to it: resnet1.*vgg"):
        load_classifier("resnet19")


def test_a_missing_file_lists_what_is_beside_it(weights):
    there = weights({}, "other.pth")

    with pytest.raises(FileNotFoundError, match=r"got '.*gone.pt'\. In .*: other\.pth"):
        load_classifier(NAME, there.with_name("gone.pt"))


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_classifier(NAME, tmp_path / "no" / "gone.pt")


def test_a_folder_without_weights_is_said_to_be_empty(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No \.pt or \.pth file"):
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
