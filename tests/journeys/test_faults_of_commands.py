"""Faults of the commands that once passed without a word, a kind at a time."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from reference.benchmark_runs import rows, run
from torchvision.models import get_model

from captum_iscam.benchmark import storage
from captum_iscam.cli.main import main
from captum_iscam.methods import METHODS, Method, Options

NAME = "squeezenet1_1"
TAKING = {
    "is-cam",
    "ss-cam",
    "score-cam",
    "integrated-grad-cam",
    "grad-cam++",
    "smooth-grad-cam++",
    "rise",
}


@pytest.fixture
def image(tmp_path):
    file = tmp_path / "images" / "noise.png"
    file.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (240, 260, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def weights(folder, outputs):
    torch.manual_seed(0)
    file = folder / f"{outputs}.pt"
    torch.save(get_model(NAME, weights=None, num_classes=outputs).state_dict(), file)
    return file


def head(command, image, outputs, *words):
    """Returns the words of a small command on a network with as many outputs."""
    folder = image.parents[1]
    what = [image] if command == "explain" else ["--data", image.parent]
    if command == "benchmark":
        what += ["--metric", "average_drop,sparseness"]
    words = ("--method", "grad-cam,grad-cam++", *words)
    of = ["--model", NAME, "--weights", weights(folder, outputs)]
    return [str(w) for w in (command, *what, *of, *words, "--out", folder / "out")]


def logits(image, outputs):
    """Returns what the network gives for the image."""
    network = get_model(NAME, weights=None, num_classes=outputs).eval()
    network.load_state_dict(torch.load(weights(image.parents[1], outputs)))
    from torchvision.models import SqueezeNet1_1_Weights

    inputs = SqueezeNet1_1_Weights.DEFAULT.transforms()(Image.open(image))
    with torch.no_grad():
        return network(inputs[None])[0]


@pytest.mark.parametrize("command", ["explain", "benchmark"])
@pytest.mark.parametrize("words", [[], ["--score", "softmax"]])
def test_heads_of_one_output_need_another_score(image, capsys, command, words):
    code = main(head(command, image, 1, *words))

    said = capsys.readouterr().err
    assert code == 2
    assert "score must be sigmoid or identity for a network with one output" in said
    assert "--score sigmoid" in said
    assert not list(image.parents[1].glob("out/*"))


@pytest.mark.parametrize(
    ("score", "outputs", "shown"),
    [
        (None, 3, lambda z: f"p = {z.softmax(0).max():.3f}"),
        ("softmax", 3, lambda z: f"p = {z.softmax(0).max():.3f}"),
        ("sigmoid", 1, lambda z: f"p = {z.sigmoid().max():.3f}"),
        ("sigmoid", 3, lambda z: f"p = {z.sigmoid().max():.3f}"),
        ("identity", 1, lambda z: f"score = {z.max():.3f}"),
        ("identity", 3, lambda z: f"score = {z.max():.3f}"),
    ],
)
def test_heads_print_and_record_their_score(image, capsys, score, outputs, shown):
    words = [] if score is None else ["--score", score]

    code = main(head("explain", image, outputs, *words))

    assert code == 0
    assert shown(logits(image, outputs)) in capsys.readouterr().out
    record = json.loads((image.parents[1] / "out" / "noise.json").read_bytes())
    assert record["score"] == score or (score is None and record["score"] == "softmax")
    used = {m["method"]: m["settings"].get("score") for m in record["maps"]}
    assert used == {"grad-cam": None, "grad-cam++": score or "identity"}


@pytest.mark.parametrize("score", ["sigmoid", "identity"])
def test_heads_of_a_benchmark_have_values(image, score):
    out = image.parents[1] / "out"

    code = main(head("benchmark", image, 1, "--score", score))

    assert code == 0
    found = [row for row in rows(out).values() if row.metric == "average_drop"]
    assert len(found) == 2
    for row in found:
        assert row.error is None
        output = float(logits(image, 1)[0])
        expected = output if score == "identity" else 1 / (1 + np.exp(-output))
        assert row.probability == pytest.approx(expected, rel=1e-4)
    record = storage.read_run(out)
    assert record["settings"]["score"] == score
    assert record["metrics"]["average_drop"]["settings"]["score"] == score


def test_heads_of_an_old_folder_are_resumed(tmp_path, capsys):
    words = ["--samples", "1", "--method", "grad-cam", "--metric", "average_drop"]
    assert run(tmp_path, *words)[0] == 0
    record = storage.read_run(tmp_path)
    assert "score" not in record["settings"]
    before = rows(tmp_path)

    assert run(tmp_path, *words)[0] == 0
    assert rows(tmp_path) == before
    for score in ("sigmoid", "identity"):
        code, said = run(tmp_path, *words, "--score", score)
        assert code == 2
        assert "must be a folder of the same experiment" in said
        assert f"now '{score}'" in said


def test_heads_of_one_output_have_no_other_class(image, capsys):
    words = head("benchmark", image, 1, "--score", "sigmoid")
    words[words.index("--metric") + 1] = "target_sensitivity"

    assert main(words) == 2
    assert "metric must not compare two classes" in capsys.readouterr().err


def test_heads_pass_the_score_to_every_method_that_has_one():
    given = {
        name
        for name, method in METHODS.items()
        if "score" in method.takes
        and method.settings(Options(score="sigmoid"))["score"] == "sigmoid"
    }
    assert given == TAKING
    for name in TAKING:
        by_default = METHODS[name].settings(Options())["score"]
        assert by_default == ("identity" if "grad" in name else "softmax")


@pytest.mark.parametrize("name", sorted(TAKING))
def test_heads_of_two_logits_equal_one_of_their_difference(name):
    # A softmax of two logits is the sigmoid of their difference.
    torch.manual_seed(0)
    features = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, stride=2), torch.nn.ReLU())
    two = torch.nn.Sequential(features, torch.nn.Flatten(), torch.nn.Linear(36, 2))
    one = torch.nn.Sequential(features, torch.nn.Flatten(), torch.nn.Linear(36, 1))
    two[2].weight.data[1] = 0.5  # so that the features support class 1
    one[2].weight.data = two[2].weight.data[1:] - two[2].weight.data[:1]
    one[2].bias.data = two[2].bias.data[1:] - two[2].bias.data[:1]
    inputs = 3 * torch.rand(2, 3, 8, 8)

    def maps(model, target, score):
        options = Options(n_samples=3, n_masks=40, score=score)
        method = METHODS[name]
        return method.attribute(model.eval(), features, inputs, target, options)

    found = maps(one, 0, "sigmoid")
    assert found.amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(found, maps(two, 1, "softmax"))


@pytest.mark.parametrize("fails", ["method", "metric", "few", "model"])
def test_heads_of_errors_alone_end_with_1(tmp_path, monkeypatch, fails):
    attribute, calls = Method.attribute, []

    def fail(method, *args):
        calls.append(method.title)
        first = len(calls) == 1
        wanted = {"method": "Grad-CAM", "model": method.title}
        if (fails == "few" and first) or wanted.get(fails) == method.title:
            raise RuntimeError("it gave NaN")
        return attribute(method, *args)

    def broken(*_, **__):
        raise RuntimeError("it has no value")

    monkeypatch.setattr(Method, "attribute", fail)
    words = ["--samples", "2", "--method", "grad-cam,center-map"]
    words += ["--metric", "sparseness,average_drop"]
    if fails == "metric":
        monkeypatch.setattr(
            "captum_iscam.benchmark.metric_registry.MetricSpec.evaluate", broken
        )

    code, said = run(tmp_path, *words)

    expected = {
        "method": ["scene-net, grad-cam: every image has an error (RuntimeError: it"],
        "model": ["scene-net, grad-cam: every", "scene-net, center-map: every"],
        "metric": ["scene-net, center-map: no average_drop, sparseness (RuntimeE"],
        "few": [],
    }[fails]
    assert code == (1 if expected else 0)
    for line in expected:
        assert line in said
    assert ("every image failed" in said) == bool(expected)


def test_heads_of_no_readable_image_end_with_1(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "broken.png").write_bytes(b"no image")

    code, said = run(tmp_path / "out", "--data", data, "--model", "scene-net",
                     "--samples", "1", "--metric", "sparseness")  # fmt: skip

    assert code == 1
    assert "none of the 1 images could be read" in said
