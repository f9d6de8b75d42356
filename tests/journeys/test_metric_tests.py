"""A test of metrics on the command line and in the report."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from reference.benchmark_folders import full_folder, write_tests
from reference.benchmark_runs import command, result, run

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.report.page import write_report

SMALL = (
    *("--method", "random-map,grad-cam", "--samples", "2", "--test-metrics", "2"),
    *("--metric", "insertion,sparseness,pointing_game,sensitivity_max"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tested")
    assert run(folder, *SMALL)[0] == 0
    return folder


def test_each_metric_that_judges_a_map_is_tested(finished):
    found = storage.read_orders(finished)

    metrics = ["insertion", "sparseness", "pointing_game"]
    assert [judged.metric for judged in found] == metrics * 2
    assert {judged.method for judged in found} == {"grad-cam"}  # no control
    steps = {"noise": 2, "shift": 2, "flip": 1, "other class": 2, "constant": 1}
    for judged in found:
        assert {kind: len(of) for kind, of in judged.right.items()} == steps
        assert judged.error is None
        assert judged.other_target not in (None, judged.target)
    settings = storage.read_run(finished)["settings"]
    assert settings["metric_test"] == {"images": 2, "method": "grad-cam"}
    content = json.loads((finished / "summary.json").read_bytes())
    assert [test["metric"] for test in content["metric_tests"]] == metrics
    assert [test["maps"] for test in content["metric_tests"]] == [2, 2, 2]


def test_the_rows_are_those_of_a_run_without_a_test(finished, tmp_path):
    words = [word for word in SMALL if word != "--test-metrics"]
    del words[words.index("2") + 1]

    assert run(tmp_path, *words)[0] == 0

    assert result(tmp_path)[0] == result(finished)[0]
    assert not (tmp_path / storage.ORDERS).exists()


@pytest.mark.parametrize("kept", [0, 4])
def test_a_stopped_test_goes_on_where_it_was(finished, tmp_path, kept):
    assert run(tmp_path, *SMALL)[0] == 0
    file = storage.rank_file(tmp_path, storage.ORDERS, 0)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:kept]) + lines[kept][:-9])

    code, said = run(tmp_path, *SMALL)

    assert code == 0
    assert "1 incomplete lines" in said
    assert file.read_bytes() == b"".join(lines)
    assert result(tmp_path) == result(finished)


def test_another_number_of_images_is_another_experiment(finished):
    code, said = run(finished, *SMALL, "--test-metrics", "1")

    assert code == 2
    assert "settings.metric_test.images is 2, now 1" in said


def test_a_model_that_fails_is_an_error_of_the_test_too(tmp_path, monkeypatch):
    def broken(*_):
        return torch.full((1, 10), math.nan)

    monkeypatch.setattr("captum_iscam.demo.network.SceneNet.forward", broken)
    monkeypatch.setattr(
        "captum_iscam.benchmark.explained_models.default_layer",
        lambda model, _: ("features", model.features),
    )

    assert run(tmp_path, *SMALL)[0] == 1

    found = storage.read_orders(tmp_path)
    assert len(found) == 6
    assert {(judged.target, str(judged.right)) for judged in found} == {(None, "{}")}
    assert all("NaN" in judged.error for judged in found)
    assert run(tmp_path, *SMALL)[0] == 1
    assert storage.read_orders(tmp_path) == found


@pytest.mark.slow
def test_two_processes_test_what_one_tests(finished, tmp_path):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = [sys.executable, *launch, "-m", "captum_iscam", *command(tmp_path, *SMALL)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    subprocess.run(words, env=environment, check=True, timeout=240)

    assert result(tmp_path)[4] == result(finished)[4]
    for rank in (0, 1):
        file = storage.rank_file(tmp_path, storage.ORDERS, rank)
        assert file.read_bytes().count(b"\n") == 3


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """Forty images, of whose metrics insertion cannot judge on the first network."""
    folder = tmp_path_factory.mktemp("report")
    made = full_folder(folder, n_images=40)
    first, second = list(made["methods"])[:2]
    claim = {"method": first, "other": second, "model": "net", "margin": 1e-9}
    claims = [{**claim, "metric": metric} for metric in ("insertion", "deletion")]
    made["claims"] = {"file": "c.toml", "sha256": "0" * 64, "claims": claims}
    shares = {"average_drop": 9, "insertion": 7, "deletion": 8}
    write_tests(folder, made, shares)
    write_report(folder)
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_the_report_marks_a_metric_that_cannot_judge(visit, reported, width, scheme):
    page = visit(reported, width=width, color_scheme=scheme)
    heads = page.locator("#means-table thead th")

    notes = [heads.nth(i).inner_text().split("\n")[2:] for i in range(1, 6)]
    assert notes == [
        ["right orders 90%"],
        [],
        ["cannot judge here (70%)"],
        ["right orders 80%"],
        [],
    ]
    for kind in ("means", "differences to Score-CAM"):
        page.select_option("#show", label=kind)
        for row in page.locator("#means-table tbody tr").all():
            cells = row.locator("td")
            muted = [cells.nth(i).get_attribute("class") for i in range(5)]
            assert "muted" in muted[2]
            assert not any(
                "muted" in (name or "") for i, name in enumerate(muted) if i != 2
            )
            assert cells.nth(2).locator(".best").count() == 0
            assert not {"better", "worse"} & set(muted[2].split())
    assert "Below 80% a metric cannot judge" in page.locator("#means").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") == 0

    marked = page.locator("#claims-table tbody tr")
    assert "metric cannot judge here" in marked.nth(0).inner_text()
    assert "metric cannot judge here" not in marked.nth(1).inner_text()


def test_one_metric_and_the_images_say_it_too(visit, reported):
    page = visit(reported)

    page.select_option("#metric", "insertion")
    assert page.locator("#judging").inner_text() == "cannot judge here (70%)"
    assert page.locator("#wins td.even").count() == 12
    page.select_option("#value", "insertion")
    page.locator("#gallery .card").first.wait_for()
    assert page.locator("#gallery figcaption .best").count() == 0
    page.select_option("#value", "deletion")
    page.locator("#gallery figcaption .best").first.wait_for()

    page.select_option("#model", "other-net")
    assert page.locator("#judging").inner_text() == ""
    assert page.locator("#means-table .muted").count() == 0
