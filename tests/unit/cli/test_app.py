"""What the page computes and shows, without Gradio."""

import re

import pytest
import torch
from PIL import Image

from captum_iscam.cli.app import load_networks, served
from captum_iscam.cli.app.cards import cards, error_line
from captum_iscam.cli.app.served import explain, serve_network
from captum_iscam.cli.parser import make_parser
from captum_iscam.methods import METHODS, Options

CPU = torch.device("cpu")
CODE = """
import torch
from torch import nn
from torchvision.transforms.functional import to_tensor

def make_model():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nn.Sequential(features, head), to_tensor
"""


def networks(*words):
    return load_networks(make_parser().parse_args(["app", *words]))


@pytest.fixture
def image(tmp_path):
    file = tmp_path / "photograph.png"
    pixels = torch.Generator().manual_seed(0)
    values = torch.randint(256, (96, 96, 3), generator=pixels, dtype=torch.uint8)
    Image.fromarray(values.numpy()).save(file)
    return str(file)


@pytest.fixture
def mine(tmp_path):
    """Returns the options of a network of one's own, whose names are markup."""
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "names.txt").write_text("<b>cat</b>\n<script>\n")
    model = f"{tmp_path / 'mine.py'}:make_model"
    return "--model", model, "--classes", str(tmp_path / "names.txt")


def test_without_a_network_the_bundled_one_is_served():
    (only,) = networks("--device", "cpu")

    assert only.explained.name == "scene-net"
    assert only.explained.layer_name in only.layers


def test_a_network_is_served_next_to_the_bundled_one(mine):
    given, bundled = networks(*mine, "--layer", "0.0", "--score", "sigmoid")

    assert (given.explained.layer_name, given.score) == ("0.0", "sigmoid")
    assert given.layers == ["0.0", "0.1", "0"]
    assert (bundled.explained.name, bundled.score) == ("scene-net", None)


def test_the_bundled_network_takes_no_options_of_another():
    with pytest.raises(ValueError, match="weights must be of a network that --model"):
        networks("--weights", "mine.pt")
    with pytest.raises(ValueError, match="size must not be given for scene-net"):
        networks("--size", "64")


# The scene has no object of that class.
@pytest.mark.filterwarnings("ignore:The error of the map is probably")
def test_a_result_has_the_map_and_the_delta_of_the_method(image):
    network = serve_network("scene-net", CPU)
    methods = ["is-cam", "grad-cam", "integrated-gradients"]

    result = explain(network, image, "features", 3, methods)

    model, inputs = network.explained.network.model, network.read(image)
    method = METHODS["is-cam"]
    maps, delta = method.attribution(model, model.features).attribute(
        inputs, target=3, return_convergence_delta=True
    )
    ours, *others = result.explanations
    torch.testing.assert_close(ours.attributions, maps)
    assert ours.delta == pytest.approx(float(delta), rel=1e-4)
    # Grad-CAM has none, and that of Integrated Gradients is another quantity.
    assert [other.delta for other in others] == [None, None]
    unasked = method.attribute(model, model.features, inputs, 3, Options())
    torch.testing.assert_close(ours.attributions, unasked)


def test_the_most_probable_class_is_explained_by_default(image):
    network = serve_network("scene-net", CPU)

    result = explain(network, image, "features", None, ["grad-cam"])

    first, *others = network.classify(network.read(image))
    assert result.target == first
    assert all(first.probability >= other.probability for other in others)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_read(image, monkeypatch):
    monkeypatch.setattr(served, "MEGAPIXELS", 0.001)
    monkeypatch.setattr(served, "read_image", None)

    with pytest.raises(ValueError, match=r"got photograph.png \(96 x 96 pixels\)"):
        serve_network("scene-net", CPU).read(image)


def test_names_and_errors_are_no_markup(mine, image):
    network = networks(*mine)[0]

    shown = cards(explain(network, image, "0", 1, ["grad-cam"]))

    assert set(re.findall(r"<(\w+)", shown)) <= {
        *("div", "figure", "figcaption", "img", "b", "br")
    }
    assert "&lt;script&gt;" in shown
    assert "<i>" not in error_line(ValueError("<i>\nx"))
    assert error_line(MemoryError()).count("MemoryError") == 1
