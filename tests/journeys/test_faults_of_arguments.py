"""Arguments of `explain` that mean something else than was meant, or nothing."""

import os
import textwrap

import pytest
import torch
from journeys.explaining import photographs

from captum_iscam.cli.main import main

CODE = """\
import os
import sys
import warnings

import torch
from torch import nn


def usual():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 6, 3, stride=8), nn.ReLU())
    pool = nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(features, pool, nn.Flatten(), nn.Linear(6, 4)).eval()


def probability():
    model = usual()
    return nn.Sequential(model[:3], nn.Linear(6, 1), nn.Sigmoid()).eval()


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        return torch.jit.script(usual())


def lazy():
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.Flatten(), nn.LazyLinear(4))


def ends():
    sys.exit(3)


def compiled():
    return torch.compile(usual(), backend="eager")


def moves():
    os.chdir("/")
    return usual()


class Moving(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = usual()

    def forward(self, x):
        os.chdir("/")
        return self.inner(x)


class Picky(Moving):
    def forward(self, x):
        if x.std() > 0.5:
            raise KeyError("some images only")
        return self.inner(x)
"""


@pytest.fixture
def explained(tmp_path, capsys, monkeypatch):
    """Explains a photograph by a function's network; returns code and errors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(textwrap.dedent(CODE))
    (image,) = map(str, photographs(tmp_path / "images", 1))

    def explain(*words, model="usual", images=(image,)):
        code = [*images, "--model", f"mine.py:{model}", "--method", "grad-cam"]
        try:
            found = main(["explain", *code, "--out", "out", *words])
        except SystemExit as error:  # of argparse
            found = error.code
        return found, capsys.readouterr().err

    return explain


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("scripted", "got a scripted one from 'mine.py:scripted'"),
        ("lazy", "got lazy ones from 'mine.py:lazy'"),
        ("ends", "which raised RuntimeError: SystemExit: 3"),
    ],
)
def test_a_function_whose_model_cannot_be_explained(explained, model, said):
    code, error = explained(model=model)

    assert code == 2
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("words", [("--out", ""), ("--classes", "")])
def test_an_empty_path_is_refused(explained, words):
    code, error = explained(*words)

    assert code == 2
    assert "got an empty text" in error


def test_an_empty_image_is_refused(explained):
    code, error = explained(images=("",))

    assert code == 2
    assert "got an empty text" in error


@pytest.mark.parametrize("option", ["--mean", "--std"])
@pytest.mark.parametrize("value", ["123.675,116.28,103.53", "58", "-0.1"])
def test_numbers_for_pixels_up_to_255_are_refused(explained, option, value):
    code, error = explained(f"{option}={value}")

    assert code == 2
    assert "must be for pixels from 0 to 1" in error


def test_lists_that_lead_in_a_circle_are_refused(explained, tmp_path):
    (tmp_path / "one").write_text("@two\n")
    (tmp_path / "two").write_text("@one\n")

    code, error = explained(images=("@one",))

    assert code == 2
    assert "do not name themselves, got '@one' in '@two'" in error


def test_weights_are_known_by_their_content_not_their_name(explained, tmp_path):
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 6, 3), torch.nn.ReLU())
    model = torch.nn.Sequential(
        features,
        torch.nn.Identity(),
        torch.nn.Identity(),
        torch.nn.Linear(6, 4),
    )
    torch.save(model.state_dict(), tmp_path / "named.safetensors")

    code, error = explained("--weights", "named.safetensors")

    assert (code, error.count("error")) == (0, 0), error


def test_a_sigmoid_that_is_taken_twice_is_said(explained):
    words = ("--score", "sigmoid", "--method", "score-cam")

    code, error = explained(*words, model="probability")

    assert code == 0
    assert "as those of a sigmoid do" in error


def test_a_compiled_model_is_explained_by_the_names_of_its_layers(explained, tmp_path):
    with pytest.warns(UserWarning, match="is run without torch.compile"):
        code, error = explained("--layer", "0.0", model="compiled")

    assert (code, error) == (0, "")
    assert (tmp_path / "out" / "index.html").is_file()


@pytest.mark.parametrize("model", ["moves", "Moving"])
def test_the_output_is_where_it_was_asked_for(explained, tmp_path, model):
    code, error = explained(model=model)

    assert code == 0, error
    assert (tmp_path / "out" / "index.html").is_file()
    assert os.getcwd() == str(tmp_path)


def test_an_error_of_the_model_is_that_of_the_image(explained, tmp_path):
    code, error = explained(model="Picky")

    assert code == 1
    assert "cannot be explained: KeyError: 'some images only'" in error


@pytest.mark.parametrize(
    ("names", "target", "said"),
    [
        ("crane\nowl\ncrane\nox\n", "crane", "the name of the indices 0, 2"),
        ("3\n2\n1\n0\n", "3", "--target 3 is an index. The class named '3' has the"),
    ],
)
def test_a_target_that_means_two_classes_is_said(explained, names, target, said):
    with open("names.txt", "w") as file:
        file.write(names)

    code, error = explained("--classes", "names.txt", "--target", target)

    assert said in error
    assert code == (2 if "crane" in names else 0)


@pytest.mark.parametrize("option", ["--classes", "--weights", "--plugin"])
@pytest.mark.parametrize("name", ["gone.py", "images", "binary.py", "x" * 5000])
def test_a_file_that_cannot_be_used_is_said_in_the_usual_form(
    explained, tmp_path, option, name
):
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00\x01")

    code, error = explained(option, name)

    assert code == 2
    assert f"error: {option[2:]} must " in error
    assert "explain: error: [Errno" not in error


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "images after @ must be an existing file"),
        (b"\xff\xfea\x00", "images after @ must be a list of paths as text"),
        (b"\n\n", "images must be there, got @list without any line"),
    ],
)
def test_a_list_without_images_is_refused(explained, tmp_path, content, said):
    if content is not None:
        (tmp_path / "list").write_bytes(content)

    code, error = explained(images=("@list",))

    assert code == 2
    assert said in error


@pytest.mark.parametrize("value", ["", " "])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        *[("explain", o) for o in ("model", "weights", "method", "target", "cmap")],
        *[("benchmark", o) for o in ("model", "weights", "method", "metric")],
    ],
)
def test_an_empty_value_is_not_the_default(capsys, command, option, value):
    needed = ["cat.jpg", "--model", "resnet18"] if command == "explain" else []

    code = main([command, *needed, f"--{option}", value])

    assert code == 2
    said = capsys.readouterr().err
    assert f"argument --{option}: must be a name or a value, got an empty text" in said
    assert "Is a variable unset?" in said
