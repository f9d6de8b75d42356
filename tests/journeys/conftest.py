import contextlib
import io
import multiprocessing
import os
import shutil
import sys
from pathlib import Path

import pytest
from journeys.explaining import command, explain_alone, explain_until, weights_in

from captum_iscam.cli.main import main

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
        reason = f"NOT TESTED: pages in a browser; {missing} is missing"
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
    """Opens a folder's page; whatever goes wrong on it fails the test."""
    troubles, contexts = [], []

    def open_page(folder, width=1440, height=900, name="report.html", **settings):
        context = browser.new_context(
            viewport={"width": width, "height": height}, **settings
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)

        def check_request(request):
            if not request.url.startswith((folder.as_uri(), "data:")):
                troubles.append(f"asked for {request.url}")

        page.on("request", check_request)
        page.on("requestfailed", lambda r: troubles.append(f"failed: {r.url}"))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.goto((folder / name).as_uri())
        page.wait_for_selector(".card")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    return weights_in(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def start(weights):
    """Starts an explanation in a process of its own, which has imported everything.

    It ends at a step of the writing, if one is given.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["journeys.explaining", "captum_iscam.cli.explain"])

    def begin(out, files, step=None):
        words, work = (weights, out, files), explain_alone
        if step is not None:
            words, work = (step, *words, "1"), explain_until
        process = context.Process(target=work, args=words)
        process.start()
        return process

    return begin


@pytest.fixture
def explain_files(weights, tmp_path):
    """Explains files into "out"; returns the exit code and what was said of errors."""

    def run(*files, out: Path = tmp_path / "out"):
        said = io.StringIO()
        with (
            contextlib.redirect_stderr(said),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            code = main(command(weights, out, files))
        return code, said.getvalue()

    return run
