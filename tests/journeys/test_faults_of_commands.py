"""Faults of the commands that once passed without a word, a kind at a time."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reference.benchmark_runs import rows, run
from torchvision.models import get_model

from captum_iscam.benchmark import metric_registry, storage
from captum_iscam.benchmark.metric_trial import check_returns, tiny_context
from captum_iscam.benchmark.sources import find_data
from captum_iscam.cli.main import main
from captum_iscam.methods import METHODS, Method, Options

NAME = "squeezenet1_1"
# Methods that take a score, by their default.
TAKING = {
    **dict.fromkeys(
        ["is-cam", "ss-cam", "score-cam", "poly-cam", "recipro-cam", "rise"], "softmax"
    ),
    **dict.fromkeys(
        [
            "integrated-grad-cam",
            "grad-cam++",
            "smooth-grad-cam++",
            "layer-cam",
            "hires-cam",
            "xgrad-cam",
            "ablation-cam",
        ],
        "identity",
    ),
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


OWN = '''
from torch import nn
from captum_iscam.demo import load_network


class Sure(nn.Module):
    """Its logits are so large that most probabilities round to 1."""

    def __init__(self):
        super().__init__()
        self.net = load_network()

    def forward(self, x):
        return 6 * self.net(x) + 40


def sure():
    return Sure().eval()


def soft():
    return nn.Sequential(load_network(), nn.Softmax(1)).eval()


def labels():
    return nn.Sequential(load_network(), nn.Sigmoid()).eval()
'''


@pytest.fixture
def of_own(image):
    """Returns the words of a command on a network of a file of code."""
    folder = image.parents[1]
    (folder / "own.py").write_text(OWN)

    def words(command, name, *more):
        what = [image] if command == "explain" else ["--data", image.parent]
        network = ["--model", f"{folder / 'own.py'}:{name}", "--size", 64]
        out = folder / "_".join(["out", *more]).replace("-", "")
        return [str(w) for w in (command, *what, *network, *more, "--out", out)], out

    return words


@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
def test_probabilities_that_round_to_one_keep_the_order_of_classes(of_own, score):
    found = []
    for given in ("identity", score):
        words, out = of_own(
            "explain", "sure", "--score", given, "--target", "top4", "--method",
            "grad-cam",
        )  # fmt: skip
        assert main(words) == 0
        record = json.loads((out / "noise" / "record.json").read_bytes())
        found.append([m["target"] for m in record["maps"]])
        words, out = of_own(
            "benchmark", "sure", "--score", given, "--method", "center-map",
            "--metric", "complexity",
        )  # fmt: skip
        assert main(words) == 0
        row = storage.read_rows(out)[0]
        found[-1] += [row.prediction, row.target]

    assert found[0] == found[1]
    assert found[0][0] == found[0][4] != 0


@pytest.mark.parametrize("command", ["explain", "benchmark"])
@pytest.mark.parametrize("network", ["soft", "labels"])
def test_a_printed_probability_is_no_softmax_of_probabilities(of_own, command, network):
    more = ["--metric", "complexity"] if command == "benchmark" else []
    words, _ = of_own(command, network, "--method", "grad-cam", *more)

    with pytest.warns(UserWarning, match='softmax flattens them.*score="identity"'):
        assert main(words) == 0


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
    out = image.parents[1] / "out"
    record = json.loads((out / "noise" / "record.json").read_bytes())
    assert record["score"] == score or (score is None and record["score"] == "softmax")
    used = {m["method"]: m["settings"].get("score") for m in record["maps"]}
    assert used == {"grad-cam": "identity", "grad-cam++": score or "identity"}


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
    assert given == TAKING.keys()
    for name, by_default in TAKING.items():
        assert METHODS[name].settings(Options())["score"] == by_default


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
            "captum_iscam.benchmark.metric_spec.MetricSpec.evaluate", broken
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


SMALL = ["--samples", "2", "--method", "center-map", "--metric", "sparseness"]


@pytest.mark.parametrize("name", ["run.json", "rows/rank0.jsonl", "curves/rank0.jsonl"])
def test_pipes_in_the_folder_are_refused(tmp_path, name):
    out = tmp_path / "out"
    assert run(out, *SMALL)[0] == 0
    (out / name).unlink()
    os.mkfifo(out / name)

    # A run that waits for a writer would not end.
    signal.alarm(60)
    code, said = run(out, *SMALL)
    signal.alarm(0)

    assert code == 2
    assert f"in which {Path(name).name} is a file" in said or "not that of" in said


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_pipes_among_the_data_are_errors(tmp_path, image, kind):
    def special(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(file) if kind == "pipe" else file.symlink_to("/dev/zero")
        return file

    special(image.parent / "special.png")
    voc = tmp_path / "voc"
    special(voc / "Annotations" / "a.xml")
    (voc / "JPEGImages").mkdir()
    plugin = special(tmp_path / "plugin.py")
    network = ["--model", "scene-net", *SMALL]
    signal.alarm(60)

    code, _ = run(tmp_path / "1", "--data", image.parent, *network)
    assert code == 0
    (broken,) = [r for r in storage.read_rows(tmp_path / "1") if r.error]
    assert (broken.image, broken.error) == ("special.png", "not a file")
    code, said = run(tmp_path / "2", "--data", voc, "--ignore-labels", *network)
    assert code == 2
    assert "a.xml' (not a file)" in said
    code, said = run(tmp_path / "3", "--plugin", plugin, *network)
    assert code == 2
    assert "(ValueError: not a file)" in said
    signal.alarm(0)


def test_links_that_loop_are_followed_once(tmp_path, image):
    folder = image.parent / "star"
    folder.mkdir()
    image.rename(folder / "noise.png")
    (folder / "up").symlink_to(image.parent)
    (folder / "here").symlink_to(".")
    (image.parent / "all").symlink_to(".")
    other = tmp_path / "elsewhere"
    other.mkdir()
    Image.new("RGB", (96, 96), "red").save(other / "red.png")
    (image.parent / "circle").symlink_to(other)

    items = find_data(image.parent).items

    assert [item.id for item in items] == ["circle/red.png", "star/noise.png"]


def test_links_to_one_folder_twice_are_refused(tmp_path, image):
    folder = image.parent / "star"
    folder.mkdir()
    image.rename(folder / "noise.png")
    (image.parent / "circle").symlink_to("star")

    with pytest.raises(ValueError, match="data must contain each folder once"):
        find_data(image.parent)


@pytest.mark.parametrize("name", ["./a.png", "b/../a.png", "a.png"])
def test_links_and_other_spellings_in_a_table_are_refused(tmp_path, name):
    (tmp_path / "labels.csv").write_text(f"file\na.png\n{name}\n")

    with pytest.raises(ValueError, match="data must name each file once"):
        find_data(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"value": "1e999"},
        {"value": "-1e999"},
        {"value": "NaN"},
        {"value": "Infinity"},
        {"value": '"many"'},
        {"value": "1" + "0" * 400},
        {"probability": "1e999"},
        {"prediction": "1e999"},
        {"image": "[]"},
        {"method": "{}"},
        {"unknown": "1"},
    ],
)
def test_damaged_rows_are_refused(tmp_path, damage):
    assert run(tmp_path, *SMALL)[0] == 0
    file = tmp_path / "rows" / "rank0.jsonl"
    first, *others = file.read_text().splitlines()
    ((name, text),) = damage.items()
    record = {**json.loads(first), name: "HERE"}
    line = json.dumps(record).replace('"HERE"', text)
    file.write_text("\n".join([line, *others]) + "\n")

    code, said = run(tmp_path, *SMALL)

    assert code == 2
    assert "must be a folder with unchanged rows" in said
    for written in ("summary.json", "run.json"):
        assert "Infinity" not in (tmp_path / written).read_text()


@pytest.mark.parametrize("damage", ["1e999", "null", "NaN", '"a"'])
def test_damaged_curves_are_refused(tmp_path, damage):
    words = [*SMALL[:-1], "insertion", "--steps", "2"]
    assert run(tmp_path, *words)[0] == 0
    file = tmp_path / "curves" / "rank0.jsonl"
    text = file.read_text().replace('"scores":[', f'"scores":[{damage},')
    file.write_text(text.replace('"fractions":[', '"fractions":[0.0,'))

    code, said = run(tmp_path, *words)

    assert code == 2
    assert "must be a folder with unchanged rows" in said


COMMANDS = {
    "benchmark": (["benchmark", *SMALL], "summary.json"),
    "explain": (["explain", "IMAGE", "--model", NAME, "--weights", "WEIGHTS",
                 "--method", "grad-cam"], "noise/record.json"),
}  # fmt: skip


@pytest.mark.parametrize("command", [*COMMANDS, "demo"])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams_that_break_do_not_end_the_work(
    tmp_path, image, monkeypatch, command, stream
):
    class Broken(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("captum_iscam.cli.demo.SHOWN", ("grad-cam",))
    monkeypatch.setattr(sys, stream, Broken())
    words, file = COMMANDS.get(command, (["demo"], "table.md"))
    names = {"IMAGE": str(image), "WEIGHTS": str(weights(tmp_path, 3))}
    out = tmp_path / "out"

    code = main([*(names.get(w, w) for w in words), "--out", str(out)])

    # Nothing but the benchmark prints errors in a run that succeeds.
    assert code == (1 if stream == "stdout" or command == "benchmark" else 0)
    assert (out / file).stat().st_size
    assert isinstance(getattr(sys, stream), Broken)


@pytest.mark.parametrize(
    ("command", "closed"),
    [("benchmark", "2"), ("benchmark", "both"), ("explain", "1")],
)
def test_streams_that_are_closed_do_not_end_the_work(tmp_path, image, command, closed):
    words, file = COMMANDS[command]
    names = {"IMAGE": str(image), "WEIGHTS": str(weights(tmp_path, 3))}
    out = tmp_path / "out"
    words = [*(names.get(w, w) for w in words), "--out", str(out)]
    line = shlex.join([sys.executable, "-m", "captum_iscam", *words])
    line += " >&- 2>&-" if closed == "both" else f" {closed}>&-"

    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert (out / file).stat().st_size


def test_streams_that_a_reader_leaves_are_told_of_by_the_exit_code(tmp_path):
    words = [sys.executable, "-m", "captum_iscam", "benchmark", *SMALL]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [*words, "--out", str(tmp_path)], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    said = done.stderr.decode()

    assert done.returncode == 1
    assert "was closed before all was printed" in said
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert (tmp_path / "report.html").stat().st_size


def test_streams_on_a_full_disk_are_told_of_by_the_exit_code(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "captum_iscam",
                "benchmark",
                *SMALL,
                "--out",
                str(tmp_path),
            ],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=120,
        )

    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "report.html").stat().st_size


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"RANK": "abc"}, "RANK must be an integer of at least 0, got 'abc'"),
        ({"WORLD_SIZE": "1.5"}, "WORLD_SIZE must be an integer of at least 0"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE must be an integer of at least 0, got ''"),
        ({"LOCAL_RANK": "-1"}, "LOCAL_RANK must be an integer of at least 0"),
        ({"LOCAL_WORLD_SIZE": "two"}, "LOCAL_WORLD_SIZE must be an integer"),
        ({"RANK": "3"}, "RANK must be below WORLD_SIZE, got 3 and None"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK must be below WORLD_SIZE, got 2 and"),
        ({"WORLD_SIZE": "2"}, "RANK must be below WORLD_SIZE, got None and 2"),
        ({"WORLD_SIZE": "0"}, "RANK must be below WORLD_SIZE"),
        (
            {"WORLD_SIZE": "2", "RANK": "0"},
            "MASTER_ADDR and MASTER_PORT must lead to the first process, got None",
        ),
        (
            {
                "WORLD_SIZE": "2",
                "RANK": "0",
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": "abc",
            },
            "got 'localhost' and 'abc'",
        ),
    ],
)
def test_names_of_wrong_variables_are_in_the_error(
    tmp_path, monkeypatch, variables, message
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    code, said = run(tmp_path, *SMALL)

    assert code == 2
    assert message in said
    assert "Start the run with torchrun, or unset" in said


@pytest.mark.parametrize("command", ["benchmark", "demo"])
@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_cannot_be_encoded_are_in_the_error(tmp_path, capsys, command, name):
    code = main([command, "--out", str(tmp_path / name)])

    assert code == 2
    assert "out must be a folder that can be made" in capsys.readouterr().err


@pytest.mark.parametrize("column", ["file", "mask"])
def test_names_in_a_table_that_cannot_be_encoded_are_refused(tmp_path, image, column):
    name = "\u65e5.png"
    line = f"noise.png,{name}" if column == "mask" else f"{name},"
    (image.parent / "labels.csv").write_text(f"file,mask\n{line}\n", "utf-8")
    words = ["benchmark", *SMALL, "--data", str(image.parent), "--out", "out"]
    old = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

    done = subprocess.run(
        [sys.executable, "-m", "captum_iscam", *words, "--model", "scene-net"],
        env={**os.environ, **old},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )

    said = done.stderr.decode()
    assert done.returncode == 2
    assert "encoding, here ascii, got" in said
    assert "labels.csv, line 2. Set PYTHONUTF8=1" in said


METRIC = """
import torch
from captum_iscam.benchmark.metric_registry import metric, register_metric

@metric(higher_is_better=True, unit="share")
def mine(attributions):
    return RETURNED

register_metric(mine, FINISH)
"""


def plugin(folder, returned, finish=None):
    file = folder / "returns_plugin.py"
    end = f"mine, finish={finish}" if finish else "mine"
    text = METRIC.replace("RETURNED", returned).replace("mine, FINISH", end)
    file.write_text(text)
    return file


@pytest.fixture
def tables(monkeypatch):
    """Leaves the metrics and the modules as they were."""
    monkeypatch.setattr(metric_registry, "METRICS", dict(metric_registry.METRICS))
    yield
    sys.modules.pop("captum_iscam_plugin_returns_plugin", None)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        ("0.5", "got float"),
        ("attributions.mean()", "got the shape ()"),
        ("attributions.mean((2, 3))", "got the shape (1, 1)"),
        ("attributions.flatten()", "got the shape (16,)"),
        ("None", "got NoneType"),
        ("[0.5]", "got list"),
    ],
)
def test_returns_of_another_form_are_refused_first(tmp_path, tables, returned, got):
    words = ["--plugin", plugin(tmp_path, returned), *SMALL[:-1], "mine"]

    code, said = run(tmp_path / "out", *words)

    assert code == 2
    assert "mine must return one number per example, a tensor (N,), " + got in said
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("returned", "finish"),
    [
        ("attributions.mean((1, 2, 3))", None),
        ("attributions.mean()", "float"),
        ("{'a': 0.5}", "lambda found: found['a']"),
    ],
)
def test_returns_of_the_right_form_have_values(tmp_path, tables, returned, finish):
    words = ["--plugin", plugin(tmp_path, returned, finish), *SMALL[:-1], "mine"]

    assert run(tmp_path / "out", *words)[0] == 0
    values = [
        r.value for r in storage.read_rows(tmp_path / "out") if r.metric == "mine"
    ]
    assert len(values) == 2
    assert all(0 < value < 1 for value in values)


def test_returns_that_a_small_input_does_not_show_are_errors_of_rows(tmp_path, tables):
    wrong = "1 / 0 if attributions.shape[-1] == 4 else 0.5"
    words = ["--plugin", plugin(tmp_path, wrong), *SMALL[:-1], "mine"]

    code, said = run(tmp_path / "out", *words)

    assert code == 1
    assert "center-map: no mine (TypeError: mine must return one number" in said


@pytest.mark.filterwarnings("ignore:The maps of explanation_func are the same")
def test_returns_of_all_metrics_pass_the_check_and_keep_the_random_state():
    context = tiny_context()
    for spec in metric_registry.METRICS.values():
        spec.check(spec.call(context))
    state = torch.random.get_rng_state()

    check_returns({"mine": metric_registry.MetricSpec(_uses_randomness)})

    assert torch.equal(torch.random.get_rng_state(), state)


def _uses_randomness(attributions):
    return torch.rand(1)
