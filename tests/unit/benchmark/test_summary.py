"""The summary against numbers worked out by hand, and rows as runs leave them."""

import csv
import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from reference.benchmark_folders import (
    declare,
    full_folder,
    image_rows,
    rows_folder,
    write_records,
    write_run,
)

from captum_iscam.benchmark import storage
from captum_iscam.benchmark.results import read_results
from captum_iscam.benchmark.summary import summarise

FILES = (
    *("summary.md", "summary.tex", "summary.csv", "summary_wide.csv"),
    "summary.json",
)
TWO = {"is-cam": "IS-CAM", "grad-cam": "Grad-CAM"}


def find(content, table, **where):
    (found,) = [e for e in content[table] if all(e[k] == v for k, v in where.items())]
    return found


def by_hand(folder):
    insertion = [[0.4, 0.1], [0.6, 0.2], [0.2, 0.3]]
    deletion = [[0.1, 0.1], [0.2, 0.4], [0.3, 0.1]]
    return rows_folder(
        folder, {"insertion": insertion, "deletion": deletion}, methods=TWO
    )


def test_means_medians_differences_and_wins(tmp_path):
    by_hand(tmp_path)

    content = summarise(tmp_path).content

    mean = find(content, "means", metric="insertion", method="is-cam")
    assert (mean["mean"], mean["median"], mean["n"]) == (0.4, 0.4, 3)
    # One image three times is one resample of 27: within the outer 2.5 %.
    assert (mean["low"], mean["high"]) == (0.2, 0.6)
    pair = find(content, "pairs", metric="insertion", method="is-cam")
    assert pair["mean"] == 0.2
    assert pair["wins"] == pytest.approx(2 / 3, abs=1e-6)
    other = find(content, "pairs", metric="insertion", method="grad-cam")
    assert (other["mean"], other["low"], other["high"]) == (
        -pair["mean"],
        -pair["high"],
        -pair["low"],
    )
    # Less is better: a tie, a win and a loss.
    assert find(content, "pairs", metric="deletion", method="is-cam")["wins"] == 0.5


def test_the_best_follows_the_direction(tmp_path):
    rows_folder(
        tmp_path,
        {"insertion": [[0.5, 0.1]] * 30, "average_drop": [[50.0, 10.0]] * 30},
        methods=TWO,
    )

    content = summarise(tmp_path).content

    best = {(e["metric"], e["method"]) for e in content["means"] if e["best"]}
    assert best == {("insertion", "is-cam"), ("average_drop", "grad-cam")}
    assert not any(e["level_with_best"] for e in content["means"])


def test_a_method_that_images_do_not_tell_from_the_best_is_marked(tmp_path):
    rng = np.random.default_rng(0)
    first = rng.normal(0.5, 0.1, 40)
    values = np.stack([first, first + rng.normal(-0.001, 0.1, 40), first - 0.2], 1)
    methods = {"a": "A", "b": "B", "c": "C"}
    rows_folder(tmp_path, {"insertion": values.tolist()}, methods=methods)

    content = summarise(tmp_path).content

    level = [e["method"] for e in content["means"] if e["level_with_best"]]
    best = [e["method"] for e in content["means"] if e["best"]]
    assert sorted(best + level) == ["a", "b"]
    assert "~" in (tmp_path / "summary.md").read_text().split("## net")[1]


def test_an_interval_that_ends_at_zero_holds_it(tmp_path):
    # Wins of 0.3 and 0.1 and a tie: the tie three times is one resample of 27.
    values = [[0.7, 0.7], [0.9, 0.6], [0.4, 0.3]]
    rows_folder(tmp_path, {"insertion": values}, methods=TWO)

    content = summarise(tmp_path).content

    pair = find(content, "pairs", method="is-cam")
    assert pair["low"] == 0
    assert not pair["distinct"]


def test_missing_and_undefined_values_are_counted_apart(tmp_path):
    nothing = [[None, None]] * 2
    some = [[1.0, None], [0.0, 1.0], [1.0, 0.0]]
    rows_folder(tmp_path, {"pointing_game": nothing + some}, methods=TWO)

    content = summarise(tmp_path).content

    is_cam, grad_cam = (find(content, "means", method=m) for m in TWO)
    assert (is_cam["n"], is_cam["missing"], is_cam["undefined"]) == (3, 0, 2)
    assert (grad_cam["n"], grad_cam["missing"], grad_cam["undefined"]) == (2, 1, 2)
    assert find(content, "pairs", method="is-cam")["n"] == 2
    text = (tmp_path / "summary.md").read_text()
    assert "| *missing* | 0-1 |" in text
    assert "| *undefined* | 2 |" in text


def test_an_error_is_missing_even_where_every_method_fails(tmp_path):
    run, rows = by_hand(tmp_path)
    first = run["data"]["images"][0]["id"]
    failed = [
        replace(row, value=None, error="out of memory") if row.image == first else row
        for row in rows
    ]
    write_records(tmp_path, storage.ROWS, failed)

    content = summarise(tmp_path).content

    entry = find(content, "means", metric="insertion", method="is-cam")
    assert (entry["n"], entry["missing"], entry["undefined"]) == (2, 1, 0)
    assert find(content, "failures", metric="insertion", method="is-cam") == {
        "model": "net",
        "method": "is-cam",
        "metric": "insertion",
        "error": "out of memory",
        "images": 1,
    }
    assert "1 image: out of memory" in (tmp_path / "summary.md").read_text()


def test_unreadable_images_and_images_still_to_come_are_said(tmp_path):
    run, rows = by_hand(tmp_path)
    images = [image["id"] for image in run["data"]["images"]]
    broken = storage.Row(images[0], error="cannot identify image file")
    seen = [row for row in rows if row.image == images[1]]
    write_records(tmp_path, storage.ROWS, [broken, *seen])

    content = summarise(tmp_path).content

    assert content["images"] == {
        "total": 3,
        "unreadable": [{"image": images[0], "error": "cannot identify image file"}],
    }
    assert content["models"]["net"]["waiting"] == 1
    text = (tmp_path / "summary.md").read_text()
    assert "**1 image could not be read.**" in text
    assert "**The run is incomplete; images without rows: net: 1.**" in text


def test_a_torn_last_line_is_left_out(tmp_path):
    _, rows = by_hand(tmp_path)
    file = storage.rank_file(tmp_path, storage.ROWS, 0)
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])

    content = summarise(tmp_path).content

    assert len(rows) == 12
    lost = find(content, "means", metric="deletion", method="grad-cam")
    assert (lost["n"], lost["missing"]) == (2, 1)


def test_order_and_ranks_of_rows_do_not_matter(tmp_path):
    for name in ("one", "two"):
        full_folder(tmp_path / name)
    rows = storage.read_rows(tmp_path / "two")
    write_records(tmp_path / "two", storage.ROWS, rows[::-3] + rows[-2::-3], rank=0)
    write_records(tmp_path / "two", storage.ROWS, rows[-3::-3], rank=7)
    storage.rank_file(tmp_path / "two", storage.ROWS, 1).unlink()

    for name in ("one", "two"):
        summarise(tmp_path / name)

    for file in FILES:
        one, two = ((tmp_path / name / file).read_text() for name in ("one", "two"))
        assert one == two


def test_top1_counts_predictions_that_are_the_label(tmp_path):
    full_folder(tmp_path, n_images=12)

    content = summarise(tmp_path).content

    assert content["models"]["net"]["top1"] == 0.75


def test_top1_leaves_out_images_without_a_prediction(tmp_path):
    run, rows = by_hand(tmp_path)
    first = run["data"]["images"][0]["id"]
    failed = {"prediction": None, "value": None, "error": "RuntimeError: none"}
    lost = [replace(r, **failed) if r.image == first else r for r in rows]
    write_records(tmp_path, storage.ROWS, lost)

    content = summarise(tmp_path).content["models"]["net"]

    assert content["images"] == content["labelled"] + 1
    text = (tmp_path / "summary.md").read_text()
    assert f"{content['top1']:.1%} of {content['labelled']} classified as" in text


def test_top1_does_not_look_at_the_class_that_is_explained(tmp_path):
    run, rows = by_hand(tmp_path)
    first = run["data"]["images"][0]["id"]
    wrong = [replace(r, prediction=9) if r.image == first else r for r in rows]
    write_records(tmp_path, storage.ROWS, wrong)

    content = summarise(tmp_path).content

    assert content["models"]["net"]["top1"] == pytest.approx(2 / 3)


def test_costs_are_medians_and_means_apart_from_the_metrics(tmp_path):
    run = declare(3, methods=TWO)
    write_run(tmp_path, run)
    rows = []
    for i, seconds in enumerate([1.0, 2.0, 9.0]):
        costs = {"seconds": [seconds, 0.5], "forward_passes": [1000, 1]}
        rows += image_rows(run, i, {"insertion": [0.5, 0.4], **costs})
    write_records(tmp_path, storage.ROWS, rows)

    content = summarise(tmp_path).content

    cost = find(content, "costs", metric="seconds", method="is-cam")
    assert (cost["median"], cost["mean"], cost["n"]) == (2.0, 4.0, 3)
    assert {e["metric"] for e in content["means"]} == {"insertion"}
    assert "| IS-CAM | 2 (4) | 1,000 (1,000) |" in (tmp_path / "summary.md").read_text()


def test_mean_curves_have_bands(tmp_path):
    by_hand(tmp_path)
    run = storage.read_run(tmp_path)
    curves = []
    for i, height in enumerate([0.2, 0.4, 0.6]):
        image = run["data"]["images"][i]["id"]
        # Three points and two: both on the grid of the longer one.
        points = ([0, 0.5, 1], [0, height / 2, height]) if i else ([0, 1], [0, height])
        curves.append(storage.Curve(image, "net", "is-cam", "insertion", *points))
    write_records(tmp_path, storage.CURVES, curves)

    (curve,) = summarise(tmp_path).content["curves"]

    assert curve["fractions"] == [0, 0.5, 1]
    assert curve["mean"] == [0, 0.2, 0.4]
    assert (curve["low"][2], curve["high"][2]) == (0.2, 0.6)
    assert (curve["low"][0], curve["high"][0]) == (0, 0)


def test_the_csv_has_a_line_per_model_metric_and_method(tmp_path):
    full_folder(tmp_path, n_images=4)

    summarise(tmp_path)

    with (tmp_path / "summary.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (5 + 2) * 4
    where = {"model": "net", "metric": "insertion", "method": "grad-cam"}
    line = find({"lines": lines}, "lines", **where)
    assert line["unit"] == "score"
    assert line["higher_is_better"] == "True"
    assert line["reference"] == "is-cam"
    assert float(line["difference"]) < 0


def test_the_json_is_the_content_and_can_repeat_the_run(tmp_path):
    run = full_folder(tmp_path, n_images=4)

    content = summarise(tmp_path).content

    assert json.loads((tmp_path / "summary.json").read_text()) == content
    assert content["run"]["command"] == run["command"]
    assert content["run"]["models"] == run["models"]
    assert "images" not in content["run"]["data"]


def test_tables_compare_with_the_reference_that_is_named(tmp_path):
    by_hand(tmp_path)

    summarise(tmp_path, reference="grad-cam")

    text = (tmp_path / "summary.md").read_text()
    assert "### Difference to Grad-CAM on the same images" in text
    assert "| IS-CAM | +0.20 [" in text


def test_an_unknown_reference_is_refused(tmp_path):
    by_hand(tmp_path)

    with pytest.raises(ValueError, match=r"reference must be a method .* got 'lime'"):
        summarise(tmp_path, reference="lime")


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder must contain the run\.json"):
        summarise(tmp_path)


@pytest.mark.parametrize("field", ["image", "model", "method", "metric"])
def test_rows_of_another_run_are_refused(tmp_path, field):
    _, rows = by_hand(tmp_path)
    write_records(tmp_path, storage.ROWS, [*rows, replace(rows[0], **{field: "x"})])

    with pytest.raises(ValueError, match=r"rows must be about names of run\.json"):
        summarise(tmp_path)


def test_one_image_and_one_method_have_a_summary(tmp_path):
    rows_folder(tmp_path, {"insertion": [[0.25]]}, methods={"is-cam": "IS-CAM"})

    content = summarise(tmp_path).content

    (entry,) = content["means"]
    assert (entry["mean"], entry["low"], entry["high"]) == (0.25, None, None)
    assert "| IS-CAM | 0.250 |" in (tmp_path / "summary.md").read_text()


def test_a_run_without_rows_has_a_summary(tmp_path):
    write_run(tmp_path, declare(3))

    content = summarise(tmp_path).content

    assert content["means"] == []
    assert content["models"]["net"]["waiting"] == 3


def test_names_cannot_break_the_tables(tmp_path):
    methods = {"a|b": "A|B\n| x", "c": "<img src=x>"}
    rows_folder(tmp_path, {"insertion": [[0.5, 0.4]] * 30}, methods=methods)

    summarise(tmp_path)

    text = (tmp_path / "summary.md").read_text().split("## The run")[0]
    assert r"| A\|B \| x | **0.500**" in text
    assert "<img" not in text


def test_few_images_are_warned_about(tmp_path):
    by_hand(tmp_path)
    rows_folder(tmp_path / "many", {"insertion": [[0.5, 0.4]] * 30}, methods=TWO)

    for folder in (tmp_path, tmp_path / "many"):
        summarise(folder)

    warning = "over 3 images only: below about 30 the intervals are too narrow"
    assert warning in (tmp_path / "summary.md").read_text()
    assert "too narrow" not in (tmp_path / "many" / "summary.md").read_text()


def test_a_write_that_fails_leaves_the_old_summary(tmp_path, monkeypatch):
    by_hand(tmp_path)
    summarise(tmp_path)
    before = (tmp_path / "summary.md").read_text()
    _, rows = by_hand(tmp_path)
    write_records(tmp_path, storage.ROWS, rows[:4])

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        summarise(tmp_path)

    assert (tmp_path / "summary.md").read_text() == before
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_a_file_name_that_is_no_text_is_written(tmp_path):
    run, rows = by_hand(tmp_path)
    run["data"]["images"].append({"id": "\udcff.jpg", "key": "k", "label": 0})
    write_run(tmp_path, run)
    write_records(
        tmp_path, storage.ROWS, [*rows, storage.Row("\udcff.jpg", error="no")]
    )

    summarise(tmp_path)

    assert r"\udcff.jpg: no" in (tmp_path / "summary.md").read_text()


def test_a_folder_is_read_by_its_name_too(tmp_path):
    by_hand(tmp_path)

    assert read_results(str(tmp_path)).methods == list(TWO)
    with pytest.raises(FileNotFoundError, match=r"folder must contain the run\.json"):
        read_results("no such folder")
