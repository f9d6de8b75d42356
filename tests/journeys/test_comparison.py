"""What the comparison page says of other libraries is true at the versions it names."""

import configparser
import re
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "comparison.md").read_text()
SPEED = (ROOT / "docs" / "performance.md").read_text()
CONVOLUTIONS = {
    1: (nn.Conv1d, nn.AdaptiveAvgPool1d),
    2: (nn.Conv2d, nn.AdaptiveAvgPool2d),
    3: (nn.Conv3d, nn.AdaptiveAvgPool3d),
}


def network(dimensions):
    convolution, pool = CONVOLUTIONS[dimensions]
    first, size = convolution(2, 4, 3, stride=2), 4 * 2**dimensions
    head = nn.Linear(size, 3)
    return nn.Sequential(first, nn.ReLU(), pool(2), nn.Flatten(), head).eval()


def test_the_page_names_the_versions_that_are_compared():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    pins = dict(
        re.findall(r"([\w-]+)==([\d.]+)", config["options.extras_require"]["bench"])
    )

    assert f"torch-cam 0.5.0 | grad-cam {pins['grad-cam']}" in SPEED
    assert f"| {pins['grad-cam']}, " in PAGE
    assert f"| {pins['torchcam']}, " in PAGE


def test_the_page_has_the_measured_shares_of_time():
    measured = (ROOT / "experiments" / "results" / "speed.md").read_text()
    names = {"SqueezeNet 1.1": "squeezenet1_1", "MobileNetV2": "mobilenet_v2"}
    names |= {"SqueezeNet 1.0": "squeezenet1_0"}
    names |= {"ResNet-18": "resnet18", "ResNet-50": "resnet50", "VGG-16": "vgg16"}
    rows = re.findall(
        r"^\| (\S+-CAM), ([\w. -]+) \| 1 \| (\S+) \| (\S+) \|$", SPEED, re.M
    )

    assert len(rows) >= 7
    others = [float(row[2]) for row in rows if row[2] != "none"]
    ours = [float(row[3]) for row in rows if row[0] == "Score-CAM"]
    assert f"{min(ours)} to {max(ours)} of torch-cam's time" in PAGE
    assert f"grad-cam's Score-CAM {min(others)} to {max(others)}" in PAGE
    for method, name, other, ours in rows:
        begin = rf"^\| {names[name]} \| {method.lower()} \|"
        assert re.search(rf"{begin} captum_iscam \| {ours} ?[(|]", measured, re.M)
        found = re.search(rf"{begin} grad-cam \| {other} ?[(|]", measured, re.M)
        assert bool(found) == (other != "none")


def test_the_same_variant_of_is_cam_has_its_measured_share():
    measured = (ROOT / "experiments" / "results" / "speed.md").read_text()
    pages = PAGE, SPEED, (ROOT / "README.md").read_text()

    for network in ("squeezenet1_1", "resnet18"):
        row = (
            rf"\| {network} \| is-cam \| torch-cam's variant by captum_iscam \| (\S+) "
        )
        share = re.search(row, measured)[1]
        assert all(share in page for page in pages)


def test_captum_has_no_score_cam_and_no_average_drop():
    import captum.attr
    import captum.metrics

    assert not [name for name in captum.attr.__all__ if "ScoreCam" in name]
    assert "LayerGradCam" in captum.attr.__all__
    assert {"infidelity", "sensitivity_max"} < set(captum.metrics.__all__)
    assert len(captum.metrics.__all__) == 3


def test_torch_cam_has_the_methods_that_the_page_says():
    methods = pytest.importorskip("torchcam.methods")
    if version("torchcam") != "0.5.0":
        pytest.skip("another version of torch-cam")

    names = {n for n in vars(methods) if isinstance(getattr(methods, n), type)}

    assert {"ScoreCAM", "SSCAM", "ISCAM", "LeGrad", "RefineCAM", "FinerCAM"} <= names
    assert {"GradCAM", "GradCAMpp", "SmoothGradCAMpp", "LayerCAM", "XGradCAM"} <= names
    absent = ("Ablation", "HiRes", "Recipro", "Poly", "Eigen", "RISE")
    assert not [name for name in names if name.startswith(absent)]


def test_grad_cam_has_the_methods_that_the_page_says():
    package = pytest.importorskip("pytorch_grad_cam")

    assert hasattr(package, "ScoreCAM")
    for name in ("EigenCAM", "KPCA_CAM", "FullGrad", "ShapleyCAM", "FEM", "SESS"):
        assert hasattr(package, name)
    for name in ("SSCAM", "ISCAM", "ReciproCAM", "PolyCAM", "SmoothGradCAMPlusPlus"):
        assert not hasattr(package, name)


@pytest.mark.parametrize(
    ("dimensions", "name", "works"),
    [
        (1, "GradCAM", True),
        *((1, name, False) for name in ("ScoreCAM", "SSCAM", "ISCAM")),
        *((3, name, True) for name in ("GradCAM", "ScoreCAM", "SSCAM", "ISCAM")),
    ],
)
def test_torch_cam_takes_the_inputs_that_the_page_says(dimensions, name, works):
    methods = pytest.importorskip("torchcam.methods")
    model, inputs = network(dimensions), torch.rand(1, 2, *[17] * dimensions)

    def explain():
        method = getattr(methods, name)
        with method(model, model[1], input_shape=tuple(inputs.shape[1:])) as extract:
            return extract(0, model(inputs))

    assert succeeds(explain) == works


@pytest.mark.parametrize(
    ("dimensions", "name", "works"),
    [
        (1, "GradCAM", False),
        (3, "GradCAM", True),
        (3, "ScoreCAM", False),
        (3, "AblationCAM", False),
    ],
)
def test_grad_cam_takes_the_inputs_that_the_page_says(dimensions, name, works):
    package = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model, inputs = network(dimensions), torch.rand(1, 2, *[17] * dimensions)

    def explain():
        with getattr(package, name)(model=model, target_layers=[model[1]]) as cam:
            return cam(inputs, targets=[ClassifierOutputTarget(0)])

    assert succeeds(explain) == works


def succeeds(explain):
    """Whether a call of another library, whose warnings are its own, raises nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            explain()
        except (ValueError, RuntimeError):
            return False
    return True
