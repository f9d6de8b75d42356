"""Runs of `explain` and `demo` that are killed, stopped, starved of room or doubled."""

import os
import re
import signal
import subprocess
import time

import numpy as np
import pytest
from journeys.explaining import (
    photographs,
    records_in,
    whole_results,
)
from reference.ledger import cases

from captum_iscam._utils.files import LOCK
from captum_iscam.cli.main import main
from captum_iscam.cli.output import PAGE

KILLED = "After a kill every file of a picture is whole, and the next run says so."
COUNT = 6


def wait_for(out, count):
    end = time.monotonic() + 120
    while len(records_in(out)) < count:
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.mark.slow
def test_kills_at_random_moments_tear_no_file(tmp_path, start, explain_files, ledger):
    files = photographs(tmp_path / "photographs", COUNT)
    count, rng = cases(10, 100), np.random.default_rng(0)
    out, in_the_middle, before = tmp_path / "out", 0, {}

    for number in range(count):
        process = start(out, files)
        # Somewhere in the writing of one of the pictures.
        began = time.time()
        wait_for_news(process, out, int(rng.integers(0, COUNT)), began)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        found = whole_results(out)
        in_the_middle += 0 < len(news(out, began)) < COUNT
        assert before.keys() <= found.keys()
        before = found
        if len(found) == COUNT and rng.random() < 0.5:
            out, before = tmp_path / f"out{number}", {}
    code, said = explain_files(*files, out=out)

    assert code == 0
    assert f"has the results of {len(before)} images" in said or not before
    assert len(whole_results(out)) == COUNT
    assert not list(out.glob(".*.part"))
    assert in_the_middle > count // 3
    ledger.survived("Disk and processes", KILLED, count)


def news(out, began):
    """Returns the records that are written since."""
    return [file for file in records_in(out) if file.stat().st_mtime >= began]


def wait_for_news(process, out, number, began):
    """Waits until a run has written so many records, or has ended."""
    while process.is_alive() and len(news(out, began)) < number:
        time.sleep(0.002)


def test_sigterm_tears_no_file_and_leaves_a_page_of_what_is_there(
    tmp_path, start, explain_files, ledger
):
    files = photographs(tmp_path / "photographs", COUNT)
    process = start(tmp_path / "out", files)
    wait_for(tmp_path / "out", 1)

    os.kill(process.pid, signal.SIGTERM)
    process.join()

    assert process.exitcode == 128 + signal.SIGTERM
    names = whole_results(tmp_path / "out").keys()
    count = len(names)
    assert 1 <= count <= COUNT
    page = (tmp_path / "out" / PAGE).read_text()
    assert set(re.findall(r'"name":"(\d+)","image"', page)) == names
    code, said = explain_files(*files)
    assert code == 0
    assert f"has the results of {count} images" in said
    assert len(whole_results(tmp_path / "out")) == COUNT
    ledger.survived("Disk and processes", KILLED, 1)


def test_what_a_killed_run_left_half_written_is_said_and_removed(
    tmp_path, explain_files
):
    files = photographs(tmp_path / "photographs", 1)
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / ".captum-iscam.0.0.part"
    left.mkdir()
    (left / "overlay.png").write_bytes(b"half")
    mine = [tmp_path / "out" / n for n in (".mine.part", ".film.mkv.2.part")]
    for file in mine:
        file.write_bytes(b"not of a run")
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in (".captum-iscam.x.0.part", ".captum-iscam.x.old"):
        (tmp_path / "out" / name).symlink_to(folder)

    _, said = explain_files(*files)

    assert "removed 1 unfinished results of an interrupted run" in said
    assert not left.exists()
    assert [file.read_bytes() for file in mine] == [b"not of a run"] * 2
    assert folder.is_dir()


def test_a_second_run_in_the_folder_is_refused(tmp_path, start, explain_files, ledger):
    files = photographs(tmp_path / "photographs", COUNT)
    process = start(tmp_path / "out", files)
    wait_for(tmp_path / "out", 1)
    os.kill(process.pid, signal.SIGSTOP)

    code, said = explain_files(*files)
    demo = main(["demo", "--out", str(tmp_path / "out")])

    os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert (code, demo, process.exitcode) == (2, 2, 0)
    assert f"process {process.pid} is at work" in said
    assert len(whole_results(tmp_path / "out")) == COUNT
    ledger.survived(
        "Disk and processes", "A second run at the same time is refused.", 2
    )


FULL = "A full disk is said, leaves whole files, and the next run completes them."


def test_explain_says_that_the_disk_is_full(
    tmp_path, small_disk, explain_files, ledger
):
    files = photographs(tmp_path / "photographs", 3)
    sizes = np.linspace(4, 200, cases(4, 50)).round().astype(int)
    for kilobytes in sizes:
        out = small_disk(kilobytes) / "out"

        code, said = explain_files(*files, out=out)

        assert code == 1
        assert "No space left on device" in said
        assert "cannot be written" in said
        kept = whole_results(out)
        assert len(kept) < 3
        assert not list(out.glob(".*.part"))
        small_disk(20_000, "remount,")
        code, said = explain_files(*files, out=out)
        assert code == 0
        assert ("has the results of" in said) == bool(kept)
        assert len(whole_results(out)) == 3
        subprocess.run(["umount", str(out.parent)], check=True)
    ledger.survived("Disk and processes", FULL, len(sizes))


def test_results_that_were_there_outlive_a_full_disk(
    tmp_path, small_disk, explain_files
):
    files = photographs(tmp_path / "photographs", 3)
    out = small_disk(20_000) / "out"
    explain_files(*files, out=out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    used = sum(len(content) for content in before.values())
    small_disk(used // 1024 + 40, "remount,")

    code, said = explain_files(*files, out=out)

    assert code == 1
    assert "Nothing that was there is lost" in said
    del before[out / LOCK], before[out / "index.html"]
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("command", ["explain", "demo"])
def test_a_read_only_disk_is_said_at_the_start(
    tmp_path, small_disk, weights, capsys, command, ledger
):
    folder = small_disk(100)
    small_disk(100, "remount,ro,")
    words = {
        "demo": [],
        "explain": ["a.png", "--model", "squeezenet1_1", "--weights", str(weights)],
    }

    code = main([command, *words[command], "--out", str(folder)])

    assert code == 2
    assert "out must be a folder that can be written" in capsys.readouterr().err
    ledger.survived(
        "Disk and processes", "A disk that cannot be written is said at the start.", 1
    )


@pytest.mark.slow
def test_the_demo_says_that_the_disk_is_full(small_disk, monkeypatch, capsys, ledger):
    monkeypatch.setattr("captum_iscam.cli.demo.SHOWN", ("grad-cam",))
    sizes = (4, 60, 400)
    for kilobytes in sizes:
        out = small_disk(kilobytes) / "out"

        code = main(["demo", "--out", str(out)])

        assert code == 1
        assert "No space left on device" in capsys.readouterr().err
        whole_results(out)
        assert not list(out.glob(".*.part"))
        small_disk(20_000, "remount,")
        assert main(["demo", "--out", str(out)]) == 0
        assert len(whole_results(out)) == 8
        assert (out / "table.csv").exists()
        subprocess.run(["umount", str(out.parent)], check=True)
    ledger.survived("Disk and processes", FULL, len(sizes))
