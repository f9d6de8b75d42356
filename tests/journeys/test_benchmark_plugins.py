"""Methods, metrics, data and report tabs from a module outside of the package."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from reference.benchmark_folders import full_folder
from reference.benchmark_runs import rows

from captum_iscam._utils.files import sha256
from captum_iscam.benchmark import metric_registry
from captum_iscam.benchmark.metric_registry import METRICS
from captum_iscam.benchmark.report import page as report_page
from captum_iscam.benchmark.report.page import EXTRA_TABS, write_report
from captum_iscam.benchmark.sources import READERS
from captum_iscam.cli.main import main
from captum_iscam.methods import METHODS

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")
PLUGIN = """
from captum_iscam.attr import LayerScoreCAM
from captum_iscam.benchmark.metric_registry import metric, register_metric
from captum_iscam.methods import Method, register_method


class Mine(LayerScoreCAM):
    pass


@register_metric
@metric(higher_is_better=False, unit="share")
def mine(attributions, level=0.5):
    return (attributions > level).float().mean((1, 2, 3))


register_method("mine", Method("Mine", Mine, ("internal_batch_size",)))
"""


@pytest.fixture(autouse=True)
def tables():
    """Leaves the tables and the imported modules as they were."""
    before = [(table, dict(table)) for table in (METHODS, METRICS)]
    lists = [(found, list(found)) for found in (READERS, EXTRA_TABS)]
    modules = set(sys.modules)
    yield
    for table, entries in before:
        table.clear()
        table.update(entries)
    for found, entries in lists:
        found[:] = entries
    for name in set(sys.modules) - modules:
        if "plugin" in name:
            del sys.modules[name]


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "plugin.py"
    file.write_text(PLUGIN)
    return file


def benchmark(tmp_path, *words, method="mine", metric="mine"):
    small = ["--method", method, "--metric", metric, "--samples", "2"]
    return ["benchmark", *small, *map(str, words), "--out", str(tmp_path / "out")]


def test_a_plugin_adds_a_method_and_a_metric(tmp_path, plugin):
    code = main(benchmark(tmp_path, "--plugin", plugin))

    assert code == 0
    found = [row for row in rows(tmp_path / "out").values() if row.metric == "mine"]
    assert {row.method for row in found} == {"mine"}
    assert all(0 <= row.value <= 1 for row in found)
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["plugins"] == {"plugin.py": sha256(plugin)}
    assert record["metrics"]["mine"]["settings"] == {"level": 0.5}
    assert "| Mine |" in (tmp_path / "out" / "summary.md").read_text()


@pytest.mark.parametrize(("words", "steps"), [([], 5), (["--steps", "7"], 7)])
def test_a_setting_keeps_its_default_unless_an_option_is_given(
    tmp_path, plugin, words, steps
):
    plugin.write_text(PLUGIN.replace("level=0.5", "level=0.5, steps=5"))

    assert main(benchmark(tmp_path, "--plugin", plugin, *words)) == 0

    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["metrics"]["mine"]["settings"] == {"level": 0.5, "steps": steps}


@pytest.mark.parametrize(
    "line",
    ["1 / 0", "{}[0]", "None.shape", "raise SystemExit(0)", "nonsense", "open('/x/y')"],
)
def test_an_error_of_a_metric_is_in_its_rows(tmp_path, plugin, line):
    plugin.write_text(PLUGIN.replace("    return (", f"    {line}\n    return ("))

    main(benchmark(tmp_path, "--plugin", plugin, metric="mine,complexity"))

    found = rows(tmp_path / "out").values()
    assert all(row.error for row in found if row.metric == "mine")
    assert all(row.value for row in found if row.metric == "complexity")


SPOILING = """
import os

import torch

from captum_iscam.benchmark.metric_registry import metric, register_metric


@register_metric
@metric(higher_is_better=True, unit="share")
def a_spoiler(attributions, inputs, masks, model, explanation_func, target):
    explanation_func(inputs, target=target).zero_()
    for tensor in (attributions, inputs, masks):
        tensor.zero_()
    os.chdir("/")
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    return torch.zeros(1)


@register_metric
@metric(higher_is_better=True, unit="share")
def shuffled(model, inputs):
    if len(list(model.modules())) > 10:  # not when it is tried
        with torch.no_grad():
            next(model.parameters()).zero_()
    return torch.zeros(1)
"""
OTHERS = "insertion,complexity,coherency,energy_pointing_game"


def test_a_metric_spoils_nothing_for_the_others(tmp_path, plugin, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin.write_text(SPOILING)

    def values(metric):
        shutil.rmtree("out", ignore_errors=True)
        words = ["--method", "grad-cam", "--metric", metric, "--samples", "2"]
        words += ["--plugin", "plugin.py", "--out", "out"]
        assert main(["benchmark", *words]) == 0
        found = rows(tmp_path / "out").values()
        return {(r.image, r.metric): r.value for r in found if r.metric in OTHERS}

    assert values(f"a_spoiler,{OTHERS}") == values(OTHERS)
    assert Path.cwd() == tmp_path


def test_a_metric_that_changes_the_model_ends_the_run(tmp_path, plugin, capsys):
    plugin.write_text(SPOILING)

    code = main(
        benchmark(
            tmp_path,
            *("--plugin", plugin),
            method="grad-cam",
            metric="complexity,shuffled,insertion",
        )
    )

    assert code == 2
    assert "shuffled must leave the model as it is" in capsys.readouterr().err
    written = {row.metric for row in rows(tmp_path / "out").values()}
    assert "complexity" in written
    assert written.isdisjoint({"shuffled", "insertion"})


def test_a_plugin_may_be_an_installed_module(tmp_path, plugin, monkeypatch):
    plugin.rename(tmp_path / "my_plugin.py")
    monkeypatch.syspath_prepend(tmp_path)

    assert main(benchmark(tmp_path, "--plugin", "my_plugin")) == 0

    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["plugins"] == {"my_plugin": sha256(tmp_path / "my_plugin.py")}


def test_a_changed_plugin_is_another_experiment(tmp_path, plugin, capsys):
    words = benchmark(tmp_path, "--plugin", plugin)
    assert main(words) == 0
    assert main(words) == 0
    assert "the run continues" in capsys.readouterr().err
    plugin.write_text(PLUGIN + "\n# changed")

    code = main(words)

    said = capsys.readouterr().err
    assert code == 2
    assert "must be a folder of the same experiment" in said
    assert "whose plugins.plugin.py is '" in said


def test_a_run_without_the_plugin_is_another_experiment(tmp_path, plugin, capsys):
    words = {"method": "center-map", "metric": "sparseness"}
    assert main(benchmark(tmp_path, **words)) == 0

    code = main(benchmark(tmp_path, "--plugin", plugin, **words))

    assert code == 2
    assert "plugins.names is [], now ['plugin.py']" in capsys.readouterr().err


def test_a_folder_from_before_plugins_is_resumed(tmp_path):
    words = benchmark(tmp_path, method="center-map", metric="sparseness")
    assert main(words) == 0
    file = tmp_path / "out" / "run.json"
    record = json.loads(file.read_bytes())
    del record["plugins"]
    file.write_text(json.dumps(record))

    assert main(words) == 0


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("no_such_plugin", None, "(ModuleNotFoundError: No module named 'no_such_"),
        ("gone.py", None, "(FileNotFoundError: "),
        ("plugin.py", "1 / 0", "(ZeroDivisionError: division by zero)"),
        ("plugin.py", "def", "(SyntaxError: "),
        (
            "plugin.py",
            PLUGIN.replace("def mine(attributions", "def mine(attributions, labels"),
            "(ValueError: function must have parameters that a benchmark can give, "
            "got labels in mine.",
        ),
    ],
)
@pytest.mark.parametrize("command", ["benchmark", "explain"])
def test_a_plugin_that_cannot_be_imported_is_refused(
    tmp_path, monkeypatch, capsys, name, text, message, command
):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    words = {
        "benchmark": benchmark(tmp_path, "--plugin", name),
        "explain": ["explain", "a.jpg", "--model", "resnet18", "--plugin", name],
    }

    code = main(words[command])

    said = capsys.readouterr().err
    assert code == 2
    assert (
        f"plugin must be a module or a FILE.py that can be imported, got '{name}'"
        in (said)
    )
    assert message in said
    assert not (tmp_path / "out").exists()


def test_two_plugin_files_have_two_names(tmp_path, plugin, capsys):
    other = tmp_path / "other" / "plugin.py"
    other.parent.mkdir()
    other.write_text("")

    code = main(benchmark(tmp_path, "--plugin", plugin, "--plugin", other))

    assert code == 2
    assert "plugin must be files of different names" in capsys.readouterr().err


@pytest.mark.slow
def test_every_process_of_a_run_imports_the_plugin(tmp_path, plugin):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = benchmark(tmp_path, "--plugin", plugin)

    done = subprocess.run(
        [sys.executable, *launch, "-m", "captum_iscam", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )

    assert done.returncode == 0, done.stderr
    written = [file.stat().st_size for file in (tmp_path / "out" / "rows").iterdir()]
    assert len(written) == 2
    assert all(written)
    assert {row.metric for row in rows(tmp_path / "out").values()} >= {"mine"}
    assert "mine" not in metric_registry.METRICS


def block(language, name=""):
    """Returns the page's block in a language, which begins with a file's name."""
    (found,) = re.findall(rf"```{language}\n(\W+{name}\n.*?)```", PAGE, re.DOTALL)
    return found


@pytest.fixture
def documented(tmp_path, monkeypatch):
    """The files of the page, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_plugin.py").write_text(block("python", "my_plugin.py"))
    (tmp_path / "highest.js").write_text(block("js", "highest.js"))


def test_the_plugin_of_the_page_adds_one_of_each(tmp_path, documented, visit):
    (line,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)

    code = main(shlex.split(line.replace("\\\n", " "))[1:])

    assert code == 0
    found = rows(tmp_path / "with-plugin")
    measured = {(key.method, key.metric) for key in found if key.metric == "top_share"}
    assert {method for method, _ in measured} == {"squared-score-cam", "score-cam"}
    assert all(row.error is None for row in found.values())
    page = visit(tmp_path / "with-plugin")
    highest = page.locator("#highest li").all_inner_texts()
    # A square has more of its sum in its top pixels.
    assert highest[0] == "Top share: Squared Score-CAM"
    assert "Highest" in page.locator("nav a").all_inner_texts()


def test_the_reader_of_the_page_reads(tmp_path, documented):
    data = tmp_path / "data"
    data.mkdir()
    (data / "index.json").write_text(json.dumps({"one.png": 3, "two.png": "star"}))
    for name in ("one.png", "two.png"):
        Image.new("RGB", (96, 96), "red").save(data / name)
    words = benchmark(tmp_path, "--plugin", "my_plugin.py", "--data", data,
                      "--model", "scene-net", method="center-map",
                      metric="sparseness")  # fmt: skip

    code = main(words)

    assert code == 0
    record = json.loads((tmp_path / "out" / "run.json").read_bytes())
    assert record["data"]["kind"] == "index"
    assert [image["id"] for image in record["data"]["images"]] == ["one.png", "two.png"]


def test_a_tab_in_the_package_is_one_file(tmp_path, monkeypatch, visit):
    folder = tmp_path / "report"
    shutil.copytree(Path(report_page.__file__).parent, folder)
    (folder / "tabs" / "highest.js").write_text(block("js", "highest.js"))
    monkeypatch.setattr(report_page, "files", lambda package: folder)
    full_folder(tmp_path / "out", n_images=2)

    write_report(tmp_path / "out")

    page = visit(tmp_path / "out")
    means = json.loads((tmp_path / "out" / "summary.json").read_bytes())["means"]
    metrics = {entry["metric"] for entry in means if entry["model"] == "net"}
    assert page.locator("#highest li").count() == len(metrics)
