"""The page of `captum-iscam app` in a browser, as a user meets it."""

import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from captum_iscam.cli.main import main
from captum_iscam.demo import CLASSES, load_network, load_scenes, preprocess
from captum_iscam.methods import METHODS

ROOT = Path(__file__).parents[2]
SCENES = ROOT / "captum_iscam" / "demo" / "data"
COMMAND = [sys.executable, "-m", "captum_iscam", "app"]
MAP = ".iscam-maps figure:nth-child({})"
ERROR = ".iscam-error"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Yields the address of a page that is served, and its temporary folder."""
    pytest.importorskip("gradio")
    work, temporary = (tmp_path_factory.mktemp(name) for name in ("work", "temporary"))
    process = subprocess.Popen(
        COMMAND,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=work,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        yield process.stdout.readline().split()[0].rstrip("/"), temporary
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert (process.returncode, said) == (130, "stopped\n")
    assert [*work.iterdir(), *temporary.iterdir()] == []


@pytest.fixture
def open_page(browser, app):
    """Opens the page; errors on it and requests that leave it fail the test."""
    troubles, contexts = [], []
    url, _ = app

    def open_it(width=1440, height=1000, **settings):
        context = browser.new_context(
            viewport={"width": width, "height": height}, **settings
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on(
            "request",
            lambda r: (
                r.url.startswith((url, "data:", "blob:")) or troubles.append(r.url)
            ),
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda m: m.type == "error" and troubles.append(m.text))
        page.goto(url)
        page.get_by_role("button", name="Explain").wait_for()
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert troubles == []


def upload(page, file):
    page.locator("input[type=file]").set_input_files(file)


def press(page, name):
    page.get_by_role("button", name=name).click()


def choose(page, label, option):
    box = page.get_by_label(label)
    box.click()
    page.get_by_role("option", name=option).click()


def upload_scene(page, number):
    """Uploads a bundled scene and waits until its classes are known."""
    upload(page, SCENES / f"scene_{number}.png")
    wait_for_classes(page)


def wait_for_classes(page):
    """Waits for a class in its box, which stands there, empty, from the start."""
    page.wait_for_function(
        "label => [...document.querySelectorAll('input')]"
        ".some(i => i.ariaLabel?.startsWith(label) && i.value)",
        arg="Class",
    )


def wait_for_server(port):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)
    pytest.fail(f"nothing listens on port {port}")


def download(page, name):
    with page.expect_download() as started:
        press(page, f"Download {name}")
    return started.value.suggested_filename, Path(started.value.path()).read_bytes()


def test_an_image_is_explained_and_its_maps_are_downloaded(open_page):
    page = open_page()
    scene, crescent = load_scenes()[0], CLASSES.index("crescent")
    upload_scene(page, 0)
    choose(page, "Class", "crescent")
    page.get_by_label("LayerCAM").check()
    press(page, "Explain")
    page.wait_for_selector(MAP.format(5))

    shown = page.locator(".iscam-maps").inner_text()
    name, archive = download(page, "NPZ")

    assert re.search(r"crescent\np = 0\.\d+ · layer features", shown)
    assert re.search(r"IS-CAM\n\d+ passes · [\d.]+ s · delta [\d.]+ %", shown)
    assert re.search(r"Grad-CAM\n2 passes · [\d.]+ s$", shown, re.MULTILINE)
    assert name == "scene_0.npz"
    maps = np.load(io.BytesIO(archive))
    methods = ("is-cam", "score-cam", "grad-cam", "layer-cam")
    assert set(maps) == {f"{method}_{crescent}" for method in methods}
    network, inputs = load_network(), preprocess(scene.image)
    for method in methods:
        ours = METHODS[method].attribute(network, network.features, inputs, crescent)
        np.testing.assert_allclose(
            maps[f"{method}_{crescent}"], ours[0, 0], rtol=1e-4, atol=1e-6
        )


def test_the_slider_sets_the_opacity_of_the_page_and_of_the_picture(open_page):
    page = open_page()
    upload_scene(page, 6)
    press(page, "Explain")
    page.wait_for_selector(MAP.format(4))
    opacity = "getComputedStyle(document.querySelector('.pixels img + img')).opacity"
    first = page.evaluate(opacity)
    _, strong = download(page, "PNG")

    page.get_by_role("slider").focus()
    page.keyboard.press("Home")
    page.wait_for_function(f"{opacity} === '0'")
    name, none = download(page, "PNG")

    assert (first, name) == ("0.8", "scene_6.png")
    assert contrast_of_panels(none) < 0.5 < 1 < contrast_of_panels(strong)


def contrast_of_panels(png):
    """Returns how much the mean colours of the image and the maps over it differ."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)
    # Below the titles, and above the colour bars.
    panels = pixels[len(pixels) // 4 : 3 * len(pixels) // 4]
    means = [panel.mean() for panel in np.array_split(panels, 4, axis=1)]
    return max(means) - min(means)


def bomb():
    """Returns a PNG file of a few bytes that says it has 10^10 pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


@pytest.mark.parametrize("content", [bomb(), b"no image"], ids=["bomb", "text"])
def test_what_is_no_image_is_refused_in_a_line_and_the_next_image_works(
    open_page, content
):
    page = open_page()
    upload(page, {"name": "odd.png", "mimeType": "image/png", "buffer": content})
    page.wait_for_selector(ERROR)

    said = page.locator(ERROR).inner_text()
    page.get_by_role("button", name="Clear").or_(
        page.get_by_label("Remove Image")
    ).first.click()
    upload_scene(page, 1)
    press(page, "Explain")
    page.wait_for_selector(MAP.format(4))

    assert said.startswith(
        "image must be an image file of at most 50 megapixels, got odd.png ("
    )
    assert said.endswith("Choose another, or save it anew as JPEG or PNG.")
    assert "\n" not in said
    assert page.locator(ERROR).count() == 0


def test_a_file_that_is_too_large_is_refused(open_page):
    page = open_page()
    upload(page, {"name": "a.png", "mimeType": "image/png", "buffer": bytes(21 << 20)})
    page.get_by_text("maximum allowed size").first.wait_for()

    page.reload()  # before the browser's own report of the refusal counts as an error


def test_before_an_image_is_given_the_page_says_so(open_page):
    page = open_page()

    for name, said in (
        ("Explain", "image must be given. Drop one, or take an example."),
        ("Download PNG", "There are no maps yet. Explain an image."),
    ):
        press(page, name)
        page.locator(ERROR, has_text=said).wait_for()


def test_an_example_is_explained_with_every_control_on_a_narrow_screen(open_page):
    page = open_page(width=360, height=740, has_touch=True, color_scheme="dark")
    page.locator(".gallery-item").nth(6).tap()
    wait_for_classes(page)
    press(page, "Explain")
    page.wait_for_selector(MAP.format(4))

    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    for control in page.locator("button, input:not([type=file])").all():
        box = control.bounding_box() if control.is_visible() else None
        assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= 360)


def test_it_listens_on_this_computer_alone(app):
    url, _ = app
    port = urlsplit(url).port

    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    # Another address of this computer, which 0.0.0.0 would include.
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.2", port), 5),
    ):
        pass


@pytest.fixture
def run_here(monkeypatch):
    """Runs the command in this process, and takes back what it changes of it."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    before = signal.getsignal(signal.SIGTERM)
    yield lambda *words: main(["app", *words])
    signal.signal(signal.SIGTERM, before)


def test_a_port_that_is_taken_is_an_error(app):
    port = str(urlsplit(app[0]).port)

    done = subprocess.run(
        [*COMMAND, "--port", port], capture_output=True, text=True, timeout=120
    )

    said = f"got 127.0.0.1 and {port}. Choose others with --host and --port.\n"
    assert done.returncode == 2
    assert done.stderr.endswith(said)


def test_weights_without_a_network_are_an_error(run_here, capsys):
    code = run_here("--weights", "mine.pt")

    assert code == 2
    assert "Pass --model, or omit them." in capsys.readouterr().err


def test_without_gradio_the_command_names_the_extra(run_here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)

    code = run_here()

    assert code == 2
    assert "pip install 'captum_iscam[app]'" in capsys.readouterr().err


def test_a_space_needs_no_more_than_its_file(browser, tmp_path):
    pytest.importorskip("gradio")
    # As a hub starts it: the file, and the port by the environment.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tools" / "space" / "app.py")],
        cwd=tmp_path,
        env={**os.environ, **settings, "TMPDIR": str(tmp_path)},
    )
    try:
        wait_for_server(port)
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        upload_scene(page, 6)
        press(page, "Explain")
        page.locator(MAP.format(2)).wait_for()
        assert "IS-CAM" in page.locator(".iscam-maps").inner_text()
        page.close()
    finally:
        process.kill()
        process.wait()
