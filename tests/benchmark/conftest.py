import os
import shutil
import sys

import pytest

ARGUMENTS = (
    *("--no-sandbox", "--headless", "--disable-gpu"),
    *("--disable-background-networking", "--no-first-run"),
)


@pytest.fixture(scope="module")
def browser(request):
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        sync_playwright = None
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if sync_playwright is None or chromium is None:
        missing = "chromium" if sync_playwright else "playwright"
        reason = f"NOT TESTED: report.html in a browser; {missing} is missing"
        if os.environ.get("CAPTUM_ISCAM_NEEDS_BROWSER"):
            pytest.fail(reason)
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            sys.stderr.write(f"\n{reason}\n")
        pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium, args=list(ARGUMENTS)
        )
        yield opened
        opened.close()


@pytest.fixture
def visit(browser):
    """Opens a folder's report; whatever goes wrong on the page fails the test."""
    troubles, contexts = [], []

    def open_page(folder, width=1440, height=900, **settings):
        context = browser.new_context(
            viewport={"width": width, "height": height}, **settings
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(15_000)

        def check_request(request):
            if not request.url.startswith((folder.as_uri(), "data:")):
                troubles.append(f"asked for {request.url}")

        page.on("request", check_request)
        page.on("requestfailed", lambda r: troubles.append(f"failed: {r.url}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.goto((folder / "report.html").as_uri())
        page.wait_for_selector(".card")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []
