"""Pages of the built site are short enough to be read, and fit a telephone."""

import os
from pathlib import Path

import pytest

SITE = Path(os.environ.get("CAPTUM_ISCAM_SITE", "nowhere"))
# The reference and the tables of results are looked up, not read.
LOOKED_UP = ("api/", "results/", "changelog", "genindex", "py-modindex", "search")
TALLEST = 5000  # pixels of a page in a window 1280 pixels wide

pytestmark = pytest.mark.skipif(
    not SITE.is_dir(), reason="needs the built site: its folder in CAPTUM_ISCAM_SITE"
)


def pages():
    found = (str(page.relative_to(SITE)) for page in sorted(SITE.rglob("*.html")))
    return [page for page in found if not page.startswith(("_modules/", "_static/"))]


def measured(browser, width, side):
    """The size of every page, of which the window has the width."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    sizes = {}
    for name in pages():
        page.goto((SITE / name).resolve().as_uri())
        sizes[name] = page.evaluate(f"document.documentElement.scroll{side}")
    page.close()
    return sizes


def test_a_page_to_read_is_not_too_tall(browser):
    tall = {
        name: height
        for name, height in measured(browser, 1280, "Height").items()
        if height > TALLEST and not name.startswith(LOOKED_UP)
    }

    assert tall == {}


@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_is_wider_than_its_window(browser, width):
    sizes = measured(browser, width, "Width")

    assert {name: wide for name, wide in sizes.items() if wide > width} == {}
