"""`explain` and `benchmark` with networks of every library, and of the user's code."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from reference.colours import (
    GREEN,
    RED,
    Colours,
    hand_colours_on,
    quadrant,
    two_squares,
)
from reference.small_classifiers import (
    HUGGING_FACE,
    TIMM,
    hugging_face_folder,
    save_quietly,
    timm_weights,
)
from torchvision.models import get_model

from captum_iscam.cli.main import main

PLACES = {RED: (0, 0), GREEN: (1, 1)}


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "squares.png"
    two_squares().save(file)
    return file


def explain(picture, model, *options, method="grad-cam", target="0", code=0):
    """Explains a picture; returns the record and the maps."""
    out = picture.parent / "out"
    words = ["explain", picture, "--model", model, "--method", method]
    words += ["--target", target, "--out", out, "--device", "cpu", *options]
    assert main([str(word) for word in words]) == code
    if code:
        return None
    with np.load(out / picture.stem / "maps.npz") as maps:
        record = json.loads((out / picture.stem / "record.json").read_text())
        return record, {name: maps[name] for name in maps}


def complaint(capsys):
    """Returns the one line that a wrong command is answered with."""
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x]
    assert len(line) < 800
    return line


@pytest.mark.parametrize("name", TIMM)
def test_a_family_of_timm(picture, name):
    pytest.importorskip("timm")
    size, layer = TIMM[name]
    file = timm_weights(picture.parent, name)

    record, maps = explain(picture, f"timm:{name}", "--weights", file, "--size", size)

    assert record["model"] == f"timm:{name}"
    assert record["layer"] == layer
    assert record["source"].startswith("timm ")
    assert np.isfinite(maps["grad-cam_0"]).all()
    assert maps["grad-cam_0"].ndim == 2
    assert min(maps["grad-cam_0"].shape) > 1


@pytest.mark.parametrize("family", HUGGING_FACE)
def test_a_family_of_hugging_face(picture, family):
    pytest.importorskip("transformers")
    _, layer, _ = HUGGING_FACE[family]
    folder = hugging_face_folder(picture.parent / "saved", family)

    record, maps = explain(picture, f"hf:{folder}", method="grad-cam,score-cam")

    assert record["layer"] == f"model.{layer}"
    assert record["source"].startswith("transformers ")
    for name in ("grad-cam_0", "score-cam_0"):
        assert np.isfinite(maps[name]).all()
        assert min(maps[name].shape) > 1


def torchvision_file(folder, monkeypatch):
    file = folder / "colours.pt"
    torch.save(hand_colours_on(get_model("resnet18", num_classes=5)).state_dict(), file)
    return "resnet18", file


def file_of_code(folder, monkeypatch):
    (folder / "net.py").write_text("from reference.colours import Colours as make\n")
    return f"{folder / 'net.py'}:make", "DEFAULT"


def module_of_code(folder, monkeypatch):
    (folder / "networks_of_mine.py").write_text(
        "from reference.colours import Colours\n\n\n"
        "def make():\n    return Colours(5)\n"
    )
    monkeypatch.chdir(folder)
    torch.save({"state_dict": Colours(5).state_dict()}, folder / "five.pt")
    return "networks_of_mine:make", folder / "five.pt"


def folder_of_hugging_face(folder, monkeypatch):
    transformers = pytest.importorskip("transformers")
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 4], "depths": [1, 1]}
    configuration = transformers.ResNetConfig(
        **sizes, layer_type="basic", num_labels=5, hidden_act="relu"
    )
    model = transformers.ResNetForImageClassification(configuration)
    save_quietly(hand_colours_on(model), folder / "saved")
    transformers.ConvNextImageProcessor(
        size={"shortest_edge": 224}, image_mean=[0.1] * 3, image_std=[0.9] * 3
    ).save_pretrained(folder / "saved")
    return f"hf:{folder / 'saved'}", "DEFAULT"


def registered_in_timm(folder, monkeypatch):
    timm = pytest.importorskip("timm")

    def captum_iscam_squares(pretrained=False, num_classes=3, **_):
        model = Colours(num_classes)
        model.pretrained_cfg = {"input_size": (3, 224, 224), "crop_pct": 0.875}
        model.num_classes = num_classes
        return model

    captum_iscam_squares.__module__ = __name__
    timm.models.register_model(captum_iscam_squares)
    torch.save(Colours(4).state_dict(), folder / "colours.pt")
    return "timm:captum_iscam_squares", folder / "colours.pt"


@pytest.mark.filterwarnings("ignore:Overwriting captum_iscam_squares")
@pytest.mark.parametrize("target", PLACES)
@pytest.mark.parametrize(
    "route",
    [
        torchvision_file,
        file_of_code,
        module_of_code,
        folder_of_hugging_face,
        registered_in_timm,
    ],
)
def test_the_map_is_where_the_colour_is(picture, monkeypatch, route, target):
    name, weights = route(picture.parent, monkeypatch)
    layers = {"resnet18": "layer1"}  # of 64 channels
    layer = ["--layer", layers[name]] if name in layers else []

    record, maps = explain(
        picture,
        name,
        *("--weights", weights, *layer),
        method="grad-cam,is-cam",
        target=str(target),
    )

    for method in ("grad-cam", "is-cam"):
        found = maps[f"{method}_{target}"]
        assert found.max() > 0
        assert quadrant(found) == PLACES[target], method
    assert record["source"]
    assert len(record["weights"]["sha256"]) == 64


def test_a_tuned_head_has_its_names(picture, capsys):
    (picture.parent / "net.py").write_text(
        "from torch import nn\nfrom torchvision.models import get_model\n\n\n"
        "def tuned():\n"
        "    model = get_model('resnet18')\n"
        "    model.fc = nn.Sequential(nn.Dropout(), nn.Linear(512, 5))\n"
        "    return model\n"
    )
    model = get_model("resnet18")
    model.fc = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(512, 5))
    torch.save(model.state_dict(), picture.parent / "tuned.pt")
    names = picture.parent / "names.txt"
    names.write_text("ant\nbee\ncat\ndog\nelk\n")
    given = ["--weights", picture.parent / "tuned.pt", "--classes", names]

    record, _ = explain(
        picture,
        f"{picture.parent / 'net.py'}:tuned",
        *given,
        "--size",
        64,
        target="dog",
    )

    assert record["targets"][0]["class_name"] == "dog"
    assert record["preprocessing"]["resize"] == 73
    said = capsys.readouterr().out
    assert "images: shorter side to 73, centre 64 x 64, mean 0.485 0.456 0.406" in said
    assert "dog (3)" in said


def test_grey_images(picture):
    (picture.parent / "net.py").write_text(
        "from torch import nn\n\n\ndef grey():\n"
        "    features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())\n"
        "    pooled = nn.AdaptiveAvgPool2d(1), nn.Flatten()\n"
        "    return nn.Sequential(features, *pooled, nn.Linear(4, 3))\n"
    )
    words = ["--size", 32, "--mean", "0.5", "--std", "0.25"]

    record, _ = explain(picture, f"{picture.parent / 'net.py'}:grey", *words)

    assert record["input_shape"] == [1, 32, 32]
    assert record["preprocessing"]["mean"] == [0.5]


def test_a_transform_of_its_own(picture, capsys):
    (picture.parent / "net.py").write_text(
        "from reference.colours import Colours\n"
        "from torchvision.transforms import Compose, Resize, ToTensor\n\n\n"
        "def make():\n    return Colours(), Compose([Resize((64, 96)), ToTensor()])\n"
    )

    record, maps = explain(picture, f"{picture.parent / 'net.py'}:make")

    assert record["input_shape"] == [3, 64, 96]
    assert set(record["preprocessing"].values()) == {None}
    assert quadrant(maps["grad-cam_0"]) == (0, 0)
    assert "a transform of its own, which does not say" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        ("resnet19", [], "Close to it: resnet18"),
        ("tim:resnet18", [], "must begin with timm:, hf:"),
        ("timm:resnet19", [], "must be a model of timm"),
        ("hf:./gone", [], "must be an existing folder"),
        ("gone.py:make", [], "must name an existing file"),
        ("NET:mak", [], "Functions there: make"),
        ("NET:three", [], "which returns int"),
        ("NET:make", ["--classes", "NAMES"], "got 2 names"),
        ("NET:make", ["--layer", "fc"], "Those that have: features"),
        ("NET:make", ["--mean", "1,2"], "one or three numbers"),
        ("NET:make", ["--size", "8"], "Pass another size"),
    ],
)
def test_a_wrong_command_is_one_line(picture, capsys, model, options, said):
    (picture.parent / "net.py").write_text(
        "from reference.colours import Colours\n\n\n"
        "def make():\n    return Colours()\n\n\ndef three():\n    return 3\n"
    )
    (picture.parent / "names.txt").write_text("a\nb\n")
    files = {"NET": picture.parent / "net.py", "NAMES": picture.parent / "names.txt"}
    model = re.sub("^NET", str(files["NET"]), model)
    options = [str(files.get(option, option)) for option in options]

    explain(picture, model, *options, code=2)

    shown = capsys.readouterr().err
    assert said in shown
    assert "Traceback" not in shown
    if "usage" not in shown:
        assert len(shown.splitlines()) == 1
        assert len(shown) < 800


@pytest.fixture
def photographs(tmp_path):
    """Three folders of a picture each, with the names of classes."""
    for name in ("red", "green", "blue"):
        (tmp_path / "data" / name).mkdir(parents=True)
        image = Image.new("RGB", (80, 80))
        image.paste(name, (10, 10, 40, 40))
        image.save(tmp_path / "data" / name / "one.png")
    return tmp_path / "data"


def benchmark(data, *options):
    out = data.parent / "benchmark"
    words = ["--method", "grad-cam,random-map", "--metric", "average_drop"]
    words += ["--device", "cpu", "--workers", "0", "--out", out, *options]
    code = main([str(word) for word in ("benchmark", "--data", data, *words)])
    return code, out


def test_benchmark_of_networks_by_name_and_code(photographs, capsys):
    pytest.importorskip("transformers")
    folder = photographs.parent
    (folder / "net.py").write_text("from reference.colours import Colours as make\n")
    saved = hugging_face_folder(folder / "lr=0.1", "ViT", 3)
    torch.save(Colours().state_dict(), folder / "colours.pt")
    names = folder / "names.json"
    names.write_text('{"red": 0, "green": 1, "blue": 2}')
    own, hub = f"{folder / 'net.py'}:make", f"hf:{saved}"
    options = ["--model", f"{own},{hub}", "--classes", names, "--size", 32]
    options += ["--mean", 0.1, "--std", 0.9, "--weights", f"{own}={folder}/colours.pt"]
    options += ["--layer", f"{own}=features,{hub}=model.vit.layers.0.layernorm_before"]

    code, out = benchmark(photographs, *options)

    assert code == 0
    run = json.loads((out / "run.json").read_text())
    assert list(run["models"]) == [own, hub]
    assert run["models"][own]["weights"] == "colours.pt"
    assert run["models"][own]["source"].startswith("net.py + colours.py")
    assert run["models"][own]["top1"] == 1
    assert run["models"][hub]["source"].startswith("transformers")
    assert run["models"][hub]["layer"] == "model.vit.layers.0.layernorm_before"
    maps = [file.relative_to(out / "maps") for file in out.glob("maps/**/*.png")]
    assert len(maps) == 2 * 2 * 3
    for file in maps:
        assert len(file.parts) == 3
        assert re.fullmatch(r"[\w.-]+", file.parts[0])
        assert f'"{file.parts[0]}"' in (out / "report.html").read_text()
    again, _ = benchmark(photographs, *options)
    assert again == 0
    (folder / "net.py").write_text("from reference.colours import Colours as make\n#\n")
    capsys.readouterr()
    assert benchmark(photographs, *options)[0] == 2
    assert "source is 'net.py" in capsys.readouterr().err


def test_benchmark_with_a_transform_of_its_own(photographs):
    net = photographs.parent / "net.py"
    net.write_text(
        "from reference.colours import Colours\n"
        "from torchvision.transforms import Compose, Resize, ToTensor\n\n\n"
        "def make():\n    return Colours(), Compose([Resize((64, 96)), ToTensor()])\n"
    )

    code, out = benchmark(photographs, "--model", f"{net}:make", "--ignore-labels")

    assert code == 0
    (thumbnail, *_) = sorted((out / "images").iterdir())
    with Image.open(thumbnail) as image:
        assert image.size == (96, 64)


def test_benchmark_needs_to_know_the_crop_for_boxes(photographs, capsys):
    net = photographs.parent / "net.py"
    net.write_text(
        "from reference.colours import Colours\n"
        "from torchvision.transforms import ToTensor\n\n\n"
        "def make():\n    return Colours(), ToTensor()\n"
    )
    table = photographs / "labels.csv"
    table.write_text("file,class_index\nred/one.png,0\n")
    (photographs / "boxes.csv").write_text(
        "file,class_index,x0,y0,x1,y1\nred/one.png,0,10,10,40,40\n"
    )

    code, _ = benchmark(table, "--model", f"{net}:make")

    assert code == 2
    assert "model must say what it crops" in capsys.readouterr().err


def test_options_are_not_ignored_for_the_bundled_network(photographs, capsys):
    code, _ = benchmark(photographs, "--model", "scene-net", "--size", 32)

    assert code == 2
    assert "size must not be given for scene-net" in capsys.readouterr().err
