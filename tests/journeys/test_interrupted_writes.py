"""Processes that end at each step of the writing of files that belong together."""

import errno
import shutil
import signal
from pathlib import Path

import pytest
from journeys.explaining import command, photographs, whole_results

from captum_iscam._utils.files import LOCK, unfinished, write_together
from captum_iscam.cli.main import main
from captum_iscam.cli.output import output_folder, scan_output

MADE_GOOD = (
    "Whatever step of the writing a process ends at, no file is torn, and after the "
    "next run all files of a picture are of one run."
)
WRITES, MOVES = 3, 3
ORDER = ("0.png", "0.npz", "0.json")


def contents(out):
    """Returns what is in a folder, but for the lock."""
    return {f.name: f.read_bytes() for f in out.iterdir() if f.name != LOCK}


@pytest.mark.parametrize("earlier", [False, True])
def test_an_end_at_any_step_of_the_writing_is_made_good(
    tmp_path, start, weights, capsys, ledger, earlier
):
    files, old = photographs(tmp_path / "photographs", 1), tmp_path / "old"
    old.mkdir()
    if earlier:
        assert main(command(weights, old, files, "0")) == 0
    start(tmp_path / "new", files, -1).join()
    before, after = contents(old), contents(tmp_path / "new")

    for step in range(WRITES + MOVES):
        out = tmp_path / str(step)
        shutil.copytree(old, out)
        process = start(out, files, step)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        moved = max(0, step - WRITES)
        left = {n: c for n, c in contents(out).items() if not n.endswith(".part")}
        assert left == before | {name: after[name] for name in ORDER[:moved]}

        with output_folder(out) as existing:
            pass

        assert not existing.incomplete | existing.changed
        found = {n: r["targets"][0]["index"] for n, r in whole_results(out).items()}
        assert found == ({"0": 1} if moved else {"0": 0} if earlier else {})
        assert not unfinished(out)
        assert ("completed the results of" in capsys.readouterr().err) == bool(moved)
    ledger.survived("Disk and processes", MADE_GOOD, WRITES + MOVES)


@pytest.mark.parametrize("step", [0, 1])
def test_an_end_while_an_earlier_end_is_made_good_is_made_good(
    tmp_path, start, step, explain_files
):
    files, out = photographs(tmp_path / "photographs", 2), tmp_path / "out"
    start(out, files[:1], WRITES + 1).join()
    start(out, files[1:], step).join()

    code, said = explain_files(files[1])

    assert code == 0
    assert "completed the results of" in said
    assert whole_results(out).keys() == {"0", "1"}
    assert not scan_output(out).changed


@pytest.mark.parametrize("name", ["0.npz", "0.json"])
def test_what_somebody_put_in_the_place_since_an_end_stays(tmp_path, start, name):
    files, out = photographs(tmp_path / "photographs", 1), tmp_path / "out"
    start(out, files, WRITES + 1).join()
    assert (out / "0.png").exists()
    (out / name).write_bytes(b"mine")

    with output_folder(out):
        pass

    assert (out / name).read_bytes() == b"mine"


def test_a_changed_or_lost_file_is_said_and_the_changed_one_stays(
    tmp_path, explain_files
):
    files = photographs(tmp_path / "photographs", 2)
    explain_files(*files)
    (tmp_path / "out" / "0.png").write_bytes(b"drawn upon")
    (tmp_path / "out" / "1.npz").unlink()

    code, said = explain_files(*files)

    assert code == 0
    assert "some files differ from those of their records (0); they are kept" in said
    assert "some records lack a file (1)" in said
    assert (tmp_path / "out" / "0.png").read_bytes() == b"drawn upon"
    names = {file.stem for file in (tmp_path / "out").glob("*.json")}
    assert names == {"0", "0-2", "1"}
    assert (tmp_path / "out" / "1.npz").exists()


def test_files_that_belong_together_are_all_replaced_or_none(tmp_path):
    first, barred = tmp_path / "first", tmp_path / "a file" / "second"
    first.write_bytes(b"old")
    barred.parent.write_bytes(b"no folder")

    with pytest.raises(OSError, match=r"second cannot be written .* there is lost"):
        write_together({first: b"new", barred: b"new"})

    assert first.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"first", "a file"}


def test_a_folder_in_the_place_of_a_file_is_found_before_anything_is_moved(tmp_path):
    first, barred = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"old")
    barred.mkdir()

    with pytest.raises(OSError, match=r"second cannot be written .* there is lost"):
        write_together({first: b"new", barred: b"new"})

    assert first.read_bytes() == b"old"
    assert {file.name for file in tmp_path.iterdir()} == {"first", "second"}


def test_a_move_that_fails_after_another_says_so(tmp_path, monkeypatch):
    def fails(part, place):
        if place.name == "second":
            raise OSError(errno.EIO, "Input/output error")
        return move(part, place)

    move = Path.replace
    monkeypatch.setattr(Path, "replace", fails)

    with pytest.raises(OSError, match=r"second cannot .*output error\), but first was"):
        write_together({tmp_path / "first": b"new", tmp_path / "second": b"new"})

    assert len(unfinished(tmp_path)) == 1
