"""Every way in which pictures hold their values, against the array that was written."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from captum_iscam._utils.images import UnreadableImageError, read_image

UNIT = np.linspace(0, 1, 12 * 16).reshape(12, 16)
GREY = np.arange(64, 256).reshape(12, 16).astype(np.uint8)
SMALL = GREY[:, ::-1] // 4
RGB = np.stack([GREY, GREY[::-1], SMALL], -1)
ALPHA = np.full_like(GREY, 127)
TIFF_TYPES = {2: "H", 4: "I"}  # sizes of the numbers in a tag


def tiff(values, photometric=1, kind=1, order="<", **tags):
    """Returns an uncompressed TIFF with samples of any type, (H, W) or (H, W, C)."""
    values = np.atleast_3d(values)
    height, width, count = values.shape
    data = values.astype(values.dtype.newbyteorder(order)).tobytes()
    entries = {
        256: [width],
        257: [height],
        258: [values.dtype.itemsize * 8] * count,
        259: [1],
        262: [photometric],
        273: [0],
        277: [count],
        278: [height],
        279: [len(data)],
        339: [kind] * count,
        **{int(tag[1:]): numbers for tag, numbers in tags.items()},
    }
    # Header, entries, what does not fit into an entry, values.
    place = 8 + 2 + 12 * len(entries) + 4
    entries[273] = [place + sum(2 * len(n) for n in entries.values() if len(n) > 2)]
    directory = more = b""
    for tag, numbers in sorted(entries.items()):
        size = 4 if tag in (273, 279) else 2
        content = struct.pack(f"{order}{len(numbers)}{TIFF_TYPES[size]}", *numbers)
        code = {2: 3, 4: 4}[size]
        directory += struct.pack(f"{order}HHI", tag, code, len(numbers))
        if len(content) > 4:
            directory += struct.pack(f"{order}I", place + len(more))
            more += content
        else:
            directory += content.ljust(4, b"\0")
    start = b"II" if order == "<" else b"MM"
    head = start + struct.pack(f"{order}HIH", 42, 8, len(entries))
    return head + directory + bytes(4) + more + data


def png(values, colour, bits=8, **chunks):
    """Returns a PNG with samples of any size, (H, W) or (H, W, C)."""

    def chunk(name, data):
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    height, width = values.shape[:2]
    if bits < 8:
        as_bits = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        rows = np.packbits(as_bits.reshape(height, -1), axis=1)
    else:
        rows = values.astype(f">u{bits // 8}")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    size = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    extra = b"".join(chunk(name.encode(), data) for name, data in chunks.items())
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + extra
    return start + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def saved(values, kind, mode=None, **options):
    """Returns a file that Pillow writes."""
    image = Image.fromarray(values) if mode is None else Image.new(mode, (1, 1))
    if mode is not None:
        bands = [Image.fromarray(np.ascontiguousarray(b)) for b in values.T]
        image = Image.merge(mode, [band.transpose(5) for band in bands])
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def with_alpha(values, alpha=ALPHA):
    return np.concatenate([np.atleast_3d(values), alpha[..., None]], -1)


def over_white(values, alpha=ALPHA):
    opacity = alpha[..., None] / 255
    return np.atleast_3d(values) * opacity + 255 * (1 - opacity)


def of_inks(inks):
    return 255 - np.minimum(
        255, inks[..., :3] * (1 - inks[..., 3:] / 255) + inks[..., 3:]
    )


def wide(values):
    return values.astype(np.uint16) * 257


def big(number):
    return struct.pack(">H", number)


def few(bits):
    """Returns grey levels of few bits, and as 8 bits."""
    levels = np.arange(12 * 16).reshape(12, 16).astype(np.uint8) % 2**bits
    return levels, levels * (255 // (2**bits - 1))


def kinds():
    """Returns (name, file, the RGB or grey values that are in it)."""
    inks = with_alpha(RGB, SMALL)
    colours = np.random.default_rng(0).integers(0, 256, (256, 3)).astype(np.uint8)
    palette = {"PLTE": colours.tobytes()}
    yield from _tiffs(inks, colours)
    yield from _pngs(colours, palette)
    yield "jpeg grey", saved(GREY, "JPEG", quality=100), GREY
    yield "jpeg rgb", saved(RGB, "JPEG", quality=100, subsampling=0), RGB
    yield "jpeg cmyk", saved(inks, "JPEG", "CMYK", quality=100), of_inks(inks)
    twelve = (UNIT * 4095).astype(">u2")
    dark = (twelve // 20).astype(">u2")  # white is in the file, so dark is dark
    yield "pgm 12 bit", b"P5 16 12 4095\n" + twelve.tobytes(), UNIT * 255
    yield "pgm 12 bit dark", b"P5 16 12 4095\n" + dark.tobytes(), UNIT * 255 / 20
    yield "pgm 8 bit", b"P5 16 12 255\n" + GREY.tobytes(), GREY


def _tiffs(inks, colours):
    table = wide(colours).T.ravel().tolist()
    floats = UNIT.astype(np.float32)
    for order in "<>":
        many = {
            "8 bit": (GREY, GREY, {}),
            "8 bit, zero is white": (255 - GREY, GREY, {"photometric": 0}),
            "16 bit": (wide(GREY), GREY, {}),
            "16 bit of 8": (GREY.astype(np.uint16), GREY, {}),
            "signed 16 bit of 8": (GREY.astype(np.int16), GREY, {"kind": 2}),
            "int32 of 8": (GREY.astype(np.int32), GREY, {"kind": 2}),
            "float to 1": (floats, UNIT * 255, {"kind": 3}),
            "float dark": (floats / 9, UNIT * 255 / 9, {"kind": 3}),
            "float black": (floats * 0, UNIT * 0, {"kind": 3}),
            "float of 0 and 1": (floats.round(), UNIT.round() * 255, {"kind": 3}),
            "float to 255": (floats * 254.7, UNIT * 254.7, {"kind": 3}),
            "float 8 bit": (GREY.astype(np.float32), GREY, {"kind": 3}),
            "float of 8 bit": (GREY.astype(np.float32) / 255, GREY, {"kind": 3}),
            "float, zero is white": (
                1 - floats,
                UNIT * 255,
                {"kind": 3, "photometric": 0},
            ),
            "alpha": (with_alpha(GREY), over_white(GREY), {"t338": [2]}),
            "rgb": (RGB, RGB, {"photometric": 2}),
            "rgb 16": (wide(RGB), RGB, {"photometric": 2}),
            "rgba": (with_alpha(RGB), over_white(RGB), {"photometric": 2, "t338": [2]}),
            "rgba 16": (
                wide(with_alpha(RGB)),
                over_white(RGB),
                {"photometric": 2, "t338": [2]},
            ),
            "rgb by alpha": (
                with_alpha(RGB // 4 * 2),
                over_white(RGB // 4 * 4),
                {"photometric": 2, "t338": [1]},
            ),
            "rgb and unused": (with_alpha(RGB), RGB, {"photometric": 2, "t338": [0]}),
            "cmyk": (inks, of_inks(inks), {"photometric": 5}),
            "palette": (GREY, colours[GREY], {"photometric": 3, "t320": table}),
            "palette and alpha": (
                with_alpha(GREY),
                over_white(colours[GREY]),
                {"photometric": 3, "t320": table, "t338": [2]},
            ),
        }
        for name, (values, expected, how) in many.items():
            yield f"tiff {order} {name}", tiff(values, order=order, **how), expected
    inverted = tiff(65535 - wide(GREY), photometric=0)
    yield "tiff 16 bit, zero is white", inverted, GREY
    pairs = (UNIT * 4095).round().astype(int).reshape(-1, 2)
    bits = (pairs[..., None] >> np.arange(11, -1, -1)) & 1
    packed = np.packbits(bits.reshape(12, -1).astype(np.uint8), axis=1)
    yield "tiff 12 bit", tiff(packed, t258=[12], t256=[16]), UNIT * 255
    for packing in ("tiff_lzw", "tiff_adobe_deflate", "packbits"):
        for name, values in {"16": wide(GREY), "float": floats, "rgb": RGB}.items():
            expected = {"16": GREY, "float": UNIT * 255, "rgb": RGB}[name]
            file = saved(values, "TIFF", compression=packing)
            yield f"{packing} {name}", file, expected
    yield "tiff 1 bit", saved(GREY > 99, "TIFF"), (GREY > 99) * 255


def _pngs(colours, palette):
    for bits in (1, 2, 4):
        levels, expected = few(bits)
        yield f"png {bits} bit", png(levels, 0, bits), expected
        yield f"png palette {bits}", png(levels, 3, bits, **palette), colours[levels]
        key = np.where(levels == 1, 255, expected)
        yield f"png {bits} bit, a clear one", png(levels, 0, bits, tRNS=big(1)), key
    yield "png", png(GREY, 0), GREY
    yield "png 16", png(wide(GREY), 0, 16), GREY
    yield "png 16 of 8", png(GREY, 0, 16), GREY
    yield "png black 16", png(GREY * 0, 0, 16), GREY * 0
    yield "png rgb", png(RGB, 2), RGB
    yield "png rgb 16", png(wide(RGB), 2, 16), RGB
    yield "png palette", png(GREY, 3, **palette), colours[GREY]
    for bits in (8, 16):
        grow = wide if bits == 16 else np.asarray
        yield f"png la {bits}", png(grow(with_alpha(GREY)), 4, bits), over_white(GREY)
        yield f"png rgba {bits}", png(grow(with_alpha(RGB)), 6, bits), over_white(RGB)
        key = np.where(GREY == 99, 255, GREY)
        file = png(grow(GREY), 0, bits, tRNS=big(int(grow(GREY[2:3, 3:4])[0, 0])))
        yield f"png grey {bits}, a clear one", file, key
    some = RGB[0, 0]
    key = np.where((some == RGB).all(-1, keepdims=True), 255, RGB)
    clear = b"".join(map(big, some.tolist()))
    yield "png rgb, a clear one", png(RGB, 2, tRNS=clear), key
    alphas = np.arange(256, dtype=np.uint8)
    file = png(GREY, 3, **palette, tRNS=alphas.tobytes())
    yield "png palette with alpha", file, over_white(colours[GREY], alphas[GREY])


KINDS = {name: (content, values) for name, content, values in kinds()}


@pytest.mark.parametrize("name", KINDS)
def test_pictures_hold_what_numpy_says(tmp_path, name):
    content, expected = KINDS[name]
    (tmp_path / "picture").write_bytes(content)
    expected = np.broadcast_to(np.atleast_3d(expected), (12, 16, 3))

    found = np.asarray(read_image(tmp_path / "picture"))

    # Alpha, inks and the compression of JPEG round.
    exact = not any(part in name for part in ("alpha", "a 8", "a 16", "cmyk", "jpeg"))
    np.testing.assert_allclose(found, expected, atol=1 if exact else 3)
    if exact and expected.dtype == np.uint8:
        np.testing.assert_array_equal(found, expected)


def uncertain():
    """Yields (name, file, what is said of it)."""
    floats = UNIT.astype(np.float32)
    lone = floats.copy()
    for high in (1.5, 2, 63, 256, 65535):
        said = f"floats from 0 to {high:g}"
        yield f"float to {high}", tiff(floats * np.float32(high), kind=3), said
    yield "float below 0", tiff(floats - 0.5, kind=3), "floats from -0.5 to 0.5"
    overshoot = tiff(floats * np.float32(1.000001), kind=3)
    yield "float overshoot", overshoot, "floats from 0 to 1.00000095"
    for value in (np.nan, np.inf, -np.inf):
        lone[3, 4] = value
        yield f"float {value}", tiff(lone, kind=3), "NaN or infinite"
    for bits in (9, 10, 12, 14):
        values = (UNIT * (2**bits - 1)).astype(np.uint16)
        said = f"16-bit integers from 0 to {2**bits - 1}"
        yield f"tiff {bits} in 16", tiff(values), said
        yield f"png {bits} in 16", png(values, 0, 16), said
        colours = np.stack([values] * 3, -1)
        said = f"16-bit colours of at most {2**bits - 1}"
        yield f"tiff rgb {bits} in 16", tiff(colours, 2), said
        yield f"png rgb {bits} in 16", png(colours, 2, 16), said
        opaque = with_alpha(colours, np.full_like(values, 65535))
        yield f"png rgba {bits} in 16", png(opaque, 6, 16), said
        opaque = with_alpha(values, np.full_like(values, 65535))
        yield f"png la {bits} in 16", png(opaque, 4, 16), said
    yield (
        "int16",
        tiff((UNIT * 32767).astype(np.int16), kind=2),
        "integers from 0 to 32767",
    )
    below = tiff((UNIT * 3000 - 1000).astype(np.int16), kind=2)
    yield "int16 below 0", below, "16-bit integers from -1000 to 2000"
    wider = (UNIT * 65535).astype(np.int32)
    yield "int32", tiff(wider, kind=2), "32-bit integers from 0 to 65535"
    most = (UNIT * (2**32 - 1)).astype(np.uint32)
    yield "uint32", tiff(most), "32-bit integers from 0 to 4294967295"
    signed = (GREY.astype(int) - 128).astype(np.int8)
    # Pillow 9.3 reads no such TIFF.
    if (b"II", 1, (2,), 1, (8,), ()) in TiffImagePlugin.OPEN_INFO:
        yield "int8", tiff(signed, kind=2), "integers with a sign"
    clear = b"".join(map(big, (300, 301, 302)))
    yield "png rgb 16, a clear one", png(wide(RGB), 2, 16, tRNS=clear), "transparent"


UNCERTAIN = {name: (content, said) for name, content, said in uncertain()}


@pytest.mark.parametrize("name", UNCERTAIN)
def test_pictures_whose_white_is_not_certain_are_refused(tmp_path, name):
    content, said = UNCERTAIN[name]
    (tmp_path / "picture").write_bytes(content)

    with pytest.raises(UnreadableImageError, match=said) as error:
        read_image(tmp_path / "picture")

    assert str(error.value).endswith("; save it with 8 bits per channel")


def test_sixteen_bit_colours_in_planes_are_refused(tmp_path):
    # Pillow reads them as 8 bits, which gives noise.
    layout = {"photometric": 2, "t284": [2], "t258": [16] * 3, "t277": [3]}
    flat = np.zeros((36, 16), np.uint16)
    (tmp_path / "picture").write_bytes(tiff(flat, **layout, t257=[12], t339=[1] * 3))

    with pytest.raises(UnreadableImageError, match="in separate planes"):
        read_image(tmp_path / "picture")


TURNED = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
@pytest.mark.parametrize("turn", TURNED)
def test_pictures_are_turned_as_numpy_turns_them(tmp_path, kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    modes = [GREY, RGB] if kind == "JPEG" else [GREY, RGB, wide(GREY), with_alpha(RGB)]
    for values in modes:
        options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
        content = saved(values, kind, exif=exif, **options)
        (tmp_path / "picture").write_bytes(content)

        found = np.asarray(read_image(tmp_path / "picture"))

        shown = over_white(RGB) if values.shape[2:] == (4,) else values
        shown = GREY if values.dtype == np.uint16 else shown
        turned = np.atleast_3d(TURNED[turn](shown))
        np.testing.assert_allclose(found, np.broadcast_to(turned, found.shape), atol=3)
