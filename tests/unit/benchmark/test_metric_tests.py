"""What tables and claims make of a test of the metrics."""

import csv
import json

import pytest
from reference.benchmark_folders import full_folder, rows_folder, write_run, write_tests

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.experiment import Experiment
from captum_iscam.benchmark.metric_registry import METRICS
from captum_iscam.benchmark.summary import summarise
from captum_iscam.benchmark.terminal import as_text

TWO = {"is-cam": "IS-CAM", "grad-cam": "Grad-CAM"}
METHOD = {"method": "is-cam", "other": "grad-cam", "model": "net", "margin": 1e-9}


@pytest.fixture
def tested(tmp_path):
    """A folder where insertion has 7 of 10 orders right, deletion 8 of 10."""
    values = {
        metric: [[0.5 + 0.01 * i, 0.1] for i in range(40)]
        for metric in ("insertion", "deletion", "pointing_game")
    }
    run, _ = rows_folder(tmp_path, values, methods=TWO)
    claims = [{**METHOD, "metric": metric} for metric in ("insertion", "deletion")]
    run["claims"] = {"file": "c.toml", "sha256": "0" * 64, "claims": claims}
    write_tests(tmp_path, run, {"insertion": 7, "deletion": 8})
    return tmp_path, run


def test_the_share_is_that_of_the_stored_orders(tested):
    content = summarise(tested[0]).content

    about = {"model": "net", "method": "is-cam", "maps": 10, "undefined": 0.0}
    assert content["metric_tests"] == [
        {**about, "metric": "insertion", "right_orders": 0.7, "kinds": {"flip": 0.7}}
        | {"can_judge": False},
        {**about, "metric": "deletion", "right_orders": 0.8, "kinds": {"flip": 0.8}}
        | {"can_judge": True},
    ]


def test_nothing_of_a_metric_that_cannot_judge_is_bold(tested):
    folder, run = tested
    content = summarise(folder).content

    best = {(e["metric"], e["method"]) for e in content["means"] if e["best"]}
    assert best == {("deletion", "grad-cam"), ("pointing_game", "is-cam")}
    assert not any(e["level_with_best"] for e in content["means"])
    distinct = {pair["metric"] for pair in content["pairs"] if pair["distinct"]}
    assert distinct == {"deletion", "pointing_game"}

    del run["settings"]["metric_test"]
    write_run(folder, run)
    storage.rank_file(folder, storage.ORDERS, 0).unlink()
    before = summarise(folder).content
    assert before["metric_tests"] == []
    best = {(e["metric"], e["method"]) for e in before["means"] if e["best"]}
    assert ("insertion", "is-cam") in best


def test_tables_mark_it(tested):
    folder, _ = tested
    content = summarise(folder).content

    text = (folder / "summary.md").read_text()
    assert text.count("Insertion ↑ (score), cannot judge here (70%)") == 3
    assert "| *right orders* | 70% | 80% | - |" in text
    assert "| **holds**, metric cannot judge here |" in text
    assert (
        "Insertion cannot judge here (70\\%)." in (folder / "summary.tex").read_text()
    )
    with (folder / "summary.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["method"] == "is-cam"]
    shown = [(x["metric"], x["right_orders"], x["can_judge"]) for x in lines]
    assert shown[:3] == [
        ("insertion", "0.7", "False"),
        ("deletion", "0.8", "True"),
        ("pointing_game", "", ""),
    ]
    printed = as_text(content)
    assert printed[0].startswith("holds, metric cannot judge here | IS-CAM")
    assert printed[1].startswith("refuted | IS-CAM")
    shares = [line[line.index(")") + 1 :].split("  ")[1:] for line in printed[4:7]]
    assert [next(filter(None, cells)).strip() for cells in shares] == [
        "70%, no",
        "80%",
        "-",
    ]
    assert printed[-1] == "no: cannot judge here, with right orders below 80%."


def test_a_claim_keeps_its_verdict_and_says_whether_its_metric_can_judge(tested):
    folder, _ = tested
    summarise(folder)

    found = json.loads((folder / "summary.json").read_bytes())["claims"]

    assert [(e["verdict"], e["metric_can_judge"]) for e in found] == [
        ("holds", False),
        ("refuted", True),
    ]


def test_a_share_below_the_limit_is_never_shown_as_the_limit(tmp_path):
    run, _ = rows_folder(tmp_path, {"insertion": [[0.5, 0.1]] * 30}, methods=TWO)
    write_tests(tmp_path, run, {"insertion": 8})
    file = storage.rank_file(tmp_path, storage.ORDERS, 0)
    line = json.loads(file.read_text().splitlines()[-1])
    file.write_text(json.dumps(line | {"right": {"flip": [1.0] * 797 + [0.0] * 203}}))
    file.write_text(file.read_text() + "\n")

    summarise(tmp_path)

    assert "cannot judge here (79%)" in (tmp_path / "summary.md").read_text()


def test_errors_of_the_test_are_said_to_be_of_the_test(tmp_path):
    run, _ = rows_folder(tmp_path, {"insertion": [[0.5, 0.1]] * 30}, methods=TWO)
    write_tests(tmp_path, run, {"insertion": 10})
    file = storage.rank_file(tmp_path, storage.ORDERS, 0)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[3] |= {"right": {}, "error": "RuntimeError: no memory"}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))

    content = summarise(tmp_path).content

    (entry,) = content["metric_tests"]
    assert (entry["maps"], entry["right_orders"]) == (9, 1.0)
    (failure,) = content["failures"]
    assert failure["error"] == "in the test of metrics: RuntimeError: no memory"


def test_without_a_test_no_file_has_a_word_of_it(tmp_path):
    full_folder(tmp_path, n_images=3)

    summarise(tmp_path)

    for name in ("summary.md", "summary.tex", "summary.csv"):
        text = (tmp_path / name).read_text().lower()
        assert "right orders" not in text
        assert "judge" not in text


@pytest.mark.parametrize(
    ("methods", "metric", "message"),
    [
        (["random-map"], "insertion", "method must include one that is no control"),
        (["grad-cam"], "sensitivity_max", "metric must include one that judges a"),
    ],
)
def test_a_test_without_a_method_or_metric_is_refused(methods, metric, message, data):
    with pytest.raises(ValueError, match=message):
        Experiment(data, [], methods, {metric: METRICS[metric]}, test_metrics=1)


@pytest.fixture
def data():
    from captum_iscam.benchmark.sources import bundled_scenes

    return bundled_scenes(1)
