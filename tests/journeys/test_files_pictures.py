"""Pictures from strangers: read as RGB, or refused in one line."""

import io
import json
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from reference.benchmark_runs import rows, run
from reference.ledger import cases

from captum_iscam._utils.images import (
    LONGEST,
    UnreadableImageError,
    _formats,
    read_image,
)
from captum_iscam.benchmark.dataset import Mask, draw

DAMAGED = "A damaged picture is read or refused in one line; nothing else is raised."
STRANGE = "Pictures of strange kinds are read as RGB or refused by what is wrong."
KINDS = [
    *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
    *(("TIFF", mode) for mode in ("CMYK", "F", "RGB", "LAB")),
    *(("JPEG", mode) for mode in ("L", "RGB", "CMYK")),
    *((kind, "RGB") for kind in ("BMP", "GIF", "PPM", "JPEG2000", "WEBP", "AVIF")),
]
KINDS = [(kind, mode) for kind, mode in KINDS if kind in _formats()]
POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 50 40
%%EndComments
showpage
%%EOF
"""


def encoded(kind, mode, size=(50, 40), **options):
    """Returns the bytes of a file with a ramp."""
    ramp = np.add.outer(np.arange(size[1]), np.arange(size[0])) % 256
    grey = Image.fromarray(ramp.astype(np.uint8))
    if mode == "I;16":
        grey = Image.fromarray(ramp.astype(np.uint16) * 257)
    elif mode == "LAB":
        grey = Image.merge("LAB", [grey] * 3)
    else:
        grey = grey.convert(mode)
    stream = io.BytesIO()
    grey.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width, height):
    """Returns a picture that says how large it is and holds next to nothing."""

    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", size), chunk(b"IDAT", content), chunk(b"IEND", b"")]
    )


def read(content, file):
    """Returns "read" or why the picture is refused; Pillow's warnings are its own."""
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = read_image(file)
        except UnreadableImageError as error:
            said = str(error)
        else:
            said = "read" if image.mode == "RGB" else f"read as {image.mode}"
    assert len(said.splitlines()) == 1
    assert not said.startswith("read as")
    return said


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_picture_cut_anywhere_is_read_or_refused(tmp_path, kind, mode, ledger):
    whole, rng = encoded(kind, mode), np.random.default_rng(0)
    count = cases(20, 400)
    said = [read(whole[:0], tmp_path / "empty")]

    for length in rng.integers(0, len(whole), count - 1):
        said.append(read(whole[:length], tmp_path / "cut"))

    assert said[0] != "read"
    assert said.count("read") < count
    ledger.survived("Files", DAMAGED, count)


@pytest.mark.parametrize(("kind", "mode"), KINDS)
def test_a_picture_with_wrong_bytes_is_read_or_refused(tmp_path, kind, mode, ledger):
    whole, rng = encoded(kind, mode), np.random.default_rng(1)
    count = cases(20, 400)

    for number in range(count):
        content = bytearray(whole)
        # Half of the damage lies where the file says what it is.
        end = len(content) if number % 2 else min(len(content), 120)
        for place in rng.integers(0, end, 1 + number % 5):
            content[place] = rng.integers(0, 256)
        read(bytes(content), tmp_path / "wrong")

    ledger.survived("Files", DAMAGED, count)


def strange(folder):
    """Writes one picture of each strange kind; returns what must be said of it."""
    several = [Image.new("RGB", (30, 20), colour) for colour in ("red", "blue")]
    frames = {"save_all": True, "append_images": several[1:]}
    exif = Image.Exif()
    exif[0x0112] = 6
    unit = np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)
    twelve = (unit * 4095).astype(np.uint16)
    jpeg, cmyk = encoded("JPEG", "RGB"), encoded("JPEG", "CMYK")
    contents = {
        "truncated.jpg": (jpeg[:-20], "truncated"),
        "empty.png": (b"", "cannot identify"),
        "text.png": (b"no picture", "cannot identify"),
        "page.jpg": (b"<svg onload='alert(1)'/>", "cannot identify"),
        "png_called.jpg": (encoded("PNG", "RGB"), "read"),
        "jpeg_called.png": (jpeg, "read"),
        "cmyk.jpg": (cmyk, "read"),
        "sixteen.png": (encoded("PNG", "I;16"), "read"),
        "palette.png": (encoded("PNG", "P"), "read"),
        "clear.png": (encoded("PNG", "P", transparency=3), "read"),
        "turned.jpg": (encoded("JPEG", "RGB", exif=exif), "read"),
        "animated.gif": (_saved(several[0], "GIF", **frames), "read"),
        "animated.webp": (_saved(several[0], "WEBP", **frames), "read"),
        "pages.tif": (_saved(several[0], "TIFF", **frames), "read"),
        "script.jpg": (POSTSCRIPT, "cannot identify"),
        "spider.jpg": (encoded("SPIDER", "F"), "cannot identify"),
        "icon.png": (encoded("ICO", "RGB"), "cannot identify"),
        "one_pixel.png": (encoded("PNG", "RGB", (1, 1)), "read"),
        "bomb.png": (png_header(20_000, 20_000), f"{2 * Image.MAX_IMAGE_PIXELS} pix"),
        "endless.png": (png_header(60_000_000, 1), f"{LONGEST} times"),
        "line.png": (encoded("PNG", "L", (20_000, 1)), f"{LONGEST} times"),
        "floats.tif": (_saved(Image.fromarray(unit), "TIFF"), "read"),
        "twelve.png": (_saved(Image.fromarray(twelve), "PNG"), "from 0 to 4095"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    return {name: said for name, (_, said) in contents.items()}


def _saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def test_strange_pictures_are_read_or_refused_by_what_is_wrong(tmp_path, ledger):
    expected = strange(tmp_path)

    for name, part in expected.items():
        assert part in read((tmp_path / name).read_bytes(), tmp_path / name), name

    assert read_image(tmp_path / "turned.jpg").size == (40, 50)
    first = read_image(tmp_path / "animated.gif").getpixel((5, 5))
    assert first == pytest.approx((255, 0, 0), abs=1)
    ledger.survived("Files", STRANGE, len(expected))


def test_what_is_no_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")

    for name in ("pipe.png", "."):
        with pytest.raises(UnreadableImageError, match="not a file"):
            read_image(tmp_path / name)


def test_no_picture_starts_a_program(tmp_path, monkeypatch):
    # Pillow knows what is in the file, and hands it to the first "gs" it finds.
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path / 'was_run'}\nexit 1\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None, raising=False)
    (tmp_path / "photo.jpg").write_bytes(POSTSCRIPT)

    with pytest.raises(UnreadableImageError, match="cannot identify"):
        read_image(tmp_path / "photo.jpg")
    with pytest.raises(UnreadableImageError, match=r"photo.jpg: cannot identify"):
        draw((), (Mask(1, tmp_path / "photo.jpg"),), 1, (50, 40))

    assert not (tmp_path / "was_run").exists()


def test_a_mask_that_is_a_bomb_is_refused(tmp_path):
    (tmp_path / "mask.png").write_bytes(png_header(20_000, 20_000))

    with pytest.raises(UnreadableImageError, match=r"mask .*pixels"):
        draw((), (Mask(1, tmp_path / "mask.png"),), 1, (20_000, 20_000))


def test_the_benchmark_goes_on_past_strange_pictures(tmp_path, ledger):
    folder = tmp_path / "photographs"
    folder.mkdir()
    expected = strange(folder)
    words = ["--data", folder, "--model", "scene-net", "--metric", "sparseness"]
    words += ["--method", "center-map", "--samples", len(expected)]

    code, said = run(tmp_path / "out", *words)

    assert code == 0, said
    found = rows(tmp_path / "out")
    refused = {key.image: row.error for key, row in found.items() if row.error}
    assert refused.keys() == {n for n, part in expected.items() if part != "read"}
    for name, said in refused.items():
        assert expected[name] in said
    assert {key.image for key in found} == expected.keys()
    ledger.survived("Files", STRANGE, len(expected))


def test_explain_goes_on_past_strange_pictures(tmp_path, explain_files, ledger):
    folder = tmp_path / "photographs"
    folder.mkdir()
    expected = strange(folder)

    code, said = explain_files(*(folder / name for name in expected))

    out = tmp_path / "out"
    images = {json.loads(f.read_bytes())["image"] for f in out.glob("*/record.json")}
    read_ones = {str(folder / n) for n, part in expected.items() if part == "read"}
    assert code == 1
    assert images == read_ones
    for name, part in expected.items():
        if part != "read":
            line = next(
                x for x in said.splitlines() if x.startswith(f"{folder / name}")
            )
            assert "cannot be read" in line
            assert part in line
    ledger.survived("Files", STRANGE, len(expected))
