"""The report as a reader meets it: opened from the file system and clicked."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.benchmark_folders import (
    METHODS,
    METRICS,
    declare,
    full_folder,
    image_rows,
    write_records,
    write_run,
)
from reference.pages import cards, names
from scipy import stats

from captum_iscam._utils.about import URL
from captum_iscam.benchmark import storage
from captum_iscam.benchmark.report.page import (
    compared,
    disagreement,
    register_tab,
    write_report,
)
from captum_iscam.benchmark.results import read_results
from captum_iscam.benchmark.summary import summarise

DOCS = Path(__file__).parents[2] / "docs" / "reading_a_benchmark.md"
METHOD_PLACES = {name: i for i, name in enumerate(METHODS)}
METRIC_PLACES = {name: i for i, name in enumerate(METRICS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Thirty images, two networks, four methods."""
    path = tmp_path_factory.mktemp("report")
    full_folder(path, n_images=30)
    with pytest.MonkeyPatch.context() as patch:
        # Values come from several files, as those of thousands of images do.
        patch.setattr("captum_iscam.benchmark.report.page.PART", 7)
        write_report(path)
    return path


def content_of(folder):
    return json.loads((folder / "summary.json").read_text())


def settled(page, status):
    page.wait_for_function(
        "text => document.getElementById('status').textContent === text", arg=status
    )


def means(folder, model, metric):
    return {
        entry["method"]: entry["mean"]
        for entry in content_of(folder)["means"]
        if (entry["model"], entry["metric"]) == (model, metric)
    }


def by_mean(folder, model, metric, descending):
    found = means(folder, model, metric)
    ordered = sorted(found, key=found.get, reverse=descending)
    return [METHODS[method] for method in ordered]


@pytest.mark.parametrize("metric", METRICS)
def test_a_click_on_a_title_sorts_best_first_and_a_second_turns_it(
    visit, folder, metric
):
    page = visit(folder)
    higher_is_better = METRICS[metric][0]
    head = page.locator("#means-table thead th", has_text=metric.replace("_", " "))

    head.locator("button").click()
    first = names(page, "#means-table")[:4]
    said = head.get_attribute("aria-sort")
    head.locator("button").press("Enter")
    second = names(page, "#means-table")[:4]

    found = {METHODS[m]: mean for m, mean in means(folder, "net", metric).items()}
    best_first = sorted(found.values(), reverse=higher_is_better)
    assert [found[name] for name in first] == best_first
    assert [found[name] for name in second] == best_first[::-1]
    assert said == ("descending" if higher_is_better else "ascending")
    assert page.locator("#means-table [aria-sort]").count() == 1


def test_one_column_at_a_time_is_sorted_by(visit, folder):
    page = visit(folder)
    buttons = page.locator("#means-table thead button")

    buttons.nth(1).click()
    buttons.nth(3).click()

    said = page.locator("#means-table thead th")
    sorts = [said.nth(i).get_attribute("aria-sort") for i in range(4)]
    assert sorts == [None, None, None, "descending"]


def test_cells_show_the_summary(visit, folder):
    page = visit(folder)

    cell = page.locator("#means-table tbody tr").nth(1).locator("td").nth(2)

    (entry,) = (
        e
        for e in content_of(folder)["means"]
        if (e["model"], e["method"], e["metric"]) == ("net", "score-cam", "insertion")
    )
    shown = f"{entry['mean']:.3f}\n[{entry['low']:.3f}, {entry['high']:.3f}]"
    assert cell.inner_text() == shown


def test_differences_to_any_method_are_shown_and_shaded(visit, folder):
    page = visit(folder)

    page.select_option("#show", label="differences to Score-CAM")

    rows = page.locator("#means-table tbody tr")
    level = {
        (METRIC_PLACES[p["metric"]], METHOD_PLACES[p["method"]])
        for p in content_of(folder)["pairs"]
        if (p["model"], p["other"]) == ("net", "score-cam")
        and p["low"] <= 0 <= p["high"]
    }
    assert level
    for column, row in level:
        cell = rows.nth(row).locator("td").nth(column)
        assert cell.get_attribute("class") is None
    assert rows.nth(1).locator("td").all_inner_texts() == ["reference"] * 5
    # Drop: less is better, and IS-CAM was drawn the best.
    assert rows.nth(0).locator("td").nth(0).inner_text().startswith("\N{MINUS SIGN}")
    assert rows.nth(0).locator("td").nth(0).get_attribute("class") == "better"
    assert rows.nth(3).locator("td").nth(2).get_attribute("class") == "worse"


def test_costs_are_sorted_too(visit, folder):
    page = visit(folder)

    page.locator("#costs-table thead button").nth(1).click()

    seconds = page.locator("#costs-table tbody tr td:nth-child(2)").all_inner_texts()
    assert [float(s) for s in seconds] == sorted(float(s) for s in seconds)


def test_the_win_matrix_and_the_plot_show_the_summary(visit, folder):
    page = visit(folder)

    page.select_option("#metric", "deletion")

    order = by_mean(folder, "net", "deletion", descending=False)
    assert names(page, "#wins") == order
    assert page.locator("#forest .name:nth-of-type(odd)").count() >= 4
    pairs = {
        (METHODS[p["method"]], METHODS[p["other"]]): p["wins"]
        for p in content_of(folder)["pairs"]
        if (p["model"], p["metric"]) == ("net", "deletion")
    }
    shown = page.locator("#wins tbody tr").nth(1).locator("td").all_inner_texts()
    assert shown[1] == ""
    assert shown[2] == f"{100 * pairs[order[1], order[2]]:.0f}%"
    assert page.locator("#forest circle").count() == 4


@pytest.mark.parametrize(("n_images", "shaded"), [(29, 0), (30, 12)])
def test_wins_of_few_images_are_not_shaded(visit, tmp_path, n_images, shaded):
    full_folder(tmp_path, n_images=n_images, models=("net",))
    write_report(tmp_path)

    page = visit(tmp_path)

    assert page.locator("#wins tbody td[style]").count() == shaded
    assert "Nothing is shaded below 30 images." in page.locator("#compare").inner_text()


def test_curves_follow_pointer_keys_and_buttons(visit, folder):
    page = visit(folder)
    plot = page.locator("#plots .plot").first
    curve = content_of(folder)["curves"][0]
    assert page.locator("#plots path.curve").count() == 8
    assert page.locator("#plots path.band").count() == 8

    plot.locator("> svg").focus()
    for _ in range(15):
        page.keyboard.press("ArrowRight")
    tip = plot.locator(".tip").inner_text()
    page.locator("#legend button", has_text="Grad-CAM").click()

    (insertion,) = (
        c
        for c in content_of(folder)["curves"]
        if (c["model"], c["metric"], c["method"]) == ("net", "insertion", "is-cam")
    )
    assert curve["fractions"][14] == 0.5
    assert tip.startswith("50%")
    assert f"{insertion['mean'][14]:.3f} IS-CAM" in tip
    assert page.locator("#plots path.curve").count() == 6
    assert page.locator("#legend [aria-pressed=false]").inner_text() == "Grad-CAM"
    plot = page.locator("#plots .plot > svg").first
    plot.hover()
    assert page.locator(".tip:visible div").count() == 3


def test_the_gallery_is_filtered_by_class_and_prediction(visit, folder):
    page = visit(folder)

    page.select_option("#class", "dog")
    settled(page, "10 images, page 1 of 1")
    dogs = cards(page)
    page.select_option("#prediction", "wrong")
    settled(page, "2 images, page 1 of 1")

    assert dogs == [f"photos/image_{i:04d}.jpg" for i in range(1, 30, 3)]
    # Every fourth image was drawn wrong.
    assert cards(page) == [f"photos/image_{i:04d}.jpg" for i in (7, 19)]
    assert page.locator(".card .wrong").count() == 2


def test_without_labels_the_gallery_is_filtered_by_the_class_explained(visit, tmp_path):
    run = full_folder(tmp_path, n_images=12)
    for image in run["data"]["images"]:
        image["label"] = image["class"] = None
    for model in run["models"].values():
        model["class_names"] = {"0": "cat", "1": "dog", "2": "owl"}
    write_run(tmp_path, run)
    write_report(tmp_path)
    page = visit(tmp_path)
    settled(page, "12 images, page 1 of 2")

    assert page.locator("#class option").all_inner_texts() == [
        *("all", "cat (4)", "dog (4)", "owl (4)")
    ]
    page.select_option("#class", "dog")
    settled(page, "4 images, page 1 of 1")

    # Of every fourth image the class before the next one is explained.
    assert cards(page) == [f"photos/image_{i:04d}.jpg" for i in (1, 3, 4, 10)]


def test_images_are_ordered_by_disagreement(visit, folder):
    page = visit(folder)

    page.select_option("#order", "most")
    page.wait_for_function(
        "!document.querySelector('.card h3').textContent.includes('image_0000')"
    )
    shown = [
        float(re.search(r"disagreement (\S+)", text)[1])
        for text in page.locator(".card > p").all_inner_texts()
    ]
    page.select_option("#order", "least")
    page.wait_for_function(
        "text => document.querySelector('.card > p').textContent.includes(text)",
        arg="disagreement 0.000",
    )

    assert shown == sorted(shown, reverse=True)
    assert shown[0] > 0.3
    # Maps of every fifth image were drawn alike.
    assert cards(page)[:6] == [f"photos/image_{i:04d}.jpg" for i in range(0, 30, 5)]


def test_pages_are_turned(visit, folder):
    page = visit(folder)
    pager = page.locator(".pager").first
    assert pager.get_by_role("button", name="Previous").is_disabled()

    pager.get_by_role("button", name="Next").click()
    settled(page, "30 images, page 2 of 3")
    second = cards(page)
    pager.locator("input").fill("99")
    pager.locator("input").press("Enter")
    settled(page, "30 images, page 3 of 3")

    assert second == [f"photos/image_{i:04d}.jpg" for i in range(10, 20)]
    assert cards(page) == [f"photos/image_{i:04d}.jpg" for i in range(20, 30)]
    assert pager.get_by_role("button", name="Next").is_disabled()
    page.select_option("#class", "owl")
    settled(page, "10 images, page 1 of 1")


def test_a_new_order_begins_at_the_first_page(visit, folder):
    page = visit(folder)
    following = page.locator(".pager").last.get_by_role("button", name="Next")

    following.focus()
    page.keyboard.press("Enter")
    settled(page, "30 images, page 2 of 3")
    focused = following.evaluate("button => button === document.activeElement")
    page.select_option("#order", "most")
    settled(page, "30 images, page 1 of 3")

    assert focused


@pytest.mark.parametrize("typed", ["-3", "", "0"])
def test_a_page_that_is_none_is_the_first(visit, folder, typed):
    page = visit(folder)
    page.locator(".pager").first.get_by_role("button", name="Next").click()
    settled(page, "30 images, page 2 of 3")

    page.locator(".pager").first.locator("input").fill(typed)
    page.locator(".pager").first.locator("input").press("Enter")

    settled(page, "30 images, page 1 of 3")


def test_another_network_changes_everything(visit, folder):
    page = visit(folder)
    before = page.locator("#means-table tbody").inner_text()
    curves = page.locator("#plots path.curve").first.get_attribute("d")

    page.select_option("#model", "other-net")
    page.wait_for_selector("img.map[src*='other-net']")

    assert page.locator("#means-table tbody").inner_text() != before
    assert page.locator("#plots path.curve").first.get_attribute("d") != curves
    shown = page.locator("#means-table tbody tr").first.locator("td .best").first
    value = means(folder, "other-net", "average_drop")["is-cam"]
    assert shown.inner_text() == f"{value:.1f}"
    assert page.locator("img.map[src*='maps/net/']").count() == 0


def test_pictures_and_values_of_an_image_are_shown(visit, folder):
    page = visit(folder)
    card = page.locator(".card").first
    card.scroll_into_view_if_needed()
    page.wait_for_function(
        "[...document.querySelectorAll('.card:first-child img')]"
        ".every(image => image.complete && image.naturalWidth > 0)"
    )
    assert card.locator("img").count() == 1 + 2 * 4

    page.select_option("#value", "average_drop")
    page.wait_for_function(
        "document.querySelector('.card figcaption span').textContent > '1'"
    )
    card.locator("summary").click()

    run = storage.read_run(folder)
    rows = {
        row.metric: row.value
        for row in storage.read_rows(folder)
        if (row.image, row.model, row.method)
        == (run["data"]["images"][0]["id"], "net", "is-cam")
    }
    caption = card.locator("figcaption").nth(1).inner_text()
    assert caption == f"IS-CAM\n{rows['average_drop']:.1f}"
    cells = card.locator("details tbody tr").first.locator("td").all_inner_texts()
    assert cells[2:4] == [f"{rows['insertion']:.3f}", f"{rows['deletion']:.3f}"]


def test_values_stand_with_their_images(visit, folder):
    page = visit(folder)

    page.select_option("#class", "owl")
    settled(page, "10 images, page 1 of 1")

    values = {
        row.image: f"IS-CAM\n{row.value:.3f}"
        for row in storage.read_rows(folder)
        if (row.model, row.method, row.metric) == ("net", "is-cam", "insertion")
    }
    captions = page.locator(".card figure:nth-of-type(2) figcaption").all_inner_texts()
    assert captions == [values[name] for name in cards(page)]


def test_maps_are_coloured_over_the_picture_alone_or_hidden(visit, folder):
    page = visit(folder)
    looks = {}

    for view in ("over", "alone", "none"):
        page.select_option("#view", view)
        first = page.locator("img.map").first
        looks[view] = first.evaluate(
            "map => [getComputedStyle(map).filter, getComputedStyle(map).display]"
        )

    assert looks["over"] == ['url("#heat-over")', "block"]
    assert looks["alone"] == ['url("#heat-alone")', "block"]
    assert looks["none"][1] == "none"


def test_a_click_enlarges_a_map_and_compares_it_with_another(visit, folder):
    page = visit(folder)
    page.locator(".card").nth(1).locator("button.picture").nth(1).click()
    viewer = page.locator("#viewer")

    title = viewer.locator("h2").inner_text()
    page.keyboard.press("ArrowRight")
    following = viewer.locator("h2").inner_text()
    viewer.locator("#viewer-second").select_option(label="Grad-CAM")
    page.wait_for_function(
        "[...document.querySelectorAll('#viewer img')]"
        ".every(image => image.complete && image.naturalWidth > 0)"
    )

    assert [title, following] == cards(page)[1:3]
    shown = viewer.locator("figcaption").all_inner_texts()
    assert shown == ["Score-CAM", "Grad-CAM"]
    page.keyboard.press("Escape")
    assert not viewer.is_visible()


def test_names_of_files_reach_their_pictures(visit, tmp_path):
    name = "100% #1 & co?"
    run = full_folder(tmp_path, 2, models=(name,), methods={name: "A", "b": "B"})
    write_report(tmp_path)

    page = visit(tmp_path)
    page.locator(".card").last.scroll_into_view_if_needed()

    page.wait_for_function(
        "[...document.querySelectorAll('img')].every(image => image.naturalWidth > 0)"
    )
    assert list(run["models"]) == [name]


def test_what_is_missing_is_said(visit, tmp_path):
    run = full_folder(tmp_path, n_images=4, models=("net",))
    images = run["data"]["images"]
    rows = [r for r in storage.read_rows(tmp_path) if r.image == images[0]["id"]]
    write_records(tmp_path, storage.ROWS, rows)
    broken = storage.Row(images[1]["id"], error="cannot identify image file")
    write_records(tmp_path, storage.ROWS, [broken], rank=1)
    storage.image_file(tmp_path, images[1]["key"]).unlink()
    storage.map_file(tmp_path, "net", "grad-cam", images[0]["key"]).unlink()
    write_report(tmp_path)

    page = visit(tmp_path)

    alerts = page.locator("#alerts p").all_inner_texts()
    assert alerts[0].startswith("1 image could not be read")
    assert alerts[1] == "The run is incomplete: net lacks 2 images."
    assert page.locator(".card").nth(0).locator("text=no map").count() == 1
    assert page.locator(".card").nth(1).locator("p").inner_text() == broken.error
    waiting = page.locator(".card").nth(2).inner_text()
    assert "not run on this network yet" in waiting


def test_a_metric_without_any_value_is_shown_as_empty(visit, tmp_path):
    run = declare(3, methods=dict(list(METHODS.items())[:2]))
    write_run(tmp_path, run)
    rows = []
    for i in range(3):
        rows += image_rows(run, i, {"pointing_game": [None] * 2, "deletion": [0.1] * 2})
    write_records(tmp_path, storage.ROWS, rows)
    write_report(tmp_path)

    page = visit(tmp_path)
    page.select_option("#metric", "pointing_game")

    assert page.locator("#forest").inner_text() == "No image has a value."
    assert page.locator("#means-table tbody td").all_inner_texts()[1] == "-"
    assert "**-**" not in (tmp_path / "summary.md").read_text()
    page.select_option("#metric", "deletion")
    assert page.locator("#forest circle").count() == 2


def test_data_that_were_left_behind_are_named(browser, folder, tmp_path):
    shutil.copy(folder / "report.html", tmp_path)
    page = browser.new_page()

    page.goto((tmp_path / "report.html").as_uri())
    settled(page, "report_data/images.js is missing. Keep it next to this page.")

    assert names(page, "#means-table")[:4] == list(METHODS.values())
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_is_wider_than_the_screen(visit, folder, width, scheme):
    page = visit(folder, width=width, color_scheme=scheme)

    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor,"
        " getComputedStyle(document.body).color]"
    )

    def bright(colour):
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3]) > 384

    assert overflow == 0
    assert bright(paper) == (scheme == "light")
    assert bright(ink) == (scheme == "dark")


def test_plots_are_drawn_anew_at_another_width(visit, folder):
    page = visit(folder)
    wide = page.locator("#forest svg").get_attribute("viewBox")

    page.set_viewport_size({"width": 390, "height": 800})

    page.wait_for_function(
        "old => old !== document.querySelector('#forest svg').getAttribute('viewBox')",
        arg=wide,
    )


def test_everything_has_a_name_and_can_be_reached_by_key(visit, folder):
    page = visit(folder)

    nameless = page.evaluate(
        """() => [...document.querySelectorAll('select, input')]
            .filter(field => !field.labels.length).map(field => field.id)"""
    )
    without_alt = page.locator("img:not([alt])").count()
    heads = page.locator("#means-table thead th").count()
    page.locator("#means-table thead button").first.focus()
    page.keyboard.press("Space")

    assert nameless == []
    assert without_alt == 0
    assert page.locator("#means-table thead th > button").count() == heads
    assert names(page, "#means-table")[:4] == sorted(METHODS.values())
    for plot in page.locator("svg[role=img]").all():
        assert plot.get_attribute("aria-label")


@pytest.mark.parametrize("name", ["summary.tex", "summary_wide.csv", "summary.md"])
def test_tables_are_copied_and_saved(visit, folder, name):
    page = visit(folder, permissions=["clipboard-read", "clipboard-write"])
    row = page.locator("#export li", has_text=name)
    written = (folder / name).read_text()

    row.get_by_role("button", name="Copy").press("Enter")
    row.get_by_text("Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    with page.expect_download() as saved:
        row.get_by_role("button", name="Download").click()

    assert copied == written
    assert saved.value.suggested_filename == name
    assert Path(saved.value.path()).read_text() == written
    assert URL in page.locator("#export").inner_text()


def test_a_browser_that_forbids_copying_says_so(visit, folder):
    page = visit(folder)
    page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error()); }"
    )
    row = page.locator("#export li", has_text="captum_iscam.bib")

    row.get_by_role("button", name="Copy").click()

    row.get_by_text("Download the file instead").wait_for()


def test_columns_that_are_cut_fade_until_they_are_reached(visit, folder):
    page = visit(folder, width=360)
    table = page.locator("#means-table")

    def edges():
        classes = table.get_attribute("class").split()
        return "more-left" in classes, "more-right" in classes

    at_start = edges()
    mask = table.evaluate("region => getComputedStyle(region).maskImage")
    table.focus()
    page.keyboard.press("End")
    table.evaluate("region => region.scrollTo(region.scrollWidth, 0)")
    page.wait_for_function(
        "!document.getElementById('means-table').classList.contains('more-right')"
    )

    assert at_start == (False, True)
    assert mask.startswith("linear-gradient")
    assert edges() == (True, False)
    assert table.locator("tbody th").first.bounding_box()["x"] < 30
    page.set_viewport_size({"width": 1440, "height": 900})
    page.wait_for_function(
        "!document.getElementById('means-table').classList.contains('more-left')"
    )
    assert edges() == (False, False)


def test_metrics_have_whole_names_with_their_direction(visit, folder):
    page = visit(folder)

    heads = page.locator("#means-table thead th").all_inner_texts()
    options = page.locator("#metric option").all_inner_texts()

    assert [" ".join(head.split()) for head in heads[1:3]] == [
        "Average drop ↓ lower is better, %",
        "Average increase ↑ higher is better, %",
    ]
    assert "Pointing game (↑ higher is better)" in options


def test_a_metric_without_direction_ranks_nothing(visit, tmp_path):
    run = full_folder(tmp_path, n_images=30, models=("net",))
    run["metrics"]["insertion"]["higher_is_better"] = None
    write_run(tmp_path, run)
    write_report(tmp_path)

    page = visit(tmp_path)

    assert "Neither more nor less" in page.locator("#wins").inner_text()
    assert "neither is better" in page.locator("#plots").inner_text()
    column = "#means-table tbody td:nth-child(4)"
    assert page.locator(f"{column} .best").count() == 0
    page.select_option("#show", label="differences to Score-CAM")
    assert page.locator(f"{column}.better, {column}.worse").count() == 0


def shown_bands(page):
    return page.evaluate(
        """() => [...document.querySelectorAll('#plots .plot:first-child .band')]
            .filter(band => getComputedStyle(band).opacity > 0)
            .map(band => band.dataset.method)"""
    )


def test_of_many_bands_the_one_of_the_curve_pointed_at_is_shown(visit, folder):
    page = visit(folder)
    at_rest = shown_bands(page)

    page.locator("#legend button", has_text="Score-CAM").focus()
    by_button = shown_bands(page)
    curve = page.locator("#plots path.curve[data-method=random-map]").first
    curve.scroll_into_view_if_needed()
    x, y = curve.evaluate(
        """path => {
            const { x, y } = path.getPointAtLength(path.getTotalLength() * 0.6);
            const { a, d, e, f } = path.getScreenCTM();
            return [a * x + e, d * y + f];
        }"""
    )
    page.mouse.move(x, y)
    by_pointer = shown_bands(page)
    page.locator("#legend button", has_text="None").click()
    none = page.locator("#plots path.curve").count()
    page.locator("#legend button", has_text="All").click()
    page.locator("#legend button", has_text="Random map").click()
    page.mouse.move(0, 0)

    assert at_rest == []
    assert by_button == ["score-cam"]
    assert by_pointer == ["random-map"]
    assert none == 0
    assert shown_bands(page) == ["is-cam", "score-cam", "grad-cam"]


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_moves_while_the_page_loads(visit, folder, width):
    page = visit(folder, width=width)
    page.wait_for_load_state("networkidle")

    moved = page.evaluate(
        """() => new Promise(resolve => {
            let sum = 0;
            new PerformanceObserver(list => {
                for (const entry of list.getEntries()) sum += entry.value;
            }).observe({ type: 'layout-shift', buffered: true });
            setTimeout(() => resolve(sum), 300);
        })"""
    )

    assert moved == 0


def test_shares_have_sensible_digits(visit, tmp_path):
    run = full_folder(tmp_path, n_images=3, models=("net",))
    run["models"]["net"]["top1"] = 2 / 3
    write_run(tmp_path, run)
    write_report(tmp_path)

    page = visit(tmp_path)

    text = page.locator("body").inner_text()
    assert re.findall(r"\d\.\d{6,}", text) == []


def test_a_page_number_is_kept_while_it_is_typed(visit, folder):
    page = visit(folder)
    above, below = page.locator(".pager input").all()

    above.fill("3")
    page.evaluate("showPager([...Array(30).keys()], { page: 1 })")  # drawn meanwhile
    kept = above.input_value(), below.input_value()
    above.press("Enter")
    settled(page, "30 images, page 3 of 3")
    above.fill("7")
    above.press("Enter")  # beyond the last page
    page.evaluate("showPager([...Array(30).keys()], { page: 2 })")

    assert kept == ("3", "2")
    assert (above.input_value(), below.input_value()) == ("3", "3")


@pytest.mark.slow
def test_two_thousand_images_and_ten_methods_stay_usable(visit, tmp_path):
    methods = {f"method-{i}": f"Method {i}" for i in range(10)}
    run = full_folder(tmp_path, 2000, models=("net",), methods=methods, pictures=40)
    write_report(tmp_path)

    page = visit(tmp_path)
    files_at_first = page.locator("head script").count()
    page.select_option("#order", "most")
    page.locator(".pager").first.locator("input").fill("200")
    page.locator(".pager").first.locator("input").press("Enter")
    settled(page, "2,000 images, page 200 of 200")

    assert len(run["data"]["images"]) == 2000
    assert (tmp_path / "report.html").stat().st_size < 2_000_000
    assert files_at_first == 3  # the images, the network, and values of one part
    assert page.locator("head script").count() <= 3 + 2 * 10
    assert page.locator(".card").count() == 10


def test_maps_that_rank_alike_agree():
    ramp = torch.arange(16.0).view(1, 1, 4, 4)

    assert disagreement(torch.cat([ramp, ramp.exp()])) == pytest.approx(0)
    assert disagreement(torch.cat([ramp, -ramp])) == pytest.approx(2)
    assert disagreement(ramp) is None


def test_disagreement_is_the_mean_over_pairs_of_scipys_correlation():
    maps = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    maps = (4 * maps).round()  # with ties

    found = disagreement(maps)

    table = stats.spearmanr(maps.flatten(1).numpy(), axis=1).statistic
    assert found == pytest.approx(1 - table[np.triu_indices(4, 1)].mean(), abs=1e-6)


def test_controls_do_not_count_as_methods_that_disagree(folder, tmp_path):
    full_folder(tmp_path, 1, methods={"is-cam": "A", "random-map": "B"})

    assert compared(read_results(folder)) == ["is-cam", "score-cam", "grad-cam"]
    assert compared(read_results(tmp_path)) == ["is-cam", "random-map"]


def test_the_page_is_one_file_without_outside_addresses(folder):
    text = (folder / "report.html").read_text()

    assert not re.search(r"\{\{\w+\}\}", text)
    addresses = re.findall(r"(?:https?:)?//[\w.]+\.\w+", text)
    # The name of SVG, and where the package is: neither is fetched.
    assert set(addresses) == {"http://www.w3.org", URL.rpartition("/")[0]}
    assert re.findall(r"<(?:script|link)[^>]*(?:src|href)=\"(?!data:)", text) == []


def test_a_second_report_leaves_no_old_data(tmp_path):
    full_folder(tmp_path, n_images=60, models=("net", "other-net"))
    write_report(tmp_path)
    before = {file.name for file in (tmp_path / "report_data").iterdir()}
    shutil.rmtree(tmp_path / "rows")
    full_folder(tmp_path, n_images=4, models=("net",))

    page = write_report(tmp_path, summarise(tmp_path))

    after = {file.name for file in (tmp_path / "report_data").iterdir()}
    assert page == tmp_path / "report.html"
    assert {"model1.js", "model0_part1.js"} <= before
    assert after == {"images.js", "model0.js", "model0_part0.js"}


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch):
    full_folder(tmp_path / "captum-iscam-benchmark", n_images=2)
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text()

    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(example, DOCS.name, "exec"), {})

    written = tmp_path / "captum-iscam-benchmark"
    assert "Difference to Grad-CAM" in (written / "summary.md").read_text()
    assert (written / "report.html").is_file()


@pytest.fixture
def extra_tabs(monkeypatch):
    monkeypatch.setattr("captum_iscam.benchmark.report.page.EXTRA_TABS", [])


def test_a_tab_is_one_file_with_names_of_its_own(visit, tmp_path, extra_tabs):
    full_folder(tmp_path, n_images=2)
    tab = tmp_path / "best.js"
    tab.write_text(
        "const PAGE = 'a name that another tab has too';\n"
        "function picture(place, model) { place.textContent = `${PAGE}: ${model}`; }\n"
        "registerTab({ id: 'best', title: 'Best', order: 15, draw: picture });\n"
    )
    register_tab(tab)
    register_tab(str(tab))
    write_report(tmp_path)

    page = visit(tmp_path)
    first = page.locator("#best > div").inner_text()
    page.select_option("#model", "other-net")

    assert first == "a name that another tab has too: net"
    assert page.locator("#best > div").inner_text().endswith(": other-net")
    assert page.locator("#best h2").inner_text() == "Best"
    links = page.locator("nav a").all_inner_texts()
    assert links == [
        *("Means", "Best", "One metric", "Curves", "Cost", "Images", "Export"),
        "The run",
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tab.js", "const a = '</SCRIPT>';", "file must not contain </script or <!--"),
        ("tab.js", None, r"file must be a \.js file that is there"),
        ("tab.txt", "", r"file must be a \.js file that is there"),
    ],
)
def test_a_tab_that_would_break_the_page_is_refused(
    tmp_path, extra_tabs, name, text, message
):
    if text is not None:
        (tmp_path / name).write_text(text)

    with pytest.raises(ValueError, match=message):
        register_tab(tmp_path / name)
