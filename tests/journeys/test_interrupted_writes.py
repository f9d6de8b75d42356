"""Processes that end at each step of the writing of a folder of results."""

import errno
import shutil
import signal
from pathlib import Path

import pytest
from journeys.explaining import command, photographs, whole_results

from captum_iscam._utils.files import LOCK, write_folder
from captum_iscam.cli.main import main
from captum_iscam.cli.output import output_folder

MADE_GOOD = (
    "Whatever step of the writing a process ends at, an image has the whole results of "
    "one run, and none of those of before are lost."
)
WRITES = 5  # overlay, maps, record, input and one map of the page
NEW, OLD = {"0": 1}, {"0": 0}


def targets_in(out):
    """Returns the class that each record is about."""
    return {n: r["targets"][0]["index"] for n, r in whole_results(out).items()}


@pytest.mark.parametrize("earlier", [False, True])
def test_an_end_at_any_step_of_the_writing_is_made_good(
    tmp_path, start, weights, capsys, ledger, earlier
):
    files, old = photographs(tmp_path / "photographs", 1), tmp_path / "old"
    old.mkdir()
    if earlier:
        assert main(command(weights, old, files, "0")) == 0
    # The old folder is moved aside, and the new one into its place.
    moves = 2 if earlier else 1

    for step in range(WRITES + moves + 1):
        out = tmp_path / str(step)
        shutil.copytree(old, out)
        process = start(out, files, step)
        process.join()
        assert process.exitcode == -signal.SIGKILL

        with output_folder(out) as existing:
            pass

        assert not existing.changed
        written = step == WRITES + moves  # the page is written then
        assert targets_in(out) == (NEW if written else OLD if earlier else {})
        hidden = {file.name for file in out.iterdir() if file.name.startswith(".")}
        assert hidden == {LOCK}
        assert "removed 1 unfinished results" in capsys.readouterr().err
    ledger.survived("Disk and processes", MADE_GOOD, WRITES + moves + 1)


def test_changed_results_are_said_and_stay_and_lost_files_come_back(
    tmp_path, explain_files
):
    files, out = photographs(tmp_path / "photographs", 3), tmp_path / "out"
    explain_files(*files)
    (out / "0" / "overlay.png").write_bytes(b"drawn upon")
    (out / "1" / "notes.txt").write_text("mine")
    (out / "2" / "maps.npz").unlink()

    code, said = explain_files(*files)

    assert code == 0
    assert "some folders differ from their records (0, 1); they are kept" in said
    assert (out / "0" / "overlay.png").read_bytes() == b"drawn upon"
    assert (out / "1" / "notes.txt").read_text() == "mine"
    names = {file.parent.name for file in out.glob("*/record.json")}
    assert names == {"0", "0-2", "1", "1-2", "2"}
    assert (out / "2" / "maps.npz").exists()


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    write_folder(tmp_path / "cat", {"a": b"old", "page/b": b"old"})

    write_folder(tmp_path / "cat", {"page/c": b"new"})

    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files == [tmp_path / "cat" / "page" / "c"]


@pytest.mark.parametrize("failing", ["cat", ".captum-iscam.cat.old"])
def test_a_move_that_fails_keeps_what_was_there(tmp_path, monkeypatch, failing):
    def fails(source, place):
        if Path(place).name == failing and source.name != ".captum-iscam.cat.old":
            raise OSError(errno.EIO, "Input/output error")
        return move(source, place)

    write_folder(tmp_path / "cat", {"a": b"old"})
    move = Path.replace
    monkeypatch.setattr(Path, "replace", fails)

    with pytest.raises(OSError, match=r"cat cannot be written .* there is lost"):
        write_folder(tmp_path / "cat", {"a": b"new"})

    assert [file.name for file in tmp_path.iterdir()] == ["cat"]
    assert (tmp_path / "cat" / "a").read_bytes() == b"old"


def test_a_file_in_the_place_of_a_folder_stays(tmp_path):
    (tmp_path / "cat").write_bytes(b"mine")

    with pytest.raises(OSError, match=r"cat cannot be written .* there is lost"):
        write_folder(tmp_path / "cat", {"a": b"new"})

    assert [file.name for file in tmp_path.iterdir()] == ["cat"]
    assert (tmp_path / "cat").read_bytes() == b"mine"
