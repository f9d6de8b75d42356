"""The tables of results are made of their rows, and pages say what the tables say."""

import csv
import gzip
import re
import sys
from collections import defaultdict
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
PAGES = ROOT / "docs" / "results"


def words(name):
    return " ".join((PAGES / f"{name}.md").read_text().split())


def cells(name, *starts):
    """The cells of the first line of a table that starts with these."""
    for line in (RESULTS / f"{name}.md").read_text().splitlines():
        found = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if found[: len(starts)] == list(starts):
            return found
    raise AssertionError(starts)


def test_the_variants_are_as_close_as_the_page_says():
    assert "differ by about 1 %" in words("variants")
    assert "rank correlations above 0.99" in words("variants")
    for network in ("squeezenet1_1", "resnet18", "mobilenet_v2"):
        of_sum = cells("readings", network, "IS-CAM, authors' sum")[4]
        assert float(of_sum.split(",")[0]) <= 1.2
        assert float(cells("readings", network, "IS-CAM")[3].split(",")[1]) > 0.99


def test_only_the_channel_softmax_of_probabilities_is_decided():
    text = (RESULTS / "readings.md").read_text()
    decided = [line for line in text.splitlines() if "**" in line]

    assert len(decided) == 2
    assert all("probability and channel softmax" in line for line in decided)


def test_what_is_worse_than_score_cam_as_published_is_on_the_page():
    heads = ["insertion", "deletion", "energy"]
    decided = {}
    for line in (RESULTS / "starved_views.md").read_text().splitlines():
        network, method, *rest = (line.strip("| ") + " | ").split(" | ")
        for head, cell in zip(heads, rest, strict=False):
            if "**" in cell:
                decided[head, network, method] = cell.split("**")[1]

    assert {key[:2] for key in decided} == {
        ("deletion", "resnet18"),
        ("insertion", "mobilenet_v2"),
    }
    assert len(decided) == 4
    assert "four are worse" in words("starved")
    for (head, _, _), mean in decided.items():
        assert (float(mean) > 0) == (head == "deletion")  # worse, each time
        assert f"({mean})" in words("starved")


@pytest.mark.parametrize(
    ("network", "said"),
    [("squeezenet1_1", r"95 % .* less than 1 %"), ("resnet18", r"62 % .* a tenth")],
)
def test_the_scores_are_as_starved_as_the_page_says(network, said):
    found = re.search(said, words("starved"))[0]
    share = re.match(r"\d+", found)[0]
    column = 3 if network == "squeezenet1_1" else 4
    text = (RESULTS / "starved_views.md").read_text()
    line = next(
        one for one in text.splitlines() if one.startswith(f"| {network} | 40 | 1 |")
    )
    assert f"{float(line.strip('| ').split(' | ')[column]):.0f}" == share


@pytest.mark.parametrize("name", ["readings", "starved_views"])
def test_a_table_is_made_of_its_rows(name, tmp_path, monkeypatch):
    module = import_module(f"experiments.quality.{name}")
    paired = import_module("experiments.quality.paired")
    with gzip.open(RESULTS / f"{name}.csv.gz", "rt", newline="") as stream:
        rows = [
            paired.Row(**{**row, "value": float(row["value"])})
            for row in csv.DictReader(stream)
        ]
    monkeypatch.setattr(module, "OUT", tmp_path / name)

    module.save(rows)

    made = (tmp_path / f"{name}.md").read_text()
    assert made == (RESULTS / f"{name}.md").read_text()


def test_the_centre_of_the_image_is_in_as_many_small_boxes_as_the_page_says():
    text = (RESULTS / "localisation_small_boxes.md").read_text()
    hits = re.findall(r"^\| .* \| Centre map \| [^|]+ \| ([\d.]+)", text, re.M)
    ends = sorted({f"{100 * float(end(hits, key=float)):.0f}" for end in (min, max)})

    assert f"is in {' to '.join(ends)} % of these boxes" in words("localisation")


def test_the_verdicts_are_made_of_the_published_values(tmp_path, monkeypatch):
    verdicts = import_module("experiments.quality.verdicts")
    for name, images in (("verdicts", "*"), ("verdicts_validation", "*val*")):
        arguments = ["verdicts", str(tmp_path / name), "--images", images]
        monkeypatch.setattr(sys, "argv", arguments)
        verdicts.main()

    for file in sorted(tmp_path.glob("*.md")):
        assert file.read_text() == (RESULTS / file.name).read_text()


def test_the_tables_of_the_poster_and_of_boxes_are_made_of_the_published_values(
    tmp_path, monkeypatch
):
    for module, name, options in (
        ("poster", "poster", ()),
        ("localisation", "localisation_photographs", ()),
        (
            "localisation",
            "localisation_scenes",
            (str(RESULTS / "rows" / "localisation_scenes.csv.gz"),),
        ),
        ("localisation", "localisation_small_boxes", ("--only", "valsmall")),
    ):
        file = tmp_path / f"{name}.md"
        monkeypatch.setattr(sys, "argv", [module, str(file), *options])
        import_module(f"experiments.quality.{module}").main()

        assert file.read_text() == (RESULTS / file.name).read_text()


def test_the_curves_are_of_the_published_runs():
    curves = import_module("experiments.quality.curves")
    published = import_module("experiments.quality.published")
    runs = published.claimed_runs()

    for network, metric in {(p.network, p.metric) for p in curves.read_points()}:
        run = next(run for run in runs if (network, metric) in run)
        for method in curves.COLOURS:
            points = [
                p
                for p in curves.read_points()
                if (p.network, p.metric, p.method) == (network, metric, method)
            ]
            if points:
                values = run[network, metric][method].values()
                scores = np.array([p.score for p in points])
                area = (scores[1:] + scores[:-1]).mean() / 2
                assert area == pytest.approx(np.mean([*values]), abs=0.01)
                assert points[0].images <= len(values)


def fast_rows():
    fast = import_module("experiments.passes.fast_score_cams")
    kinds = (str, str, str, float, int, *[float] * 5)
    with gzip.open(RESULTS / "fast_score_cams.csv.gz", "rt", newline="") as stream:
        _, *lines = csv.reader(stream)
    return fast, [
        fast.Row(*(of(cell) for of, cell in zip(kinds, line, strict=True)))
        for line in lines
    ]


def test_the_table_of_fast_score_cams_is_made_of_its_rows():
    fast, rows = fast_rows()

    assert fast.table(rows) == (RESULTS / "fast_score_cams.md").read_text()


def test_screening_is_nearest_as_the_page_says():
    fast, rows = fast_rows()
    errors, differences = {}, []
    whole = {(r.network, r.image): r for r in rows if r.way == "all"}
    for network in fast.NETWORKS:
        for way in fast.WAYS:
            for share in fast.SHARES:
                key = network, way, share
                some = [r for r in rows if (r.network, r.way, r.share) == key]
                errors[key] = np.quantile([r.error for r in some], [0.5, 0.95])
                for metric in ("insertion", "deletion"):
                    pairs = [(r, whole[r.network, r.image]) for r in some]
                    found = [getattr(a, metric) - getattr(b, metric) for a, b in pairs]
                    differences.append(abs(np.mean(found)))
    others = [way for way in fast.WAYS if way not in ("screening", "groups")]
    nearer = [
        (network, way, share)
        for network, way, share in errors
        if way in others
        and errors[network, way, share][0] < errors[network, "screening", share][0]
    ]

    assert nearer == [("resnet18", "clusters", 0.05)]
    assert errors[nearer[0]][1] > errors["resnet18", "screening", 0.05][1]
    assert max(differences) < 0.03
    assert np.median(differences) < 0.01
    assert errors["resnet18", "top channels", 0.1][0] > 0.5


def test_finer_cam_differs_from_grad_cam_as_the_targets_page_says():
    said = " ".join((ROOT / "docs" / "targets.md").read_text().split())
    found = defaultdict(list)
    with gzip.open(RESULTS / "rows" / "finer_cam.csv.gz", "rt", newline="") as stream:
        for row in csv.DictReader(stream):
            key = row["model"], row["metric"], row["method"]
            found[key].append(float(row["value"] or "nan"))

    def mean(*key):
        return np.mean(found[key])

    finer, grad, other_finer, other_grad = (
        f"{mean(network, 'complexity', method):.3f}"
        for network in ("squeezenet1_1", "resnet18")
        for method in ("finer-cam", "grad-cam")
    )
    less = mean("squeezenet1_1", "insertion", "grad-cam") - mean(
        "squeezenet1_1", "insertion", "finer-cam"
    )
    assert f"complexity {finer} against {grad} on SqueezeNet 1.1" in said
    assert f"{other_finer} against {other_grad} on ResNet-18" in said
    assert f"insertion is lower by {less:.3f}, " in said
    first, second = (PAGES / "finer_cam.md").read_text().split("\n## ")[1:3]
    assert "**+0.085** [+0.044, +0.127]" in first
    assert "| +0.007 [-0.024, +0.041] |" in second
