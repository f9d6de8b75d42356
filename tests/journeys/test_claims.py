"""Claims on the command line and in the report."""

import hashlib
import json

import pytest
from reference.benchmark_folders import full_folder

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.report.page import write_report
from captum_iscam.cli.main import main

CLAIM = """\
[[claim]]
method = "{}"
other = "{}"
model = "{}"
metric = "{}"
margin = 0.01
"""


def claims_file(folder, *claims):
    file = folder / "claims.toml"
    file.write_text("\n".join(CLAIM.format(*claim) for claim in claims))
    return file


def benchmark(*words):
    return main(["benchmark", *map(str, words)])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claimed")
    file = claims_file(
        folder,
        ("grad-cam", "random-map", "scene-net", "energy_pointing_game"),
        ("grad-cam", "center-map", "scene-net", "pointing_game"),
    )
    code = benchmark("--claims", file, "--out", folder / "out")
    assert code == 0
    return folder, file


def test_a_file_of_claims_names_what_is_run_and_gets_verdicts(finished):
    folder, file = finished

    run = storage.read_run(folder / "out")
    content = json.loads((folder / "out" / "summary.json").read_bytes())

    assert list(run["methods"]) == ["grad-cam", "random-map", "center-map"]
    assert run["claims"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert [entry["claim"] for entry in content["claims"]] == [
        "Grad-CAM is better than Random map: Energy pointing game, scene-net",
        "Grad-CAM is better than Centre map: Pointing game, scene-net",
    ]
    # There are eight scenes, which decide nothing, however large the difference.
    assert {entry["verdict"] for entry in content["claims"]} == {"undecided"}
    assert content["claims"][0]["p"] == pytest.approx(2 / 2**8, rel=1e-4)
    text = (folder / "out" / "summary.md").read_text()
    assert text.index("## Claims") < text.index("## scene-net")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "give --method, --metric, --model."),
        (("--metric", "pointing_game,energy_pointing_game"), "give --method, --model."),
    ],
)
def test_it_is_said_that_claims_choose_what_is_run(finished, given, said, capsys):
    folder, file = finished

    benchmark("--claims", file, *given, "--out", folder / "out")

    lines = capsys.readouterr().err.splitlines()
    (line,) = (line for line in lines if line.startswith("Only what the claims name"))
    assert said in line


def test_changed_or_later_claims_are_noticed(finished, tmp_path, capsys):
    folder, file = finished
    other = claims_file(
        tmp_path, ("grad-cam", "random-map", "scene-net", "pointing_game")
    )
    same = ("--method", "grad-cam,random-map,center-map")
    same += ("--metric", "energy_pointing_game,pointing_game")

    assert benchmark("--claims", other, *same, "--out", folder / "out") == 2
    assert "whose claims.sha256 is" in capsys.readouterr().err
    assert benchmark(*same, "--out", folder / "out") == 2
    assert "whose claims.sha256 is" in capsys.readouterr().err
    assert benchmark("--claims", file, "--out", folder / "out") == 0


@pytest.mark.parametrize(
    ("claim", "words", "said"),
    [
        (("magic", "grad-cam", "scene-net", "insertion"), (), "method must"),
        (("is-cam", "grad-cam", "scene-net", "beauty"), (), "metric must"),
        (("is-cam", "grad-cam", "nonet", "insertion"), (), "model must"),
        (
            ("is-cam", "grad-cam", "scene-net", "insertion"),
            ("--method", "is-cam"),
            "claims must name a method of the run, got 'grad-cam'",
        ),
    ],
)
def test_claims_about_what_is_not_there_are_refused(
    claim, words, said, tmp_path, capsys
):
    file = claims_file(tmp_path, claim)

    assert benchmark("--claims", file, *words, "--out", tmp_path / "out") == 2
    assert said in capsys.readouterr().err


def test_the_report_shows_verdicts(tmp_path, visit):
    run = full_folder(tmp_path, n_images=40)
    first, second = list(run["methods"])[:2]
    model, metric = next(iter(run["models"])), next(iter(run["metrics"]))
    claim = {"method": first, "other": second, "model": model, "metric": metric}
    run["claims"] = {
        "file": "<b>claims</b>.toml",
        "sha256": "0" * 64,
        "claims": [
            {**claim, "margin": 1e9},
            {**claim, "margin": 1e-9, "images": "*1*"},
        ],
    }
    (tmp_path / storage.RUN).write_text(json.dumps(run))
    write_report(tmp_path)

    page = visit(tmp_path, width=360)
    table = page.locator("#claims-table tbody")

    assert table.locator("tr").count() == 2
    assert "equivalent" in table.locator("tr").nth(0).inner_text()
    assert "undecided" in table.locator("tr").nth(1).inner_text()
    assert "<b>claims</b>.toml" in page.locator("#claims .about").inner_text()


def test_a_report_without_claims_has_no_such_section(tmp_path, visit):
    full_folder(tmp_path, n_images=3)
    write_report(tmp_path)

    page = visit(tmp_path)

    assert page.locator("#claims").is_hidden()
    assert page.locator('nav a[href="#claims"]').count() == 0
