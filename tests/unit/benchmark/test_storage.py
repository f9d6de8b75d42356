"""What is on disk after a write that failed, or a run that was killed."""

import errno
import io
import json
import os
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from captum_iscam._utils.files import write_whole
from captum_iscam.benchmark import storage
from captum_iscam.benchmark.evaluation import CachedExplainer
from captum_iscam.benchmark.storage import (
    Curve,
    JudgedMap,
    Key,
    Row,
    Store,
    done_cells,
)
from captum_iscam.benchmark.thumbnails import as_jpeg, as_png
from captum_iscam.visualization import visualize

ROW = Row("a/b.jpg", "net", "grad-cam", "insertion", 0.1 + 0.2, 3, 3, 3, 0.5, "cat")


def test_rows_come_back_as_they_were(tmp_path):
    rows = [ROW, Row("ü\ud800 \"'\n.jpg", error="no\npicture"), Row("c", value=None)]
    curve = Curve("a/b.jpg", "net", "grad-cam", "insertion", [0.0, 1.0], [1 / 3, 1e-30])

    with Store(tmp_path, 2) as opened:
        for row in rows:
            opened.add_row(row)
        opened.add_curve(curve)
        opened.sync()

    assert storage.read_rows(tmp_path) == rows
    assert storage.read_curves(tmp_path) == [curve]
    assert storage.rank_file(tmp_path, storage.ROWS, 2).read_bytes().count(b"\n") == 3
    assert done_cells(tmp_path)["a/b.jpg"] == {("net", "grad-cam", "insertion")}


def add_to(folder, rank, *rows):
    with Store(folder, rank) as opened:
        for row in rows:
            opened.add_row(row)


@pytest.mark.parametrize(
    "change",
    [
        {"value": 0.31},
        {"value": None},
        {"target": 4},
        {"label": None},
        {"value": None, "error": "RuntimeError: no memory"},
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("read", [storage.read_rows, done_cells])
def test_two_rows_of_one_key_that_differ_are_named(tmp_path, change, rank, read):
    add_to(tmp_path, 0, ROW, replace(ROW, metric="deletion"))
    add_to(tmp_path, rank, replace(ROW, **change))

    with pytest.raises(ValueError, match="must be a folder with one row") as caught:
        read(tmp_path)

    assert repr(tuple(ROW.key)) in str(caught.value)
    assert f"rank{rank}.jsonl" in str(caught.value)
    assert "repeat the command" in str(caught.value)


def test_two_errors_of_an_image_that_differ_are_named(tmp_path):
    add_to(tmp_path, 0, Row("a", error="no file"), Row("a", error="no picture"))

    with pytest.raises(ValueError, match=r"got two that differ for \('a', None, None"):
        storage.read_rows(tmp_path)


def test_equal_rows_count_once(tmp_path):
    other = replace(ROW, metric="deletion")
    add_to(tmp_path, 0, ROW, other, ROW)
    add_to(tmp_path, 1, other)

    assert storage.read_rows(tmp_path) == [ROW, other]


def test_judged_maps_come_back_as_they_were(tmp_path):
    about = ("a/b.jpg", "net", "grad-cam", "insertion")
    right = {"noise": [1.0, 0.5], "flip": [None]}
    judged = JudgedMap(*about, target=3, other_target=7, right=right)
    failed = JudgedMap(*about[:3], "deletion", error="no value")

    with Store(tmp_path, 2) as opened:
        assert not (tmp_path / storage.ORDERS).exists()
        opened.add_orders(judged)
        opened.add_orders(failed)
        opened.sync()
    file = storage.rank_file(tmp_path, storage.ORDERS, 2)
    with file.open("ab") as stream:
        stream.write(storage.to_line(replace(judged, right={})) + b'{"image":"a/b')

    assert storage.read_orders(tmp_path) == [judged, failed]
    assert storage.count_incomplete_lines(tmp_path) == 1
    cells = {("net", "grad-cam", "insertion"), ("net", "grad-cam", "deletion")}
    assert done_cells(tmp_path, storage.ORDERS) == {"a/b.jpg": cells}


@pytest.mark.parametrize(
    "change",
    [
        {"right": {"noise": [float("inf")]}},
        {"right": {"noise": 1.0}},
        {"right": [1.0]},
        {"method": None},
        {"value": 1.0},
    ],
)
def test_a_damaged_judged_map_is_named(tmp_path, change):
    about = {"image": "a", "model": "net", "method": "grad-cam", "metric": "insertion"}
    file = storage.rank_file(tmp_path, storage.ORDERS, 0)
    file.parent.mkdir()
    file.write_text(json.dumps({**about, "right": {}, **change}) + "\n")

    with pytest.raises(ValueError, match="a folder with unchanged rows"):
        storage.read_orders(tmp_path)


def test_numbers_that_json_does_not_know_are_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.to_line(Row("a", value=float("nan")))


@pytest.mark.parametrize("tail", [b"{", b'{"image": "x"' + b" " * 10_000])
@pytest.mark.parametrize("before", [0, 1, 200])
def test_opening_drops_a_torn_line(tmp_path, tail, before):
    file = storage.rank_file(tmp_path, storage.ROWS, 0)
    file.parent.mkdir()
    whole = storage.to_line(ROW) * before
    file.write_bytes(whole + tail)
    assert len(list(storage.read_lines(tmp_path / storage.ROWS))) == before

    with Store(tmp_path, 0) as opened:
        assert file.read_bytes() == whole
        opened.add_row(Row("next"))

    assert file.read_bytes() == whole + storage.to_line(Row("next"))


def test_a_write_that_fails_half_way_leaves_no_part(tmp_path, monkeypatch):
    written, pwrite = [], os.pwrite

    def full(stream, data, at):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(pwrite(stream, data[:10], at))
        return 10

    with Store(tmp_path, 0) as opened:
        opened.add_row(ROW)
        monkeypatch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match=r"rank0.jsonl cannot be written \(No space"):
            opened.add_row(ROW)
        monkeypatch.undo()

        assert written == [10]
        content = storage.rank_file(tmp_path, storage.ROWS, 0).read_bytes()
        assert content == storage.to_line(ROW)


def test_a_write_in_parts_is_one_line(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda s, data, at: pwrite(s, data[:7], at))

    with Store(tmp_path, 0) as opened:
        opened.add_row(ROW)

    assert storage.read_rows(tmp_path) == [ROW]


def test_a_failed_file_leaves_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "a" / "run.json"
    write_whole(file, b"old")
    monkeypatch.setattr("pathlib.Path.replace", _refuse)

    with pytest.raises(OSError, match=r"run.json cannot be written \(No space"):
        write_whole(file, b"new")

    assert file.read_bytes() == b"old"
    assert list(file.parent.iterdir()) == [file]


def _refuse(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_curve_written_twice_counts_once(tmp_path):
    first, second = (
        Curve("a", "net", "m", "deletion", [0.0, 1.0], [score, 0.0])
        for score in (0.5, 0.6)
    )

    with Store(tmp_path, 0) as opened:
        opened.add_curve(first)
        opened.add_curve(second)

    assert storage.read_curves(tmp_path) == [first]
    assert first.key == Key("a", "net", "m", "deletion")


@pytest.mark.parametrize(
    ("shape", "size"),
    [((7, 7), (112, 112)), ((224, 224), (112, 112)), ((10, 20), (112, 56))],
)
def test_maps_are_pictures_with_the_maximum_white(tmp_path, shape, size):
    maps = torch.zeros(1, 1, *shape)
    maps[..., -1, -1] = 5

    with Store(tmp_path, 0) as opened:
        opened.save_map("net", "grad-cam++", "key", maps)

    with Image.open(storage.map_file(tmp_path, "net", "grad-cam++", "key")) as picture:
        assert (picture.size, picture.mode) == (size, "L")
        corner = size[0] - 1, size[1] - 1
        assert picture.getpixel(corner) == 255
        assert picture.getpixel((0, 0)) == 0


@pytest.mark.parametrize("value", [0.0, float("nan"), -1.0])
def test_maps_without_a_maximum_are_black(tmp_path, value):
    with Store(tmp_path, 0) as opened:
        opened.save_map("net", "m", "key", torch.full((1, 1, 4, 4), value))

    with Image.open(storage.map_file(tmp_path, "net", "m", "key")) as picture:
        assert picture.getextrema() == (0, 0)


def test_a_stored_map_has_the_levels_of_a_figure():
    maps = torch.rand(1, 1, 112, 112).pow(4)
    image = np.zeros((112, 112, 3), np.uint8)

    drawn = visualize(image, {"map": maps}).axes[1].images[-1].get_array()

    with Image.open(io.BytesIO(as_png(maps))) as picture:
        levels = np.asarray(picture)
    np.testing.assert_allclose(levels, 255 * drawn, atol=0.51)
    assert (levels == 255).sum() > 1


def test_thumbnails_are_at_most_so_large():
    jpeg = as_jpeg(Image.new("RGB", (224, 200)), 160)

    with Image.open(io.BytesIO(jpeg)) as picture:
        assert picture.size == (160, 143)


def test_keys_are_file_names_and_differ():
    names = ["a/b.jpg", "c/b.jpg", "a/../b.jpg", "B.jpg", ".jpg", "", "ü" * 300, "b\n"]

    keys = [storage.image_key(name) for name in names]

    assert len({key.casefold() for key in keys}) == len(names)
    assert all(len(key) < 60 for key in keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", key) for key in keys)


def test_the_same_question_is_answered_once():
    asked = []

    def explain(inputs, target):
        asked.append(inputs.sum().item())
        return inputs * 2

    remembering = CachedExplainer(explain)
    ones, twos = torch.ones(1, 1, 2, 2), torch.full((1, 1, 2, 2), 2.0)

    answers = [
        remembering(x, target=3).sum().item() for x in (ones, ones.clone(), twos)
    ]

    assert answers == [8, 8, 16]
    assert asked == [4, 8]
