"""Arguments of `explain` that mean something else than was meant, or nothing."""

import textwrap

import pytest
import torch
from journeys.explaining import photographs

from captum_iscam.cli.main import main

CODE = """\
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
        ("ends", "which raised SystemExit: 3"),
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
