"""Names from strangers: they stay text, and what is written stays in its folder."""

import io
import os

import pytest
from journeys.explaining import command, photographs, whole_results
from PIL import Image
from reference.benchmark_runs import rows, run

from captum_iscam._utils.files import LOCK
from captum_iscam.benchmark import storage
from captum_iscam.cli.main import main
from captum_iscam.cli.output import (
    PAGE,
    RECORD,
    Names,
    printable,
    read_record,
    scan_output,
)

PROMISE = "Whatever a picture is called, what is made of it stays in the output folder."
NAMES = [
    b"two words.png",
    b" .png",
    b"-rf.png",
    b"--out.png",
    b"...png",
    b"..png",
    b".hidden.png",
    b"%s%n{0}$x$.png",
    b"a;b&c|d>e<f`g`$(h).png",
    b"'\"\\.png",
    b"line\nbreak\ttab.png",
    b"\x1b[2J\x1b]0;title\x07.png",
    b"CON.png",
    b"*.png",
    b"\xff\xfe.png",
    "\u202egnp.exe.png".encode(),
    "пример 例子 🐈 مثال.png".encode(),
    "e\u0301.png".encode(),
    b"x" * 251 + b".png",
    "例".encode() * 83 + b".png",
]


@pytest.fixture
def pictures(tmp_path):
    """Writes a picture under each name; returns the files."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    written = []
    for number, name in enumerate(NAMES):
        file = folder / os.fsdecode(name)
        with file.open("wb") as stream:
            Image.new("RGB", (30, 20), (10 * number, 0, 0)).save(stream, "PNG")
        written.append(file)
    return written


def tree(folder, without):
    """Returns all files and folders but those below one."""
    return {path for path in folder.rglob("*") if without not in (path, *path.parents)}


def test_explain_keeps_every_name_in_its_folder(
    tmp_path, pictures, explain_files, ledger
):
    before = tree(tmp_path, tmp_path / "out")

    code, said = explain_files(*pictures)

    assert code == 0, said
    assert tree(tmp_path, tmp_path / "out") == before
    records = whole_results(tmp_path / "out")
    assert {r["image"] for r in records.values()} == set(map(str, pictures))
    assert "\x1b" not in said
    ledger.survived("Files", PROMISE, len(NAMES))


def test_the_benchmark_keeps_every_name_in_its_folder(tmp_path, pictures, ledger):
    before = tree(tmp_path, tmp_path / "out")
    words = ["--data", pictures[0].parent, "--model", "scene-net"]
    words += ["--metric", "sparseness", "--method", "center-map"]

    code, said = run(tmp_path / "out", *words, "--samples", len(NAMES))

    assert code == 0, said
    assert tree(tmp_path, tmp_path / "out") == before
    assert {key.image for key in rows(tmp_path / "out")} == {p.name for p in pictures}
    made = {p.name for p in (tmp_path / "out" / storage.IMAGES).iterdir()}
    assert len(made) == len(NAMES)
    ledger.survived("Files", PROMISE, len(NAMES))


def test_a_table_cannot_lead_out_of_the_folder(tmp_path, ledger):
    data = tmp_path / "data"
    data.mkdir()
    for n in range(3):
        Image.new("RGB", (30, 20)).save(tmp_path / f"outside{n}.png")
    names = ["../outside0.png", str(tmp_path / "outside1.png"), "./.././outside2.png"]
    lines = "".join(f"{name},../../class/{n}\n" for n, name in enumerate(names))
    (data / "labels.csv").write_text(f"file,class_name\n{lines}")
    before = tree(tmp_path, tmp_path / "out")
    words = ["--data", data, "--model", "scene-net", "--ignore-labels"]
    words += ["--metric", "sparseness", "--method", "center-map"]

    code, said = run(tmp_path / "out", *words, "--samples", len(names))

    assert code == 0, said
    assert tree(tmp_path, tmp_path / "out") == before
    ledger.survived("Files", PROMISE, len(names))


def test_a_leading_dash_is_no_option_after_two_dashes(
    tmp_path, pictures, explain_files, monkeypatch
):
    monkeypatch.chdir(pictures[0].parent)

    code, said = explain_files("-rf.png", "--out.png")

    assert code == 0, said
    assert whole_results(tmp_path / "out").keys() == {"-rf", "--out"}


@pytest.mark.parametrize("coding", ["utf-8", "ascii", "latin-1"])
def test_a_name_is_printed_as_text_on_any_terminal(coding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=coding)

    for name in map(os.fsdecode, NAMES):
        stream.write(printable(name, stream))

    stream.flush()
    written = stream.buffer.getvalue()
    assert b"\x1b" not in written
    assert b"\n" not in written
    assert b"\\x1b[2J" in written


def test_no_name_fakes_a_line_of_what_is_said(tmp_path, weights, capsys, ledger):
    good, bad = tmp_path / "good\nall: done\x1b.png", tmp_path / "bad\nfine: \x1b.png"
    Image.new("RGB", (30, 20)).save(good, "PNG")
    bad.write_bytes(b"no picture")
    out = tmp_path / "out\nand: \x1b"

    for _ in range(2):
        assert main(command(weights, out, [good, bad])) == 1

    said = capsys.readouterr()
    assert said.out.count("good\\nall: done\\x1b.png: ") == 2
    assert said.err.count("bad\\nfine: \\x1b.png: cannot be read") == 2
    assert said.err.count("out\\nand: \\x1b: has the") == 1
    for line in (said.out + said.err).splitlines():
        assert not line.startswith(("all: ", "fine: ", "and: "))
        assert "\x1b" not in line
    ledger.survived("Files", "No name is taken for a line of what is said.", 3)


def test_an_error_about_a_name_is_one_line(tmp_path, capsys):
    out = tmp_path / "out\nfine: \x1b"
    (out / LOCK).mkdir(parents=True)

    assert main(["demo", "--out", str(out)]) == 1

    said = capsys.readouterr().err
    assert "out\\nfine: \\x1b" in said
    assert len(said.splitlines()) == 1


def test_names_leave_room_for_what_is_added_to_them():
    names = Names()
    names = [names.free(stem) for stem in ("a" * 251, "a" * 250, "例" * 83)]

    assert len(set(names)) == 3
    assert all(len(name.encode()) <= 210 for name in names)
    assert names[2] == "例" * 66


def test_another_picture_of_the_same_name_keeps_its_results(
    tmp_path, explain_files, ledger
):
    for number, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        image = Image.new("RGB", (30, 20), (200 * number, 0, 0))
        image.save(tmp_path / folder / "cat.png")

    explain_files(tmp_path / "a" / "cat.png")
    _, said = explain_files(tmp_path / "b" / "cat.png")
    explain_files(tmp_path / "a" / "cat.png")

    records = whole_results(tmp_path / "out")
    assert {name: record["image"] for name, record in records.items()} == {
        "cat": str(tmp_path / "a" / "cat.png"),
        "cat-2": str(tmp_path / "b" / "cat.png"),
    }
    assert "has the results of 1 images" in said
    ledger.survived(
        "Disk and processes",
        "A second run in a folder says what it found and replaces nothing else.",
        3,
    )


FOREIGN = (
    "What a run did not write is not written over, the pictures themselves included."
)


def contents(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_picture_in_the_output_folder_is_not_written_over(
    tmp_path, explain_files, ledger
):
    files = photographs(tmp_path, 2)
    before = contents(tmp_path)

    first, second = (explain_files(*files, out=tmp_path)[0] for _ in range(2))

    assert (first, second) == (0, 0)
    assert contents(tmp_path).items() >= before.items()
    assert whole_results(tmp_path).keys() == {"0", "1"}
    ledger.survived("Files", FOREIGN, 2 * len(files))


@pytest.mark.parametrize("name", ["0", "0/record.json", "0/maps.npz"])
@pytest.mark.parametrize("content", [b"", b"mine", b'{"image": "0.png"}', b"[" * 10**6])
def test_a_foreign_file_of_the_name_is_not_written_over(
    tmp_path, explain_files, ledger, name, content
):
    (file,) = photographs(tmp_path / "photographs", 1)
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_bytes(content)

    code, said = explain_files(file)

    assert code == 0, said
    assert (tmp_path / "out" / name).read_bytes() == content
    assert read_record(tmp_path / "out" / "0-2" / RECORD)["image"] == str(file)
    ledger.survived("Files", FOREIGN, 1)


def test_a_picture_among_the_results_is_not_written_over(tmp_path, explain_files):
    (file,) = photographs(tmp_path / "photographs", 1)
    explain_files(file)
    there = file.replace(tmp_path / "out" / "0" / "0.png")
    before = there.read_bytes()

    code, said = explain_files(there)

    assert code == 0, said
    assert there.read_bytes() == before
    assert (tmp_path / "out" / "0-2" / RECORD).exists()


@pytest.mark.parametrize("name", [PAGE, "run.json"])
def test_a_folder_of_another_program_is_refused_in_one_line(
    tmp_path, explain_files, capsys, name
):
    (file,) = photographs(tmp_path / "photographs", 1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("<!DOCTYPE html>")

    code, said = explain_files(file)
    demo = main(["demo", "--out", str(tmp_path / "out")])

    assert (code, demo) == (2, 2)
    assert name in said
    assert "Choose another with --out" in said
    assert len(said.splitlines()) == 1
    assert (tmp_path / "out" / name).read_text() == "<!DOCTYPE html>"


def test_a_pipe_or_a_huge_file_is_no_record(tmp_path, monkeypatch):
    for name in ("pipe", "big"):
        (tmp_path / name).mkdir()
    os.mkfifo(tmp_path / "pipe" / RECORD)
    record = '{"image": 1, "maps": 2, "files_sha256": {}}'
    (tmp_path / "big" / RECORD).write_text(record)
    assert scan_output(tmp_path).owners.keys() == {"big"}

    monkeypatch.setattr("captum_iscam.cli.output._LARGEST_RECORD", 30)

    assert scan_output(tmp_path).owners == {}


def test_the_demo_does_not_write_over_foreign_tables(
    tmp_path, monkeypatch, capsys, ledger
):
    from captum_iscam.demo import load_scenes

    scenes = load_scenes()[:1]
    monkeypatch.setattr("captum_iscam.cli.demo.SHOWN", ("grad-cam",))
    monkeypatch.setattr("captum_iscam.cli.demo.load_scenes", lambda: scenes)
    monkeypatch.chdir(tmp_path)
    for name in ("table.md", "table.csv", "scene_0"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)

    codes = [main(["demo", "--out", str(tmp_path)]) for _ in range(2)]

    assert codes == [0, 0], capsys.readouterr().err
    after = contents(tmp_path)
    assert after.items() >= before.items()
    made = {"table-2.md", "table-2.csv", "index.html"}
    added = {file.name for file in after.keys() - before.keys()}
    assert {"scene_0", "scene_0-2"} == {file.name for file in tmp_path.glob("scene_0*")}
    assert added - {LOCK} >= made
    ledger.survived("Files", FOREIGN, 3)
