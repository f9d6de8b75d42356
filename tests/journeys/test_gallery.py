"""The page of explained images as a reader meets it: opened and clicked."""

import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from captum_iscam.cli.gallery.page import write_page
from captum_iscam.cli.output import PAGE
from captum_iscam.cli.record import Explanation, Target
from captum_iscam.cli.results import Explained, write_results

HOSTILE = "<img src=x onerror=alert(1)></script>&amp;"
TITLES = {"is-cam": "IS-CAM", "score-cam": "Score-CAM", "grad-cam": "Grad-CAM"}
WARNINGS = {"is-cam": ["be careful", "be quick"], "grad-cam": ["be careful"]}
# A number whose layout shifts are counted from the first moment on.
COUNT_SHIFTS = """
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


def explained(folder, name, number, methods=tuple(TITLES), classes=("cat", HOSTILE)):
    """Writes the results of an image without a network."""
    generator = torch.Generator().manual_seed(number)
    targets = [Target(i, text, 0.7 - 0.3 * i) for i, text in enumerate(classes)]
    explanations = [
        Explanation(
            *(method, target, torch.rand(1, 1, 7, 9, generator=generator), 1.5),
            *(3, 700, len(targets), {}, WARNINGS.get(method, [])),
            0.0134 if method == "is-cam" else None,
        )
        for target in targets
        for method in methods
    ]
    image = torch.rand(3, 96, 128, generator=generator)
    about = {"image": f"photographs/{name}.jpg", "image_size": [640, 480]}
    about |= {"input_shape": [3, 96, 128], "model": "net", "layer": "features"}
    write_results(folder / name, Explained(image), explanations, about)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images; the last is of another class alone."""
    path = tmp_path_factory.mktemp("explained")
    for number in range(11):
        explained(path, f"{number:02}", number)
    explained(path, f"9 {HOSTILE.replace('/', '%2F')}#?", 11, classes=("dog",))
    write_page(path)
    return path


@pytest.fixture
def page(visit, folder):
    return visit(folder, name=PAGE)


def names(page):
    return page.locator(".card h3").all_inner_texts()


def captions(page, card=0):
    figures = page.locator(".card").nth(card).locator(".class").nth(1)
    return [
        text.split("\n")[0] for text in figures.locator("figcaption").all_inner_texts()
    ]


def settled(page, status):
    page.wait_for_function(
        "text => document.getElementById('status').textContent === text", arg=status
    )


def loaded(page, place=".card:first-child"):
    page.wait_for_function(
        "place => [...document.querySelectorAll(`${place} img`)]"
        ".every(image => image.complete && image.naturalWidth > 0)",
        arg=place,
    )


def colour_at(page, locator, x, y):
    """Returns what is seen at a share of an element's width and height."""
    locator.scroll_into_view_if_needed()
    image = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return np.array(image.getpixel((int(x * image.width), int(y * image.height))))


def test_every_image_has_its_maps_numbers_and_links(page, folder):
    settled(page, "12 images, page 1 of 2")
    card = page.locator(".card").first
    loaded(page)

    assert page.locator("#facts").inner_text() == (
        "12 images \u00b7 net \u00b7 IS-CAM \u00b7 Score-CAM \u00b7 Grad-CAM"
    )
    assert captions(page) == list(TITLES.values())
    assert card.locator("h4").all_inner_texts() == [
        *("input", "cat p = 0.700", f"{HOSTILE} p = 0.400")
    ]
    links = card.locator(".foot a")
    assert links.all_inner_texts() == ["overlay.png", "maps.npz", "record.json"]
    for link in links.all():
        href = link.get_attribute("href")
        assert (folder / href).is_file()
    assert card.locator(".warnings li").all_inner_texts() == [
        *("IS-CAM, Grad-CAM: be careful", "IS-CAM: be quick")
    ]
    assert card.locator(".warnings").is_visible()
    deltas = card.locator("figcaption", has_text="delta").all_inner_texts()
    assert deltas == ["IS-CAM\ndelta 1.3 %"] * 2
    card.locator("summary").click()
    assert card.locator("tbody tr").first.inner_text() == "IS-CAM\t1.5\t700"


def test_the_page_says_what_delta_is_where_a_map_has_one(page, visit, tmp_path):
    explained(tmp_path, "a", 0, methods=("grad-cam",))
    write_page(tmp_path)

    assert "not how right it is" in page.locator(".of-delta").inner_text()
    assert visit(tmp_path, name=PAGE).locator(".of-delta").count() == 0


def test_choosers_choose_classes_and_methods(page):
    assert page.locator("#class option").all_inner_texts() == [
        *("all", "the first of each image", f"{HOSTILE} (11)", "cat (11)", "dog (1)")
    ]
    page.select_option("#class", label="dog (1)")
    settled(page, "1 image, page 1 of 1")
    page.select_option("#class", label="the first of each image")
    settled(page, "12 images, page 1 of 2")
    assert page.locator(".card").first.locator("h4").count() == 2

    page.select_option("#method", label="Score-CAM")

    assert captions(page) == ["Score-CAM"]


def test_two_methods_stand_side_by_side_with_their_difference(page, folder):
    assert not page.is_visible(".of-difference")
    page.select_option("#other", label="Grad-CAM")
    assert captions(page) == ["IS-CAM", "Grad-CAM", "IS-CAM \u2212 Grad-CAM"]
    page.select_option("#view", "alone")
    loaded(page)

    with np.load(folder / "00" / "maps.npz") as arrays:
        first, second = (arrays[f"{name}_0"] for name in ("is-cam", "grad-cam"))
    difference = first / first.max() - second / second.max()
    box = (
        page.locator(".card").first.locator(".class").nth(1).locator(".picture").nth(2)
    )
    for sign in (1, -1):
        row, column = np.unravel_index((sign * difference).argmax(), difference.shape)
        place = ((column + 0.5) / 9, (row + 0.5) / 7)
        red, _, blue = colour_at(page, box, *place).astype(int)
        assert sign * (red - blue) > 60


def test_the_slider_changes_the_opacity_of_every_map(page):
    loaded(page)
    slider = page.locator("#choosers .opacity")
    maps = page.locator(".card").first.locator(".map")

    def opacities():
        found = maps.evaluate_all("maps => maps.map(m => getComputedStyle(m).opacity)")
        return {float(value) for value in found}

    assert opacities() == {0.8}
    slider.focus()
    page.keyboard.press("Home")
    assert opacities() == {0}
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    assert opacities() == {0.3}


def test_a_map_is_coloured_as_in_the_figures(page, folder):
    from captum_iscam.visualization import colours

    page.select_option("#view", "alone")
    loaded(page)
    box = page.locator(".card").first.locator(".class").nth(1).locator(".picture").first
    with np.load(folder / "00" / "maps.npz") as arrays:
        values = arrays["is-cam_0"] / arrays["is-cam_0"].max()

    for index in (values.argmax(), values.argmin()):
        row, column = np.unravel_index(index, values.shape)
        seen = colour_at(page, box, (column + 0.5) / 9, (row + 0.5) / 7)
        level = values[row, column]
        assert np.abs(seen - 255 * colours()[round(255 * level)]).max() < 40


def test_a_click_enlarges_and_keys_turn_compare_and_close(page):
    card = page.locator(".card").first
    button = card.locator("button.picture").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    shown = viewer.locator("figcaption")

    assert viewer.locator("h2").inner_text() == "00"
    assert shown.all_inner_texts() == ["Score-CAM, cat"]
    assert viewer.locator("#viewer-previous").is_disabled()
    loaded(page, "#viewer")
    page.keyboard.press("ArrowRight")
    assert viewer.locator("h2").inner_text() == "01"
    assert shown.all_inner_texts() == ["Score-CAM, cat"]
    page.keyboard.press("ArrowLeft")
    assert viewer.locator("h2").inner_text() == "00"

    viewer.locator("#viewer-second").select_option(label=f"Grad-CAM, {HOSTILE}")
    assert shown.all_inner_texts() == ["Score-CAM, cat", f"Grad-CAM, {HOSTILE}"]
    viewer.locator("#viewer-how").select_option("difference")
    (text,) = shown.all_inner_texts()
    assert text == f"Score-CAM, cat \u2212 Grad-CAM, {HOSTILE}"
    loaded(page, "#viewer")
    viewer.locator(".opacity").focus()
    page.keyboard.press("End")
    assert page.locator("#choosers .opacity").input_value() == "100"

    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert button.evaluate("button => button === document.activeElement")


def test_the_dialog_goes_on_to_the_images_of_the_next_page(page):
    page.locator(".card").nth(9).locator("button.picture").first.click()
    viewer = page.locator("#viewer")

    assert viewer.locator("h2").inner_text() == "09"
    page.keyboard.press("ArrowRight")
    assert viewer.locator("h2").inner_text() == "10"
    loaded(page, "#viewer")


def test_a_pair_is_enlarged_as_a_pair(page):
    page.select_option("#other", label="Grad-CAM")
    page.locator(".card").first.locator("button.picture").nth(1).click()
    shown = page.locator("#viewer figcaption").all_inner_texts()

    assert shown == ["Grad-CAM, cat", "IS-CAM, cat"]


def test_zero_maps_and_improbable_classes_are_marked(visit, tmp_path):
    explained(tmp_path, "a", 0, methods=("is-cam",), classes=("cat", "cup", "dog"))
    file = tmp_path / "a" / "record.json"
    record = json.loads(file.read_bytes())
    record["targets"][1]["probability"] = 0.0002
    record["maps"][2] |= {"maximum": 0.0, "delta": None}
    file.write_text(json.dumps(record))
    write_page(tmp_path)

    page = visit(tmp_path, name=PAGE)

    groups = page.locator(".class").all()[1:]
    doubts = [group.locator(".doubt").all_inner_texts() for group in groups]
    assert doubts[0] == []
    assert doubts[1][0].startswith("The model gives this class a probability below")
    assert doubts[2] == ["zero everywhere"]
    assert "delta unknown" in groups[2].inner_text()


def test_a_difference_is_enlarged_as_one(page):
    page.select_option("#other", label="Grad-CAM")
    page.locator(".card").nth(2).locator("button.picture").nth(2).click()

    assert page.locator("#viewer figcaption").all_inner_texts() == [
        "IS-CAM, cat \u2212 Grad-CAM, cat"
    ]
    page.locator("#viewer-close").click()
    assert not page.locator("#viewer").is_visible()


def test_pages_are_turned_and_names_stay_text(page):
    page.locator(".pager").last.get_by_role("button", name="Next").click()
    settled(page, "12 images, page 2 of 2")
    loaded(page, ".card:last-child")

    assert names(page) == ["10", f"9 {HOSTILE.replace('/', '%2F')}#?"]
    assert page.locator("img[src=x]").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1440])
def test_nothing_is_wider_than_the_screen_or_moves(visit, folder, width, scheme):
    page = visit(folder, width=width, name=PAGE, color_scheme=scheme)
    page.evaluate(COUNT_SHIFTS)
    loaded(page)
    page.mouse.wheel(0, 3000)
    page.wait_for_timeout(300)
    page.locator("button.picture").nth(2).click()
    page.wait_for_timeout(200)

    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    viewer = page.evaluate(
        "(v => v.scrollWidth - v.clientWidth)(document.getElementById('viewer'))"
    )
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert (overflow, viewer) == (0, 0)
    assert page.evaluate("window.shifts") == 0
    bright = sum(int(part) for part in re.findall(r"\d+", paper)[:3]) > 384
    assert bright == (scheme == "light")


def test_every_field_and_image_has_a_name(page):
    page.locator("button.picture").first.click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('select, input')]
            .filter(field => !field.labels.length).map(field => field.id)"""
    )

    assert nameless == []
    assert page.locator("img:not([alt])").count() == 0


def test_the_page_has_the_results_of_earlier_runs_and_names_what_it_cannot_read(
    visit, tmp_path
):
    explained(tmp_path, "old", 0, methods=("grad-cam",))
    explained(tmp_path, "new", 1)
    explained(tmp_path, "other", 2)
    file = tmp_path / "other" / "record.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), "maps": 3}))
    write_page(tmp_path, cmap="turbo")

    page = visit(tmp_path, name=PAGE)

    assert names(page) == ["new", "old"]
    assert captions(page, 1) == ["Grad-CAM"]
    assert page.locator("#alerts").inner_text() == "Records that cannot be read: other."
    page.select_option("#method", label="IS-CAM")
    page.select_option("#other", label="Grad-CAM")
    assert captions(page, 1) == ["Grad-CAM"]


def test_the_page_is_one_file_without_outside_addresses(folder):
    text = (folder / PAGE).read_text()

    assert "{{" not in text
    addresses = re.findall(r"(?:https?:)?//[\w.]+\.\w+", text)
    assert set(addresses) == {"http://www.w3.org"}  # the name of SVG, never fetched
    assert re.findall(r"<(?:script|link)[^>]*(?:src|href)=\"(?!data:)", text) == []


@pytest.mark.slow
def test_two_thousand_images_stay_usable(visit, tmp_path):
    explained(tmp_path, "0000", 0)
    for number in range(1, 2000):
        folder = tmp_path / f"{number:04}"
        folder.mkdir()
        for name in ("record.json", "page"):
            (folder / name).symlink_to(tmp_path / "0000" / name)
    write_page(tmp_path)

    page = visit(tmp_path, name=PAGE)
    page.locator(".pager").first.locator("input").fill("200")
    page.locator(".pager").first.locator("input").press("Enter")
    settled(page, "2,000 images, page 200 of 200")

    assert (tmp_path / PAGE).stat().st_size < 5_000_000
    assert page.locator(".card").count() == 10
